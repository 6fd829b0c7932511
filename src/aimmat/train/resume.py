"""`resume=`: a run's own arguments again, in its own folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import hydra
import yaml  # type: ignore[import-untyped]
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from aimmat.schema import AimmatError
from aimmat.tables import write_file
from aimmat.train.plan import BACKBONE, CARD, MODEL, config_dir


class Finished(Exception):
    """There is nothing to go on with."""


def resumed(arguments: list[str]) -> list[str]:
    """With `resume=RUN`: that run's own arguments, then these, in that run's folder; `resume=auto` looks for it.

    Raises:
        AimmatError: no such run, or one of a sweep.
        Finished: it is finished.
    """
    asked = [argument.removeprefix("resume=") for argument in arguments if argument.startswith("resume=")]
    others = [argument for argument in arguments if not argument.startswith("resume=")]
    if not asked or asked[-1] == "null":
        return others
    if asked[-1] == "auto":
        if {"-m", "--multirun"} & set(arguments):
            raise AimmatError(
                "resume=auto goes on with a single run, not a sweep; go on with each of its jobs by resume=FOLDER"
            )
        folder = _unfinished(others)
        if folder is None:
            return others
        others = [argument for argument in others if _HYDRAS.match(argument)]  # the rest is the run's own
    else:
        folder = Path(asked[-1]).absolute()
    first = _own_arguments(folder)
    if first is None:
        raise AimmatError(f"{folder} is not a run's folder: it has no .hydra/overrides.yaml; name the folder of a run")
    if is_finished(folder):
        raise Finished(
            f"the run {folder} is finished: it has a model.safetensors; "
            f"begin another without resume=, from its weights with init={folder}"
        )
    if rank_zero_only.rank == 0 and any(not _HYDRAS.match(argument) for argument in others):  # type: ignore[attr-defined]
        write_file(folder / _OVERRIDES, OmegaConf.to_yaml([*first, *(a for a in others if not _HYDRAS.match(a))]))
    where = [f"resume='{folder}'", f"hydra.run.dir='{folder}'"]  # quoted: Hydra parses what it gets
    return [*first, *others, *where, "hydra.output_subdir=null"]  # a kill while Hydra writes would lose the arguments


_OVERRIDES = Path(".hydra", "overrides.yaml")


_HYDRAS = re.compile(r"-|[+~]*hydra[./]")  # arguments that are not the run's


def _own_arguments(folder: Path) -> list[str] | None:
    """What a run was started with; None where there is no run."""
    try:
        found: Any = OmegaConf.to_object(OmegaConf.load(folder / _OVERRIDES))
    except (OSError, ValueError, yaml.YAMLError):  # missing, or cut short by a kill
        return None
    if not isinstance(found, list):
        return None
    return [argument for argument in found if not argument.startswith("resume=")]


def is_finished(folder: Path) -> bool:
    """Whether a run has left the last file that it writes."""
    return any((folder / name).exists() for name in (MODEL, BACKBONE, CARD))


def _unfinished(arguments: list[str]) -> Path | None:
    """The newest run with these arguments that is not finished; None when there is none.

    Raises:
        AimmatError: the folder that the arguments name holds another run.
        Finished: it holds this run, finished.
    """
    own = [argument for argument in arguments if not _HYDRAS.match(argument)]
    with hydra.initialize_config_dir(str(config_dir().absolute()), version_base="1.3"):
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        place = Path(hydra.compose("train", overrides, return_hydra_config=True).hydra.run.dir).absolute()
    if any(argument.startswith("hydra.run.dir=") for argument in arguments):
        found = _own_arguments(place)
        if found is not None and found != own:
            raise AimmatError(
                f"{place} holds a run of other arguments: {shlex.join(found)}; name another folder in hydra.run.dir"
            )
        return None if found is None else place
    runs = [run for run in place.parent.glob("*") if _own_arguments(run) == own and not is_finished(run)]
    return max(runs, key=lambda run: (run / _OVERRIDES).stat().st_mtime, default=None)
