"""Tables: averages counted by hand, and the layout of the paper's Table 2 in four formats."""

import io
import math
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import results_table, summarise


def row(name, image_type, category, sad, **scores):
    return Row(name, ImageType(image_type), Category(category), {"sad": sad, **scores})


ROWS = [
    row("a", "SO", "animal", 1.0),
    row("b", "SO", "animal", 2.0),
    row("c", "SO", "toy", 6.0),
    row("d", "NS", "toy", 11.0),
]
OURS = [row(r.name, r.type, r.category, r.scores["sad"] / 2) for r in ROWS]
METHODS = {"all 0": ROWS, "AimNet": OURS}


def test_averages_are_over_images_and_over_the_groups_present():
    assert summarise(ROWS) == {
        "sad": 5.0,  # (1 + 2 + 6 + 11) / 4
        "sad/type/SO": 3.0,  # (1 + 2 + 6) / 3
        "sad/type/NS": 11.0,
        "sad/type/avg": 7.0,  # (3 + 11) / 2: no STM picture, so no third term
        "sad/cat/animal": 1.5,
        "sad/cat/toy": 8.5,
        "sad/cat/avg": 5.0,
    }


def test_a_score_that_is_nan_is_left_out_of_its_averages():
    rows = [
        row("a", "SO", "toy", 1.0, mse_transition=0.5, mad_transition=math.nan),
        row("b", "STM", "toy", 3.0, mse_transition=math.nan, mad_transition=math.nan),
    ]
    summary = summarise(rows)
    assert summary["sad"] == 2.0
    assert summary["mse_transition"] == summary["mse_transition/type/avg"] == 0.5
    assert "mse_transition/type/STM" not in summary
    assert not any(key.startswith("mad_transition") for key in summary)


def test_markdown_has_the_columns_of_table_2_in_two_tables():
    blocks = results_table(METHODS).to_markdown().split("\n\n")
    assert blocks[0] == "**Whole image, transition region, SAD by type**"
    assert blocks[1].splitlines() == [
        "| Method | SAD | MSE | MAD | Conn | Grad | Tran. SAD | SO (3) | STM | NS (1) | Avg. |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| all 0 | 5.00 | – | – | – | – | – | 3.00 | – | 11.00 | 7.00 |",
        "| AimNet | **2.50** | – | – | – | – | – | **1.50** | – | **5.50** | **3.50** |",
    ]
    assert blocks[2] == "**SAD by category**"
    assert blocks[3].splitlines() == [
        "| Method | Animal (2) | Portrait | Transp. | Plant | Furni. | Toy (2) | Fruit | Other | Avg. |",
        "| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        "| all 0 | 1.50 | – | – | – | – | 8.50 | – | – | 5.00 |",
        "| AimNet | **0.75** | – | – | – | – | **4.25** | – | – | **2.50** |",
    ]
    assert blocks[4].startswith("4 images, in brackets those of a group. Lower is better. SAD and Conn in thousands")


def test_where_no_type_and_no_category_is_known_their_columns_are_left_out():
    rows = [Row(r.name, None, None, r.scores) for r in ROWS]
    assert summarise(rows) == {"sad": 5.0}
    table = results_table({"all 0": rows}, remark="Nobody said what they show.")
    assert table.to_markdown().split("\n\n") == [
        "**Whole image, transition region**",
        "| Method | SAD | MSE | MAD | Conn | Grad | Tran. SAD |\n"
        "| :-- | --: | --: | --: | --: | --: | --: |\n"
        "| all 0 | 5.00 | – | – | – | – | – |",
        "4 images. Lower is better. SAD and Conn in thousands of pixels, MSE and MAD per pixel, Grad as the AIM "
        "release prints it. Tran.: transition region. Nobody said what they show.\n",
    ]
    assert r"\multicolumn{1}{c}{Tran.} \\" in table.to_latex()
    mixed = results_table({"all 0": [*rows[:3], Row("d", ImageType.NS, None, {"sad": 11.0})]}).to_markdown()
    assert "| 5.00 | – | – | – | – | – | – | – | 11.00 | 11.00 |" in mixed
    assert "SAD by category" not in mixed


def test_the_matlab_protocol_shows_every_error_of_the_transition_and_says_what_grad_counts():
    scores = dict.fromkeys(("mse_transition", "mad_transition", "conn_transition", "grad_transition"), 0.5)
    table = results_table({"Ours": [row("a", "SO", "toy", 1.0, sad_transition=2.0, **scores)]}, protocol="matlab")
    lines = table.to_markdown().splitlines()
    assert "| Tran. SAD | Tran. MSE | Tran. MAD | Tran. Conn | Tran. Grad | SO (1) |" in lines[2]
    assert "| 2.00 | 0.5000 | 0.5000 | 0.50 | 0.50 | 1.00 |" in lines[4]
    assert "Grad in thousands, as the MATLAB code of Deep Image Matting counts it" in table.note


def test_every_metric_stands_in_its_column_with_the_decimals_of_the_paper():
    scores = {"mse": 0.0161, "mad": 0.0262, "conn": 43.18, "grad": 33.05, "sad_transition": 30.74}
    line = results_table({"Ours": [row("a", "SO", "toy", 43.92, **scores)]}).to_markdown().splitlines()[4]
    assert line == "| Ours | 43.92 | 0.0161 | 0.0262 | 43.18 | 33.05 | 30.74 | 43.92 | – | – | 43.92 |"


def test_equal_in_print_is_equally_good_and_one_method_alone_is_not_best():
    nearly = [row(r.name, r.type, r.category, r.scores["sad"] + 1e-6) for r in ROWS]
    text = results_table({"one": ROWS, "two": nearly}).to_markdown()
    assert text.count("**5.00**") == 4  # "SAD" and the average over categories, both methods
    alone = results_table({"one": ROWS})
    assert not re.search(r"\*\*\d", alone.to_markdown())
    assert "Bold" not in alone.note


def test_latex_is_a_booktabs_table_with_escaped_names():
    text = results_table({r"50% & $x_1$ #{~^\}": ROWS, "AimNet": OURS}).to_latex()
    assert r"50\% \& \$x\_1\$ \#\{\textasciitilde{}\textasciicircum{}\textbackslash{}\} & 5.00 & -- &" in text
    assert r"AimNet & \textbf{2.50} & -- &" in text
    assert r"\multicolumn{5}{c}{Whole image} & \multicolumn{1}{c}{Tran.} & \multicolumn{4}{c}{SAD-Type}" in text
    assert r"\cmidrule(lr){2-6}\cmidrule(lr){7-7}\cmidrule(lr){8-11}\cmidrule(lr){12-20}" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in lines[1:]] == [19] * 4  # 20 columns
    assert text.isascii()


def test_html_escapes_names_and_every_line_fills_all_columns():
    class Cells(HTMLParser):
        def __init__(self):
            super().__init__()
            self.lines = []

        def handle_starttag(self, tag, attrs):
            if tag == "tr":
                self.lines.append(0)
            if tag in ("th", "td"):
                self.lines[-1] += int(dict(attrs).get("colspan", 1))

    text = results_table({"<script>x": ROWS, "AimNet": OURS}).to_html()
    cells = Cells()
    cells.feed(text)
    assert cells.lines == [20, 19, 20, 20]  # "Method" spans the two lines of headings
    assert "<script>" not in text
    assert "&lt;script&gt;x" in text
    assert "<caption>" in text


def test_names_cannot_break_a_markdown_table():
    text = results_table({"a|b\n*c*": ROWS}).to_markdown()
    assert "| a\\|b \\*c\\* | 5.00 |" in text


def test_the_console_table_fits_100_columns_with_every_number_whole():
    named = {f"a method with [a rather long] name, number {n}": METHODS["all 0"] for n in range(2)}
    big = {name: [row(r.name, r.type, r.category, 1234.56) for r in rows] for name, rows in named.items()}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(results_table(big).to_console())
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("1234.56") == 2 * (4 + 3)  # SAD, SO, NS, Avg. and Animal, Toy, Avg.
    assert text.count("a method with") == 4  # a name too long ends in an ellipsis, markup in it is text


def test_the_console_table_fits_80_columns_with_short_names():
    named = dict.fromkeys(("aimnet", "mean of type"), METHODS["all 0"])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(results_table({name: [_large(r) for r in rows] for name, rows in named.items()}).to_console())
    text = console.export_text()
    assert text.count("mean of type") == text.count("aimnet") == 2
    assert text.count("123.45") == 2 * (7 + 3)
    assert text.count("0.5678") == 4
    assert "…" not in text


def _large(small: Row) -> Row:
    scores = dict.fromkeys(("sad", "conn", "grad", "sad_transition"), 123.45) | {"mse": 0.5678, "mad": 0.5678}
    return Row(small.name, small.type, small.category, scores)


def test_methods_tested_on_different_images_make_no_table():
    with pytest.raises(AimmatError, match="same images, got 4 of 'all 0' and 3 of 'AimNet'"):
        results_table({"all 0": ROWS, "AimNet": OURS[:3]})


def test_nothing_makes_no_table():
    with pytest.raises(ValueError, match="one method or more"):
        results_table({})
    with pytest.raises(ValueError, match="at least one image"):
        results_table({"AimNet": []})
    with pytest.raises(ValueError, match="same metrics"):
        summarise([ROWS[0], row("e", "SO", "toy", 1.0, mse=0.1)])
