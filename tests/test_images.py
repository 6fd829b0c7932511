import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from aimmat import images
from aimmat.images import decode_image, read_alpha, read_cutout, read_image, to_rgb, to_uint8, write_alpha
from aimmat.schema import AimmatError

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0]
RGBA = np.dstack([RGB, RGB[..., 1]])


@pytest.fixture
def save(tmp_path):
    def save_(array, name="picture.png", mode=None, **options):
        image = array if isinstance(array, Image.Image) else Image.fromarray(array)
        path = tmp_path / name
        (image if mode is None else image.convert(mode)).save(path, **options)
        return path

    return save_


def test_rgb_is_returned_as_stored(save):
    np.testing.assert_array_equal(read_image(save(RGB)), RGB)


def test_a_picture_in_memory_is_read_as_the_file_it_came_from(save):
    for path in (save(RGB), save(RGB, "photo.jpg")):
        np.testing.assert_array_equal(decode_image(path.read_bytes(), "sent"), read_image(path))
    with pytest.raises(AimmatError, match=r"^cannot read sent: Truncated"):
        decode_image(path.read_bytes()[:200], "sent")


def test_the_colour_of_rgba_is_returned_without_its_alpha(save):
    np.testing.assert_array_equal(read_image(save(RGBA)), RGB)


def test_grey_of_8_and_16_bits_and_floats_is_the_same_picture(save):
    expected = np.dstack([GREY, GREY, GREY])
    np.testing.assert_array_equal(read_image(save(GREY)), expected)
    np.testing.assert_array_equal(read_image(save(GREY.astype(np.uint16) * 257)), expected)
    np.testing.assert_array_equal(read_image(save((GREY / 255).astype(np.float32), "float.tiff")), expected)


def test_palettes_give_their_colours_with_and_without_transparency(save):
    image = Image.fromarray(RGB).quantize(64)  # 35 pixels fit into 64 colours
    np.testing.assert_array_equal(read_image(save(image)), np.array(image.convert("RGB")))
    half = save(image, "half.png", transparency=bytes([128] * 64))
    np.testing.assert_array_equal(read_image(half), np.array(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "LA", "CMYK"])
def test_other_modes_become_rgb(save, mode):
    image = Image.fromarray(GREY).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    path = save(image, "picture.tiff")
    np.testing.assert_array_equal(read_image(path), np.array(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_colour_and_alpha(save, orientation):
    # EXIF 2.32, tag 0x0112: which corner of the scene the first row and column of the file show.
    turned = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(RGBA, exif=exif)
    np.testing.assert_array_equal(read_image(path), turned(RGB))
    np.testing.assert_array_equal(read_alpha(path), turned(RGBA[..., 3]))
    colour, alpha = read_cutout(path)
    np.testing.assert_array_equal(np.dstack([colour, alpha]), turned(RGBA))
    np.testing.assert_array_equal(to_rgb(Image.open(path)), turned(RGB))
    deep = save(GREY.astype(np.uint16) * 257, "deep.png", exif=exif)
    np.testing.assert_array_equal(read_alpha(deep), turned(GREY))


def test_a_jpeg_is_read(save):
    flat = np.full((16, 16, 3), (200, 40, 90), dtype=np.uint8)
    assert np.abs(read_image(save(flat, "flat.jpg")).astype(int) - flat).max() <= 2  # JPEG rounds in YCbCr


@pytest.mark.parametrize("chunk", ["plain", "gamma", "profile", "tRNS", "eXIf", "text", "16 bit", "interlaced"])
def test_a_png_is_the_same_by_whichever_decoder(save, monkeypatch, chunk):
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "a camera")
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (220_000).to_bytes(4, "big"))
    path = save(
        RGB,
        **{
            "gamma": {"pnginfo": gamma},
            "profile": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()},
            "tRNS": {"transparency": tuple(map(int, RGB[0, 0]))},
            "eXIf": {"exif": exif},
            "text": {"pnginfo": text},
        }.get(chunk, {}),
    )
    if chunk == "16 bit":
        assert cv2.imwrite(str(path), RGB.astype(np.uint16) * 257)
    if chunk == "interlaced":  # Adam7 of a black picture: each row of a pass is a filter byte and zeros
        header = struct.pack(">IIBBBBB", 7, 5, 8, 2, 0, 0, 1)
        rows = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (2, 3), (2, 7)]  # of each pass: rows, pixels a row
        data = zlib.compress(b"".join(bytes(1 + 3 * width) * height for height, width in rows))
        parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
        body = (
            struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
            for kind, part in parts
        )
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    read = read_image(path)
    monkeypatch.setattr(images, "_plain_png", lambda file, image: None)
    np.testing.assert_array_equal(read, read_image(path))


def test_only_pngs_without_surprises_take_the_quick_way(save):
    def quick(path):
        with path.open("rb") as file, Image.open(file) as image:
            return images._plain_png(file, image) is not None

    assert quick(save(RGB))
    assert not quick(save(RGB, "x.jpg"))
    assert not quick(save(RGBA))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert not quick(save(RGB, exif=exif))


def test_a_damaged_png_is_named_and_nothing_else_is_said(save, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(noise)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AimmatError, match="the file is truncated or damaged"):
        read_image(path)
    assert capfd.readouterr() == ("", "")


def test_alpha_comes_from_grey_files_of_any_kind(save):
    np.testing.assert_array_equal(read_alpha(save(GREY)), GREY)
    np.testing.assert_array_equal(read_alpha(save(np.dstack([GREY] * 3))), GREY)
    np.testing.assert_array_equal(read_alpha(save(np.dstack([GREY] * 3 + [np.full_like(GREY, 255)]))), GREY)
    np.testing.assert_array_equal(read_alpha(save(Image.fromarray(GREY).convert("P"))), GREY)
    np.testing.assert_array_equal(read_alpha(save(GREY > 99)), np.where(GREY > 99, 255, 0))
    keyed = save(GREY, "keyed.png", transparency=int(GREY[0, 0]))  # one grey declared transparent is no matte
    np.testing.assert_array_equal(read_alpha(keyed), GREY)


def test_16_bit_alpha_is_scaled_and_rounded(save):
    deep = np.array([[0, 128, 129, 32767, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    # 65535 / 255 = 257 steps per level: 128 is below half a level, 129 above; 32767 / 257 = 127.498
    np.testing.assert_array_equal(read_alpha(save(deep)), [[0, 0, 1, 127, 128, 254, 255, 255]])


def test_alpha_comes_from_the_alpha_channel_where_there_is_one(save):
    np.testing.assert_array_equal(read_alpha(save(RGBA)), RGBA[..., 3])
    np.testing.assert_array_equal(read_alpha(save(np.dstack([GREY, RGB[..., 2]]))), RGB[..., 2])
    opaque = np.dstack([RGB, np.full_like(GREY, 255)])
    assert (read_alpha(save(opaque)) == 255).all()
    palette = Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).convert("P")
    palette.putpixel((1, 0), 1)
    path = save(palette, "palette.png", transparency=bytes([0, 77]))
    np.testing.assert_array_equal(read_alpha(path), [[0, 77], [0, 0]])


def test_a_cutout_is_colour_and_alpha(save):
    for name in ("cut.png", "cut.webp"):
        colour, alpha = read_cutout(save(RGBA, name, lossless=True, exact=True))
        np.testing.assert_array_equal(colour, RGB)
        np.testing.assert_array_equal(alpha, RGBA[..., 3])


def test_a_coloured_file_without_alpha_is_no_matte_and_no_cutout(save):
    path = save(RGB)
    with pytest.raises(AimmatError, match=re.escape(f"cannot use {path}: it is in colour and has no alpha channel")):
        read_alpha(path)
    with pytest.raises(AimmatError, match=re.escape(f"cannot use {path}: it has no alpha channel (its mode is RGB)")):
        read_cutout(path)


@pytest.mark.parametrize("read", [read_image, read_alpha, read_cutout])
@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGBA"), ("a.jpg", "RGB"), ("a.webp", "RGBA"), ("a.tiff", "RGBA")]
)
def test_a_truncated_file_is_named(save, read, name, mode):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    path = save(noise, name, "RGB" if name == "a.jpg" else "RGBA")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AimmatError, match=re.escape(str(path))) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures_are_named(tmp_path, save):
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.touch()
    text.write_text("a photograph of a cat")
    for path, message in [
        (tmp_path / "none.png", "no such file"),
        (tmp_path, "Is a directory"),
        (empty, "its content is no image"),
        (text, "its content is no image"),
        (save(np.array([[0.0, 2.0]], dtype=np.float32), "two.tiff"), "must lie in [0, 1], got 0 to 2"),
        (save(np.array([[0.0, np.nan]], dtype=np.float32), "nan.tiff"), "must lie in [0, 1], got nan to nan"),
        (save(np.array([[0, 70000]], dtype=np.int32), "deep.tiff"), "must lie in [0, 65535], got 0 to 70000"),
    ]:
        with pytest.raises(AimmatError, match=re.escape(str(path)) + ".*" + re.escape(message)):
            read_image(path)


def test_a_picture_too_large_to_open_safely_is_refused(save, monkeypatch):
    path = save(RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses more than twice this
    with pytest.raises(AimmatError, match=re.escape(f"cannot read {path}: Image size (35 pixels) exceeds limit")):
        read_image(path)


def test_paper_rounds_and_release_truncates_to_levels():
    below = np.nextafter(np.float32(1), np.float32(0))
    alpha = np.array([[0, 0.4 / 255, 0.6 / 255, 127.5 / 255, below, 1]], dtype=np.float32)
    np.testing.assert_array_equal(to_uint8(alpha), [[0, 0, 1, 128, 255, 255]])
    np.testing.assert_array_equal(to_uint8(alpha, "release"), [[0, 0, 0, 127, 254, 255]])
    with pytest.raises(AimmatError, match="protocol must be paper or release"):
        to_uint8(alpha, "relaese")


@pytest.mark.parametrize("bits", [8, 16])
def test_every_level_survives_writing_and_reading(tmp_path, bits):
    top = 2**bits - 1
    levels = np.arange(2**bits, dtype=np.float64).reshape(16, -1)
    write_alpha(tmp_path / "new" / "matte.png", levels / top, bits=bits)
    with Image.open(tmp_path / "new" / "matte.png") as image:
        assert image.mode == {8: "L", 16: "I;16"}[bits]
        np.testing.assert_array_equal(np.asarray(image), levels)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["matte.png"]


def test_a_matte_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "matte.png"
    write_alpha(path, np.ones((2, 3), np.float32))
    before = path.read_bytes()

    def full(self, file, format):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(file))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(AimmatError, match=re.escape(f"cannot write {path}: No space left on device")):
        write_alpha(path, np.zeros((2, 3), np.float32))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_matte_can_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AimmatError, match=r"cannot write .*file/matte.png: "):
        write_alpha(tmp_path / "file" / "matte.png", np.ones((2, 2)))
    with pytest.raises(AimmatError, match=r"cannot write .*matte.jpg: .* name the file \*\.png"):
        write_alpha(tmp_path / "matte.jpg", np.ones((2, 2)))


@pytest.mark.parametrize(
    ("alpha", "bits", "message"),
    [
        (np.ones((2, 2, 1)), 8, r"\(H, W\) and bits 8 or 16, got \(2, 2, 1\) and 8"),
        (np.ones((2, 2)), 12, "got .* and 12"),
        (np.full((2, 2), 255, np.uint8), 8, r"in \[0, 1\], got uint8, 255 to 255; divide"),
        (np.full((2, 2), 1.01), 8, "got float64, 1.01 to 1.01"),
        (np.full((2, 2), np.nan), 16, "got float64, nan to nan"),
    ],
)
def test_what_is_no_matte_is_not_written(tmp_path, alpha, bits, message):
    with pytest.raises(ValueError, match=message):
        write_alpha(tmp_path / "matte.png", alpha, bits=bits)
    assert not list(tmp_path.iterdir())
