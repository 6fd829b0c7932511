"""The shipped sample data set: every file is listed, opens, is licensed, and stays in one split."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aimmat.schema import Category, ImageType

SAMPLE = Path(str(files("aimmat"))) / "data" / "sample"
SPLITS = ("train", "val", "test")
DOCUMENTS = {"manifest.csv", "README.md", "LICENSES.md"}

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    with (SAMPLE / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pictures(rows: Rows) -> dict[str, np.ndarray]:
    return {row["file"]: np.asarray(Image.open(SAMPLE / row["file"])) for row in rows}


def foregrounds(rows: Rows) -> Rows:
    return [row for row in rows if row["role"] == "foreground"]


def test_the_data_set_is_at_most_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file()) <= 12e6


def test_the_manifest_lists_every_file_once(rows: Rows) -> None:
    on_disk = {path.relative_to(SAMPLE).as_posix() for path in SAMPLE.rglob("*") if path.is_file()} - DOCUMENTS
    assert Counter(row["file"] for row in rows) == Counter(on_disk)


def test_rows_use_the_words_of_the_schema(rows: Rows) -> None:
    for row in rows:
        assert row["role"] in ("foreground", "background", "photo")
        assert row["split"] in SPLITS
        if row["role"] == "foreground":
            ImageType(row["type"]), Category(row["category"])
        else:
            assert row["type"] == row["category"] == ""


def test_foregrounds_are_rgba_and_the_rest_is_rgb_of_at_most_640_pixels(
    rows: Rows, pictures: dict[str, np.ndarray]
) -> None:
    for row in rows:
        height, width, channels = pictures[row["file"]].shape
        assert channels == (4 if row["role"] == "foreground" else 3), row["file"]
        assert min(height, width) >= 80, row["file"]
        assert max(height, width) <= 640, row["file"]


def test_alphas_are_not_empty_and_those_of_stm_and_ns_are_not_solid(
    rows: Rows, pictures: dict[str, np.ndarray]
) -> None:
    for row in foregrounds(rows):
        alpha = pictures[row["file"]][..., 3]
        assert alpha.max() > 128, row["file"]
        assert (alpha > 25).mean() > 0.02, row["file"]  # 2 %: drops are thin rings
        assert (alpha < 25).any() or row["type"] == "NS", row["file"]  # an object leaves some background
        if row["type"] != "SO":
            assert (alpha < 230).mean() > 0.1, row["file"]


def test_ns_foregrounds_reach_all_four_sides(rows: Rows, pictures: dict[str, np.ndarray]) -> None:
    for row in foregrounds(rows):
        if row["type"] == "NS":
            covered = pictures[row["file"]][..., 3] > 5
            margin = [max(1, round(0.15 * side)) for side in covered.shape]
            strips = (covered[: margin[0]], covered[-margin[0] :], covered[:, : margin[1]], covered[:, -margin[1] :])
            assert all(strip.any() for strip in strips), row["file"]


def test_colour_under_alpha_zero_continues_the_object(rows: Rows, pictures: dict[str, np.ndarray]) -> None:
    """A black or white fill would bleed into edges when straight colour is resized."""
    for row in foregrounds(rows):
        rgb, alpha = pictures[row["file"]][..., :3].astype(float), pictures[row["file"]][..., 3]
        near = np.zeros(alpha.shape, bool)
        near[1:], near[:-1] = alpha[:-1] > 200, alpha[1:] > 200
        hidden = near & (alpha == 0)  # directly below or above a solid pixel
        if hidden.sum() > 20:
            solid = rgb[alpha > 200]
            assert (rgb[hidden].mean(0) >= solid.min(0) - 8).all(), row["file"]  # 8: lossy colour
            assert (rgb[hidden].mean(0) <= solid.max(0) + 8).all(), row["file"]


def test_every_type_is_in_every_split_and_every_category_in_train_and_test(rows: Rows) -> None:
    assert {(row["type"], row["split"]) for row in foregrounds(rows)} == {(t, s) for t in ImageType for s in SPLITS}
    for split in ("train", "test"):
        assert {row["category"] for row in foregrounds(rows) if row["split"] == split} == set(Category)


def test_train_is_about_60_25_15_percent_so_stm_ns(rows: Rows) -> None:
    count = Counter(row["type"] for row in foregrounds(rows) if row["split"] == "train")
    share = {name: number / count.total() for name, number in count.items()}
    assert share == pytest.approx({"SO": 0.60, "STM": 0.25, "NS": 0.15}, abs=0.05)


def test_every_split_has_backgrounds(rows: Rows) -> None:
    count = Counter(row["split"] for row in rows if row["role"] == "background")
    assert count["train"] >= 20
    assert count["val"] >= 3
    assert count["test"] >= 5


def test_no_two_files_hold_the_same_pixels(pictures: dict[str, np.ndarray]) -> None:
    digests = [hashlib.sha256(repr(array.shape).encode() + array.tobytes()).digest() for array in pictures.values()]
    assert len(set(digests)) == len(digests)


def test_no_source_is_in_two_splits(rows: Rows) -> None:
    splits = defaultdict(set)
    for row in rows:
        if row["author"] != "aimmat contributors":  # renders: one source, many seeds
            splits[row["source"]].add(row["split"])
    assert {source for source, where in splits.items() if len(where) > 1} == set()


def fingerprint(path: Path) -> np.ndarray:
    """The picture over mid-grey as 16 x 16 colours, centred and of unit length: a dot product is a correlation."""
    picture = Image.open(path).convert("RGBA")
    grey = Image.new("RGBA", picture.size, (128, 128, 128, 255))
    small = Image.alpha_composite(grey, picture).convert("RGB").resize((16, 16), Image.Resampling.BOX)
    colours = np.asarray(small, dtype=np.float64)
    colours -= colours.mean((0, 1))
    return (colours / np.linalg.norm(colours)).ravel()


# Copies at half size correlate at 0.98 and more; the nearest pictures of different splits, a ball and a tuft, at 0.88.
DUPLICATE = 0.92


def test_fingerprint_finds_a_smaller_copy(tmp_path: Path, rows: Rows) -> None:
    for name in ("icon_1f430", "drops_107", "net_126", "veil_110"):
        original = SAMPLE / "foregrounds" / f"{name}.webp"
        picture = Image.open(original)
        picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / "copy.webp")
        assert fingerprint(original) @ fingerprint(tmp_path / "copy.webp") > DUPLICATE


def test_no_picture_of_one_split_looks_like_one_of_another(rows: Rows) -> None:
    for role in ("foreground", "background"):
        of_split = {
            split: [row["file"] for row in rows if (row["role"], row["split"]) == (role, split)] for split in SPLITS
        }
        prints = {split: np.stack([fingerprint(SAMPLE / name) for name in names]) for split, names in of_split.items()}
        for one, other in combinations(SPLITS, 2):
            alike = np.argwhere(prints[one] @ prints[other].T > DUPLICATE)
            assert [(of_split[one][i], of_split[other][j]) for i, j in alike] == []


def test_every_row_names_licence_author_and_source(rows: Rows) -> None:
    assert [row["file"] for row in rows if not (row["licence"] and row["author"] and row["source"])] == []


def test_licences_page_has_a_section_for_every_licence_and_credits_every_author(rows: Rows) -> None:
    page = (SAMPLE / "LICENSES.md").read_text(encoding="utf-8")
    sections = {line.split()[1] for line in page.splitlines() if line.startswith("## ")}
    assert sections == {row["licence"] for row in rows}
    assert [author for author in {row["author"] for row in rows} if author not in page] == []


def test_licences_page_names_every_file_that_asks_for_attribution(rows: Rows) -> None:
    page = (SAMPLE / "LICENSES.md").read_text(encoding="utf-8")
    assert [row["file"] for row in rows if row["licence"].startswith("CC-BY") and f"`{row['file']}`" not in page] == []
    assert (
        "The above copyright notice and this permission notice shall be included" in page
    )  # the MIT licence's own text


def test_readme_counts_are_those_of_the_manifest(rows: Rows) -> None:
    page = (SAMPLE / "README.md").read_text(encoding="utf-8")
    printed = {
        name: tuple(map(int, n)) for name, *n in re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.M)
    }
    counts = Counter((row[key], row["split"]) for row in rows for key in ("role", "type", "category") if row[key])
    assert printed == {name: tuple(counts[name, split] for split in SPLITS) for name, _ in counts}
