"""The dashboard: a workspace whose every key a run logs, as a file where it cannot be uploaded."""

import json
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
import wandb

from aimmat.metrics import METRICS, MattingMetrics, SemanticMetrics
from aimmat.report import dashboard, main
from aimmat.schema import Category, ImageType

make_run = run_path(str(Path(__file__).parents[1] / "tables" / "folders.py"))["make_run"]
SECTIONS = ["Table 3", "Types", "Categories", "Panels", "Costs"]


def written(path):
    """Its sections by name, each a list of panels, and its run set."""
    section = json.loads(Path(path).read_text())["spec"]["section"]
    return {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"]}, section["runSets"][0]


def keys(panels):
    """What runs must have logged for these panels."""
    found = set()
    for panel in panels:
        config = panel["config"]
        found |= {*config.get("metrics", []), *config.get("mediaKeys", [])}
        found |= {config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis") if axis in config}
        if panel["viewType"] == "Weave":
            found.add(config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"])
    return found


@pytest.fixture
def _nobody(monkeypatch, tmp_path):
    """A user without a key of W&B."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    wandb.teardown()  # it has read these settings, and tests that come after are offline


def logged_run(folder, project="aimmat", **more):
    make_run(folder, logger={"wandb": {"project": project}}, **more)
    (folder / "wandb_run_id.txt").write_text(folder.name)
    return folder


@pytest.mark.usefixtures("_nobody")
def test_without_a_key_it_is_a_file_and_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["dashboard", "--entity", "lab", "--project", "hair"]) == 0
    assert capsys.readouterr().out == (
        "W&B has no key here, so nothing was sent: the workspace is in dashboard.json; "
        "the same command after `wandb login` uploads it\n"
    )
    saved = json.loads((tmp_path / "dashboard.json").read_text())
    assert (saved["entity"], saved["project"]) == ("lab", "hair")
    assert list(written("dashboard.json")[0]) == SECTIONS


def test_offline_it_is_a_file_even_with_a_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")  # Lightning's logger changes it to dryrun
    assert main(["dashboard", "-o", str(tmp_path / "new" / "it.json")]) == 0
    assert "WANDB_MODE is offline, so nothing was sent" in capsys.readouterr().out
    assert list(written(tmp_path / "new" / "it.json")[0]) == SECTIONS


def test_every_key_has_a_name_that_runs_give(tmp_path):
    main(["dashboard", "-o", str(tmp_path / "it.json")])
    sections, runs = written(tmp_path / "it.json")
    number = len(Category)  # a picture of each, and of every type
    groups = torch.arange(number) % len(ImageType), torch.arange(number)
    metrics, semantic = MattingMetrics(), SemanticMetrics()
    metrics.add(dict.fromkeys(METRICS, torch.ones(number)), *groups)
    classes = torch.ones(number, 1, 2, 2, dtype=torch.int64)
    semantic.update(classes, classes, *groups)
    known = {f"{split}/{key}" for split in ("val", "test") for key in metrics.compute()}
    known |= {f"test/semantic_{key}" for key in semantic.compute()} | {"trainer/global_step"}
    # the rest is what tests/test_train.py finds in the files of a run
    asked = {name: keys(panels) for name, panels in sections.items()}
    assert asked["Panels"] == {"val/panel", "test/images"}
    assert {key for key in asked["Costs"] if key != "test/sad"} == set(dashboard._COSTS.values())
    for name in ("Table 3", "Types", "Categories"):
        assert asked[name]
        assert asked[name] <= known
    assert {f"test/sad/type/{kind}" for kind in ImageType} <= asked["Types"]
    assert {f"test/sad/cat/{kind}" for kind in Category} <= asked["Categories"]
    assert {key["key"]["name"] for key in runs["sort"]["keys"]} <= known


def test_bars_are_means_over_seeds_beside_what_the_paper_prints(tmp_path):
    main(["dashboard", "-o", str(tmp_path / "it.json")])
    panels = written(tmp_path / "it.json")[0]["Table 3"]
    sad = panels[0]["config"]
    assert sad["metrics"] == ["test/sad"]
    assert (sad["groupBy"], sad["groupAgg"], sad["groupArea"]) == ("method.value", "mean", "stddev")
    assert "| uni_tl | 52.66 | 0.0213 | 0.0313 |" in json.dumps(panels)  # Table 3, fourth row of its figures


def test_runs_are_shown_alone_and_name_their_project(tmp_path, capsys):
    runs = [logged_run(tmp_path / "runs" / name, "hair") for name in ("one", "two")]
    plain = make_run(tmp_path / "plain")
    assert main(["dashboard", *map(str, runs), str(plain), "-o", str(tmp_path / "it.json")]) == 0
    assert f"left out: the run {plain} has not logged to W&B" in capsys.readouterr().err
    assert json.loads((tmp_path / "it.json").read_text())["project"] == "hair"
    assert '["one", "two"]' in json.dumps(written(tmp_path / "it.json")[1]["filters"])


def test_runs_that_cannot_be_shown_are_refused(tmp_path, capsys):
    plain = make_run(tmp_path / "plain")
    assert main(["dashboard", str(plain)]) == 1
    assert "error: none of the runs has logged to W&B; train with logger=wandb" in capsys.readouterr().err
    both = [logged_run(tmp_path / name, name) for name in ("a", "b")]
    assert main(["dashboard", *map(str, both)]) == 1
    assert "the runs are in 2 projects, a, b; name those of one" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert main(["dashboard", "-o", str(tmp_path / "it.json")]) == 1
    assert "pip install 'aimmat[dashboard]' adds it" in capsys.readouterr().err


class Server:
    """What `wandb.Api` would ask."""

    default_entity = "me"


@pytest.mark.usefixtures("_nobody")
def test_with_a_key_it_is_uploaded_for_the_owner_of_the_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(wandb, "Api", Server)
    monkeypatch.chdir(tmp_path)
    ws, _ = dashboard._library()
    sent = []
    monkeypatch.setattr(ws.Workspace, "save", lambda self: sent.append((self.entity, self.project)))
    assert main(["dashboard"]) == 0
    assert main(["dashboard", "--entity", "lab"]) == 0
    assert sent == [("me", "aimmat"), ("lab", "aimmat")]
    assert not (tmp_path / "dashboard.json").exists()

    def refused(self):
        raise ValueError("no such\nproject")

    monkeypatch.setattr(ws.Workspace, "save", refused)
    assert main(["dashboard"]) == 1
    assert "did not take the workspace for aimmat (no such project); WANDB_MODE=offline" in capsys.readouterr().err
