"""The cache of decoded pictures: what it gives is what the files hold, and nothing that they no longer hold."""

import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from aimmat.data import Entry
from aimmat.data.cache import (
    ROWS,
    CachedPicture,
    PictureReader,
    bytes_needed,
    cached_pictures,
    free_bytes,
    is_done,
    write_cache,
)
from aimmat.schema import AimmatError, ImageType

HEIGHT, WIDTH = 2 * ROWS + 5, 48  # the last block of rows is not whole


def matte():
    """Clear, soft and opaque thirds from left to right, in the rows 10 to 29; clear above and below."""
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    alpha[10:30, 16:32], alpha[10:30, 32:] = 100, 255
    return alpha


@pytest.fixture
def entries(tmp_path):
    """A foreground with its matte in another file, one that carries it, a photo with its colours, a background."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for name, pixels in zip(("pair", "photo", "given"), colours, strict=False):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.fromarray(matte()).save(tmp_path / "matte.png")
    Image.fromarray(np.dstack([colours[3], matte()])).save(tmp_path / "rgba.png")
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(tmp_path / "back.png")
    return [
        Entry(tmp_path / "pair.png", "foreground", "train", tmp_path / "matte.png", ImageType.STM),
        Entry(tmp_path / "rgba.png", "foreground", "train"),
        Entry(tmp_path / "photo.png", "photo", "train", tmp_path / "matte.png", foreground=tmp_path / "given.png"),
        Entry(tmp_path / "back.png", "background", "train"),
    ]


@pytest.fixture
def cache(tmp_path, entries):
    list(write_cache(cached_pictures(entries, tmp_path / "cache")))
    return tmp_path / "cache"


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_cache_gives_what_the_files_give(cache, entries):
    window = slice(7, 33), slice(5, 40)
    decoded, mapped = PictureReader(), PictureReader(cache)
    for entry in entries[:3]:
        one, other = decoded.cutout(entry), mapped.cutout(entry)
        np.testing.assert_array_equal(one.crop(window), other.crop(window))
        np.testing.assert_array_equal(one.alpha, other.alpha)
        for seed in range(5):
            pixels = [cutout.transition_pixel(np.random.default_rng(seed)) for cutout in (one, other)]
            assert pixels[0] == pixels[1]
    np.testing.assert_array_equal(decoded.background(entries[3]), mapped.background(entries[3]))


def test_a_crop_is_premultiplied_colour_and_alpha(cache, entries):
    crop = PictureReader(cache).cutout(entries[0]).crop((slice(0, HEIGHT), slice(0, WIDTH)))
    with Image.open(entries[0].path) as image:
        colour = np.asarray(image).astype(float)
    np.testing.assert_array_equal(crop[..., 3], matte())
    np.testing.assert_allclose(crop[..., :3], colour * matte()[..., None] / 255, atol=0.5)  # rounding


def test_the_cache_is_mapped_and_not_read(cache, entries):
    reader = PictureReader(cache)
    assert isinstance(reader.cutout(entries[0]).colour, np.memmap)
    assert isinstance(reader.background(entries[3]), np.memmap)


def test_a_photo_is_cut_out_of_its_foregrounds_colours(entries):
    colour = PictureReader().cutout(entries[2]).colour
    with Image.open(entries[2].foreground) as image:
        np.testing.assert_array_equal(colour, np.asarray(image))


@pytest.mark.parametrize("where", ["cache", "files"])
@pytest.mark.parametrize(("kind", "count"), [("SO", 20 * 16), ("STM", 20 * 32), ("NS", HEIGHT * WIDTH)])
def test_every_pixel_of_the_transition_is_drawn_alike(cache, entries, where, kind, count):
    entry = Entry(entries[1].path, "foreground", "train", type=ImageType(kind))
    cutout = PictureReader(cache if where == "cache" else None).cutout(entry)
    rng = np.random.default_rng(0)
    drawn = Counter(cutout.transition_pixel(rng) for _ in range(20 * count))
    inside = {"SO": (matte() > 0) & (matte() < 255), "STM": matte() > 0, "NS": matte() >= 0}[kind]
    assert all(inside[pixel] for pixel in drawn)
    assert len(drawn) == inside.sum() == count  # 20 draws a pixel: one is left out with a chance of 4e-6 at most
    assert max(drawn.values()) < 20 + 6 * 20**0.5  # six standard deviations


def test_without_a_transition_any_pixel_is_drawn(tmp_path):
    hard = np.full((40, 40, 4), 255, np.uint8)
    hard[:, :20, 3] = 0
    Image.fromarray(hard).save(tmp_path / "hard.png")
    cutout = PictureReader().cutout(Entry(tmp_path / "hard.png", "foreground", "train"))
    rng = np.random.default_rng(0)
    rows, columns = zip(*(cutout.transition_pixel(rng) for _ in range(300)), strict=True)
    assert (min(rows), max(rows), min(columns), max(columns)) == (0, 39, 0, 39)


def test_a_picture_is_kept_once(tmp_path, entries):
    assert len(cached_pictures([*entries, *entries], tmp_path)) == 4


def test_a_photo_without_its_foregrounds_colours_is_not_kept(tmp_path, entries):
    bare = Entry(entries[2].path, "photo", "train", entries[2].alpha)
    assert cached_pictures([bare], tmp_path) == []


def test_the_disk_that_a_picture_needs_is_what_it_takes(cache, entries):
    for picture in cached_pictures(entries, cache):
        assert picture.path.stat().st_size == bytes_needed(picture) + 128  # NumPy's header
    entries[3].path.unlink()
    assert bytes_needed(picture) == 0


def test_free_disk_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") > 0


def test_backgrounds_can_be_kept_smaller(tmp_path, entries):
    pictures = cached_pictures(entries, tmp_path / "small", side=60)
    list(write_cache(pictures))
    reader = PictureReader(tmp_path / "small")
    assert reader.background(entries[3]).shape == (45, 60, 3)
    assert reader.cutout(entries[0]).shape == (HEIGHT, WIDTH)
    assert bytes_needed(pictures[3]) == 45 * 60 * 3
    assert all(map(is_done, pictures))
    assert [is_done(picture) for picture in cached_pictures(entries, tmp_path / "small")] == [True, True, True, False]


def test_what_is_there_is_done_and_what_changed_is_not(cache, entries):
    pictures = cached_pictures(entries, cache)
    assert all(map(is_done, pictures))
    Image.new("RGB", (50, 50)).save(entries[3].path)
    assert [is_done(picture) for picture in pictures] == [True, True, True, False]
    list(write_cache(pictures[3:]))
    assert PictureReader(cache).background(entries[3]).shape == (50, 50, 3)


def test_checksums_find_what_sizes_and_times_do_not(cache, entries):
    pictures = cached_pictures(entries, cache)
    array, source = bytearray(pictures[0].path.read_bytes()), bytearray(entries[3].path.read_bytes())
    array[-1] ^= 1
    pictures[0].path.write_bytes(array)
    times = entries[3].path.stat()
    source[-20] ^= 1
    entries[3].path.write_bytes(source)
    os.utime(entries[3].path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert all(map(is_done, pictures))
    assert [is_done(picture, verify=True) for picture in pictures] == [False, True, True, False]


@pytest.mark.parametrize("name", ["pair.png", "matte.png"])
@pytest.mark.parametrize("what", ["size", "time", "gone"])
def test_a_source_that_changed_is_named(tmp_path, cache, entries, name, what):
    path = tmp_path / name
    if what == "gone":
        path.unlink()
    elif what == "time":
        os.utime(path, ns=(1, 1))
    else:
        times = path.stat()
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AimmatError, match=rf"{name} is not the file .*; run python -m aimmat.prepare cache again"):
        PictureReader(cache).cutout(entries[0])


def test_a_manifest_that_names_other_files_is_noticed(tmp_path, cache, entries):
    other = Entry(entries[0].path, "foreground", "train", tmp_path / "other.png")
    with pytest.raises(AimmatError, match=r"pair.png is not in the cache .*; run python -m aimmat.prepare cache again"):
        PictureReader(cache).cutout(other)


@pytest.mark.parametrize("damage", ["short", "empty", "note"])
def test_a_damaged_cache_is_named(cache, entries, damage):
    picture = CachedPicture.of(entries[3], cache)
    note = picture.path.with_suffix(".json")
    if damage == "note":
        note.write_text(note.read_text()[:40])
    else:
        picture.path.write_bytes(picture.path.read_bytes()[: 200 if damage == "short" else 0])
    assert not is_done(picture)
    with pytest.raises(AimmatError, match=r"is damaged .*; run python -m aimmat.prepare cache again"):
        PictureReader(cache).background(entries[3])


def test_a_missing_cache_is_named(tmp_path):
    with pytest.raises(AimmatError, match=r"no cache at .*nowhere; make it with python -m aimmat.prepare cache"):
        PictureReader(tmp_path / "nowhere")


def test_a_full_disk_leaves_nothing_half_written(tmp_path, entries, monkeypatch):
    def full(file, array):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    pictures = cached_pictures(entries[3:], tmp_path / "cache")
    with pytest.raises(AimmatError, match=r"cannot write .*: No space left on device; make room"):
        list(write_cache(pictures))
    assert files(tmp_path / "cache") == []
    monkeypatch.undo()
    list(write_cache(pictures))
    assert is_done(pictures[0], verify=True)


def test_what_cannot_be_decoded_is_named_and_the_others_are_written(tmp_path, entries):
    entries[0].path.write_bytes(entries[0].path.read_bytes()[:500])
    entries[3].path.unlink()
    pictures = cached_pictures(entries, tmp_path / "cache")
    sentences = list(write_cache(pictures))
    assert "pair.png: the file is truncated" in sentences[0]
    assert sentences[1:3] == ["", ""]
    assert "back.png: No such file" in sentences[3]
    assert [is_done(picture) for picture in pictures] == [False, True, True, False]


def test_several_at_a_time_write_the_same(tmp_path, cache, entries):
    list(write_cache(cached_pictures(entries, tmp_path / "other"), jobs=3))
    assert files(tmp_path / "other") == files(cache)
    for path in cache.rglob("*.npy"):
        assert path.read_bytes() == (tmp_path / "other" / path.relative_to(cache)).read_bytes()


def test_the_note_says_what_an_array_was_made_of(cache, entries):
    note = json.loads(CachedPicture.of(entries[2], cache).path.with_suffix(".json").read_text())
    assert [source["path"] for source in note["sources"]] == [str(entries[2].foreground), str(entries[2].alpha)]


def test_a_tiny_foreground_is_refused(tmp_path):
    Image.new("RGBA", (31, 80), (9, 9, 9, 99)).save(tmp_path / "tiny.png")
    entry = Entry(tmp_path / "tiny.png", "foreground", "train")
    says = f"{entry.path} is 31 x 80 pixels; a foreground must have 32 a side, so leave it out"
    with pytest.raises(AimmatError, match=says):
        PictureReader().cutout(entry)
    assert list(write_cache(cached_pictures([entry], tmp_path / "cache"))) == [says]


def test_a_matte_of_another_size_is_named(tmp_path, entries):
    Image.new("L", (20, 20)).save(tmp_path / "matte.png")
    with pytest.raises(AimmatError, match=r"pair.png is 48 x 37 pixels but its alpha .*matte.png is 20 x 20"):
        PictureReader().cutout(entries[0])


def test_a_remote_picture_is_refused():
    entry = Entry("https://example.org/sea.jpg", "background", "train")
    with pytest.raises(AimmatError, match=r"sea.jpg is not on a disk; a cache is made of files"):
        cached_pictures([entry], "cache")
