import json
import os
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aimmat import models
from aimmat.schema import AimmatError
from aimmat.weights import load_network, save_network

CARD = {
    "model": {"name": "aimnet", "se": False, "width": 0.125},
    "inference": {"name": "hybrid", "semantic_scale": 0.25, "matting_scale": 0.5},
    "sad": 43.92,
}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return models.build(**CARD["model"])


def lightning(path: Path, net: torch.nn.Module, prefix: str = "net.", **changes) -> Path:
    """What a run's ModelCheckpoint writes, as far as loading goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {prefix + name: value for name, value in net.state_dict().items()}
    content = {"epoch": 3, "state_dict": weights | {"loss.weight": torch.ones(2)}, "hyper_parameters": CARD}
    torch.save(content | changes, path)
    return path


def assert_same(found, net):
    assert not found.training
    expected = net.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_a_saved_network_comes_back_bit_by_bit_with_its_card(tmp_path, net):
    save_network(tmp_path / "new" / "model.safetensors", net, CARD)
    found, card = load_network(tmp_path / "new" / "model.safetensors")
    assert card == CARD
    assert_same(found, net)
    assert os.listdir(tmp_path / "new") == ["model.safetensors"]


def test_the_card_is_json_in_the_metadata_of_the_file(tmp_path, net):
    save_network(tmp_path / "model.safetensors", net, CARD)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["aimmat"]) == CARD


@pytest.mark.parametrize("prefix", ["net.", "net._orig_mod."])
def test_a_lightning_checkpoint_gives_its_network_and_hyper_parameters(tmp_path, net, prefix):
    found, card = load_network(lightning(tmp_path / "last.ckpt", net, prefix))
    assert card == CARD
    assert_same(found, net)


def test_a_compiled_network_is_saved_under_plain_names(tmp_path, net):
    save_network(tmp_path / "model.safetensors", torch.nn.ModuleDict({"_orig_mod": net}), CARD)
    assert_same(load_network(tmp_path / "model.safetensors")[0], net)


def test_a_folder_stands_for_its_newest_last_checkpoint(tmp_path, net):
    other = models.build(**CARD["model"])
    lightning(tmp_path / "duts" / "checkpoints" / "last.ckpt", other)
    newest = lightning(tmp_path / "matting" / "checkpoints" / "last.ckpt", net)
    os.utime(tmp_path / "duts" / "checkpoints" / "last.ckpt", (1, 1))
    assert_same(load_network(tmp_path)[0], net)
    os.utime(newest, (0, 0))
    assert_same(load_network(tmp_path)[0], other)
    save_network(tmp_path / "model.safetensors", net, CARD)  # comes before every checkpoint
    assert_same(load_network(str(tmp_path))[0], net)


class Code:
    """What a pickle may hide: something that runs when it is read."""

    def __reduce__(self):
        return (os.getenv, ("HOME",))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def archive(path: Path) -> Path:
    with ZipFile(path, "w") as file:
        file.writestr("cat.txt", "a photograph of a cat")
    return path


def half(path: Path) -> Path:
    return write(path, path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at, net: at / "none", "no such file or folder"),
        (lambda at, net: at, "here lies nothing"),
        (lambda at, net: (at / "figures" / "gallery").mkdir(parents=True) or at, "here lies figures/;"),
        (lambda at, net: write(at / "a.ckpt", b""), "it is truncated or no checkpoint"),
        (lambda at, net: write(at / "a.ckpt", b"import os"), "it is truncated or no checkpoint"),
        (lambda at, net: archive(at / "a.ckpt"), "it is damaged or no checkpoint"),
        (lambda at, net: half(lightning(at / "a.ckpt", net)), "it is truncated or no checkpoint"),
        (lambda at, net: lightning(at / "a.ckpt", net, code=Code()), "pickled Python objects, which are not executed"),
        (lambda at, net: lightning(at / "a.ckpt", net, hyper_parameters={}), "does not say which network it holds"),
        (lambda at, net: lightning(at / "a.ckpt", net, state_dict={}), "missing (attention"),
        (lambda at, net: torch.save(net.state_dict(), at / "a.pth") or at / "a.pth", "it lacks the state_dict and"),
        (lambda at, net: write(at / "a.safetensors", b"import os"), "it is truncated or no safetensors file"),
        (lambda at, net: save_network(at / "a.safetensors", net, CARD) or half(at / "a.safetensors"), "truncated or"),
        (
            lambda at, net: save_file(net.state_dict(), at / "a.safetensors") or at / "a.safetensors",
            "it holds weights but no aimmat card",
        ),
    ],
)
def test_what_cannot_be_loaded_is_named_in_one_sentence(tmp_path, net, make, message):
    path = make(tmp_path, net)
    with pytest.raises(AimmatError, match=re.escape(str(path)) + ".*" + re.escape(message)) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_a_crowded_folder_is_listed_in_part(tmp_path):
    for index in range(10):
        (tmp_path / f"{index}.jpg").touch()
    with pytest.raises(AimmatError, match=r"here lies 0\.jpg, .*7\.jpg and 2 more; give the path"):
        load_network(tmp_path)


def test_weights_of_other_switches_are_counted_and_named(tmp_path, net):
    other = models.build("aimnet", se=True, sa=False, width=0.25)
    save_network(tmp_path / "model.safetensors", other, CARD)
    expected, found = net.state_dict(), other.state_dict()
    missing, left = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    with pytest.raises(AimmatError) as caught:
        load_network(tmp_path)
    message = str(caught.value)
    assert (
        f"do not fit the network aimnet with the switches stated there: {len(missing)} missing ({missing[0]}" in message
    )
    assert f"{len(left)} not in the network ({', '.join(left[:3])}, ...)" in message
    assert "of another shape (" in message
    assert " instead of (" in message
    assert "\n" not in message


def test_a_card_must_name_its_network_and_be_plain(tmp_path, net):
    with pytest.raises(ValueError, match=r'card\["model"\] must be'):
        save_network(tmp_path / "a.safetensors", net, {"name": "aimnet"})
    with pytest.raises(ValueError, match="a card holds plain JSON values only"):
        save_network(tmp_path / "a.safetensors", net, CARD | {"folder": tmp_path})
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, net):
    (tmp_path / "file").touch()
    (tmp_path / "folder.safetensors" / "inside").mkdir(parents=True)
    for path in (tmp_path / "file" / "a.safetensors", tmp_path / "folder.safetensors"):
        with pytest.raises(AimmatError, match=re.escape(f"cannot write {path}: ")):
            save_network(path, net, CARD)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.safetensors"]
