"""The data doctor over good files and bad ones; what a training says of the same files."""

import os
import re
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from PIL import Image

from aimmat.data import CutoutScenes, Entry, SceneDataset, read_manifest, write_manifest
from aimmat.data.composites import CompositeDataset
from aimmat.data.doctor import KINDS, bleeding, check, examine, is_mask, page
from aimmat.data.errors import is_premultiplied, read_pair
from aimmat.data.photos import PhotoDataset
from aimmat.images import read_cutout, read_image
from aimmat.prepare import main
from aimmat.schema import AimmatError, ImageType

_maker = run_path(str(Path(__file__).with_name("battery.py")))
make_battery, cutout, scene, rgba = (_maker[name] for name in ("make_battery", "cutout", "scene", "rgba"))


@pytest.fixture(scope="module")
def battery(tmp_path_factory):
    return make_battery(tmp_path_factory.mktemp("battery"))


@pytest.fixture(scope="module")
def report(battery):
    return check([case.entry for case in battery])


def said_of(case, report):
    """The findings that name the case's entry, the second of two that are alike."""
    return [finding for finding in report.findings if finding.entries and finding.entries[-1] == case.entry]


def save(path, colour, alpha=None, **options):
    Image.fromarray(colour if alpha is None else np.dstack([colour, alpha])).save(path, **options)
    return path


def test_the_battery_is_large(battery):
    assert len({case.entry for case in battery}) == len(battery) >= 60
    apart = {"layout", "balance", "bare", "decoder", "trimap"}  # have tests of their own
    assert {case.kind for case in battery} >= KINDS.keys() - apart


def test_every_bad_file_is_named_in_one_sentence_and_good_ones_are_let_be(battery, report):
    for case in battery:
        found = said_of(case, report)
        if case.kind is None:
            assert not found, case.name
            continue
        (finding,) = [finding for finding in found if finding.kind == case.kind]
        assert case.words in finding.sentence, case.name
        assert "\n" not in finding.sentence
        assert re.search(r"[/\\]" + re.escape(Path(finding.entries[-1].path).parent.name), finding.sentence), case.name
        assert all(other.severity == "note" for other in found if other is not finding), case.name


def test_what_stops_a_training_is_an_error_and_nothing_else_but_a_leak_is(battery, report):
    for case in battery:
        errors = [
            finding for finding in said_of(case, report) if finding.severity == "error" and finding.kind != "leak"
        ]
        assert bool(errors) == case.stops, case.name


def test_files_out_of_the_ordinary_are_read_right(battery):
    known = [case for case in battery if case.pixels is not None]
    for case in known:
        background = case.entry.role == "background"
        pixels = read_image(case.entry.path) if background else read_pair(case.entry)[1]
        np.testing.assert_array_equal(pixels, case.pixels, err_msg=case.name)
    assert len(known) >= 15


def layers(case):
    """Entries of a training of one foreground and one background, one of which is the case's."""
    folder = Path(case.entry.path).parent.parent
    if case.entry.role == "background":
        return [Entry(save(folder / "good.png", *cutout(1)), "foreground", "train"), case.entry]
    backdrop = Entry(save(folder / "behind.png", scene(2)), "background", "train")
    return [replace(case.entry, role="foreground", split="train"), backdrop]


def sentence(case, report):
    (finding,) = [finding for finding in said_of(case, report) if finding.kind == case.kind]
    return finding.sentence


def test_a_training_on_scenes_says_of_a_file_what_the_doctor_says(battery, report):
    for case in battery:
        data = SceneDataset(CutoutScenes(layers(case), "train", 64))
        if not case.stops:
            assert data[0]["alpha"].shape == (1, 64, 64), case.name
            continue
        with pytest.raises(AimmatError) as caught:
            data[0]
        assert str(caught.value) == sentence(case, report), case.name


def test_a_training_on_large_composites_says_it_too(battery, report):
    for case in battery:
        data = CompositeDataset(layers(case))
        if not case.stops:
            assert data[0]["alpha"].shape == (1, 320, 320), case.name
            continue
        with pytest.raises(AimmatError) as caught:
            data[0]
        assert str(caught.value) == sentence(case, report), case.name


def test_a_test_on_photographs_says_it_too(battery, report):
    for case in battery:
        if case.entry.alpha is None:
            continue
        data = PhotoDataset([replace(case.entry, role="photo", split="test")])
        if not case.stops:
            assert data[0]["alpha"].shape == (1, 96, 96), case.name
            continue
        with pytest.raises(AimmatError) as caught:
            data[0]
        assert str(caught.value) == sentence(case, report), case.name


def test_a_picture_in_two_splits_is_a_leak_and_in_one_a_duplicate(tmp_path):
    first, copy = save(tmp_path / "a.png", *cutout(1)), save(tmp_path / "b.webp", *cutout(1), quality=70)
    for split, kind in (("train", "duplicate"), ("val", "leak"), ("test", "leak")):
        found = check([Entry(first, "foreground", "train"), Entry(copy, "foreground", split)]).findings
        assert [finding.kind for finding in found] == [kind, "balance"]
        assert f"{copy} ({split}) looks like {first} (train)" in found[0].sentence
    listed = check([Entry(first, "foreground", "train"), Entry(first, "foreground", "test")]).findings
    assert (listed[0].kind, "is listed again" in listed[0].sentence) == ("leak", True)


def test_a_cut_out_is_found_in_the_test_photograph_that_it_was_taken_from(tmp_path):
    colour, alpha = cutout(3)
    share = alpha[..., None] / 255
    photo = np.rint(colour * share + scene(4) * (1 - share)).astype(np.uint8)
    entries = [
        Entry(save(tmp_path / "cut.png", colour, alpha), "foreground", "train"),
        Entry(save(tmp_path / "photo.jpg", photo), "photo", "test", save(tmp_path / "matte.png", alpha)),
    ]
    assert [finding.kind for finding in check(entries).of("error")] == ["leak"]


def test_backgrounds_that_splits_share_are_no_leak(tmp_path):
    entries = [Entry(save(tmp_path / "sky.png", scene(1)), "background", split) for split in ("train", "test")]
    assert [finding.kind for finding in check(entries).findings] == ["duplicate"]


def test_a_training_without_a_type_is_named(tmp_path):
    entries = [
        Entry(save(tmp_path / f"{kind}.png", *cutout(seed)), "foreground", "train", type=ImageType(kind))
        for seed, kind in enumerate(("SO", "NS"))
    ]
    (finding,) = check(entries).findings
    assert "none of 2 pictures to train on is STM;" in finding.sentence


def test_masks_of_saliency_data_are_as_they_should_be(tmp_path):
    mask = np.where(cutout(5)[1] > 127, np.uint8(255), np.uint8(0))
    for name, alpha in (("hard", mask), ("full", np.full_like(mask, 255)), ("none", np.zeros_like(mask))):
        matte = save(tmp_path / f"{name}_mask.png", alpha)
        entry = Entry(save(tmp_path / f"{name}.png", scene(5)), "saliency", "train", matte)
        assert not examine(entry).findings


def test_a_photograph_shines_through_its_own_colours_but_not_through_estimated_ones(tmp_path):
    colour, alpha = cutout(6)
    share = alpha[..., None] / 255
    photo = save(tmp_path / "photo.png", np.rint(colour * share + 20 * (1 - share)).astype(np.uint8))
    matte = save(tmp_path / "matte.png", alpha)
    for foreground, kinds in ((photo, ["bleed"]), (save(tmp_path / "clean.png", colour), []), (None, [])):
        found = examine(Entry(photo, "photo", "train", matte, foreground=foreground)).findings
        assert [finding.kind for finding in found] == kinds


def test_a_photograph_must_have_the_size_of_its_alpha_although_its_foreground_has(tmp_path):
    colour, alpha = cutout(6)
    photo, clean = save(tmp_path / "photo.png", scene(6)[:-1]), save(tmp_path / "clean.png", colour)
    entry = Entry(photo, "photo", "train", save(tmp_path / "matte.png", alpha), foreground=clean)
    (finding,) = examine(entry).findings
    assert finding.sentence.startswith(f"{photo} is 96 x 95 pixels but its alpha")


# Over the whole sample set and 150 procedural scenes of 384 pixels, over its backgrounds: of 582 straight cut-outs none
# is accused; 580 premultiplied ones are, 351 from a photograph and 453 from white.
def test_straight_colours_are_not_accused_and_most_mixed_ones_are(battery):
    cutouts = [read_cutout(entry.path) for entry in read_manifest() if entry.role == "foreground"][::18]
    caught = {"premultiplied": 0, "white": 0, "the background": 0}
    for number, (colour, alpha) in enumerate(cutouts):
        assert not is_premultiplied(colour, alpha)
        assert bleeding(colour, alpha, colour) == ""
        share = alpha[..., None] / 255
        ground = np.asarray(Image.fromarray(scene(number)).resize(alpha.shape[::-1]))
        premultiplied, white, mixed = (
            np.rint(colour * share + other * (1 - share)).astype(np.uint8) for other in (0, 255, ground)
        )
        caught["premultiplied"] += is_premultiplied(premultiplied, alpha)
        caught["white"] += bleeding(white, alpha, white) == "white"
        caught["the background"] += bleeding(mixed, alpha, mixed) == "the background"
    assert len(cutouts) == 24
    assert caught["premultiplied"] >= 22  # 98 % of all
    assert min(caught["white"], caught["the background"]) >= 12  # not those without an opaque or an empty pixel


def test_a_mask_is_told_from_a_soft_edge_also_as_jpeg(tmp_path):
    alpha = cutout(7)[1]
    mask = np.where(alpha > 127, np.uint8(255), np.uint8(0))
    assert is_mask(mask)
    assert not is_mask(alpha)
    assert is_mask(read_image(save(tmp_path / "mask.jpg", mask, quality=90))[..., 0])


def test_several_processes_say_the_same(battery, report):
    again = check([case.entry for case in battery], jobs=2)
    assert again.findings == report.findings


def test_a_remark_of_the_decoder_is_kept(tmp_path, monkeypatch):
    path = save(tmp_path / "large.png", scene(8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 96 - 1)  # Pillow warns above, refuses above twice that
    (finding,) = examine(Entry(path, "background", "train")).findings
    assert (finding.kind, "exceeds limit" in finding.sentence) == ("decoder", True)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.sources, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_all_it_shows(report, tmp_path):
    nasty = save(tmp_path / "<script>alert(1)<script>.png", *cutout(9))
    entry = Entry(nasty, "foreground", "train", tmp_path / "gone.png")
    text = page(replace(report, findings=[*report.findings, *examine(entry).findings]), "A <title>")
    shown = Page(text)
    assert len(shown.sources) > 20
    assert all(source.startswith("data:image/webp;base64,") for source in shown.sources)
    assert "<script" not in text
    assert "A <title>" in shown.text
    for finding in report.findings:
        assert finding.sentence in shown.text


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_in_another_encoding_can_be_reported(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(b"")
    found = check([Entry(path, "background", "train")])
    assert "caf\\udce9.png: its content is no image" in found.findings[0].sentence
    assert "caf\\udce9.png: its content is no image" in page(found, str(path)).encode().decode()


def test_members_of_an_archive_are_examined_too(tmp_path):
    save(tmp_path / "1.png", *cutout(1))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "1.png", "1.png")
        archive.writestr("2.png", b"")
    entries = [Entry(f"zip://{n}.png::{tmp_path / 'set.zip'}", "foreground", "train") for n in (1, 2)]
    found = check([*entries, Entry(tmp_path / "1.png", "foreground", "train")]).findings
    assert [finding.kind for finding in found] == ["unreadable", "duplicate", "balance"]
    assert "2.png" in found[0].sentence


def test_the_sample_set_passes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "sample", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"478 pictures in .* 0 errors, 1 warning, 5 notes\ncheck.html", out)
    assert "icon_1f5bc-fe0f.webp is a hard mask" in out  # a picture frame with straight sides
    assert Path("check.html").stat().st_size > 10_000


def test_the_command_leaves_with_1_where_something_spoils_a_training(tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    good = Entry(save(tmp_path / "good.png", *cutout(1)), "foreground", "train")
    write_manifest(tmp_path / "list.csv", [good, *(replace(good, path=bad, category=c) for c in ("toy",) * 12)])
    assert main(["check", str(tmp_path / "list.csv"), "-o", str(tmp_path / "page.html")]) == 1
    out = capsys.readouterr().out
    assert out.count(f"error: cannot read {bad}: ") == 10
    assert "error: files that cannot be used: 2 more in the report" in out


def test_a_folder_whose_files_do_not_pair_is_named(tmp_path, capsys):
    for folder in ("image", "alpha"):
        (tmp_path / folder).mkdir()
    for name in ("a.png", "a.jpg", "B.PNG"):
        save(tmp_path / "image" / name, scene(1))
    save(tmp_path / "alpha" / "A.png", cutout(1)[1])
    call = ["check", str(tmp_path), "-o", str(tmp_path / "page.html")]
    assert main(call) == 1
    said = capsys.readouterr()
    assert "differ in case or extension only; rename or remove one of them (and 1 more like it)" in said.out + said.err


def test_what_is_wrong_with_a_layout_is_an_error(tmp_path, capsys):
    make_tree = run_path(str(Path(__file__).with_name("trees.py")))["make_tree"]
    make_tree("aim500", tmp_path)
    next(tmp_path.rglob("mask/*.png")).unlink()
    assert main(["check", "aim500", "--root", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 1
    assert "has no matte of its name" in capsys.readouterr().out
