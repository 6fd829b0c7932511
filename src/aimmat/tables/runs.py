"""Runs, read back from their folders: name, settings, switches, and the rows of the test."""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from aimmat.schema import AimmatError, Row
from aimmat.tables.paper import row_of
from aimmat.tables.rows import read_rows


@dataclass(frozen=True)
class Run:
    """A run that is finished, or scores of mattes in files, which have no settings."""

    folder: Path
    name: str
    config: dict[str, Any] = field(repr=False)  # as config.yaml has it; empty for scores
    rows: list[Row] = field(repr=False)

    @property
    def seed(self) -> int | None:
        """The seed of the run."""
        return self.config.get("seed")

    @property
    def method(self) -> str:
        """The name without the seed: what runs that differ in it alone have in common."""
        return self.name.removesuffix(f"-s{self.seed}")

    @property
    def switches(self) -> dict[str, bool]:
        """Which of the five switches of Table 3 are on; empty for scores."""
        return switches(self.config) if self.config else {}

    @property
    def ablation(self) -> str | None:
        """The row of Table 3 that it is, as conf/ablation calls it, or would be; None for scores."""
        return row_of(self.switches) if self.config else None

    @property
    def test_set(self) -> str:
        """The data set of the test by its name in `aimmat.data.DATASETS`, or what the run calls its data."""
        entries = _part(self.config, "data", "test", "entries")
        return str(entries.get("name") or self.config.get("data_name") or "unknown images")

    @property
    def natural(self) -> bool | None:
        """Whether the test pictures are photographs, not composites; None where nothing says it."""
        target = _part(self.config, "data", "test").get("_target_")
        return target.endswith("PhotoDataset") if isinstance(target, str) else None

    @cached_property
    def measured_by(self) -> str:
        """The protocol of the metrics: "aim", which every run's test has, or what `aimmat.score` was told."""
        path = self.folder / "rows.csv"
        if not path.exists():
            return "aim"
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.DictReader(file), {}).get("protocol", "aim")

    @cached_property
    def semantic(self) -> dict[str, dict[str, float]]:
        """The semantic decoder in the test: for "all" and each type and category {"iou": ..., "accuracy": ...}.

        Empty for a network without such a decoder.
        """
        path = self.folder / "semantic.csv"
        if not path.exists():
            return {}
        with path.open(newline="", encoding="utf-8") as file:
            return {
                line.pop("group"): {key: float(value) for key, value in line.items()} for line in csv.DictReader(file)
            }

    @property
    def epochs(self) -> dict[str, int]:
        """How many epochs each stage had; empty for scores."""
        cap = _part(self.config, "trainer").get("max_epochs")
        stages = self.config.get("stages", [])
        return {name: min(self.config["stage"][name]["max_epochs"], cap or 10**9) for name in stages}

    @cached_property
    def costs(self) -> dict[str, dict[str, float]]:
        """What each stage took, as it left it in cost.json: "seconds", "steps", "epochs" and "devices"."""
        paths = {stage: self.folder / stage / "cost.json" for stage in self.epochs}
        return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in paths.items() if path.exists()}


def switches(config: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the five switches of Table 3 a config has on."""
    return {
        "uni": config["data"]["compose"]["representation"] == "unified",
        "tl": "saliency" in config["stages"],
        **{name: bool(config["model"].get(name)) for name in ("mp", "se", "sa")},
    }


def run_name(config: Mapping[str, Any]) -> str:
    """What a run is called: experiment, network if not AimNet, switches, protocol if not the paper's, seed."""
    on = "+".join(name for name, value in switches(config).items() if value) or "none"
    network = config["model"]["name"]
    if network == "onnx":
        on = Path(config["model"]["path"]).stem
    elif network != "aimnet":
        on = f"{network}-{on}"
    return f"{config['task_name']}-{on}{'-release' * (config.get('protocol') == 'release')}-s{config['seed']}"


def read_run(folder: str | Path) -> Run:
    """Read a run's folder.

    Args:
        folder: of a run of `aimmat.train`, or with what `aimmat.score` wrote.

    Returns:
        The run; scores are called as their folder is.

    Raises:
        AimmatError: no such folder, no run in it, a run that is not finished or has no test, or a file that cannot be
            read.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise AimmatError(f"{folder} is not a run's folder: it has neither config.yaml nor rows.csv; name one that has")
    if (folder / "backbone.pth").exists():
        raise AimmatError(f"the run {folder} trained a backbone, which has no test of mattes; leave it out")
    if not (folder / "rows.csv").exists():
        raise AimmatError(
            f"the run {folder} is not finished: it has no rows.csv; "
            f"go on with it by python -m aimmat.train resume={folder}"
        )
    rows = read_rows(folder / "rows.csv")
    if not rows:
        raise AimmatError(f"{folder / 'rows.csv'} holds no image; test the run on one image or more")
    if not (folder / "config.yaml").exists():
        return Run(folder, folder.resolve().name, {}, rows)
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        return Run(folder, run_name(config), config, rows)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise AimmatError(
            f"{folder / 'config.yaml'} is not the settings of a run ({type(error).__name__}: "
            f"{' '.join(str(error).split())}); name another folder"
        ) from None


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run, finished or not, or the scores of mattes."""
    return any((folder / name).exists() for name in ("config.yaml", "rows.csv", ".hydra"))


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The folders of runs, finished or not.

    Args:
        paths: runs; folders that hold runs at any depth, such as those of a sweep with its jobs 0, 1, ...; or patterns
            with *, ? and [...] for either.

    Returns:
        Each folder once, in the order given; those of one folder by name, numbers by their value.

    Raises:
        AimmatError: a path that does not exist, or one without a run in it.
    """
    found: dict[Path, None] = {}
    for given in paths:
        names = [str(given)] if Path(given).exists() else sorted(glob.glob(str(given)), key=_natural)
        if not names:
            raise AimmatError(f"there is no folder {given}; name runs, folders of runs, or a pattern that fits some")
        runs = [run for name in names for run in _below(Path(name))]
        if not runs:
            raise AimmatError(f"there is no run in {given}; a run's folder has a config.yaml")
        found |= dict.fromkeys(runs)
    return list(found)


def read_runs(paths: Iterable[str | Path]) -> tuple[list[Run], list[str]]:
    """Read all runs that are finished.

    Args:
        paths: as `find_runs` takes them.

    Returns:
        The runs, and for each folder that cannot be used the sentence that says why.

    Raises:
        AimmatError: as `find_runs`, or not one run is finished.
    """
    runs, left_out = [], []
    for folder in find_runs(paths):
        try:
            runs.append(read_run(folder))
        except AimmatError as error:
            left_out.append(str(error))
    if not runs:
        more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        raise AimmatError(f"{left_out[0]}{more}")
    return runs, left_out


def _below(folder: Path) -> Iterator[Path]:
    """The folder if it is a run's, else the runs below it."""
    if is_run(folder):
        yield folder
    elif folder.is_dir() and not folder.name.startswith("."):
        for child in sorted(folder.iterdir(), key=lambda path: _natural(path.name)):
            if child.is_dir():
                yield from _below(child)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts 10 after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _part(config: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A mapping inside a config; empty where it has none."""
    for key in keys:
        inside = config.get(key)
        config = inside if isinstance(inside, Mapping) else {}
    return config
