"""`python -m aimmat.report RUNS... --table`: the paper's tables, ours beside what it prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from aimmat.schema import AimmatError
from aimmat.tables import write_file
from aimmat.tables.grid import Grid, cost_table, table_1, table_2, table_3, table_s1
from aimmat.tables.runs import Run

WIDTH = 120  # columns, where the console is none that has a width


def write(name: str, runs: Sequence[Run], output: Path | None) -> None:
    """Print a table, and write it in three formats.

    Args:
        name: a key of TABLES.
        runs: what it is made of.
        output: the folder for table<name>.md, .tex and .csv; None only prints.

    Raises:
        AimmatError: the runs do not make a table, or the folder cannot be written.
    """
    grids = TABLES[name](runs)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH
    for grid in grids:
        console.print(grid.to_console())
    if output is None:
        return
    stem = name if name == "cost" else f"table_{name}"
    parts = [""] if len(grids) == 1 else [f"_{number}" for number in range(1, len(grids) + 1)]
    write_file(output / f"{stem}.md", "\n".join(grid.to_markdown() for grid in grids))
    write_file(output / f"{stem}.tex", "\n".join(grid.to_latex() for grid in grids))
    for part, grid in zip(parts, grids, strict=True):
        write_file(output / f"{stem}{part}.csv", grid.to_csv())
    console.print(
        f"  {output}: {stem}.md, {stem}.tex, {', '.join(f'{stem}{part}.csv' for part in parts)}", markup=False
    )


def costs(runs: Sequence[Run]) -> Grid:
    """The cost table, with networks counted as the runs' settings have them."""
    from aimmat.models import build, count_macs, count_parameters  # here, not above: no other table needs torch

    known = [run for run in runs if run.config]
    if not known:
        raise AimmatError(f"costs are those of a network, and {runs[0].folder} has no config.yaml; name a run")
    sizes = {}
    for run in known:
        if run.method not in sizes:
            net = build(**run.config["model"])
            sizes[run.method] = count_parameters(net), count_macs(net, 800)
    return cost_table(known, sizes)


TABLES: dict[str, Callable[[Sequence[Run]], list[Grid]]] = {
    "1": lambda runs: [table_1(runs)],
    "2": table_2,
    "3": lambda runs: [table_3(runs)],
    "s1": lambda runs: [table_s1(runs)],
    "cost": lambda runs: [costs(runs)],
}
