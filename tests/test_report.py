"""The report command: what it prints, writes and refuses."""

from pathlib import Path
from runpy import run_path

import pytest

from aimmat import report
from aimmat.report import main

made = run_path(str(Path(__file__).parent / "tables" / "folders.py"))
make_run, some_rows, ON = made["make_run"], made["some_rows"], made["ON"]


@pytest.fixture
def sweep(tmp_path):
    """The eight rows of Table 3 as a sweep leaves them, the first of them not finished."""
    for job, switches in enumerate(ON.values()):
        make_run(tmp_path / "sweep" / str(job), switches, rows=some_rows(30.0 - job) if job else [])
    return tmp_path / "sweep"


def test_a_sweep_becomes_table_3_and_what_is_not_finished_is_named(sweep, tmp_path, capsys):
    assert main([str(sweep), "--table", "3", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "29.00 76.90" in printed.out  # row UNI, ours and the paper's
    assert printed.out.count("not run") == 3  # SAD, MSE and MAD of the row without a switch
    assert printed.err.startswith(f"left out: the run {sweep / '0'} is not finished: it has no rows.csv; go on with it")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["table_3.csv", "table_3.md", "table_3.tex"]


@pytest.mark.parametrize(
    ("table", "files", "words"),
    [
        ("1", ["table_1.csv"], "Table 1: test sets"),
        ("2", ["table_2_1.csv", "table_2_2.csv"], "Table 2: SAD by category"),
        ("s1", ["table_s1.csv"], "Supplement, Table 1"),
    ],
)
def test_the_other_tables_are_printed_and_written(sweep, tmp_path, capsys, table, files, words):
    assert main([str(sweep), "--table", table, "-o", str(tmp_path / "out")]) == 0
    assert words in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").glob("*.csv")) == files
    assert {words in (tmp_path / "out" / f"table_{table}.{end}").read_text() for end in ("md", "tex")} == {True}


def test_costs_count_the_network_of_the_run(tmp_path, capsys):
    model = {"name": "aimnet", "mp": True, "se": True, "sa": True, "width": 0.125}
    run = make_run(tmp_path / "run", model=model)
    assert main([str(run), "--table", "cost", "-o", str(tmp_path / "out")]) == 0
    assert "AimNet, all switches on" in capsys.readouterr().out  # a narrow network is not the paper's
    line = (tmp_path / "out" / "cost.csv").read_text().splitlines()[1]
    # python -m aimmat.bench model=aimnet width=0.125 sizes=800: 862,063 parameters, 3.86 G
    assert line.startswith("demo-uni+tl+mp+se+sa,0.862063,3.859")


def test_two_runs_are_compared_in_the_order_given_and_any_number_is_shown(sweep, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(report.compare, "write", lambda a, b, output: asked.append([a.folder, b.folder, output]))
    monkeypatch.setattr(report.gallery, "write", lambda runs, output: asked.append([*(r.folder for r in runs), output]))
    two = [sweep / "7", sweep / "2"]
    for words in (["--compare", "-o", str(tmp_path)], ["--gallery", "-o", str(tmp_path)], ["--gallery"]):
        assert report.main([*map(str, two), *words]) == 0
    assert asked == [[*two, tmp_path], [*two, tmp_path], [*two, Path("gallery")]]


def test_without_a_folder_nothing_is_written(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main([str(sweep)]) == 0  # Table 3
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes_are_one_sentence_and_exit_code_1(sweep, tmp_path, capsys):
    assert main([str(sweep / "0")]) == 1
    assert capsys.readouterr().err.startswith("error: the run ")
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main([str(sweep), "--compare"]) == 1
    assert "--compare takes two finished runs, got 7: " in capsys.readouterr().err


def test_help_names_the_other_uses(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "python -m aimmat.report sweep" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    assert "--retry" in capsys.readouterr().out
