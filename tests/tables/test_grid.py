"""The paper's tables with ours beside them: what stands where, what is averaged, and what says "not run"."""

import csv
import io
import json
import re
from pathlib import Path
from runpy import run_path

import pytest

from aimmat.schema import AimmatError
from aimmat.tables import write_rows
from aimmat.tables.grid import NOT_RUN, UNKNOWN, cost_table, table_1, table_2, table_3, table_s1
from aimmat.tables.paper import SWITCHES, printed
from aimmat.tables.runs import read_run

made = run_path(str(Path(__file__).parent / "folders.py"))
make_run, some_rows, ON = made["make_run"], made["some_rows"], made["ON"]


@pytest.fixture
def run(tmp_path):
    """Writes a run and reads it back."""
    return lambda name, *args, **more: read_run(make_run(tmp_path / name, *args, **more))


def ours(sad=10.0, **scores):
    """Rows of a whole AIM-500."""
    return some_rows(sad, 500, **scores)


def records(grid):
    return list(csv.DictReader(io.StringIO(grid.to_csv())))


# Table 3


def test_every_row_of_table_3_has_its_ticks_and_the_papers_figures(run):
    grid = table_3([run("a", ON["uni_tl_mp"])])
    assert grid.header[:9] == ("UNI", "TL", "MP", "SE", "SA", "n", "SAD", "paper", "diff")
    for line, (row, paper) in zip(grid.cells, printed("3").items(), strict=True):
        assert [name for name, cell in zip(SWITCHES, line, strict=False) if cell == "✓"] == ON[row].split()
        assert [line[7], line[10], line[13]] == list(paper.values())


def test_a_row_that_was_not_run_says_so_in_every_format(run):
    grid = table_3([run("a", ON["full"])])
    for line in grid.cells[:7]:
        assert [line[place] for place in (5, 6, 8, 9, 11, 12, 14)] == ["–", NOT_RUN, "–", NOT_RUN, "–", NOT_RUN, "–"]
    assert [record["sad"] for record in records(grid)] == [NOT_RUN] * 7 + ["10.0"]
    assert grid.to_markdown().count(NOT_RUN) == grid.to_latex().count(NOT_RUN) == 7 * 3


def test_seeds_of_a_row_are_averaged_with_the_deviation_of_a_sample(run):
    runs = [run(str(seed), ON["uni"], seed, some_rows(sad)) for seed, sad in ((3, 12.0), (1, 10.0), (2, 14.0))]
    grid = table_3([*runs, run("none", ON["none"], 1, some_rows(20.0))])
    none, uni = grid.cells[:2]
    assert (none[5], none[6]) == ("1", "20.00")
    assert (uni[5], uni[6]) == ("3", "12.00 ±2.00")  # deviations 0, -2, 2: sqrt(8 / 2)
    record = records(grid)[1]
    assert [record[name] for name in ("seeds", "runs", "sad", "sad_sd")] == ["1 2 3", "3", "12.0", "2.0"]


def test_the_difference_is_given_on_the_whole_of_aim_500_alone(run):
    whole = table_3([run("a", ON["full"], rows=ours(44.5, mse=0.0160, mad=0.03), data="aim500")])
    # 44.5 - 43.92, 0.0160 - 0.0161, 0.03 - 0.0262
    assert [whole.cells[7][place] for place in (8, 11, 14)] == ["+0.58", "-0.0001", "+0.0038"]
    assert whole.note.startswith("500 images of aim500, by the strategy hybrid. Lower is better.")
    for other in (run("b", ON["full"], rows=some_rows(44.5), data="aim500"), run("c", ON["full"], rows=ours(44.5))):
        grid = table_3([other])
        assert [grid.cells[7][place] for place in (6, 7, 8)] == ["44.50", "43.92", "–"]
        assert "are of other images and not to be compared with them" in grid.note
        assert records(grid)[7]["sad_difference"] == ""


def test_figures_of_another_protocol_are_not_held_against_the_papers(run):
    one = run("a", rows=ours(44.5), data="aim500")
    write_rows(one.folder / "rows.csv", one.rows, protocol="matlab")
    assert table_3([one]).cells[7][6:9] == ("44.50", "43.92", "–")


def test_other_switches_stand_below_the_papers_rows(run):
    grid = table_3([run("a", "tl sa")])
    assert grid.cells[8][:9] == ("", "✓", "", "", "✓", "1", "10.00", "–", "–")
    assert records(grid)[8]["row"] == "tl_sa"


def test_a_row_with_one_seed_twice_and_other_images_are_refused(run):
    one = run("a", ON["uni"])
    with pytest.raises(AimmatError, match=r"a and .*b are both uni with seed 1; name one"):
        table_3([one, run("b", ON["uni"])])
    with pytest.raises(AimmatError, match=r"got 3 of sample in .*a and 2 of sample in .*c that are not the same"):
        table_3([one, run("c", ON["none"], rows=some_rows(number=2))])


def test_metrics_of_two_protocols_do_not_stand_in_one_table(run, tmp_path):
    write_rows(tmp_path / "theirs" / "rows.csv", some_rows(), protocol="matlab")
    theirs = read_run(tmp_path / "theirs")
    with pytest.raises(AimmatError, match=r"got the metrics of aim in .*a and of matlab in .*theirs"):
        table_2([run("a"), theirs])
    assert "MATLAB code of Deep Image Matting" in table_2([theirs])[0].note


def test_scores_without_settings_have_no_row_in_table_3(tmp_path):
    write_rows(tmp_path / "theirs" / "rows.csv", some_rows())
    with pytest.raises(AimmatError, match=r"theirs has no config.yaml; leave it out"):
        table_3([read_run(tmp_path / "theirs")])


def test_the_note_says_what_differs_beside_switches_and_seeds(run):
    runs = [run(row, on) for row, on in ON.items()] + [run("seed", ON["none"], 2)]
    assert "differ in more" not in table_3(runs).note
    other = run("other", ON["none"], 3, stage={"saliency": {"max_epochs": 2}, "matting": {"max_epochs": 8}})
    assert table_3([*runs, other]).note.endswith("differ in more than switches and seeds: stage.matting.max_epochs.")


def test_what_the_paper_prints_for_both_gfm_and_uni_tl_is_noted_under_both_tables(run):
    for figure, value in (("sad", "52.66"), ("mse", "0.0213"), ("mad", "0.0313")):
        assert printed("2")["GFM"][figure] == printed("3")["uni_tl"][figure] == value
    runs = [run("a")]
    for grid in (*table_2(runs), table_3(runs)):
        assert "for both Table 2's GFM and Table 3's row UNI + TL; docs/ledger.md says how" in grid.note


# Table 2


def test_every_method_of_table_2_has_ours_above_the_printed_row(run):
    whole, by_category = table_2([run("a", rows=some_rows(7.0))])
    labels = [line[0] for line in whole.cells]
    assert labels[:2] + labels[-2:] == ["U2NET", "U2NET, paper", "demo-uni+tl+mp+se+sa", "Ours, paper"]
    assert whole.cells[0][1:] == (NOT_RUN,) * 10
    assert whole.cells[-1][1:] == tuple(list(printed("2")["Ours"].values())[:10])
    assert whole.cells[-2][1:8] == ("7.00", "0.5000", "0.5000", "0.50", "0.50", "0.50", "7.00")
    assert by_category.cells[-2][1:3] == ("7.00", "–")  # animals alone were tested
    assert by_category.cells[-1][1:8] == tuple(list(printed("2")["Ours"].values())[10:17])


def test_table_2_gives_the_difference_and_averages_seeds(run):
    runs = [run(str(seed), seed=seed, rows=ours(sad), data="aim500") for seed, sad in ((1, 43.0), (2, 45.0))]
    whole, _ = table_2(runs)
    here, less, paper = whole.cells[-3:]
    assert here[:2] == ("demo-uni+tl+mp+se+sa (2)", "44.00 ±1.41")  # sqrt(2)
    assert less[:2] == ("demo-uni+tl+mp+se+sa, less the paper's Ours", "+0.08")
    assert paper[:2] == ("Ours, paper", "43.92")
    of = {(record["method"], record["source"]): record for record in records(whole)}
    assert of["demo-uni+tl+mp+se+sa", "here"]["sad"] == "44.0"
    assert of["GFM", "here"]["sad"] == NOT_RUN
    assert of["GFM", "paper"]["sad"] == "52.66"


def test_mattes_from_files_stand_in_table_2_above_the_papers_methods(run, tmp_path):
    write_rows(tmp_path / "theirs" / "rows.csv", some_rows(3.0))
    whole, _ = table_2([run("a"), read_run(tmp_path / "theirs")])
    assert whole.cells[0][:2] == ("theirs", "3.00")
    assert "by the strategy hybrid and mattes from files" in whole.note


# Table 1, the supplement's Table 1, costs


def test_table_1_counts_the_types_of_the_test(run):
    grid = table_1([run("a", rows=ours(), data="aim500"), run("b", rows=some_rows(number=430))])
    lines = {line[:2]: line[2:] for line in grid.cells}
    assert lines["AIM-500", "here"] == ("500", "✓", "424", "43", "33", "Animal")
    assert lines["AIM-500", "paper"] == ("500", "✓", "424", "43", "33", "Mixed")
    assert lines["AIM-500", "difference"] == ("+0", "–", "+0", "+0", "+0", "–")
    assert lines["DAPM", "here"] == (NOT_RUN,) * 6
    assert lines["sample", "here"] == ("430", "×", "424", "6", "0", "Animal")


def test_table_1_shows_a_part_of_aim_500_beside_the_whole(run):
    grid = table_1([run("a", rows=ours(), data="aim500"), run("b", data="aim500")])
    here = [line[2] for line in grid.cells if line[:2] == ("AIM-500", "here")]
    assert here == ["500", "3"]


def test_the_semantic_decoder_with_and_without_se(run):
    runs = [run("a", "uni tl", 1), run("b", "uni tl", 2), run("c", "uni tl se", 1)]
    for one, iou in zip(runs[:2], (0.70, 0.72), strict=True):
        (one.folder / "semantic.csv").write_text(f"group,iou,accuracy\nall,{iou},0.8\nSO,0.9,0.9\n")
    grid = table_s1(runs)
    assert grid.cells[0] == ("demo-uni+tl", "×", "2", "0.7100 ±0.0141", "0.7002", "–", "0.8000 ±0.0000", "0.8756", "–")
    assert grid.cells[1][:5] == ("demo-uni+tl+se", "✓", "1", UNKNOWN, "0.7393")
    assert table_s1(runs[2:]).cells[0][:5] == (NOT_RUN, "×", "–", NOT_RUN, "0.7002")


def test_costs_stand_beside_the_papers(run):
    full, small = run("a"), run("b", "uni")
    for stage, steps, seconds in (("saliency", 1000, 3 * 3600 + 7 * 60 + 5), ("matting", 30, 61.5)):
        (full.folder / stage).mkdir()
        cost = {"seconds": seconds, "steps": steps, "epochs": 2, "devices": 1}
        (full.folder / stage / "cost.json").write_text(json.dumps(cost))
    grid = cost_table([full, small], {full.method: (54_785_191, 190_576_900_000), small.method: (10**6, 10**9)})
    lines = {line[0]: line[1:] for line in grid.cells}
    assert lines[full.method] == ("54.79", "190.58", "2 + 7", "1,000 + 30", "3:07:05 + 0:01:02")
    assert lines[f"{full.method}, less the paper's"] == ("-0.5", "-0.94", "–", "–", "–")
    assert lines[small.method] == ("1.00", "1.00", "7", UNKNOWN, UNKNOWN)
    assert lines["paper"] == ("55.3", "191.52", "100 + 50", "–", "1.5 days")
    alone = cost_table([small], {small.method: (10**6, 10**9)})
    assert ("AimNet, all switches on", *[NOT_RUN] * 5) in alone.cells


# formats


def test_every_line_fills_all_columns_in_markdown_and_latex(run):
    runs = [run(row, on) for row, on in ON.items()]
    for grid in (table_1(runs), *table_2(runs), table_3(runs), table_s1(runs)):
        pipes = [line for line in grid.to_markdown().splitlines() if line.startswith("|")]
        assert len(pipes) == 2 + len(grid.cells)
        assert {line.count("|") for line in pipes} == {len(grid.header) + 1}
        body = [line for line in grid.to_latex().splitlines() if line.endswith(r"\\")]
        assert len(body) == 1 + len(grid.cells)
        assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {len(grid.header) - 1}
        assert grid.to_latex().isascii()
