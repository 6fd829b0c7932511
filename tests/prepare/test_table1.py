"""The command that prints Table 1."""

from pathlib import Path
from runpy import run_path

from aimmat.prepare import main

make_tree = run_path(str(Path(__file__).parents[1] / "data" / "trees.py"))["make_tree"]


def test_what_is_on_disk_stands_above_the_papers_row(tmp_path, capsys):
    make_tree("aim500", tmp_path, {"test": 4})
    assert main(["table1", "--root", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    here = next(i for i, words in enumerate(lines) if words[0] == "AIM-500")
    assert lines[here] == ["AIM-500", "here", "4", "yes", "2", "1", "1", "Mixed"]
    assert lines[here + 1] == ["paper", "500", "yes", "424", "43", "33", "Mixed"]


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert main(["table1", "--root", str(tmp_path / "none")]) == 1
    assert "none, which is not a folder" in capsys.readouterr().err
