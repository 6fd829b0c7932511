"""The paper's tables with our figures beside the printed ones: Tables 1, 2, 3, the supplement's Table 1, and costs."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from aimmat.schema import AimmatError, ImageType
from aimmat.tables.paper import SWITCHES, numbers, printed
from aimmat.tables.runs import Run
from aimmat.tables.tables import _LATEX, _ampersands, _one_line, _pipes, results_table, summarise

NOT_RUN, UNKNOWN, ABSENT, TICK = "not run", "not recorded", "–", "✓"

_NETWORKS = {"aimnet": "Ours", "dim": "DIM*"}  # rows of Table 2 that are not called as the network is
# What may differ between runs without making them other methods: the switches themselves, seeds, and what no figure
# depends on.
_ASIDE = re.compile(
    r"(.*\.)?(seed|root|num_workers)|model\.(mp|se|sa)|data\.compose\.representation|stages|(paths|logger)\..*|"
    r"callbacks\.(last|best|lr|panel)\..*|resume|tags|licence|estimate|mattes|constants|before|log_prefix"
)
_SIGNS = {ord("✓"): r"$\checkmark$", ord("×"): r"$\times$", ord("±"): r"$\pm$"}


@dataclass(frozen=True)
class Grid:
    """A table of text, with the same in numbers."""

    title: str
    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    records: tuple[dict[str, Any], ...]  # a line each, under names of their own and in full
    note: str

    def to_markdown(self) -> str:
        """The table as a pipe table below its title, and the note."""
        lines = [f"**{self.title}**", "", _pipes(*self.header), _pipes(":--", *["--:"] * (len(self.header) - 1))]
        lines += [_pipes(*(re.sub(r"([\\`*_\[\]<>|&$~])", r"\\\1", cell) for cell in line)) for line in self.cells]
        return "\n".join([*lines, "", self.note, ""])

    def to_latex(self) -> str:
        """The table as a LaTeX table* for the packages booktabs, graphicx and amssymb."""
        lines = [
            r"% \usepackage{booktabs,graphicx,amssymb}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{_latex(f'{self.title}. {self.note}')}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}",
            r"\toprule",
            _ampersands(*map(_latex, self.header)),
            r"\midrule",
            *(_ampersands(*map(_latex, line)) for line in self.cells),
        ]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])

    def to_csv(self) -> str:
        """The records as CSV: "not run" where a figure was not run, an empty field where there can be none."""
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for record in self.records for name in record)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        return text.getvalue()

    def to_console(self) -> Group:
        """The table and its note for a terminal."""
        table = RichTable(
            title=self.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=0, show_edge=False
        )
        for place, name in enumerate(self.header):
            table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
        for line in self.cells:
            table.add_row(*(Text(re.sub(r"([±+-])0\.", r"\1.", cell)) for cell in line))  # 80 columns do for Table 3
        return Group(table, "", Text(self.note, "dim"))


_TWICE = (
    " The paper prints SAD 52.66, MSE 0.0213 and MAD 0.0313 for both Table 2's GFM and Table 3's row UNI + TL; "
    "docs/ledger.md says how the two networks differ, and neither figure is cited for the other without this note."
)


def table_3(runs: Sequence[Run]) -> Grid:
    """The ablation, Table 3: a line for each of its rows, then those of other switches.

    Args:
        runs: tested on the same images; several of a row are its seeds.

    Returns:
        Ours as the mean over seeds, with the standard deviation where there are several, what the paper prints, and
        the difference where the test set is the paper's.

    Raises:
        AimmatError: runs tested on different images, scores without settings, or a row with the same seed twice.
    """
    _check(runs)
    if scores := [run for run in runs if run.ablation is None]:
        raise AimmatError(
            f"Table 3 asks for the switches of a run, and {scores[0].folder} has no config.yaml; leave it out"
        )
    groups = _grouped(runs, lambda run: str(run.ablation))
    paper, ours = numbers("3"), _is_papers(runs)
    cells, records = [], []
    for row in [*paper, *(other for other in groups if other not in paper)]:
        of = groups.get(row, [])
        on = of[0].switches if of else {name: name in row.split("_") or row == "full" for name in SWITCHES}
        record: dict[str, Any] = {"row": row, **{name: int(value) for name, value in on.items()}}
        line = [TICK * value for value in on.values()] + [str(len(of)) if of else ABSENT]
        record |= {"runs": len(of), "seeds": " ".join(str(run.seed) for run in of)}
        for key, decimals in (("sad", 2), ("mse", 4), ("mad", 4)):
            found = [summarise(run.rows).get(key) for run in of]
            texts, values = _beside(found, paper.get(row, {}).get(key), decimals, ours)
            line += texts
            record |= {f"{key}{name}": value for name, value in values.items()}
        cells.append(tuple(line))
        records.append(record)
    header = [name.upper() for name in SWITCHES] + ["n"]
    for title in ("SAD", "MSE", "MAD"):
        header += [title, "paper", "diff"]
    note = (
        f"{_tested(runs)} Lower is better. SAD in thousands of pixels, MSE and MAD per pixel. {_LEGEND}{_TWICE}"
        f"{_unlike(runs)}"
    )
    return Grid("Table 3: ablation", tuple(header), tuple(cells), tuple(records), note)


def table_2(runs: Sequence[Run]) -> list[Grid]:
    """Table 2, in two parts: the whole image, the transition and SAD by type; SAD by category.

    Args:
        runs: tested on the same images; those of one name are its seeds.

    Returns:
        For each method of the paper ours, or that it was not run, and what the paper prints; below ours the difference
        from it, where the test set is the paper's. Runs whose network the paper does not have come first.

    Raises:
        AimmatError: runs tested on different images, or a name with the same seed twice.
    """
    _check(runs)
    groups = _grouped(runs, lambda run: run.method)
    laid = results_table({method: of[0].rows for method, of in groups.items()}, runs[0].measured_by)
    columns = laid.columns
    paper, ours = numbers("2"), _is_papers(runs)
    upper = {name.lower(): name for name in paper}
    of_paper: dict[str | None, list[str]] = {}
    for method, of in groups.items():
        network = of[0].config.get("model", {}).get("name", "")
        of_paper.setdefault(_NETWORKS.get(network, upper.get(network)), []).append(method)
    lines: list[tuple[str, list[str]]] = []
    records: list[dict[str, Any]] = []

    def add(method: str, source: str, values: Sequence[list[float | None]], signed: bool = False) -> None:
        texts = [_spread(found, column.decimals, signed) for found, column in zip(values, columns, strict=True)]
        label = f"{method} ({max(map(len, values))})" if max(map(len, values)) > 1 else method
        lines.append((label if source == "here" else f"{label}, {source}", texts))
        known = [[value for value in found if value is not None] for found in values]
        means = {column.key: fmean(found) for column, found in zip(columns, known, strict=True) if found}
        sds = {f"{column.key}_sd": stdev(found) for column, found in zip(columns, known, strict=True) if len(found) > 1}
        records.append({"method": method, "source": source, "runs": max(map(len, values)), **means, **sds})

    for name in (None, *paper):
        for method in of_paper.get(name, []):
            summaries = [summarise(run.rows) for run in groups[method]]
            found = [[summary.get(column.key) for summary in summaries] for column in columns]
            add(method, "here", found)
            if name and ours:
                less: list[list[float | None]] = []
                for values, column in zip(found, columns, strict=True):
                    known, there = [value for value in values if value is not None], paper[name].get(column.key)
                    less.append([fmean(known) - there] if known and there is not None else [None])
                add(method, f"less the paper's {name}", less, signed=True)
        if name and name not in of_paper:
            lines.append((name, [NOT_RUN] * len(columns)))
            empty = {column.key: NOT_RUN for column in columns}
            records.append({"method": name, "source": "here", "runs": 0, **empty})
        if name:
            add(name, "paper", [[paper[name].get(column.key)] for column in columns])
    note = (
        f"{_tested(runs)} Lower is better. SAD and Conn in thousands of pixels, MSE and MAD per pixel, {laid.grad}. "
        f"Tran.: transition region. Avg.: mean of the group means. In brackets: runs of a method, "
        f"which differ in their seed; ±: standard deviation over them.{_TWICE}"
    )
    grids = []
    by_category = [column.part == "SAD-Category" for column in columns]
    for title, wanted in (("whole image, transition region, SAD by type", False), ("SAD by category", True)):
        places = [place for place, category in enumerate(by_category) if category is wanted]
        if places:
            parts = [("Tran. " * (columns[p].part == "Tran.")) + columns[p].title for p in places]
            cells = tuple((label, *(texts[place] for place in places)) for label, texts in lines)
            keys = {"method", "source", "runs"} | {f"{columns[p].key}{sd}" for p in places for sd in ("", "_sd")}
            kept = tuple({key: value for key, value in record.items() if key in keys} for record in records)
            grids.append(Grid(f"Table 2: {title}", ("Method", *parts), cells, kept, note))
    return grids


def table_1(runs: Sequence[Run]) -> Grid:
    """The test sets, Table 1: what the runs were tested on, beside the paper's rows.

    Args:
        runs: their rows say types and categories, their settings the set's name and whether it has photographs.

    Returns:
        A line for each set of the paper's and one more for the printed row; then the sets that the paper does not have.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        sets = found.setdefault(run.test_set, [])
        if (here := _composition(run)) not in sets:
            sets.append(here)
    lines: list[dict[str, Any]] = []
    for name, row in printed("1").items():
        title = row["title"]
        paper = {key: int(value) if value.isdigit() else value for key, value in row.items() if key != "title"}
        tested = found.pop(name, [])
        lines += [{"set": title, "source": "here", **here} for here in tested or [dict.fromkeys(paper, NOT_RUN)]]
        lines += [{"set": title, "source": "paper", **paper}]
        for here in tested:
            less = {key: f"{here[key] - paper[key]:+d}" if isinstance(here[key], int) else ABSENT for key in here}
            lines += [{"set": title, "source": "difference", **less}]
    lines += [{"set": name, "source": "here", **here} for name, tested in found.items() for here in tested]
    header = ("Test set", "", "Volume", "Natural", "SO", "STM", "NS", "Class")
    signs = {"yes": TICK, "no": "×"}
    cells = tuple(tuple(signs.get(str(value), str(value)) for value in line.values()) for line in lines)
    note = "Pictures of each type, as the rows of the test name it. Natural: photographs, not composites."
    return Grid("Table 1: test sets", header, cells, tuple(lines), note)


def table_s1(runs: Sequence[Run]) -> Grid:
    """The semantic decoder with and without SE blocks, Table 1 of the supplement.

    Args:
        runs: tested on the same images; those of one name are its seeds.

    Returns:
        A line for each method, and one that says so where there is none without or with SE blocks.

    Raises:
        AimmatError: runs tested on different images, or a name with the same seed twice.
    """
    _check(runs)
    groups = _grouped(runs, lambda run: run.method)
    paper, ours = numbers("s1"), _is_papers(runs)
    cells, records = [], []
    for row, on in (("without", False), ("with", True)):
        named: dict[str, list[Run]] = {name: of for name, of in groups.items() if of[0].switches.get("se") is on}
        for name, of in (named or {NOT_RUN: []}).items():
            line = [name, TICK if on else "×", str(len(of)) if of else ABSENT]
            record: dict[str, Any] = {"method": name, "se": int(on), "runs": len(of)}
            for key in ("iou", "accuracy"):
                found = [run.semantic.get("all", {}).get(key) for run in of]
                texts, values = _beside(found, paper[row][key], 4, ours)
                if of and found == [None] * len(of):
                    texts[0] = UNKNOWN
                line += texts
                record |= {f"{key}{what}": value for what, value in values.items()}
            cells.append(tuple(line))
            records.append(record)
    header = ("Run", "SE", "n", "IoU", "paper", "diff", "Accuracy", "paper", "diff")
    note = (
        f"{_tested(runs)} Higher is better. Generalised trimap: IoU, the mean of its three classes, and accuracy, the "
        f"pixels of all images counted together. {_LEGEND} The paper does not say what the other switches were."
    )
    return Grid("Supplement, Table 1: semantic decoder", header, tuple(cells), tuple(records), note)


def cost_table(runs: Sequence[Run], sizes: Mapping[str, tuple[int, int]]) -> Grid:
    """What each method costs, beside what the paper says of its own.

    Args:
        runs: with settings; those of one name are its seeds.
        sizes: for each method (`Run.method`) the parameters of its network and its multiply-accumulates at 800 x 800.

    Returns:
        A line for each method, and one that says so where there is none with all switches on.
    """
    paper = numbers("cost")["full"]
    groups = {name: of[0] for name, of in _grouped(runs, lambda run: run.method).items() if name in sizes}
    cells: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    found = False
    for name, run in groups.items():
        parameters, macs = sizes[name][0] / 1e6, sizes[name][1] / 1e9
        costs = run.costs
        whole = len(costs) == len(run.epochs)
        trained = (
            " + ".join(f"{count:,}" for count in run.epochs.values()),
            " + ".join(f"{cost['steps']:,}" for cost in costs.values()) if whole else UNKNOWN,
            " + ".join(_duration(cost["seconds"]) for cost in costs.values()) if whole else UNKNOWN,
        )
        cells.append((name, f"{parameters:.2f}", f"{macs:.2f}", *trained))
        by_stage: dict[str, float] = {f"epochs_{stage}": count for stage, count in run.epochs.items()}
        for key in ("steps", "seconds", "devices"):
            by_stage |= {f"{key}_{stage}": cost[key] for stage, cost in costs.items()}
        records.append({"method": name, "parameters": parameters, "macs": macs, **by_stage})
        net = run.config["model"]
        if run.ablation == "full" and net["name"] == "aimnet" and net.get("width", 1) == 1:
            found = True
            less = {"parameters": parameters - paper["parameters"], "macs": macs - paper["macs"]}
            signed = (f"{less['parameters']:+.1f}", f"{less['macs']:+.2f}")
            cells.append((f"{name}, less the paper's", *signed, *[ABSENT] * 3))
            records.append({"method": f"{name}, less the paper's", **less})
    if not found:
        cells.append(("AimNet, all switches on", *[NOT_RUN] * 5))
        records.append({"method": "AimNet, all switches on", "parameters": NOT_RUN, "macs": NOT_RUN})
    text = printed("cost")["full"]
    epochs_there = f"{text['epochs_saliency']} + {text['epochs_matting']}"
    cells.append(("paper", text["parameters"], text["macs"], epochs_there, ABSENT, f"{text['days']} days"))
    records.append({"method": "paper", **paper})
    header = ("Method", "M parameters", "GMac", "Epochs", "Steps", "Training")
    note = (
        "Millions of parameters; multiply-accumulates of convolutions and linear layers for a picture of 800 x 800, in "
        "thousands of millions; epochs, steps and time of each stage, of the first seed, validation included. The "
        "paper's 55.3 M hold a classifier that nothing uses, its 191.52 GMac normalisation, activation and pooling; "
        "its training ran on a V100. For latency and memory: python -m aimmat.bench."
    )
    return Grid("Costs", header, tuple(cells), tuple(records), note)


_LEGEND = "n: runs, which differ in their seed; ±: standard deviation over them; paper: as printed; diff: ours less it."


def _beside(
    found: Sequence[float | None], paper: float | None, decimals: int, comparable: bool
) -> tuple[list[str], dict[str, float | str | None]]:
    """(Texts of ours, the paper's and the difference; the same in numbers with the deviation, by ending of a name)."""
    known = [value for value in found if value is not None]
    mean = fmean(known) if known else None
    less = mean - paper if mean is not None and paper is not None and comparable else None
    texts = [
        _spread(found, decimals),
        ABSENT if paper is None else f"{paper:.{decimals}f}",
        ABSENT if less is None else f"{less:+.{decimals}f}",
    ]
    sd = stdev(known) if len(known) > 1 else None
    values: dict[str, float | str | None] = {"": mean if found else NOT_RUN, "_sd": sd}
    return texts, values | {"_paper": paper, "_difference": less}


def _spread(found: Sequence[float | None], decimals: int, signed: bool = False) -> str:
    """The mean, with the standard deviation where there are several; "not run" of nothing."""
    known = [value for value in found if value is not None]
    if not known:
        return ABSENT if found else NOT_RUN
    deviation = f" ±{stdev(known):.{decimals}f}" if len(known) > 1 else ""
    return f"{fmean(known):{'+' if signed else ''}.{decimals}f}{deviation}"


def _grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> dict[str, list[Run]]:
    """Runs by a key, those of a group by their seed."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    for name, of in groups.items():
        of.sort(key=lambda run: run.seed or 0)
        for one, two in pairwise(of):
            if one.seed == two.seed:
                raise AimmatError(
                    f"{one.folder} and {two.folder} are both {name} with seed {one.seed}; name one of them alone"
                )
    return groups


def _check(runs: Sequence[Run]) -> None:
    """Refuse nothing at all, and runs that were tested on different images or measured by different protocols."""
    if not runs:
        raise ValueError("runs must hold one run or more, got none; read some with aimmat.tables.runs.read_runs")
    for run in runs:
        if run.measured_by != runs[0].measured_by:
            raise AimmatError(
                f"the runs of a table must be measured alike, got the metrics of {runs[0].measured_by} in "
                f"{runs[0].folder} and of {run.measured_by} in {run.folder}; score both with one --protocol"
            )
    images = [Counter((row.name, row.type, row.category) for row in run.rows) for run in runs]
    for run, own in zip(runs, images, strict=True):
        if own != images[0]:
            raise AimmatError(
                f"the runs of a table must be tested on the same images, got {len(runs[0].rows)} of "
                f"{runs[0].test_set} in {runs[0].folder} and {len(run.rows)} of {run.test_set} in {run.folder} that "
                f"are not the same; make two tables"
            )


def _is_papers(runs: Sequence[Run]) -> bool:
    """Whether the test set is AIM-500, whole, and measured as the paper does."""
    return all(run.test_set == "aim500" and len(run.rows) == 500 and run.measured_by == "aim" for run in runs)


def _tested(runs: Sequence[Run]) -> str:
    """What the runs were tested on and how, and whether that is what the paper was."""
    images = len(runs[0].rows)
    sets = " and ".join(dict.fromkeys(run.test_set for run in runs))
    ways = " and ".join(dict.fromkeys(_strategy(run) for run in runs))
    tested = f"{images} image{'s' * (images != 1)} of {sets}, {ways}."
    if _is_papers(runs):
        return tested
    return (
        f"{tested} The paper's figures are of the 500 photographs of AIM-500: ours here are of other images and not to "
        f"be compared with them, so no difference is given."
    )


def _strategy(run: Run) -> str:
    name = run.config.get("inference", {}).get("name")
    return f"by the strategy {name}" if name else "mattes from files"


def _unlike(runs: Sequence[Run]) -> str:
    """A sentence on the settings in which runs differ beside switches and seeds; empty where there are none."""
    flat = [dict(_flat(run.config)) for run in runs]
    keys = sorted({key for one in flat for key in one})
    differ = [key for key in keys if not _ASIDE.fullmatch(key) and any(o.get(key) != flat[0].get(key) for o in flat)]
    if not differ:
        return ""
    more = f" and {len(differ) - 5} more" if len(differ) > 5 else ""
    return f" The runs differ in more than switches and seeds: {', '.join(differ[:5])}{more}."


def _flat(config: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """(Dotted name, value) of every setting."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value


def _duration(seconds: float) -> str:
    """3:07:05, hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _composition(run: Run) -> dict[str, Any]:
    """The row of Table 1 of what a run was tested on."""
    types, categories = Counter(row.type for row in run.rows), {row.category for row in run.rows}
    alone = next(iter(categories)) if len(categories) == 1 else None
    return {
        "volume": len(run.rows),
        "natural": {True: "yes", False: "no", None: "?"}[run.natural],
        **{kind.value: types[kind] if None not in types else "?" for kind in ImageType},
        "class": alone.capitalize() if alone else "?" if categories == {None} else "Mixed",
    }


def _latex(text: str) -> str:
    """Text as LaTeX wants it."""
    return _one_line(text).translate(_LATEX).translate(_SIGNS)
