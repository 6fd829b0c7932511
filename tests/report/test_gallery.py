"""The gallery of several runs: input, truth, a matte a run, a row a picture."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aimmat.report import gallery
from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import GalleryItem, gallery_html, results_table
from aimmat.tables.gallery import THUMB
from aimmat.tables.runs import Run

IMAGE = np.full((32, 48, 3), (200, 100, 50), np.uint8)


def finished(folder: Path, level: int, tested: int = 4, kept: int = 4) -> Run:
    """A run that says `level` everywhere, tested on pictures of all types of which its gallery keeps some."""
    types = list(ImageType)
    rows = [Row(f"p{n}", types[n % 3], Category.TOY, {"sad": float(n + level)}) for n in range(tested)]
    matte, truth = np.full((32, 48), level, np.uint8), np.full((32, 48), 255, np.uint8)
    items = [GalleryItem(r.name, r.type, r.category, IMAGE, None, None, matte, truth, r.scores) for r in rows[:kept]]
    table = results_table({"AimNet": rows})
    gallery_html(folder / "gallery.html", items, title="t", summary=table, config="c", command="c")
    return Run(folder, "AimNet", {}, rows)


def test_a_row_shows_input_truth_and_the_matte_of_each_run_in_the_order_given(tmp_path):
    runs = [finished(tmp_path / str(level), level) for level in (0, 100, 200)]
    gallery.write(runs, tmp_path)
    with Image.open(tmp_path / "gallery.png") as sheet:
        pixels = np.asarray(sheet)
    y = 36 + THUMB * 32 // 48 // 2  # the middle of the first row's thumbs, below the titles
    middles = [int(pixels[y, 180 + 8 + place * (THUMB + 8) + THUMB // 2].mean()) for place in range(5)]
    # WebP at quality 80 keeps a flat colour to within a few levels.
    np.testing.assert_allclose(middles, [350 / 3, 255, 0, 100, 200], atol=6)
    assert pixels.shape[1] == 180 + 5 * (THUMB + 8) + 8


def test_the_page_names_runs_apart_and_gives_their_scores(tmp_path):
    runs = [finished(tmp_path / str(level), level) for level in (0, 100)]
    gallery.write(runs, tmp_path)
    page = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert re.findall(r"<article><h3>(.*?)</h3>", page) == ["p0", "p3", "p1", "p2"]  # by type, then SAD
    assert page.count("<img ") == 4 * 4
    for wanted in ("1: AimNet", "2: AimNet", "SAD 0.00", "SAD 100.00", str(tmp_path / "100"), "4 of 4 test pictures"):
        assert wanted in page
    assert "<script" not in page


def test_a_picture_that_one_run_did_not_keep_is_left_out_unless_its_matte_is_in_a_file(tmp_path):
    runs = [finished(tmp_path / "a", 0), finished(tmp_path / "b", 100, kept=2)]
    gallery.write(runs, tmp_path)
    said = "2 of 4 test pictures, good to bad within a type, out of the 2 that every run shows."
    assert said in (tmp_path / "gallery.html").read_text(encoding="utf-8")
    (tmp_path / "b" / "mattes").mkdir()
    Image.fromarray(IMAGE[..., 0]).save(tmp_path / "b" / "mattes" / "p3.png")
    gallery.write(runs, tmp_path)
    assert "3 of 4 test pictures" in (tmp_path / "gallery.html").read_text(encoding="utf-8")


def test_what_cannot_be_shown_is_refused_in_a_sentence(tmp_path):
    whole = finished(tmp_path / "a", 0)
    with pytest.raises(AimmatError, match="on the same pictures"):
        gallery.write([whole, finished(tmp_path / "b", 0, tested=3, kept=3)], tmp_path)
    with pytest.raises(AimmatError, match="another folder"):
        gallery.write([whole], tmp_path / "a")
    (tmp_path / "a" / "gallery.html").unlink()
    with pytest.raises(AimmatError, match="mattes=true"):
        gallery.write([whole], tmp_path)
    with pytest.raises(AimmatError, match="one run or more"):
        gallery.write([], tmp_path)
