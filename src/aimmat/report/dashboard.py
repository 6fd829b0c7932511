"""`python -m aimmat.report dashboard`: a workspace of W&B with Table 3, types, categories, pictures and costs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from aimmat.schema import AimmatError, Category, ImageType
from aimmat.tables import write_file
from aimmat.tables.paper import printed
from aimmat.tables.runs import find_runs

NAME = "aimmat: Table 3"
MISSING = "a dashboard is built by wandb-workspaces, which is not installed; pip install 'aimmat[dashboard]' adds it"
MOST = 100  # runs in a panel; W&B would stop at ten, and the grid of Table 3 has 24

_STEP = "trainer/global_step"
_TABLE_3 = {"SAD": "sad", "MSE": "mse", "MAD": "mad"}
_COSTS = {
    "Parameters": "cost/parameters",
    "Multiply-accumulates at 800 x 800": "cost/macs",
    "Epochs": "cost/epochs",
    "Steps": "cost/steps",
    "Seconds of training": "cost/seconds",
}


def register(verbs: argparse._SubParsersAction) -> None:
    """Add the verb to the command."""
    verb = verbs.add_parser("dashboard", help="a workspace of W&B: Table 3, types, categories, panels, costs")
    verb.add_argument("runs", nargs="*", metavar="RUNS", help="show these alone; without, all runs of the project")
    verb.add_argument("--entity", default="", help="user or team of W&B; without, the one that the key belongs to")
    verb.add_argument("--project", help="project of W&B; without, that of RUNS, or else aimmat")
    verb.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("dashboard.json"),
        metavar="FILE",
        help="for the workspace as JSON where it cannot be uploaded (default: dashboard.json)",
    )
    verb.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    """Upload the workspace; without a key of W&B, or where its mode is offline, write it into a file instead.

    Raises:
        AimmatError: wandb-workspaces is missing, the runs have not logged to one project of W&B, the upload failed, or
            the file cannot be written.
    """
    ids, project = _logged(given.runs)
    shown = workspace(given.entity, given.project or project, ids)
    if offline := _offline():
        spec = shown._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
        write_file(given.output, json.dumps(spec, indent=1) + "\n")
        why, until = offline
        print(f"{why}, so nothing was sent: the workspace is in {given.output}; the same command {until} uploads it")
        return
    import wandb

    try:
        shown.entity = given.entity or wandb.Api().default_entity
        shown.save()  # says where it is
    except Exception as error:  # there is none of its own for a server that refuses or is not there
        said = " ".join(str(error).split())
        raise AimmatError(
            f"W&B did not take the workspace for {shown.project} ({said}); WANDB_MODE=offline writes it into a file"
        ) from None


def workspace(entity: str, project: str, ids: Sequence[str]) -> Any:
    """The workspace, for W&B to have or for a file; needs no network.

    Args:
        entity: user or team; may be empty where it is not uploaded.
        project: of W&B.
        ids: of the runs to show, as W&B knows them; none shows all of the project.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`. Runs that differ in their seed alone are one bar or line: their mean
        with the standard deviation.

    Raises:
        AimmatError: wandb-workspaces is not installed.
    """
    ws, wr = _library()
    over_seeds = {"groupby": wr.Config("method"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}

    def bars(title: str, key: str) -> Any:
        return wr.BarPlot(title=title, metrics=[key], max_runs_to_show=MOST, max_bars_to_show=MOST, **over_seeds)

    def curve(title: str, key: str) -> Any:
        return wr.LinePlot(title=title, x=_STEP, y=[key], max_runs_to_show=MOST, **over_seeds)

    def section(name: str, panels: Iterable[Any]) -> Any:
        return ws.Section(name=name, panels=list(panels), is_open=True)

    types, categories = [*ImageType, "avg"], [*Category, "avg"]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            section(
                "Table 3",
                [
                    *(bars(title, f"test/{key}") for title, key in _TABLE_3.items()),
                    *(curve(f"{title}, validation", f"val/{key}") for title, key in _TABLE_3.items()),
                    wr.MarkdownPanel(markdown=_paper()),
                    wr.RunComparer(diff_only="split"),
                ],
            ),
            section(
                "Types",
                [
                    *(bars(f"SAD, {kind}", f"test/sad/type/{kind}") for kind in types),
                    *(curve(f"SAD, {kind}, validation", f"val/sad/type/{kind}") for kind in types),
                    *(bars(f"IoU of the trimap, {kind}", f"test/semantic_iou/type/{kind}") for kind in types),
                ],
            ),
            section("Categories", [bars(f"SAD, {kind}", f"test/sad/cat/{kind}") for kind in categories]),
            section(
                "Panels",
                [
                    wr.MediaBrowser(title="Validation", media_keys=["val/panel"], num_columns=1),
                    wr.WeavePanelSummaryTable(table_name="test/images", layout=wr.Layout(w=24, h=16)),
                ],
            ),
            section(
                "Costs",
                [
                    *(bars(title, key) for title, key in _COSTS.items()),
                    wr.ScatterPlot(
                        title="SAD by cost", x=wr.SummaryMetric("cost/macs"), y=wr.SummaryMetric("test/sad")
                    ),
                ],
            ),
        ],
        settings=ws.WorkspaceSettings(max_runs=MOST),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("ID").isin(list(ids))) if ids else "",
            order=[ws.Ordering(ws.Summary("test/sad"))],
            pinned_columns=["run:displayName", *(f"summary:test/{key}" for key in _TABLE_3.values())],
        ),
    )


def _library() -> tuple[Any, Any]:
    """The modules of wandb-workspaces: workspaces, and the panels in them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it uses what pydantic will drop one day
            import wandb_workspaces.reports.v2 as wr
            import wandb_workspaces.workspaces as ws
    except ImportError:
        raise AimmatError(MISSING) from None
    return ws, wr


def _logged(runs: Sequence[str]) -> tuple[list[str], str]:
    """What W&B calls the runs, and the project that they have logged to."""
    ids, projects = [], set()
    for folder in find_runs(runs):
        known, config = folder / "wandb_run_id.txt", folder / "config.yaml"
        if not known.exists() or not config.exists():
            print(f"left out: the run {folder} has not logged to W&B; train with logger=wandb", file=sys.stderr)
            continue
        ids.append(known.read_text(encoding="utf-8").strip())
        logger = yaml.safe_load(config.read_text(encoding="utf-8")).get("logger") or {}
        projects.add((logger.get("wandb") or {}).get("project") or "aimmat")
    if runs and not ids:
        raise AimmatError("none of the runs has logged to W&B; train with logger=wandb, or name no run")
    if len(projects) > 1:
        raise AimmatError(f"the runs are in {len(projects)} projects, {', '.join(sorted(projects))}; name those of one")
    return ids, projects.pop() if projects else "aimmat"


def _offline() -> tuple[str, str] | None:
    """Why nothing can be sent, and what to do about it; None where W&B has a key. Asks nobody."""
    mode = os.environ.get("WANDB_MODE")
    if mode in ("offline", "dryrun", "disabled"):
        return f"WANDB_MODE is {mode}", "without that variable"
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B asks its host otherwise
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth  # `wandb.Api` would ask for a key at the terminal

    host = wandb_setup.singleton().settings.base_url
    key = wbauth.authenticate_session(host=host, source="aimmat.report", prompt=False, update_session=False)
    return None if key else ("W&B has no key here", "after `wandb login`")


def _paper() -> str:
    """What the paper prints, for a panel beside ours."""
    lines = ["**Table 3 as printed, on AIM-500**", "", "| row | SAD | MSE | MAD |", "| :-- | --: | --: | --: |"]
    lines += [f"| {row} | {' | '.join(of[key] for key in _TABLE_3.values())} |" for row, of in printed("3").items()]
    return "\n".join(lines)
