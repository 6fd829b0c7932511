"""Manifests and folders: what is read, and what is said when something is missing."""

import pytest
from PIL import Image

from aimmat.data import read_folder, read_manifest
from aimmat.schema import AimmatError, Category, ImageType

HEADER = "file,role,type,category,split\n"


def picture(path, mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / split / "foreground" / "cat.png", "RGBA")
    for i in range(3):
        picture(tmp_path / "background" / f"{i}.jpg")
    return tmp_path


def test_the_sample_set_is_read_without_an_argument():
    entries = read_manifest()
    assert {entry.split for entry in entries if entry.role == "foreground"} == {"train", "val", "test"}
    assert {entry.type for entry in entries if entry.role == "foreground"} == set(ImageType)


def test_a_manifest_names_its_files_relative_to_itself(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text(HEADER + "a/b.png,foreground,STM,plant,val\n", encoding="utf-8")
    (entry,) = read_manifest(path)
    assert (entry.path, entry.type, entry.category, entry.split) == (
        tmp_path / "a/b.png",
        ImageType.STM,
        Category.PLANT,
        "val",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,role,type,category\n", "has no column split"),
        (HEADER, "lists no picture"),
        (HEADER + "a.png,foreground,XX,plant,val\n", r"line 2: 'XX' is not a valid ImageType; types are SO, STM, NS"),
        (HEADER + "a.png,foreground,SO,boat,val\n", "line 2: 'boat' is not a valid Category"),
    ],
)
def test_a_bad_manifest_is_named_with_its_line(tmp_path, text, says):
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AimmatError, match=says):
        read_manifest(path)


def test_a_missing_manifest_offers_the_sample_set(tmp_path):
    with pytest.raises(AimmatError, match=r"there is no manifest at .*use data=sample"):
        read_manifest(tmp_path / "none.csv")


def test_a_folder_is_read_by_split(folder):
    (folder / "types.csv").write_text("name,type,category\ncat,STM,animal\n", encoding="utf-8")
    entries = read_folder(folder)
    assert [(e.split, e.type, e.category) for e in entries if e.role == "foreground"] == [
        ("train", ImageType.STM, Category.ANIMAL),
        ("test", ImageType.STM, Category.ANIMAL),
    ]


def test_no_background_serves_two_splits(folder):
    backgrounds = [e for e in read_folder(folder) if e.role == "background"]
    assert sorted(e.path.name for e in backgrounds) == ["0.jpg", "1.jpg", "2.jpg"]
    assert {e.split for e in backgrounds} == {"train", "test"}


def test_a_matte_beside_its_colours_is_found_by_stem(tmp_path):
    picture(tmp_path / "train" / "foreground" / "cat.JPG")
    picture(tmp_path / "train" / "alpha" / "cat.png", "L")
    picture(tmp_path / "background" / "b.jpg")
    entry = read_folder(tmp_path)[0]
    assert entry.alpha == tmp_path / "train" / "alpha" / "cat.png"


def test_a_missing_folder_says_where_it_looked_and_offers_the_sample_set(tmp_path):
    with pytest.raises(AimmatError, match=r"looked for pictures in .*nowhere.*use data=sample"):
        read_folder(tmp_path / "nowhere")


def test_an_empty_folder_is_refused(folder):
    (folder / "val" / "foreground").mkdir(parents=True)
    with pytest.raises(AimmatError, match="foreground holds no picture"):
        read_folder(folder)


def test_too_few_backgrounds_are_refused(folder):
    for file in sorted((folder / "background").iterdir())[1:]:
        file.unlink()
    with pytest.raises(AimmatError, match=r"holds 1 pictures, but each of the splits train, test needs"):
        read_folder(folder)


def test_a_word_that_is_no_type_is_refused(folder):
    (folder / "types.csv").write_text("name,type,category\ncat,soft,animal\n", encoding="utf-8")
    with pytest.raises(AimmatError, match="'soft' is not a valid ImageType"):
        read_folder(folder)
