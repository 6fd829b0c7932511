"""Data sets on disk: every layout is read, pairs are found by stem, and every defect is named."""

import json
import shutil
from pathlib import Path
from runpy import run_path

import pytest

from aimmat.data import DATASETS, read_dataset, survey
from aimmat.data.layouts import ROLES, SPLITS
from aimmat.schema import AimmatError, Category, ImageType

TREES = run_path(str(Path(__file__).parent / "trees.py"))
make_tree = TREES["make_tree"]


def stems(entries):
    return [entry.stem for entry in entries]


@pytest.mark.parametrize("variant", ["archive", "release"])
@pytest.mark.parametrize("name", DATASETS)
def test_every_set_is_read_in_the_layouts_of_its_archive_and_of_the_release(tmp_path, name, variant):
    make_tree(name, tmp_path, variant=variant)
    entries = read_dataset(name, tmp_path)
    made = {"archive": TREES["ARCHIVE"], "release": TREES["RELEASE"]}[variant][name]
    for split in made:
        mine = [entry for entry in entries if entry.split == split]
        assert sorted(stems(mine)) == [f"{name}_{split}_{i:05d}" for i in range(TREES["COUNTS"][split])]
    assert {entry.split for entry in entries} == set(made)
    for entry in entries:
        assert entry.dataset == name
        assert entry.role in ROLES
        assert entry.path.is_file()
        assert (entry.alpha is None) == (made[entry.split][0][1] is None)
        assert entry.alpha is None or entry.alpha.stem.removesuffix("_matte") == entry.stem
        # training foregrounds have none, and pictures that are not there have none either
        assert (entry.trimap is not None) == (entry.split == "test" and name in TREES["TRIMAPS"])
        assert entry.trimap is None or (entry.trimap.is_file() and entry.trimap.stem == entry.stem)


def test_the_catalogue_is_sound():
    for name, info in DATASETS.items():
        assert name == info.name
        assert set(info.counts) <= set(SPLITS)
        for text in (info.title, info.use, info.licence, info.citation, info.ask, *info.folders[:1]):
            assert text
        for parts in info.layouts.values():
            assert {part.split for part in parts} <= set(info.counts)
            assert {part.role for part in parts} <= set(ROLES)
            # a set with mattes has one type or a types file, and no other set has
            assert any(part.alphas for part in parts) == (info.label is not None or bool(info.types))


def test_the_paper_trains_on_8710_images():
    sets = [info for info in DATASETS.values() if info.repeats]
    assert sum(info.used.get("train", info.counts["train"]) * info.repeats for info in sets) == 8710


def test_a_tree_is_drawn():
    assert DATASETS["hatt"].tree() == (
        "├── Train/\n"
        "│   ├── FG/   train: 596 pictures\n"
        "│   └── GT/   their mattes, of the same names\n"
        "└── Test/\n"
        "    ├── FG/   test: 50 pictures\n"
        "    └── GT/   their mattes, of the same names"
    )


@pytest.mark.parametrize("spelling", ["AM-2k", "am2k", "AM_2K", "AM-2k/AM-2k"])
def test_a_folder_is_known_by_any_of_its_spellings(tmp_path, spelling):
    make_tree("am2k", tmp_path / "unpacked")
    (tmp_path / "data" / spelling).parent.mkdir(parents=True)
    (tmp_path / "unpacked" / "AM-2k").rename(tmp_path / "data" / spelling)
    assert len(read_dataset("am2k", tmp_path / "data", "train")) == 3


def test_a_folder_may_lie_in_another_one_of_the_sets_names(tmp_path):
    make_tree("dim", tmp_path / "Adobe_Deep_Matting_Dataset", types=False)
    make_tree("voc", tmp_path / "PASCAL VOC")
    assert len(read_dataset("dim", tmp_path, types=False)) == 6
    assert len(read_dataset("voc", tmp_path)) == 3


def test_the_sets_own_folder_may_be_given_whatever_its_name(tmp_path):
    make_tree("am2k", tmp_path)
    (tmp_path / "AM-2k").rename(tmp_path / "animals")
    assert len(read_dataset("am2k", tmp_path / "animals", "train")) == 3
    assert survey("am2k", tmp_path / "animals", own=False).folder is None


def test_duts_may_lie_in_a_folder_of_its_own_or_at_the_root(tmp_path):
    make_tree("duts", tmp_path)
    (tmp_path / "DUTS" / "DUTS-TR").rename(tmp_path / "DUTS-TR")
    shutil.rmtree(tmp_path / "DUTS")
    assert len(read_dataset("duts", tmp_path, "train")) == 3


def test_extension_and_case_do_not_matter(tmp_path):
    make_tree("hatt", tmp_path, {"train": 2})
    folder = tmp_path / "Distinctions-646" / "Train"
    (folder / "GT" / "hatt_train_00000.png").rename(folder / "GT" / "HATT_Train_00000.JPG")
    folder.rename(folder.parent / "TRAIN")
    entries = read_dataset("hatt", tmp_path, "train")
    assert entries[0].alpha.name == "HATT_Train_00000.JPG"
    assert entries[0].type is ImageType.SO


def test_hidden_files_and_notes_are_passed_over(tmp_path):
    make_tree("bg20k", tmp_path)
    for name in ("._bg20k_train_00000.jpg", "readme.txt", ".DS_Store"):
        (tmp_path / "BG-20k" / "train" / name).touch()
    assert len(read_dataset("bg20k", tmp_path, "train")) == 3


def test_without_its_foregrounds_am2k_gives_photographs(tmp_path):
    make_tree("am2k", tmp_path)
    (tmp_path / "AM-2k" / "train" / "fg").rename(tmp_path / "AM-2k" / "train" / "original")
    assert {entry.role for entry in read_dataset("am2k", tmp_path, "train")} == {"photo"}


def test_the_layout_of_which_most_is_there_is_taken_for_each_split(tmp_path):
    make_tree("dim", tmp_path, {"test": 2})
    make_tree("dim", tmp_path / "other", {"train": 3}, "release")
    (tmp_path / "other" / "DIM" / "train").rename(tmp_path / "Combined_Dataset" / "train")
    found = survey("dim", tmp_path, types=False)
    assert (found.layouts, found.count("train"), found.count("test")) == ({"train": "release", "test": "archive"}, 3, 2)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "mask" / "aim500_test_00001.png").unlink(), r"original/aim500_test_00001\.jpg has no matte of"),
        (lambda f: (f / "original" / "aim500_test_00001.jpg").unlink(), r"mask/aim500_test_00001\.png has no picture"),
        (lambda f: shutil.rmtree(f / "mask"), r"AIM-500/mask is missing; unpack AIM-500"),
        (lambda f: (f / "original" / "AIM500_test_00001.PNG").touch(), r"00001\.jpg and \S+00001\.PNG differ in case"),
        (lambda f: (f / "aim_category_type.json").unlink(), r"neither types\.csv .* nor aim_category_type\.json"),
        (lambda f: (f / "aim_category_type.json").write_text("{"), r"aim_category_type\.json: Expecting property name"),
        (
            lambda f: (f / "aim_category_type.json").write_text('{"aim500_test_00000": {"type": "X"}}'),
            "'X' is not a valid ImageType",
        ),
    ],
)
def test_a_defect_is_one_sentence_that_names_the_file(tmp_path, spoil, says):
    make_tree("aim500", tmp_path)
    spoil(tmp_path / "AIM-500")
    with pytest.raises(AimmatError, match=says):
        read_dataset("aim500", tmp_path)


def test_several_defects_are_counted(tmp_path):
    make_tree("aim500", tmp_path, {"test": 4})
    for file in (tmp_path / "AIM-500" / "mask").iterdir():
        file.unlink()
    with pytest.raises(AimmatError, match=r"00000\.jpg has no matte .* \(and 3 more like it\)"):
        read_dataset("aim500", tmp_path, types=False)


def test_a_picture_of_the_archives_own_list_that_is_missing_is_named(tmp_path):
    make_tree("dim", tmp_path, {"train": 2}, types=False)
    lines = "dim_train_00000.png\r\ndim_train_00001.jpg\r\nbear.png\r\n"
    (tmp_path / "Combined_Dataset" / "Training_set" / "training_fg_names.txt").write_text(lines, encoding="utf-8")
    assert survey("dim", tmp_path, types=False).missing == ("bear.png",)
    assert len(read_dataset("dim", tmp_path, "train", types=False)) == 2  # what is there can be trained on


def test_a_set_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(AimmatError, match=r"AM-2k.* was looked for in .*; python -m aimmat.prepare layout am2k shows"):
        read_dataset("am2k", tmp_path)
    make_tree("am2k", tmp_path, {"train": 2})
    with pytest.raises(AimmatError, match="no test pictures were found"):
        read_dataset("am2k", tmp_path, "test")


def test_unknown_words_are_refused(tmp_path):
    with pytest.raises(AimmatError, match="there is no data set 'dimm'; those known are dim, hatt"):
        read_dataset("dimm", tmp_path)
    with pytest.raises(AimmatError, match="has no split 'val', it has train, test"):
        read_dataset("dim", tmp_path, "val")


def test_aim_500_has_types_and_categories(tmp_path):
    make_tree("aim500", tmp_path, {"test": 3})
    labels = [(entry.type, entry.category) for entry in read_dataset("aim500", tmp_path)]
    assert labels == [
        (ImageType.SO, Category.PORTRAIT),
        (ImageType.STM, Category.ANIMAL),
        (ImageType.NS, Category.TRANSPARENT),
    ]


@pytest.mark.parametrize("name", ["dim_hatt_am2k_type.json", "dim_hatt_type.json"])
def test_the_released_types_of_the_training_sets_are_read_under_both_names(tmp_path, name):
    for dataset in ("dim", "hatt"):
        make_tree(dataset, tmp_path, {"train": 3})
    (tmp_path / "dim_hatt_am2k_type.json").rename(tmp_path / name)
    for dataset in ("dim", "hatt"):
        by_name = sorted(read_dataset(dataset, tmp_path, "train"), key=lambda entry: entry.stem)
        assert [entry.type for entry in by_name] == ["SO", "STM", "NS"]


def test_a_types_file_of_ones_own_goes_before_the_authors(tmp_path):
    make_tree("hatt", tmp_path, {"train": 1})
    own = tmp_path / "Distinctions-646" / "types.csv"
    own.write_text("name,type,category\nhatt_train_00000.png,NS,plant\n", encoding="utf-8")
    (entry,) = read_dataset("hatt", tmp_path, "train")
    assert (entry.type, entry.category) == (ImageType.NS, Category.PLANT)


def test_a_types_file_may_be_given(tmp_path):
    make_tree("hatt", tmp_path, {"train": 1}, types=False)
    file = tmp_path / "given.csv"
    file.write_text("name,type,category\nhatt_train_00000,STM,\n", encoding="utf-8")
    (entry,) = read_dataset("hatt", tmp_path, "train", types=file)
    assert (entry.type, entry.category) == (ImageType.STM, Category.OTHER)


def test_a_missing_type_is_an_error_that_names_picture_and_file(tmp_path):
    make_tree("hatt", tmp_path, {"train": 3})
    file = tmp_path / "dim_hatt_am2k_type.json"
    sections = json.loads(file.read_text(encoding="utf-8"))
    del sections["HATT"]["hatt_train_00001"]
    file.write_text(json.dumps(sections), encoding="utf-8")
    with pytest.raises(AimmatError, match=r"dim_hatt_am2k_type\.json has no type for \S+hatt_train_00001\.png; add"):
        read_dataset("hatt", tmp_path, "train")


def test_a_types_file_of_other_sets_is_named(tmp_path):
    make_tree("hatt", tmp_path, {"train": 1})
    make_tree("dim", tmp_path, {"train": 2}, types=False)
    with pytest.raises(AimmatError, match=r"type\.json: section 'DIM', which is not among hatt, is not understood"):
        read_dataset("dim", tmp_path, "train")


def test_names_that_match_nothing_are_shown_beside_the_pictures(tmp_path):
    """The released file numbers the pictures of Composition-1k."""
    make_tree("dim", tmp_path, {"train": 2}, types=False)
    (tmp_path / "dim_hatt_am2k_type.json").write_text(json.dumps({"DIM": {"1": "SO", "2": "NS"}}), encoding="utf-8")
    with pytest.raises(AimmatError, match=r"00000\.png and 1 more of 2 pictures; its names are like '1'; add them"):
        read_dataset("dim", tmp_path, "train")


def test_types_can_be_left_out(tmp_path):
    make_tree("dim", tmp_path, {"train": 2}, types=False)
    found = survey("dim", tmp_path, "train", types=False)
    assert (found.typed, {entry.type for entry in found.entries}) == (False, {ImageType.SO})


def test_a_list_of_stems_chooses(tmp_path):
    make_tree("hatt", tmp_path, {"train": 3})
    chosen = tmp_path / "stems.txt"
    chosen.write_text("hatt_train_00002.png\nHATT_train_00000\n\n", encoding="utf-8")
    assert stems(read_dataset("hatt", tmp_path, "train", stems=chosen)) == ["hatt_train_00000", "hatt_train_00002"]
    chosen.write_text("bear", encoding="utf-8")
    with pytest.raises(AimmatError, match=r"stems\.txt names bear, which is not on disk"):
        read_dataset("hatt", tmp_path, "train", stems=chosen)
