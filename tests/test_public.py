import subprocess
import sys

import numpy as np
import pytest

import aimmat
from aimmat.weights import save_network


def run(code: str) -> str:
    """Standard output of a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", aimmat.__all__)
def test_every_exported_name_exists_and_is_documented(name):
    assert name == "__version__" or getattr(aimmat, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'aimmat' has no attribute 'lode'"):
        _ = aimmat.lode


def test_the_version_is_the_installed_one():
    assert aimmat.__version__[0].isdigit()


def test_import_is_cheap_and_keeps_albumentations_from_asking_for_updates():
    code = """
import sys
before = set(sys.modules)
import os, aimmat
new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(sorted(new), os.environ["NO_ALBUMENTATIONS_UPDATE"])
"""
    assert run(code) == "['aimmat'] 1"


def test_exported_names_are_listed_before_they_are_imported():
    assert dir(aimmat) == sorted(aimmat.__all__)


def test_load_gives_a_predictor_with_the_strategy_of_the_card_and_opens_no_connection(tmp_path):
    card = {
        "model": {"name": "aimnet", "width": 0.125},
        "inference": {"name": "hybrid", "semantic_scale": 0.5, "matting_scale": 1.0},
    }
    save_network(tmp_path / "model.safetensors", aimmat.build(**card["model"]), card)
    code = f"""
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("a socket was opened")

socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import aimmat
predictor = aimmat.load({str(tmp_path)!r}, device="cpu")
print(predictor.strategy, type(predictor.net) is aimmat.models.AimNet, "hydra" in sys.modules)
"""
    assert run(code) == (
        "Hybrid(semantic_scale=0.5, matting_scale=1.0, max_side=1600, fusion='hard', protocol='paper') True False"
    )


def test_load_computes_by_the_protocol_that_is_asked_for(tmp_path):
    card = {"model": {"name": "aimnet", "width": 0.125}, "inference": {"name": "resize", "scale": 0.5}}
    save_network(tmp_path / "model.safetensors", aimmat.build(**card["model"]), card)
    for protocol, used in ((None, "paper"), ("paper", "paper"), ("release", "release")):
        predictor = aimmat.load(tmp_path, "cpu", protocol)
        assert predictor.strategy == aimmat.inference.Resize(scale=0.5, protocol=used)
        assert predictor.net.protocol == used


def test_the_strategy_takes_the_protocol_of_the_network(tmp_path):
    card = {"model": {"name": "aimnet", "width": 0.125, "protocol": "release"}}
    save_network(tmp_path / "model.safetensors", aimmat.build(**card["model"]), card)
    assert aimmat.load(tmp_path, "cpu").strategy == aimmat.inference.Hybrid(protocol="release")


def test_a_network_without_a_strategy_is_tested_by_the_papers(tmp_path):
    card = {"model": {"name": "aimnet", "width": 0.125}}
    save_network(tmp_path / "model.safetensors", aimmat.build(**card["model"]), card)
    predictor = aimmat.load(tmp_path / "model.safetensors", device="cpu")
    assert predictor.strategy == aimmat.inference.Hybrid()
    assert predictor(np.zeros((40, 50), dtype=np.uint8)).shape == (40, 50)
