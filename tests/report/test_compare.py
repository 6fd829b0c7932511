"""The page of two runs holds their figures and the pictures that moved, and nothing from elsewhere."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aimmat.report import compare
from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import GalleryItem, gallery_html, results_table
from aimmat.tables.runs import Run

SIZE = 32, 48
TRUTH = np.repeat([0, 255], 24).astype(np.uint8)[None].repeat(SIZE[0], 0)  # left background, right foreground
TRIMAP = TRUTH.copy()
TRIMAP[:, 16:] = 128  # the left third is known


def finished(folder: Path, sads: dict[str, float], *, pictures=True, regions=True, error=0) -> Run:
    """A run's folder with a gallery; its mattes are the truth, made grey by `error` levels."""
    rows = []
    for name, sad in sads.items():
        scores = dict.fromkeys(("sad", "mse", "mad", "conn", "grad"), sad)
        scores |= {"sad_transition": sad / 4} if regions else {}
        rows.append(Row(name, ImageType.SO, Category.TOY, scores))
    image = np.full((*SIZE, 3), (200, 100, 50), np.uint8)
    alpha = np.abs(TRUTH.astype(int) - error).astype(np.uint8)
    items = [GalleryItem(r.name, r.type, r.category, image, TRIMAP, alpha, alpha, TRUTH, r.scores) for r in rows]
    if pictures:
        table = results_table({"AimNet": rows})
        gallery_html(folder / "gallery.html", items, title="t", summary=table, config="c", command="c")
    return Run(folder, folder.name, {}, rows)


def shown(text: str) -> list[str]:
    """The headings of the page's pictures, in order."""
    return re.findall(r"<article><h3>(.*?)</h3>", text)


def test_the_page_holds_the_figures_and_the_pictures_that_moved_most(tmp_path):
    base = {f"p{n:02}": 10.0 for n in range(20)}
    a = finished(tmp_path / "first", base, error=100)
    b = finished(tmp_path / "second", {name: 10 + (n - 12) / 2 for n, name in enumerate(base)})
    compare.write(a, b, tmp_path / "out")
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    text = (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")
    assert shown(page) == [f"p{n:02}" for n in (0, 1, 2, 3, 4, 5, 19, 18, 17, 16, 15, 14)]
    assert page.count("<img ") == 12 * 6
    # Mean difference of (n - 12) / 2 over n = 0..19: -1.25; a quarter of it in the transition.
    line = "| SAD | 20 | 10.00 | 8.75 | -1.25 |"
    assert line in text
    for wanted in ("<td>-1.25</td>", "-0.938 lies in known", "-0.312 in the transition", "One training each", "first"):
        assert wanted in page
    assert "| all, transition (matting decoder) | 20 | 2.50 | 2.19 | -0.31 |" in text
    assert "SAD -6.00, known -4.50, transition -1.50" in text
    assert "](compare.png)" in text
    with Image.open(tmp_path / "out" / "compare.png") as sheet:
        assert sheet.height > 12 * 96


def test_an_error_is_shown_in_colour_with_the_share_that_semantics_decided(tmp_path):
    a = finished(tmp_path / "a", {"p": 2.0}, error=150)
    b = finished(tmp_path / "b", {"p": 1.0})
    compare.write(a, b, tmp_path)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    share = int(re.search(r"Error of A<small>(\d+)% outside its transition", page)[1])
    assert share == pytest.approx(100 * 16 / 48, abs=3)  # the known third; WebP blurs its edge by a pixel or so


def test_an_error_without_a_predicted_trimap_says_that_its_share_is_not_known(tmp_path):
    a, b = finished(tmp_path / "a", {"p": 2.0}, error=150), finished(tmp_path / "b", {"p": 1.0}, pictures=False)
    (b.folder / "mattes").mkdir(parents=True)
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(b.folder / "mattes" / "p.png")
    compare.write(a, b, tmp_path)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert re.findall(r"Error of (.)<small>(?:\d+% outside its transition|(share not known))", page) == [
        ("A", ""),
        ("B", "share not known"),
    ]


def test_the_page_asks_for_nothing_from_elsewhere_and_escapes_every_text(tmp_path):
    evil = "<script>alert(1)</script>&|"
    a = finished(tmp_path / "a", {evil: 2.0, "p": 1.0})
    b = finished(tmp_path / "b", {evil: 1.0, "p": 3.0})
    compare.write(Run(a.folder, evil, {}, a.rows), b, tmp_path)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert shown(page) == ["&lt;script&gt;alert(1)&lt;/script&gt;&amp;|", "p"]
    assert page.count("<img ") == 2 * 6  # the escaped name found its thumbnails
    assert not re.search(r"https?:|//|@import|url\(|<link|<iframe|srcset", re.sub(r'"data:[^"]+"', '""', page))
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', page)) == page.count("<img ")
    assert "<script" not in (tmp_path / "compare.md").read_text(encoding="utf-8").replace("\\<script", "")
    for wanted in ("prefers-color-scheme: dark", 'lang="en"', "default-src 'none'"):
        assert wanted in page


def test_a_run_against_itself_shows_no_winner_and_no_picture(tmp_path):
    same = finished(tmp_path / "a", {"p": 2.0, "q": 1.0})
    compare.write(same, same, tmp_path)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "No winner: SAD is the same on every picture." in page
    assert "<article" not in page
    assert page.count("<p>None.</p>") == 2
    assert not re.search(r"<td>[AB]</td>", page)
    assert not (tmp_path / "compare.png").exists()


def test_mattes_in_files_come_before_those_of_the_gallery(tmp_path):
    a, b = finished(tmp_path / "a", {"p": 2.0}), finished(tmp_path / "b", {"p": 1.0})
    (a.folder / "mattes").mkdir()
    Image.fromarray(np.full((320, 480), 77, np.uint8)).save(a.folder / "mattes" / "p.png")
    found = compare.pictures.thumbs([a, b], ["p"])["p"]
    assert np.asarray(found[0]).shape == np.asarray(found[1]).shape == np.asarray(found["Truth"]).shape
    assert np.unique(np.asarray(found[0])).tolist() == [77]


def test_without_thumbnails_the_page_says_how_to_get_them(tmp_path):
    a = finished(tmp_path / "a", {"p": 2.0}, pictures=False, regions=False)
    b = finished(tmp_path / "b", {"p": 1.0}, pictures=False, regions=False)
    compare.write(a, b, tmp_path)
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert page.count('<span class="none">none</span>') == 6
    assert "mattes=true" in page
    assert "mattes=true" in (tmp_path / "compare.md").read_text(encoding="utf-8")
    assert "Which decoder makes the difference cannot be told" in page
    assert not (tmp_path / "compare.png").exists()


def test_a_damaged_gallery_is_named(tmp_path):
    a, b = finished(tmp_path / "a", {"p": 2.0}), finished(tmp_path / "b", {"p": 1.0})
    path = b.folder / "gallery.html"
    path.write_text(path.read_text().replace("base64,UklGR", "base64,AAAAA"))
    with pytest.raises(AimmatError, match=re.escape(str(path))):
        compare.write(a, b, tmp_path)
