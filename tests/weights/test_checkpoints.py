import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import aimmat
from aimmat import models
from aimmat.schema import AimmatError
from aimmat.weights import load_network, read_network, save_network

CARD = {
    "model": {"name": "aimnet", "se": False, "width": 0.125},
    "inference": {"name": "hybrid", "semantic_scale": 0.25, "matting_scale": 0.5},
    "sad": 43.92,
}
ONE = torch.ones(1)


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
    assert CARD.items() <= card.items()
    assert_same(found, net)
    assert os.listdir(tmp_path / "new") == ["model.safetensors"]


def test_the_card_is_json_in_the_metadata_of_the_file_and_says_what_the_network_does(tmp_path, net):
    save_network(tmp_path / "model.safetensors", net, CARD)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        card = json.loads(file.metadata()["aimmat"])
    assert card == CARD | {
        "protocol": "paper",
        "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "range": [0, 1]},
        "format": 1,
        "aimmat": aimmat.__version__,
    }
    save_network(tmp_path / "model.safetensors", net, card | {"aimmat": "0.0.1", "mine": [1, None]})
    assert load_network(tmp_path / "model.safetensors")[1] == card | {"mine": [1, None]}


def test_a_network_without_a_normalisation_says_nothing_of_one(tmp_path):
    save_network(tmp_path / "model.safetensors", torch.nn.Linear(2, 2), {"model": {"name": "aimnet"}})
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "normalisation" not in json.loads(file.metadata()["aimmat"])


def test_a_file_from_before_the_card_had_a_format_is_loaded(tmp_path, net):
    card = CARD | {"stage": "matting", "run": "demo"}
    save_file(net.state_dict(), tmp_path / "old.safetensors", {"format": "pt", "aimmat": json.dumps(card)})
    found, old = load_network(tmp_path / "old.safetensors")
    assert old == card
    assert_same(found, net)


def test_a_card_of_a_later_format_is_refused(tmp_path, net):
    path = tmp_path / "new.safetensors"
    save_file(net.state_dict(), path, {"aimmat": json.dumps(CARD | {"format": 2})})
    with pytest.raises(AimmatError, match=r"has a card of format 2, this aimmat reads 1; install a newer aimmat"):
        load_network(path)


@pytest.mark.parametrize("inference", ["hybrid", [1], {"scale": 0.25}])
def test_a_card_whose_inference_is_none_is_refused(tmp_path, net, inference):
    path = tmp_path / "a.safetensors"
    save_network(path, net, CARD | {"inference": inference})
    with pytest.raises(AimmatError, match=re.escape(f"has a card whose inference is {inference!r}; it must be")):
        load_network(path)


def test_what_no_network_uses_is_kept_beside_it(tmp_path, net):
    unused = {"resnet.fc.bias": torch.arange(3.0)}
    save_network(tmp_path / "model.safetensors", net, CARD, unused)
    found = read_network(tmp_path)
    assert_same(found.net, net)
    assert found.unused.keys() == unused.keys()
    assert torch.equal(found.unused["resnet.fc.bias"], torch.arange(3.0))
    assert (found.tensors, found.aliases) == (len(net.state_dict()) + 1, 0)


def test_a_protocol_that_is_asked_for_replaces_the_cards(tmp_path, net):
    save_network(tmp_path / "model.safetensors", net, CARD)
    kept, card = load_network(tmp_path)
    assert (kept.protocol, card["protocol"], "protocol" in card["inference"]) == ("paper", "paper", False)
    found, card = load_network(tmp_path, "release")
    assert (found.protocol, card["protocol"]) == ("release", "release")
    assert card["model"] == CARD["model"] | {"protocol": "release"}
    assert card["inference"] == CARD["inference"] | {"protocol": "release"}
    with pytest.raises(AimmatError, match="protocol must be paper or release, got 'realese'"):
        load_network(tmp_path, "realese")


def test_the_card_takes_the_protocol_of_its_network(tmp_path, net):
    model = CARD["model"] | {"protocol": "release"}
    save_network(tmp_path / "model.safetensors", net, CARD | {"model": model})
    found, card = load_network(tmp_path)
    assert (found.protocol, card["protocol"]) == ("release", "release")


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at, net: lightning(at / "a.ckpt", net, hyper_parameters={}), "does not say which network it holds"),
        (lambda at, net: lightning(at / "a.ckpt", net, state_dict={}), "missing (encoder (all 216), semantic (all "),
        (
            lambda at, net: torch.save(net.state_dict(), at / "a.pth") or at / "a.pth",
            "it has no card that names its network, and the names in it (encoder.stem.0.weight, ...) are those of no",
        ),
        (
            lambda at, net: save_file(net.state_dict(), at / "a.safetensors") or at / "a.safetensors",
            "it has no card that names its network",
        ),
        (
            lambda at, net: torch.save({"conv1.weight": ONE, "layer1.0.conv1.weight": ONE}, at / "r") or at / "r",
            "holds a ResNet backbone and no matting network; to start a training from it, set backbone.weights=",
        ),
    ],
)
def test_what_holds_no_network_is_named_in_one_sentence(tmp_path, net, make, message):
    path = make(tmp_path, net)
    with pytest.raises(AimmatError, match=re.escape(str(path)) + ".*" + re.escape(message)) as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


def test_weights_of_other_switches_are_all_named(tmp_path, net):
    other = models.build("aimnet", se=True, sa=False, width=0.125)
    del other.matting.head.bias
    other.semantic.head = torch.nn.Conv2d(8, 3, 1)
    save_network(tmp_path / "model.safetensors", other, CARD)
    with pytest.raises(AimmatError) as caught:
        load_network(tmp_path)
    assert str(caught.value) == (
        f"the weights in {tmp_path / 'model.safetensors'} do not fit the network aimnet with the card's switches: "
        "3 missing (attention (all 2), matting.head.bias); 10 not in the network (semantic.excites (all 10)); "
        "1 of another shape (semantic.head.weight (3, 8, 1, 1) instead of (3, 8, 3, 3))"
    )


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
