"""Galleries: the right pictures at the right places, in files that need nothing else."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import GalleryItem, gallery, gallery_html, gallery_png, results_table
from aimmat.tables.gallery import PAGE_BYTES, THUMB, choose

IMAGE = np.full((40, 60, 3), (200, 100, 50), np.uint8)
HALF = np.repeat([0.0, 1.0], 30)[None].repeat(40, 0)  # (40, 60): left background, right foreground


def item(name="picture", image_type="SO", sad=1.0, category="toy", **changes):
    parts = {
        "image": IMAGE,
        "trimap": (HALF * 255).astype(np.uint8),
        "matting": HALF,
        "alpha": HALF,
        "truth": HALF,
        "scores": {"sad": sad, "mse": 0.25},
    }
    return GalleryItem(name=name, type=ImageType(image_type), category=Category(category), **parts | changes)


def page(path, items, **changes):
    rows = [Row(i.name, i.type, i.category, i.scores) for i in items]
    texts = {"title": "Test", "config": "demo", "command": "python -m aimmat.train"}
    gallery_html(path, items, **{"summary": results_table({"AimNet": rows})} | texts | changes)
    return path.read_text(encoding="utf-8")


def pixels(path):
    with Image.open(path) as sheet:
        return np.asarray(sheet)


def embedded(text):
    """The pictures of the page, in order; the legend is the first."""
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


def test_chosen_pictures_span_types_and_good_to_bad():
    items = [item(f"{t}{n}", t, float(n)) for n in range(9) for t in ("NS", "SO")] + [item("STM0", "STM", 0.0)]
    names = [i.name for i in choose(items, 7)]
    assert names == ["SO0", "SO4", "SO8", "STM0", "NS0", "NS4", "NS8"]
    assert [i.name for i in choose(items, 2)] == ["SO4", "STM0"]  # the middle one where there is room for one
    assert len({i.name for i in choose(items, 100)}) == len(items)


def test_a_picture_without_a_number_comes_last_in_its_type():
    assert [i.name for i in choose([item("nan", sad=float("nan")), item("b"), item("none", scores={})], 3)] == [
        "b",
        "nan",
        "none",
    ]


def test_the_sheet_has_a_line_an_item_and_shows_the_error_in_colour(tmp_path):
    wrong = item("wrong", alpha=1 - HALF, sad=2.4)
    gallery_png(tmp_path / "one.png", [wrong])
    gallery_png(tmp_path / "two.png", [item("right"), wrong])
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    line = THUMB * 40 // 60 + 8  # the thumbs of a 60 x 40 image and the space below
    assert two.shape == (one.shape[0] + line, one.shape[1], 3)
    # Column "Error" is the sixth of seven, each 200 pixels wide with its space: 0 is dark, 1 bright.
    middle_y, error_x = 36 + THUMB * 40 // 120, two.shape[1] - 200 - 8 - THUMB // 2
    assert two[middle_y, error_x].max() < 10
    assert two[middle_y + line, error_x].min() > 100
    assert len(np.unique(two.reshape(-1, 3), axis=0)) > 50


def test_the_sheet_takes_no_more_lines_than_asked(tmp_path):
    gallery_png(tmp_path / "all.png", [item(str(n), sad=float(n)) for n in range(5)], most=2)
    gallery_png(tmp_path / "two.png", [item(str(n), sad=float(n)) for n in range(2)])
    assert pixels(tmp_path / "all.png").shape == pixels(tmp_path / "two.png").shape


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (700, 3)])
def test_any_size_of_picture_and_absent_maps_are_laid_out(tmp_path, size):
    matte = np.full(size, 0.5, np.float32)
    image = np.zeros((*size, 3), np.uint8)
    odd = item("x" * 200, image=image, trimap=None, matting=None, alpha=matte, truth=matte)
    gallery_png(tmp_path / "sheet.png", [odd])
    assert page(tmp_path / "page.html", [odd]).count('<span class="none">none</span>') == 2


def test_the_page_holds_all_it_shows(tmp_path):
    text = page(tmp_path / "page.html", [item("a"), item("b", "NS")])
    own = re.sub(r'"data:[^"]+"', '""', text)
    assert not re.search(r"https?:|//|@import|url\(|<link|<iframe|srcset", own)
    assert len(embedded(text)) == 1 + 2 * 7
    assert set(re.findall(r'src="([^:]+):', text)) == {"data"}
    assert len(re.findall(r'<img [^>]*alt="[^"]+"', text)) == text.count("<img ")
    for wanted in ("<caption>", "prefers-color-scheme: dark", 'lang="en"', "<code>python -m aimmat.train</code>"):
        assert wanted in text


def test_the_cut_out_keeps_its_colour_and_is_clear_where_alpha_is_0(tmp_path):
    cutout = np.asarray(embedded(page(tmp_path / "page.html", [item()]))[-1])
    height, width, channels = cutout.shape
    assert channels == 4
    assert cutout[height // 2, width // 4, 3] == 0
    # WebP at quality 80 keeps a flat colour to within a few levels.
    np.testing.assert_allclose(cutout[height // 2, 3 * width // 4], [200, 100, 50, 255], atol=6)


def test_the_page_escapes_every_text(tmp_path):
    evil = '"><script>alert(1)</script>&'
    text = page(tmp_path / "page.html", [item(evil)], title=evil, config=evil, command=evil)
    assert text.count("<script>") == 1  # its own
    assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text


def test_page_and_sheet_say_how_many_pictures_they_leave_out(tmp_path, monkeypatch):
    rows = [Row(str(n), ImageType.SO, Category.TOY, {"sad": float(n)}) for n in range(9)]
    items = [item(str(n), sad=float(n)) for n in range(4)]
    said = "3 of 9 test pictures, good to bad within a type, out of the 4 whose pictures were kept."
    assert said in page(tmp_path / "some.html", items, most=3, summary=results_table({"AimNet": rows}))
    assert "3 of 4 test pictures, good to bad within a type. " in page(tmp_path / "most.html", items, most=3)
    assert "<span>4 pictures. " in page(tmp_path / "all.html", items)
    drawn = []
    monkeypatch.setattr(gallery.ImageDraw.ImageDraw, "text", lambda draw, place, text, *_, **__: drawn.append(text))
    gallery_png(tmp_path / "sheet.png", items, most=3, num_tested=9)
    assert drawn[-1] == f"{said} SAD in thousands of pixels; lower is better."


def test_a_page_that_grows_too_large_gets_smaller_thumbs(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    matte = generator.random((300, 300))
    noise = item(
        image=generator.integers(0, 256, (300, 300, 3), np.uint8),
        matting=matte,
        alpha=matte,
        truth=1 - matte,
        trimap=None,
    )
    large = page(tmp_path / "page.html", [noise])
    assert embedded(large)[1].size == (256, 256)
    monkeypatch.setattr(gallery, "PAGE_BYTES", len(large) - 1)
    assert embedded(page(tmp_path / "page.html", [noise]))[1].size == (192, 192)
    monkeypatch.setattr(gallery, "PAGE_BYTES", 0)
    small = page(tmp_path / "page.html", [noise])
    assert embedded(small)[1].size == (128, 128)
    assert 60 * len(small) < PAGE_BYTES  # sixty pictures of noise, the worst there is, fit


def test_a_matte_that_is_not_a_number_is_drawn(tmp_path):
    gallery_png(tmp_path / "sheet.png", [item(alpha=np.full((40, 60), np.nan))])


def test_wrong_maps_and_empty_galleries_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8, got \(40, 60, 3\) float64"):
        item(image=IMAGE / 255)
    with pytest.raises(ValueError, match=r"alpha must be \(H, W\) of its image, \(40, 60\), got \(1, 40, 60\)"):
        item(alpha=HALF[None])
    with pytest.raises(ValueError, match="one item or more"):
        gallery_png(tmp_path / "sheet.png", [])
    (tmp_path / "file").touch()
    with pytest.raises(AimmatError, match="could not write"):
        gallery_png(tmp_path / "file" / "sheet.png", [item()])
