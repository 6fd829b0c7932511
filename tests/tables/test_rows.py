"""rows.csv: what is written is read back, and a broken file is explained in one sentence."""

import os
import re

import pytest

from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import read_rows, write_file, write_rows

ROWS = [
    Row("plain", ImageType.SO, Category.ANIMAL, {"sad": 1 / 3, "mse": 1e-9}),
    Row('comma, "quote" and\nline', ImageType.STM, Category.TRANSPARENT, {"mse": 0.5, "sad": 12345.678901234567}),
    Row("雨", ImageType.NS, Category.OTHER, {"sad": 0.0, "mse": 1.0}),
    Row("of no known type", None, None, {"sad": 0.0, "mse": 1.0}),
]
GOOD = "name,type,category,sad\na,SO,animal,1.5\n"


def test_rows_come_back_exactly(tmp_path):
    write_rows(tmp_path / "new" / "rows.csv", ROWS)
    assert read_rows(tmp_path / "new" / "rows.csv") == ROWS


def test_columns_stand_in_the_order_of_the_first_row_after_the_common_ones(tmp_path):
    write_rows(tmp_path / "rows.csv", ROWS[:1], method="all 0.5", seed=0)
    lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert lines == ["method,seed,name,type,category,sad,mse", "all 0.5,0,plain,SO,animal,0.3333333333333333,1e-09"]
    assert read_rows(tmp_path / "rows.csv") == ROWS[:1]


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_rows(tmp_path / "rows.csv") == [Row("a", ImageType.SO, Category.ANIMAL, {"sad": 1.5})]


@pytest.mark.parametrize("step", ["replace", "write"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "rows.csv"
    path.write_text(GOOD)

    def full(*_):
        raise OSError(28, "No space left on device")

    if step == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(type(path), "write_bytes", full)
    with pytest.raises(AimmatError, match=r"could not write .*rows.csv \(No space left on device\); make room"):
        write_rows(path, ROWS)
    assert path.read_text() == GOOD
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_the_folder_is_said_in_one_sentence(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(AimmatError, match=r"could not write .*choose an output folder"):
        write_file(tmp_path / "out" / "rows.csv", "text")


@pytest.mark.parametrize(
    ("rows", "common", "message"),
    [
        ([], {}, "at least one image"),
        ([ROWS[0], Row("b", ImageType.SO, Category.TOY, {"sad": 1.0})], {}, "every row must hold the metrics"),
        (ROWS, {"name": "x"}, "differ in their names"),
    ],
)
def test_rows_that_make_no_table_are_refused(tmp_path, rows, common, message):
    with pytest.raises(ValueError, match=message):
        write_rows(tmp_path / "rows.csv", rows, **common)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have the columns name, type, category .* got an empty first line"),
        ("name,type,sad\na,SO,1\n", "must have the columns name, type, category .* got name, type, sad"),
        ("name,type,category\na,SO,animal\n", "one metric or more"),
        (GOOD + "b,XX,animal,1\n", "line 3: 'XX' is not a valid ImageType"),
        (GOOD + "b,SO,horse,1\n", "line 3: 'horse' is not a valid Category"),
        (GOOD + "b,SO,animal,much\n", "line 3: could not convert string to float: 'much'"),
        (GOOD + "b,SO,animal\n", "line 3: 3 values for 4 columns"),
        (GOOD + '"b,SO,animal,1\n', "line 3: unexpected end of data"),
    ],
)
def test_a_broken_file_is_explained_with_its_line(tmp_path, content, message):
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(AimmatError, match=message) as caught:
        read_rows(tmp_path / "rows.csv")
    assert str(tmp_path / "rows.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_file_is_said_in_one_sentence(tmp_path):
    with pytest.raises(AimmatError, match="found no such file"):
        read_rows(tmp_path / "rows.csv")
    with pytest.raises(AimmatError, match="could not read it"):
        read_rows(tmp_path)
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AimmatError, match=re.escape("give the path of a rows.csv")):
        read_rows(tmp_path / "rows.csv")
