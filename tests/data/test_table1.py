"""Table 1: the paper's figures, and the rows made of what is on disk."""

from pathlib import Path
from runpy import run_path

import pytest

from aimmat.data import DATASETS
from aimmat.data.layouts import Entry
from aimmat.data.table1 import PAPER, describe, measure, table
from aimmat.schema import Category, ImageType

make_tree = run_path(str(Path(__file__).parent / "trees.py"))["make_tree"]


def test_the_papers_types_add_up_to_its_volumes():
    assert all(sum(row.types.values()) == row.volume for row in PAPER.values())


def test_the_paper_and_the_catalogue_agree_on_size_class_and_nature():
    for name, row in PAPER.items():
        info = DATASETS[name]
        assert info.used.get("test", info.counts["test"]) == row.volume
        assert (info.subject, any(p.role == "photo" for p in info.layouts["archive"] if p.split == "test")) == (
            row.subject,
            row.natural,
        )


def test_a_whole_aim_500_gives_the_papers_row(tmp_path):
    make_tree("aim500", tmp_path, {"test": 500}, touch=True, types=False)
    kinds = ["SO"] * 424 + ["STM"] * 43 + ["NS"] * 33
    rows = [f"aim500_test_{i:05d},{kind},{'animal' if i % 2 else 'toy'}" for i, kind in enumerate(kinds)]
    (tmp_path / "AIM-500" / "types.csv").write_text("\n".join(["name,type,category", *rows]), encoding="utf-8")
    assert measure(tmp_path) == {"aim500": PAPER["aim500"]}


def test_sets_of_one_subject_need_no_types_file(tmp_path):
    make_tree("am2k", tmp_path, {"test": 200}, touch=True, types=False)
    make_tree("dapm", tmp_path, {"test": 300}, touch=True)
    found = measure(tmp_path)
    assert found["am2k"] == PAPER["am2k"]
    assert (found["dapm"].volume, found["dapm"].subject) == (
        300,
        "Portrait",
    )  # the set's readme says 300, the paper 200


def test_types_that_nobody_told_are_question_marks(tmp_path):
    make_tree("hatt", tmp_path, {"test": 50}, touch=True, types=False)
    assert measure(tmp_path)["hatt"].types is None
    line = next(line for line in table(measure(tmp_path)).splitlines() if line.startswith("Distinctions-646"))
    assert line.split() == ["Distinctions-646", "here", "50", "no", "?", "?", "?", "Mixed"]


@pytest.mark.parametrize(
    ("categories", "subject"),
    [
        ([Category.ANIMAL, Category.ANIMAL], "Animal"),
        ([Category.ANIMAL, Category.TOY], "Mixed"),
        ([Category.OTHER], "Mixed"),
    ],
)
def test_one_category_names_the_class(categories, subject):
    entries = [Entry(Path("a.png"), "photo", "test", type=ImageType.NS, category=word) for word in categories]
    assert describe(entries).subject == subject
    assert describe(entries).types[ImageType.NS] == len(categories)
