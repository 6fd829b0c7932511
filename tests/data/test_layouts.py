"""Manifests and folders: what is read, and what is said when something is missing."""

import time
from pathlib import Path

import pytest
from PIL import Image

from aimmat.data import Entry, read_folder, read_manifest, read_types, write_manifest
from aimmat.data.layouts import ROLES
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
        (
            HEADER + "a.png,foreground,SO,toy,val\nb.png,fore,SO,toy,val\n",
            "line 3: roles are foreground, .* got 'fore'",
        ),
        (HEADER + "a.png,photo,SO,toy,dev\n", "splits train, val, test, got 'photo' and 'dev'"),
        (HEADER + "a, b.png,photo,SO,toy,val\n", "line 2: 6 columns, but the first line names 5; quote values"),
    ],
)
def test_a_bad_manifest_is_named_with_its_line(tmp_path, text, says):
    path = tmp_path / "m.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(AimmatError, match=says):
        read_manifest(path)


def test_a_manifest_round_trips_every_field(tmp_path):
    entries = [
        Entry(tmp_path / "in, side" / 'a "b".png', "foreground", "train", tmp_path / "alpha" / "a.png", dataset="dim"),
        Entry(Path("/else/where.jpg"), "photo", "test", Path("/else/m.png"), ImageType.NS, Category.PLANT),
        Entry(
            tmp_path / "p.jpg", "photo", "val", tmp_path / "p.png", ImageType.STM, foreground=tmp_path / "fg" / "p.png"
        ),
        Entry("https://example.org/a//b%20c.jpg?x=1,2", "background", "val", dataset="bg20k"),
        Entry("s3://bucket/x.jpg", "saliency", "train", "s3://bucket/x.png", foreground="s3://bucket/f.png"),
        Entry(Path("/at_the_root.jpg"), "class", "train", category=Category.FRUIT),
        Entry(tmp_path / "t.jpg", "photo", "test", tmp_path / "t.png", trimap=tmp_path / "trimap" / "t.png"),
        Entry("s3://bucket/t.jpg", "photo", "test", "s3://bucket/t.png", trimap="s3://bucket/trimap.png"),
    ]
    assert {entry.role for entry in entries} == set(ROLES)
    write_manifest(tmp_path / "m.csv", entries)
    assert read_manifest(tmp_path / "m.csv") == entries
    assert (tmp_path / "m.csv").read_text(encoding="utf-8").splitlines()[1].startswith('"in, side/a ""b"".png",')


def test_a_manifest_moves_with_its_folder(tmp_path):
    write_manifest(tmp_path / "a" / "m.csv", [Entry(tmp_path / "a" / "fg" / "x.png", "foreground", "train")])
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_manifest(tmp_path / "b" / "m.csv")[0].path == tmp_path / "b" / "fg" / "x.png"


def test_100000_rows_load_in_under_a_second(tmp_path):
    rows = [f"fg/{i:06d}.png,foreground,train,STM,plant,alpha/{i:06d}.png,,dim" for i in range(100_000)]
    header = "file,role,split,type,category,alpha,foreground,dataset"
    (tmp_path / "m.csv").write_text("\n".join([header, *rows]), encoding="utf-8")

    def seconds():
        start = time.process_time()  # of this process: other tests may run beside it
        assert len(read_manifest(tmp_path / "m.csv")) == 100_000
        return time.process_time() - start

    assert any(seconds() < 1 for _ in range(3))


def test_a_stem_is_a_name_without_its_extension():
    assert [Entry(path, "photo", "test").stem for path in (Path("/a/b.c.jpg"), "https://host/a/b.c.jpg")] == ["b.c"] * 2


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


def test_a_cut_out_needs_no_matte_but_one_beside_a_folder_of_mattes_does(tmp_path):
    picture(tmp_path / "foreground" / "cat.png", "RGBA")
    picture(tmp_path / "background" / "b.jpg")
    (entry, _) = read_folder(tmp_path)
    assert (entry.split, entry.role, entry.alpha) == ("train", "foreground", None)
    picture(tmp_path / "alpha" / "dog.png", "L")
    with pytest.raises(AimmatError, match=r"cat\.png has no matte of its name in \S+alpha; .* \(and 1 more like it\)"):
        read_folder(tmp_path)


def test_photographs_with_mattes_are_a_test_set(tmp_path):
    for name in ("b.png", "A.png"):
        picture(tmp_path / "image" / name.replace("png", "JPG"))
        picture(tmp_path / "alpha" / name.lower(), "L")
    (tmp_path / "types.csv").write_text("name,type,category\na.jpg,NS,plant\n", encoding="utf-8")
    entries = read_folder(tmp_path)
    assert [(e.path.name, e.alpha.name, e.role, e.split) for e in entries] == [
        ("A.JPG", "a.png", "photo", "test"),
        ("b.JPG", "b.png", "photo", "test"),
    ]
    assert [e.type for e in entries] == [ImageType.NS, ImageType.SO]


def test_photographs_may_have_splits(tmp_path):
    for split in ("train", "val"):
        picture(tmp_path / split / "image" / "a.jpg")
        picture(tmp_path / split / "alpha" / "a.png", "L")
    assert [(e.role, e.split) for e in read_folder(tmp_path)] == [("photo", "train"), ("photo", "val")]


def test_trimaps_of_photographs_are_all_there_or_missed(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / "image" / f"{name}.jpg")
        picture(tmp_path / "alpha" / f"{name}.png", "L")
    assert [entry.trimap for entry in read_folder(tmp_path)] == [None, None]
    picture(tmp_path / "trimap" / "A.PNG", "L")
    with pytest.raises(AimmatError, match=r"b\.jpg has no trimap of its name in \S+trimap; add it, or remove"):
        read_folder(tmp_path)
    picture(tmp_path / "trimap" / "b.png", "L")
    assert [entry.trimap.name for entry in read_folder(tmp_path)] == ["A.PNG", "b.png"]


def test_types_are_read_from_every_form_of_file(tmp_path):
    said = {"cat.2": (ImageType.STM, Category.OTHER), "dog": (ImageType.SO, Category.ANIMAL)}
    forms = {
        "a.csv": "\ufeffname,type,category\nCat.2.PNG,STM,\ndog,SO,animal\n",
        "b.json": '{"Cat.2": {"type": "STM"}, "dog": {"type": "SO", "category": "animal"}}',
        "c.json": '{"Dim": {"x": "NS"}, "AM2K": {"Cat.2": "STM", "dog": {"type": "SO", "category": "animal"}}}',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_types(tmp_path / name, "am2k") == said


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
