"""The methods of Table 2: one command trains them all and one prints the table; their experiments are the paper's."""

import csv
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat.models import NETWORKS, build
from aimmat.report import main as report
from aimmat.schema import AimmatError
from aimmat.tables.paper import printed
from aimmat.tables.runs import run_name
from aimmat.train import check, config_dir, sequence
from aimmat.train.plan import first_start, stage_model
from aimmat.weights import load_network
from aimmat.weights.dim import FLAT
from aimmat.weights.released import rename
from aimmat.weights.u2net import U2NET

helpers = run_path(str(Path(__file__).with_name("test_train.py")))
SMALL, composed, train = (helpers[name] for name in ("SMALL", "composed", "train"))
TINY = [*SMALL, "constants=false", "estimate=false", "logger=none"]
METHODS = sorted(name for name, net in NETWORKS.items() if net.trainable)


def test_every_method_has_a_config_and_an_experiment_of_its_own():
    assert METHODS == ["aimnet", "dim", "gfm", "hatt", "lf", "shm", "u2net"]
    for name in METHODS:
        assert composed(f"model={name}").model.name == name
    for name in set(METHODS) - {"aimnet"}:
        config = composed(f"experiment={name}")
        other = composed("experiment=full", f"model={name}")
        check(config)
        assert (config.model, config.stage, config.stages) == (other.model, other.stage, other.stages)
        assert sequence(config)[0] == "saliency"  # the paper's strategy, without a backbone of its own
        assert config.stages[-1] == "matting"
        assert config.inference.name == "hybrid"
        assert {stage_model(config, stage)["name"] for stage in config.stages} == {name}


def test_runs_of_different_methods_have_different_names():
    names = [run_name(composed("experiment=full", f"model={name}")) for name in METHODS]
    assert len(set(names)) == len(METHODS)
    assert "full-u2net-uni+tl-s42" in names


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A sweep over all methods, two steps a stage, and what it said."""
    cwd = tmp_path_factory.mktemp("table")
    done = train("-m", *TINY, "model=glob(*,exclude=onnx)", "hydra.sweep.dir=sweep", cwd=cwd, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    return cwd / "sweep", done.stdout


@pytest.mark.timeout(600)
def test_one_command_trains_every_method_and_one_prints_table_2(table, tmp_path, capsys):
    sweep, said = table
    assert len(list(sweep.glob("*/model.safetensors"))) == len(METHODS)
    assert "learns from nothing" in said  # no backbone was given
    assert report([str(sweep), "--table", "2", "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    lines = []
    for path in sorted(tmp_path.glob("table_2*.csv")):
        with path.open(newline="") as file:
            lines += [line for line in csv.DictReader(file) if "sad" in line]  # the other part is by category
    papers = {line["method"] for line in lines if line["source"] == "paper"}
    assert papers == set(printed("2"))
    here = [line for line in lines if line["source"] == "here"]
    assert len(here) == len(METHODS)
    assert all(float(line["sad"]) > 0 for line in here)  # none is "not run"
    assert {name for line in here for name in METHODS if f"-{name}-" in line["method"]} == set(METHODS) - {"aimnet"}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "aimnet"])
def test_a_row_of_the_ablation_is_no_network_of_another_method(name):
    model = stage_model(composed(f"model={name}", "ablation=uni"), "matting")
    with pytest.raises(AimmatError, match=f"{name} has no switch '(mp|se|sa)'"):
        build(**model)


def test_the_folder_of_configs_names_every_network():
    assert {path.stem for path in (config_dir() / "model").glob("*.yaml")} == set(NETWORKS)


def as_public(net, names):
    """A network's tensors under the names of its public code."""
    weights = net.state_dict()
    return {theirs: weights[ours] for ours, theirs in rename(weights, names).items()}


def test_weights_of_another_method_are_named_as_what_they_are(tmp_path):
    torch.save(as_public(build("u2net", small=True), U2NET), tmp_path / "u2netp.pth")
    config = composed("experiment=full", f"init={tmp_path / 'u2netp.pth'}")
    with pytest.raises(AimmatError, match=r"u2netp\.pth looks like .*U2NETP.*; you asked for aimnet: set model=u2net"):
        first_start(config)


def test_a_variant_that_no_file_tells_is_refused_until_it_is_said(tmp_path, monkeypatch):
    net = build("dim")
    names = rename(net.state_dict(), FLAT)
    torch.save({theirs: net.state_dict()[ours] for ours, theirs in names.items()}, tmp_path / "dim.pth")
    with pytest.raises(
        AimmatError, match=r"dim\.pth looks like the DIM .*, and its tensors do not tell skip; say which"
    ):
        load_network(tmp_path / "dim.pth")
    assert load_network(tmp_path / "dim.pth", skip=True)[0].skip
    # What conf/ has by default was not said by anybody; what the command line has was.
    arguments = ["experiment=dim", f"init={tmp_path / 'dim.pth'}"]
    with pytest.raises(AimmatError, match="do not tell skip"):
        first_start(composed(*arguments))
    monkeypatch.setattr("aimmat.train.plan._said", lambda part: ["skip"])
    with pytest.raises(AimmatError, match=r"add model\.trimap=traditional"):
        first_start(composed(*arguments))
    assert first_start(composed(*arguments, "model.trimap=traditional")).weights
