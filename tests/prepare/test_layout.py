"""What the report on the data sets says, and its exit codes."""

from pathlib import Path
from runpy import run_path

import pytest

from aimmat.data import DATASETS
from aimmat.prepare import main
from aimmat.prepare.layout import describe

TESTS = Path(__file__).parents[1]
make_tree = run_path(str(TESTS / "data" / "trees.py"))["make_tree"]


def lines_of(capsys, name):
    """The report's part on one set."""
    parts = capsys.readouterr().out.split("\n\n")
    return next(part for part in parts if part.startswith(f"{name}: ")).splitlines()


def test_with_nothing_on_disk_every_set_is_drawn_with_whom_to_ask(tmp_path, capsys):
    assert main(["layout", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for info in DATASETS.values():
        assert f"{info.name}: {info.title}" in out
        assert f"  ask: {info.ask}" in out
    assert "├── FG/   train: 596 pictures" in out
    assert out.endswith("0 x 5 + 0 x 5 + 0 x 2 = 0 here\n")


@pytest.mark.parametrize("variant", ["archive", "release"])
def test_the_papers_training_images_are_counted(tmp_path, capsys, variant):
    for name, count in (("dim", 431), ("hatt", 591), ("am2k", 1800)):
        make_tree(name, tmp_path, {"train": count}, variant, touch=True)
    assert main(["layout", "dim", "hatt", "am2k", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "431 x 5 + 591 x 5 + 1,800 x 2 = 8,710 in the paper" in out
    assert "431 x 5 + 591 x 5 + 1,800 x 2 = 8,710 here" in out


def test_both_counts_of_distinctions_are_printed(tmp_path, capsys):
    make_tree("hatt", tmp_path, {"train": 596, "test": 50}, touch=True)
    main(["layout", "--root", str(tmp_path)])
    lines = lines_of(capsys, "hatt")
    assert "  train 596 of 596 (the paper counts 591), laid out as archive" in lines


def test_what_is_missing_of_a_set_is_counted(tmp_path, capsys):
    make_tree("aim500", tmp_path, {"test": 3})
    main(["layout", "--root", str(tmp_path)])
    assert lines_of(capsys, "aim500")[1:] == [
        f"  {tmp_path / 'AIM-500'}",
        "  test  3 of 500, 497 missing, laid out as archive",
    ]


def test_a_set_that_is_asked_for_and_missing_leaves_with_1(tmp_path, capsys):
    assert main(["layout", "dapm", "--root", str(tmp_path)]) == 1
    assert "write to Xiaoyong Shen" in capsys.readouterr().out


def test_defects_are_shown_up_to_five(tmp_path, capsys):
    make_tree("aim500", tmp_path, {"test": 9})
    for file in sorted((tmp_path / "AIM-500" / "mask").iterdir())[:7]:
        file.unlink()
    assert main(["layout", "aim500", "--root", str(tmp_path)]) == 1
    marked = [line for line in lines_of(capsys, "aim500") if line.startswith("  ! ")]
    assert len(marked) == 6
    assert "aim500_test_00000.jpg has no matte of its name in" in marked[0]
    assert marked[-1] == "  ! and 2 more"


def test_what_the_archives_list_has_and_the_disk_has_not_is_named(tmp_path, capsys):
    make_tree("dim", tmp_path, {"train": 2})
    names = [f"bear_{i}.png" for i in range(7)]
    (tmp_path / "Combined_Dataset" / "Training_set" / "training_fg_names.txt").write_text("\n".join(names))
    main(["layout", "--root", str(tmp_path)])
    named = "bear_0.png, bear_1.png, bear_2.png, bear_3.png, bear_4.png, and 2 more"
    assert f"  ! the archive's list has {named}, not on disk; unpack it again" in lines_of(capsys, "dim")


def test_a_set_may_lie_elsewhere_under_any_name(tmp_path, capsys):
    make_tree("hatt", tmp_path, {"train": 2}, "release", types=False)
    elsewhere = (tmp_path / "HATT").rename(tmp_path / "mattes of 2020")
    (elsewhere / "types.csv").write_text("name,type,category\nhatt_train_00000,SO,\nhatt_train_00001,NS,\n")
    assert main(["layout", f"hatt={elsewhere}", "--root", str(tmp_path / "none")]) == 0
    assert f"  {elsewhere}" in lines_of(capsys, "hatt")


def test_a_folder_of_ones_own_is_no_data_set(tmp_path, capsys):
    make_tree("dim", tmp_path, {"train": 2}, "release")
    main(["layout", "--root", str(tmp_path / "DIM" / "..")])
    (tmp_path / "DIM").rename(tmp_path / "mine")
    main(["layout", "--root", str(tmp_path / "mine")])  # has train/fg and train/mask, as three sets have
    assert "train 2 of" not in capsys.readouterr().out.split("looked in")[-1]


def test_an_unknown_set_is_refused(tmp_path, capsys):
    assert main(["layout", "dimm", "--root", str(tmp_path)]) == 1
    assert "there is no data set 'dimm'; those known are dim, hatt" in capsys.readouterr().err


@pytest.mark.parametrize("name", DATASETS)
def test_the_page_on_data_sets_says_what_the_command_says(name):
    page = (TESTS.parent / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert f"### {name}: {DATASETS[name].title}\n\n```\n{describe(DATASETS[name])}\n```" in page
