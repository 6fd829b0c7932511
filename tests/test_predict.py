"""The command that predicts files: what it reads, what it writes, what it refuses, and what it leaves alone."""

import errno
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from torch import nn

import aimmat
from aimmat import models, predict
from aimmat.inference import Hybrid, Predictor, Resize, build_strategy
from aimmat.predict import outputs, work
from aimmat.predict.inputs import Settled, find, read_photo
from aimmat.schema import AimmatError, Prediction
from aimmat.weights import save_network

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
RED = COLOURS[..., 0]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class Red(nn.Module):
    """The matte is the red channel; semantics are background left, transition in the middle, foreground right."""

    stride = 8

    def forward(self, image):
        side = torch.linspace(0, 2.999, image.shape[-1]).long()
        semantic = 9.0 * torch.stack([side == 0, side == 1, side == 2]).float()
        semantic = semantic[None, :, None].expand(len(image), 3, *image.shape[-2:])
        return Prediction(semantic, image[:, 1:2], image[:, :1])


@pytest.fixture
def red(monkeypatch):
    """The command runs with Red, at full size, whatever weights are named."""
    monkeypatch.setattr(aimmat, "load", lambda *_, **__: Predictor(Red(), Resize(scale=1), "cpu"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    switches = {"name": "aimnet", "width": 0.0625}
    save_network(path, models.build(**switches), {"model": switches, "inference": {"name": "hybrid"}})
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder of three pictures of one size."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.1.jpg", "c.webp"):
        save(folder / name)
    return folder


def save(path, picture=COLOURS, **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, **options)
    return path


def run(*words, weights="red"):
    return predict.main([*map(str, words), "--weights", str(weights), "--fg", "none"])


def tree(folder):
    """Every file with its content and time."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


# what is written


def test_a_cut_out_has_the_matte_as_alpha_and_no_colour_where_nothing_is_left(red, tmp_path):
    assert run(save(tmp_path / "a.png"), "-o", tmp_path / "out") == 0
    result = pixels(tmp_path / "out" / "a.png")
    assert (result[..., 3] == RED).all()
    assert (result[..., :3] == COLOURS * (RED[..., None] > 0)).all()


def test_premultiplied_colours_never_exceed_alpha(red, tmp_path):
    run(save(tmp_path / "a.png"), "-o", tmp_path / "out", "--premultiplied")
    result = pixels(tmp_path / "out" / "a.png").astype(int)
    assert (result[..., :3] <= result[..., 3:]).all()
    assert np.abs(result[..., :3] - COLOURS * (RED[..., None] / 255)).max() <= 0.5001  # rounded once


@pytest.mark.parametrize(("bits", "highest"), [(8, 255), (16, 65535)])
def test_a_matte_is_a_grey_png_of_8_or_16_bits(red, tmp_path, bits, highest):
    run(save(tmp_path / "a.png"), "-o", tmp_path / "out", "--matte", "--bits", bits)
    result = pixels(tmp_path / "out" / "a.png")
    assert (result == np.rint(RED / 255 * highest)).all()


def test_a_background_is_a_colour_or_a_picture_that_is_fitted_and_cropped(red, tmp_path):
    photo = save(tmp_path / "a.png")
    for colour, levels in (("white", (255, 255, 255)), ("#204060", (0x20, 0x40, 0x60))):
        assert run(photo, "-o", tmp_path / "out", "--background", colour, "--overwrite") == 0
        alpha = RED[..., None] / 255
        assert np.abs(pixels(tmp_path / "out" / "a.png") - (alpha * COLOURS + (1 - alpha) * levels)).max() <= 0.51
    halves = np.zeros((100, 400, 3), np.uint8)  # its middle 167 columns are seen: blue; what is left and right is not
    halves[:, :] = (200, 0, 0)
    halves[:, 100:300] = (0, 0, 200)
    run(photo, "-o", tmp_path / "out", "--background", save(tmp_path / "b.png", halves), "--overwrite")
    assert np.abs(pixels(tmp_path / "out" / "a.png") - (alpha * COLOURS + (1 - alpha) * (0, 0, 200))).max() <= 0.51


def test_webp_keeps_alpha_exactly_and_at_quality_100_the_colours_too(red, tmp_path):
    photo = save(tmp_path / "a.png")
    for quality in (50, 100):
        run(photo, "-o", tmp_path / "out", "--format", "webp", "--quality", quality, "--overwrite")
        with Image.open(tmp_path / "out" / "a.webp") as image:
            assert image.format == "WEBP"
        result = pixels(tmp_path / "out" / "a.webp")
        assert (result[..., 3] == RED).all()
    assert (result[..., :3] == COLOURS * (RED[..., None] > 0)).all()


def test_a_jpeg_is_written_on_a_background(red, tmp_path):
    assert run(save(tmp_path / "a.png"), "-o", tmp_path / "out", "--background", "white", "--format", "jpg") == 0
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (40, 24))


def test_extras_have_folders_of_their_own(red, tmp_path):
    photo = save(tmp_path / "a.png")
    run(photo, "-o", tmp_path / "out", "--save-matte", "--save-trimap", "--save-parts", "--bits", 16)
    out = tmp_path / "out"
    assert names(out) == ["a.png", "matte/a.png", "matting/a.png", "semantic/a.png", "trimap/a.png"]
    assert (pixels(out / "matte" / "a.png") == RED * 257.0).all()
    assert (pixels(out / "matting" / "a.png") == COLOURS[..., 1] * 257.0).all()
    trimap, semantic = pixels(out / "trimap" / "a.png"), pixels(out / "semantic" / "a.png")
    thirds = (np.linspace(0, 2.999, 40)).astype(int)
    assert (trimap == np.array([0, 128, 255])[thirds]).all()
    assert (semantic.argmax(axis=2) == thirds).all()
    assert semantic.max() == 255  # 9 over 0 and 0 is a probability of 0.9998


def test_a_network_without_a_decoder_says_so_once(monkeypatch, photos, tmp_path, capsys):
    class Alone(Red):
        def forward(self, image):
            return Prediction(None, None, image[:, :1])

    monkeypatch.setattr(aimmat, "load", lambda *_, **__: Predictor(Alone(), Resize(scale=1), "cpu"))
    assert run(photos, "-o", tmp_path / "out", "--save-trimap") == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: this network has no semantic decoder; leave --save-trimap and --save-parts out; 0 of 3 pictures done"
    ]


@pytest.mark.parametrize("fg", ["ml", "blend"])
@pytest.mark.parametrize("size", [(24, 40), (1, 1), (2, 300)])
def test_clean_colours_are_what_the_predictor_gives(red, tmp_path, fg, size):
    photo = save(tmp_path / "a.png", np.resize(COLOURS, (*size, 3)))
    words = [str(photo), "-o", str(tmp_path / "out"), "-w", "red"]
    assert predict.main(words if fg == "ml" else [*words, "--fg", fg]) == 0  # ml is the default
    expected = Predictor(Red(), Resize(scale=1), "cpu").cutout(photo, fg=fg)
    assert (pixels(tmp_path / "out" / "a.png") == expected).all()


def test_a_network_that_is_shown_a_trimap_is_refused_before_any_picture(monkeypatch, photos, tmp_path, capsys):
    class Shown(Red):
        input_channels = 4

    monkeypatch.setattr(aimmat, "load", lambda *_, **__: Predictor(Shown(), Resize(scale=1), "cpu"))
    assert run(photos, "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        "error: Shown mattes by a trimap, which this command has none of; use aimmat.load(...)(picture, trimap)\n"
    )


# profiles and orientation


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_colour_profile_goes_into_the_cut_out(red, tmp_path, suffix):
    run(save(tmp_path / "a.jpg", icc_profile=SRGB), "-o", tmp_path / "out", "--format", suffix)
    with Image.open(tmp_path / "out" / f"a.{suffix}") as image:
        assert image.info["icc_profile"] == SRGB


def test_a_profile_of_other_colours_than_rgb_is_left_behind(tmp_path):
    cmyk = SRGB[:16] + b"CMYK" + SRGB[20:]
    save(tmp_path / "a.jpg", Image.fromarray(COLOURS).convert("CMYK"), icc_profile=cmyk)
    assert read_photo(tmp_path / "a.jpg").profile is None


def test_orientation_is_applied_and_not_written(red, tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter clockwise
    exif[ExifTags.Base.Make] = "camera"
    run(save(tmp_path / "a.png", exif=exif), "-o", tmp_path / "out")
    assert (pixels(tmp_path / "out" / "a.png")[..., 3] == np.rot90(RED, -1)).all()
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert not image.getexif()


# how it is predicted


def test_every_option_reaches_the_strategy(weights):
    card = Hybrid(semantic_scale=0.3, matting_scale=0.6, max_side=900, protocol="release")
    assert work.strategy_of(card, "hybrid", {}) is card
    assert work.strategy_of(card, "hybrid", {"max_side": 640}) == Hybrid(0.3, 0.6, 640, protocol="release")
    assert work.strategy_of(card, "resize", {"scale": 0.5}) == Resize(0.5, protocol="release")
    given = predict._parser().parse_args(
        ["a", "-o", "b", "-w", str(weights), "--scales", "0.2,0.4", "--max-side", "320"]
    )
    assert predict._load(given).strategy == Hybrid(0.2, 0.4, 320)
    given.strategy, given.scales = "resize", "0.5"
    assert predict._load(given).strategy == Resize(0.5, max_side=320)


def test_the_scales_that_can_be_set_are_options_of_their_strategies():
    for name, options in predict.SCALES.items():
        build_strategy(name, **dict.fromkeys(options, 0.5))


def test_the_matte_is_the_predictor_s(weights, tmp_path):
    photo = save(tmp_path / "a.png")
    assert run(photo, "-o", tmp_path / "out", "--matte", "--bits", 16, weights=weights) == 0
    expected = aimmat.load(weights, device="cpu")(photo)
    assert (pixels(tmp_path / "out" / "a.png") == np.rint(expected.astype(np.float64) * 65535)).all()


def test_bfloat16_differs_by_its_rounding_alone(weights, tmp_path):
    photo = save(tmp_path / "a.png", np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    mattes = {}
    for dtype in ("float32", "bfloat16"):
        run(photo, "-o", tmp_path / dtype, "--matte", "--bits", 16, "--dtype", dtype, weights=weights)
        mattes[dtype] = pixels(tmp_path / dtype / "a.png") / 65535
    difference = np.abs(mattes["float32"] - mattes["bfloat16"])
    assert 0 < difference.mean() < 0.02  # 2^-8 of a value near 0.5, through some twenty layers


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_pictures_of_one_size_can_go_through_together(red, photos, tmp_path, batch):
    save(photos / "ba.png", COLOURS[:16])  # between the others, and of another size
    assert run(photos, "-o", tmp_path / "out", "--matte", "--batch", batch) == 0
    for path in photos.iterdir():
        assert (pixels(tmp_path / "out" / f"{path.stem}.png") == read_photo(path).colours[..., 0]).all()


def test_a_batch_that_does_not_fit_is_predicted_one_by_one(monkeypatch, photos, tmp_path):
    class Small(Red):
        def forward(self, image):
            if len(image) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(image)

    monkeypatch.setattr(aimmat, "load", lambda *_, **__: Predictor(Small(), Resize(scale=1), "cpu"))
    assert run(photos, "-o", tmp_path / "out", "--batch", 3) == 0
    assert len(names(tmp_path / "out")) == 3


# bad and odd input


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def encoded(name, **options):
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, name, **options)
    return buffer.getvalue()


FRAMES = {"save_all": True, "append_images": [Image.fromarray(COLOURS[::-1])]}
BAD = {
    "empty.png": (b"", "its content is no image"),
    "cut.jpg": (encoded("JPEG")[:-200], "the file is truncated or damaged"),
    "cut.png": (encoded("PNG")[:-200], "the file is truncated or damaged"),
    "bomb.png": (bomb(), r"3600000000 pixels.*; shrink the picture first"),
    "text.png": (b"no picture", "its content is no image"),
    "moving.gif": (encoded("GIF", **FRAMES), "it is a GIF; save the one that is meant"),
    "still.gif": (encoded("GIF"), "it is a GIF"),
    "moving.png": (encoded("PNG", **FRAMES), "it is a file of 2 frames or pages"),
    "moving.webp": (encoded("WEBP", **FRAMES), "it is a file of 2 frames or pages"),
    "pages.tif": (encoded("TIFF", **FRAMES), "it is a file of 2 frames or pages"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_and_the_others_are_predicted(red, photos, tmp_path, capsys, name):
    content, reason = BAD[name]
    (photos / name).write_bytes(content)
    assert run(photos, "-o", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot ")
    assert line.count(str(photos / name)) == 1
    with pytest.raises(AimmatError, match=reason):
        read_photo(photos / name)
    assert names(tmp_path / "out") == ["a.png", "b.1.png", "c.png"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "there is not enough memory for it; give a smaller --max-side"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory for it"),
        (RuntimeError("two\nlines"), "lines (RuntimeError; set AIMMAT_TRACEBACK=1 to see where)"),
    ],
)
def test_a_picture_that_the_network_fails_on_is_named(red, photos, tmp_path, monkeypatch, capsys, error, said):
    def forward(net, image):
        raise error

    monkeypatch.setattr(Red, "forward", forward)
    assert run(photos, "-o", tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("a.png", "b.1.jpg", "c.webp"), strict=True):
        assert line.startswith(f"error: {photos / name}: {said}")
    assert not (tmp_path / "out").exists()


ODD = {
    "cmyk.jpg": lambda: Image.fromarray(COLOURS).convert("CMYK"),
    "deep.png": lambda: Image.fromarray(RED.astype(np.uint16) * 257),
    "palette.png": lambda: Image.fromarray(COLOURS).convert("P"),
    "rgba.png": lambda: Image.fromarray(np.dstack([COLOURS, RED])),
    "bilevel.png": lambda: Image.fromarray(RED).convert("1"),
    "dot.png": lambda: Image.fromarray(COLOURS[:1, :1]),
    "long.png": lambda: Image.fromarray(np.resize(COLOURS, (4000, 31, 3))),
    "two words.png": lambda: Image.fromarray(COLOURS),
    'it\'s "quoted".png': lambda: Image.fromarray(COLOURS),
    "Grüße 写真 🐈.png": lambda: Image.fromarray(COLOURS),
    "[a]*?.png": lambda: Image.fromarray(COLOURS),
    "UPPER.PNG": lambda: Image.fromarray(COLOURS),
    "-o.png": lambda: Image.fromarray(COLOURS),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_picture_is_predicted_at_its_own_size_under_its_own_name(weights, tmp_path, name):
    image = ODD[name]()
    (tmp_path / "photos").mkdir()
    options = {"transparency": 3} if name == "palette.png" else {}
    photo = save(tmp_path / "photos" / name, image, **options)
    assert run(photo, "-o", tmp_path / "out", weights=weights) == 0
    (result,) = (tmp_path / "out").iterdir()
    assert result.name == f"{photo.stem}.png"
    assert pixels(result).shape == (image.height, image.width, 4)


def test_the_photograph_of_a_phone_with_a_preview_behind_it_is_no_multi_page_file(red, tmp_path):
    image = Image.fromarray(COLOURS)
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[image.resize((8, 8))])
    assert run(tmp_path / "a.jpg", "-o", tmp_path / "out") == 0
    assert pixels(tmp_path / "out" / "a.png").shape == (24, 40, 4)


def test_a_large_picture_that_is_no_bomb_is_read_without_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 800)  # of 960: a warning, which is an error here
    assert read_photo(save(tmp_path / "a.jpg")).colours.shape == COLOURS.shape


def test_a_webp_that_is_too_long_is_refused_whole(tmp_path):
    with pytest.raises(AimmatError, match=r"cannot write .*a\.webp: .*16383"):
        outputs.write_picture(tmp_path / "a.webp", np.zeros((1, 16384, 3), np.uint8))
    assert names(tmp_path) == []


# which pictures are meant


def test_files_folders_and_patterns_are_found_once_and_in_order(photos, tmp_path, monkeypatch):
    below = photos / "below"
    below.mkdir()
    save(below / "d.png")
    (photos / "notes.txt").write_text("no picture")
    (photos / ".a.png").write_bytes(b"of another system")
    monkeypatch.chdir(tmp_path)
    found, others = find(["photos/c.webp", str(photos), "photos/**/*.png"])
    assert [path.name for path in found] == ["c.webp", "a.png", "b.1.jpg", "d.png"]
    assert others == [photos / "notes.txt"]
    assert find(["photos/below"])[0] == [Path("photos/below/d.png")]


def test_a_file_with_the_signs_of_a_pattern_is_that_file(tmp_path):
    for name in ("a.png", "[a].png"):
        save(tmp_path / name)
    assert find([str(tmp_path / "[a].png")])[0] == [tmp_path / "[a].png"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing.png", "there is no file or folder missing.png; name one that exists"),
        ("empty", "there is no picture in empty, but no file; name pictures, their folder"),
        ("texts", r"there is no picture in texts, but 2 files of other kinds, such as a\.txt; name pictures"),
        ("photos/*.bmp", r"the pattern photos/\*\.bmp fits no picture, but no file; name pictures, a folder"),
    ],
)
def test_an_input_without_a_picture_is_refused_before_anything_is_loaded(
    photos, tmp_path, monkeypatch, capsys, given, said
):
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert run(given, "-o", "out", weights="nothing is loaded") == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(AimmatError, match=said):
        find([given])


def test_files_of_other_kinds_in_a_folder_are_said(red, photos, tmp_path, capsys):
    (photos / "notes.txt").touch()
    assert run(photos, "-o", tmp_path / "out") == 0
    assert capsys.readouterr().err == "left out, no pictures by their suffixes: notes.txt (1 in all)\n"


# names and places


def test_two_pictures_of_one_name_are_refused_before_any_is_predicted(red, photos, tmp_path, capsys):
    save(photos / "a.jpg")
    assert run(photos, "-o", tmp_path / "out") == 1
    assert (
        f"{photos / 'a.jpg'} and {photos / 'a.png'} would both become {tmp_path / 'out' / 'a.png'}"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--overwrite"], []])
def test_no_picture_is_replaced_by_a_result(red, photos, capsys, options):
    before = tree(photos)
    assert run(photos, "-o", photos, *options) == 1
    assert "a.png would be replaced by its own result; choose another folder with -o" in capsys.readouterr().err
    (photos / "matte").mkdir()
    save(photos / "matte" / "c.png")
    assert run(photos / "c.webp", photos / "matte" / "c.png", "-o", photos, "--save-matte", *options) == 1
    assert run(photos / "b.1.jpg", photos / "matte" / "c.png", "-o", photos / "matte", *options) == 1
    (photos / "matte" / "c.png").unlink()
    assert tree(photos) == before


def test_a_result_may_lie_beside_its_picture(red, photos):
    assert run(photos / "b.1.jpg", "-o", photos) == 0
    assert "b.1.png" in names(photos)


def test_what_is_there_stays_unless_overwrite_is_given(red, photos, tmp_path, capsys):
    out = tmp_path / "out"
    run(photos, "-o", out)
    (out / "a.png").write_bytes(b"mine")
    (out / "c.png").unlink()
    before = tree(out)
    assert run(photos, "-o", out) == 0
    assert f"2 of 3 were in {out} already; --overwrite replaces them" in capsys.readouterr().err
    after = tree(out)
    assert {name: after[name] for name in before} == before
    assert after.keys() == before.keys() | {"c.png"}
    assert run(photos, "-o", out, "--overwrite") == 0
    assert pixels(out / "a.png").shape == (24, 40, 4)


def test_an_extra_that_is_missing_is_added_and_the_rest_stays(red, photos, tmp_path):
    run(photos, "-o", tmp_path / "out")
    before = tree(tmp_path / "out")
    run(photos, "-o", tmp_path / "out", "--save-trimap")
    after = tree(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert len(after) == 6


def test_nothing_is_loaded_when_nothing_is_left_to_do(red, photos, tmp_path, monkeypatch):
    run(photos, "-o", tmp_path / "out")
    monkeypatch.setattr(aimmat, "load", None)
    assert run(photos, "-o", tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file", "file is a file; choose a folder for the results with -o"),
        ("file/below", "file is a file; choose a folder"),
        ("cutout.png", "-o names a folder, and cutout.png looks like a file; its pictures keep their own names"),
    ],
)
def test_a_place_that_is_no_folder_is_refused_before_anything_is_loaded(
    photos, tmp_path, monkeypatch, capsys, out, said
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run(photos, "-o", out, weights="nothing is loaded") == 1
    assert said in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_loaded(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "out")  # root may write everywhere
    (tmp_path / "out").mkdir()
    assert run(photos, "-o", tmp_path / "out" / "below", weights="nothing is loaded") == 1
    assert f"{tmp_path / 'out'} cannot be written; choose another folder" in capsys.readouterr().err
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("kind", [[], ["--matte"]])
def test_a_full_disk_ends_the_run_with_one_sentence_and_nothing_half_written(
    red, photos, tmp_path, monkeypatch, capsys, kind
):
    saved, whole = [], Image.Image.save

    def fill(image, path, *args, **kwargs):
        saved.append(path)
        if len(saved) == 2:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(image, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", fill)
    assert run(photos, "-o", tmp_path / "out", *kind) == 1
    assert capsys.readouterr().err == (
        f"error: cannot write {tmp_path / 'out' / 'b.1.png'}: No space left on device; 1 of 3 pictures done\n"
    )
    assert names(tmp_path / "out") == ["a.png"]
    assert len(saved) == 2


def test_a_file_that_cannot_be_written_alone_costs_only_itself(red, photos, tmp_path, capsys):
    (tmp_path / "out" / "b.1.png").mkdir(parents=True)
    assert run(photos, "-o", tmp_path / "out", "--overwrite") == 1
    assert capsys.readouterr().err == (
        f"error: {photos / 'b.1.jpg'}: cannot write {tmp_path / 'out' / 'b.1.png'}: Is a directory\n"
    )
    assert names(tmp_path / "out") == ["a.png", "c.png"]


@pytest.mark.parametrize("where", ["forward", "save"])
def test_ctrl_c_in_the_middle_leaves_whole_files_and_says_how_to_go_on(
    red, photos, tmp_path, monkeypatch, capsys, where
):
    calls = []
    inside = {"forward": Red.forward, "save": Image.Image.save}[where]

    def interrupted(first, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            if where == "save":
                Path(args[0]).write_bytes(b"half")
            raise KeyboardInterrupt
        return inside(first, *args, **kwargs)

    monkeypatch.setattr(Red if where == "forward" else Image.Image, where, interrupted)
    assert run(photos, "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err == ("stopped: 1 of 3 pictures done; the same command goes on with the others\n")
    assert names(tmp_path / "out") == ["a.png"]
    assert run(photos, "-o", tmp_path / "out") == 0
    assert len(names(tmp_path / "out")) == 3


def test_nothing_outside_the_output_folder_is_touched(weights, photos, tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "here"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.chdir(elsewhere)
    (photos / "cut.jpg").write_bytes(BAD["cut.jpg"][0])
    before = tree(tmp_path)
    assert run(photos, "-o", tmp_path / "out", "--save-parts", weights=weights) == 1
    after = tree(tmp_path)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("out/") for name in after.keys() - before.keys())


# a folder that fills


def clock(monkeypatch, *steps):
    """Each sleep of the watch takes the next step; after the last one Ctrl-C comes."""
    left = iter(steps)

    def sleep(seconds):
        assert seconds == predict.POLL
        try:
            next(left)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(predict.time, "sleep", sleep)


def test_a_file_is_whole_when_two_looks_see_the_same(tmp_path):
    path, settled = tmp_path / "a.png", Settled()
    path.write_bytes(b"1")
    assert settled([path, tmp_path / "gone.png"]) == []
    path.write_bytes(b"12")
    assert settled([path]) == []
    assert settled([path]) == [path]
    assert settled([path]) == []
    path.write_bytes(b"123")
    assert settled([path]) == []
    assert settled([path]) == [path]


def test_watch_predicts_what_comes_once_it_is_whole(red, tmp_path, monkeypatch, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    content = encoded("PNG")

    def seen(*expected):
        return lambda: names(out) == list(expected) or pytest.fail(f"{names(out)}, not {expected}")

    clock(
        monkeypatch,
        lambda: (folder / "a.png").write_bytes(content[:100]),
        lambda: (folder / "a.png").write_bytes(content),  # it grew between two looks
        seen(),
        seen("a.png"),
        lambda: (folder / "text.png").write_bytes(b"no picture"),
        lambda: (folder / "a.jpg").write_bytes(encoded("JPEG")),  # a second a
        seen("a.png"),
        seen("a.png"),
    )
    assert run(folder, "-o", out, "--watch") == 130
    written = capsys.readouterr()
    assert written.out == f"{folder / 'a.png'} -> {out / 'a.png'}\n"
    first, *errors, last = written.err.splitlines()
    assert first == "watching; Ctrl-C ends it"
    assert last == "stopped: 1 of 3 pictures done"
    assert len(errors) == 2
    assert errors[0].startswith(f"error: cannot read {folder / 'text.png'}: ")
    assert errors[1].startswith(f"error: {folder / 'a.png'} and {folder / 'a.jpg'} would both become {out / 'a.png'}")


def test_watch_takes_a_picture_again_that_was_cut_off_at_first(red, tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "a.png"
    path.write_bytes(encoded("PNG")[:-100])
    clock(monkeypatch, lambda: None, lambda: path.write_bytes(encoded("PNG")), lambda: None, lambda: None)
    run(tmp_path / "photos", "-o", tmp_path / "out", "--watch")
    assert "1 of 2 pictures done" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.png"]


def test_watch_never_takes_its_own_results_for_pictures(red, photos, monkeypatch, capsys):
    assert run(photos, "-o", photos, "--watch") == 1
    assert "is watched and would fill with its own results" in capsys.readouterr().err
    clock(monkeypatch, *[lambda: None] * 4)
    run(f"{photos}/**/*.*", "-o", photos / "out", "--watch", "--save-matte")
    assert "3 of 3 pictures done" in capsys.readouterr().err
    assert len(names(photos / "out")) == 6


# options that cannot be meant


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "jpg"], "a JPEG has no alpha channel; give --background, or --format png or webp"),
        (["--matte", "--save-matte"], "--matte writes the matte already; leave --save-matte out"),
        (["--quality", "101"], "--quality must be from 1 to 100, got 101"),
        (["--batch", "0"], "--batch must be 1 or more, got 0"),
        (["--max-side", "0"], "--max-side must be 1 or more, got 0"),
        (["--scales", "a,b"], "--scales must be a number or two with a comma between, as in 0.25,0.5, got 'a,b'"),
        (["--background", "nocolour"], "--background must be a colour such as white or '#20c0ff', or a picture"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(photos, tmp_path, capsys, options, said):
    assert run(photos, "-o", tmp_path / "out", *options, weights="nothing is loaded") == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scales", "0.2,0.3,0.4"], "--scales of hybrid must be 2 at most (semantic_scale, matting_scale), got 3"),
        (["--strategy", "resize", "--scales", "0.2,0.3"], "--scales of resize must be 1 at most (scale), got 2"),
        (["--scales", "0"], "semantic_scale of the strategy must be a number above 0, got 0"),
        (["--device", "abacus"], "cannot compute on the device 'abacus'"),
    ],
)
def test_what_the_network_cannot_do_is_one_sentence(weights, photos, tmp_path, capsys, options, said):
    assert run(photos, "-o", tmp_path / "out", *options, weights=weights) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_weights_one_sentence_says_where_to_get_some(photos, tmp_path, capsys):
    assert predict.main([str(photos), "-o", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--weights takes a run's folder" in error
    assert "aimmat.train" in error
    assert "aim-matting" in error


# what it costs


def test_help_and_refusals_need_neither_torch_nor_a_training_framework(tmp_path):
    code = (
        "import sys, aimmat.predict as p\n"
        "try: p.main(['--help'])\n"
        "except SystemExit: pass\n"
        "p.main(['missing.png', '-o', 'out', '-w', 'x'])\n"
        "print([m for m in ('torch', 'cv2', 'lightning', 'hydra', 'omegaconf', 'wandb') if m in sys.modules])\n"
        "import aimmat.predict.work\n"
        "print([m for m in ('lightning', 'hydra', 'omegaconf', 'wandb', 'torchmetrics') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]
