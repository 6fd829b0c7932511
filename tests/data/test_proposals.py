"""Proposed types, and the command that writes them down."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize

from aimmat.data import Entry, read_manifest, read_types, synthetic, write_manifest
from aimmat.data.proposals import SOLID, SOLID_RANGE, WIDE, WIDE_RANGE, Shares, propose, propose_entry, shares
from aimmat.images import read_cutout
from aimmat.prepare import main
from aimmat.schema import AimmatError, ImageType


def disc(side, radius, soft=2.0):
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y - side / 2 + 0.5, x - side / 2 + 0.5)
    return np.rint(255 * np.clip((radius - distance) / soft + 0.5, 0, 1)).astype(np.uint8)


def test_shares_are_counts():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:20] = 255
    alpha[20:30] = 128
    seen = shares(alpha)
    assert (seen.empty, seen.soft, seen.opaque) == (0.25, 0.25, 0.5)
    # The border's 160 pixels: the first row, and 30 of the 40 rows on both sides.
    assert seen.wide == (40 + 2 * 30) / 160
    assert seen.solid == 20 / 30  # at so few pixels no opaque neighbours are asked for


@pytest.mark.parametrize(("side", "radius"), [(64, 24), (512, 192), (512, 30), (2000, 200)])
def test_an_opaque_disc_is_so_at_any_size_and_in_any_frame(side, radius):
    proposal = propose(shares(disc(side, radius)))
    assert proposal.type is ImageType.SO
    assert proposal.confidence > 0.9


def test_thin_or_transparent_shapes_are_stm_and_what_runs_out_of_the_frame_is_ns():
    y, x = np.mgrid[:256, :256]
    ring = np.minimum(disc(256, 100), 255 - disc(256, 94))
    for alpha, expected in (
        (ring, "STM"),
        (disc(256, 100) // 2, "STM"),
        (np.rint(60 + 50 * np.sin(x / 20) * np.sin(y / 31)).astype(np.uint8), "NS"),
        (np.where((x % 32 < 3) | (y % 32 < 3), 255, 0).astype(np.uint8), "NS"),
    ):
        proposal = propose(shares(alpha))
        assert proposal.type == expected
        assert proposal.confidence > 0.9


def test_an_empty_alpha_is_nothing_certain():
    assert propose(shares(np.zeros((32, 32), np.uint8))).type is ImageType.STM


def test_confidence_is_a_probability_that_is_least_between_types():
    at = propose(Shares(0.5, 0.1, 0.4, solid=SOLID, wide=0.0))
    assert at.confidence == pytest.approx(0.5, abs=0.01)  # wide = 0 leaves 1 % for NS
    for solid in np.linspace(0, 1, 11):
        for wide in np.linspace(0, 1, 11):
            assert 1 / 3 <= propose(Shares(0.5, 0.1, 0.4, solid, wide)).confidence <= 1


@pytest.fixture(scope="module")
def sample():
    return {
        split: [
            (entry.type, shares(read_cutout(entry.path)[1]))
            for entry in read_manifest()
            if entry.role == "foreground" and entry.split == split
        ]
        for split in ("train", "test")
    }


def right(found):
    return sum(propose(seen).type == told for told, seen in found)


def test_the_accuracy_on_pictures_that_the_thresholds_have_not_seen(sample):
    # python -m aimmat.prepare types sample --split test
    assert (right(sample["test"]), len(sample["test"])) == (64, 68)
    # python -m aimmat.prepare types synthetic: 582 of 600
    scenes = [synthetic.scene(seed, 256) for seed in range(0, 600, 10)]
    assert right([(scene.type, shares(scene.alpha)) for scene in scenes]) >= 56


def test_the_thresholds_are_the_likeliest_for_the_training_pictures(sample):
    types = np.array([told.number for told, _ in sample["train"]])
    solid, wide = (np.array([getattr(seen, name) for _, seen in sample["train"]]) for name in ("solid", "wide"))
    weight = 1 / np.bincount(types)[types]

    def unlikelihood(values):
        middle, spread, edge, blur = values
        is_solid = 1 / (1 + np.exp((middle - solid) / abs(spread)))
        is_wide = 1 / (1 + np.exp((edge - wide) / abs(blur)))
        likely = np.stack([is_solid, (1 - is_solid) * (1 - is_wide), (1 - is_solid) * is_wide])
        return -(weight * np.log(np.maximum(likely[types, np.arange(len(types))], 1e-6))).sum()

    fitted = minimize(unlikelihood, [0.3, 0.1, 0.2, 0.05], method="Nelder-Mead", options={"maxiter": 4000})
    assert len(types) == 334
    np.testing.assert_allclose(fitted.x, [SOLID, SOLID_RANGE, WIDE, WIDE_RANGE], atol=0.006)  # they are rounded


@pytest.fixture
def listed(tmp_path):
    """A manifest of three cut-outs without types, a photograph without an alpha and a damaged matte."""
    entries = []
    for name, alpha in (("disc", disc(64, 24)), ("veil", disc(64, 24) // 2), ("mist", np.full((64, 64), 90, np.uint8))):
        Image.fromarray(np.dstack([np.full((64, 64, 3), 180, np.uint8), alpha])).save(tmp_path / f"{name}.png")
        entries.append(Entry(tmp_path / f"{name}.png", "foreground", "train"))
    Image.new("RGB", (64, 64)).save(tmp_path / "look.png")
    entries.append(Entry(tmp_path / "look.png", "photo", "test"))
    entries.append(Entry(tmp_path / "look.png", "photo", "val", tmp_path / "gone.png"))
    write_manifest(tmp_path / "list.csv", entries)
    return tmp_path / "list.csv"


def test_the_command_writes_a_types_file_and_sheets(listed, tmp_path, capsys):
    call = ["types", str(listed), "-o", str(tmp_path / "types"), "--split", "train"]
    assert main(call) == 0
    with (tmp_path / "types" / "types.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["name", "type", "category", "confidence"]
    confidence = [float(row["confidence"]) for row in rows]
    assert confidence == sorted(confidence)
    types = {name: kind for name, (kind, _) in read_types(tmp_path / "types" / "types.csv").items()}
    assert types == {"disc": "SO", "veil": "STM", "mist": "NS"}
    with Image.open(tmp_path / "types" / "sheet_1.png") as sheet:
        assert sheet.size == (6 * (2 * 144 + 6), 144 + 18)
    out = capsys.readouterr().out
    assert "3 alphas: 1 SO, 1 STM, 1 NS" in out
    assert "as told" not in out  # nobody told

    (tmp_path / "types" / "types.csv").write_text("corrected")
    assert main(call) == 1
    assert "types.csv exists and may have been corrected by hand" in capsys.readouterr().err


def test_an_alpha_that_cannot_be_read_costs_its_own_line(listed, tmp_path, capsys):
    assert main(["types", str(listed), "-o", str(tmp_path / "types")]) == 1
    assert "gone.png: no such file" in capsys.readouterr().err
    assert len(read_types(tmp_path / "types" / "types.csv")) == 3
    with pytest.raises(AimmatError, match=r"gone.png: no such file"):
        propose_entry(Entry(listed, "photo", "val", tmp_path / "gone.png"))


def test_proposals_are_compared_with_types_that_were_told(tmp_path, capsys):
    assert main(["types", "sample", "--split", "val", "-o", str(tmp_path / "types"), "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "28 of 30 as told: SO 16 of 18 (2 as STM), STM 7 of 7, NS 5 of 5" in out


def test_nothing_to_propose_is_an_error(listed, tmp_path, capsys):
    assert main(["types", str(listed), "-o", str(tmp_path / "types"), "--split", "test"]) == 1
    assert "has no picture with an alpha" in capsys.readouterr().err
