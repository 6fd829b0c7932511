import re
from pathlib import Path
from runpy import run_path

import pytest
import torch

from aimmat import models
from aimmat.schema import AimmatError
from aimmat.weights.checkpoints import assemble
from aimmat.weights.files import Content
from aimmat.weights.released import AIM, CLASSIFIER, RESNET, from_aim, is_resnet, recognise, rename, to_aim
from aimmat.weights.releases import RELEASES

LAYOUT = run_path(str(Path(__file__).parents[1] / "oracles" / "aim_layout.py"))
NARROW = (4, 4, 8, 16, 32)  # channels at width 1/16
AT = Path("aim.pth")


@pytest.fixture(scope="module")
def net():
    return models.build("aimnet", width=1 / 16, protocol="release").eval()


@pytest.fixture
def narrow():
    """A released checkpoint with narrow layers and no classifier, whose size is fixed."""
    return LAYOUT["fill"](LAYOUT["aim_shapes"](NARROW, classes=0))


def test_the_description_gives_the_counts_that_were_measured_on_the_released_code():
    shapes = LAYOUT["aim_shapes"]()
    aliases = [name for name in shapes if re.match(r"encoder\d\.", name)]
    assert (len(shapes), len(aliases), len(shapes) - len(aliases)) == (700, 216, 484)
    numbers = {
        name: torch.Size(shape).numel()
        for name, shape in shapes.items()
        if name not in aliases and not re.search("running_|num_batches", name)
    }
    assert sum(numbers.values()) == 55_298_191  # the paper's 55.3 M
    assert {f"resnet.{name}": shape for name, shape in CLASSIFIER.items()}.items() <= shapes.items()


def test_every_tensor_has_its_released_name_in_the_released_order(net):
    canonical = LAYOUT["aim_shapes"](NARROW, classes=0, aliases=False)
    names = rename(net.state_dict(), AIM)
    assert list(names.values()) == list(canonical)
    assert {theirs: tuple(net.state_dict()[ours].shape) for ours, theirs in names.items()} == canonical
    resnet = LAYOUT["resnet_shapes"](NARROW, classes=0)
    assert list(rename(net.encoder.state_dict(), RESNET).values()) == list(resnet)


def test_an_imported_network_computes_what_the_release_computes(net, narrow):
    net.load_state_dict(from_aim(AT, narrow, net.state_dict()).weights)
    image = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net(image)
        semantic, matting = LAYOUT["forward"](narrow, (image - net.mean) / net.std)
    assert found.semantic.std() > 0.1  # an exchange of two layers would show
    assert found.matting.std() > 0.01
    # Fifty layers in float32, and the excitation once before the upsampling and once behind it.
    torch.testing.assert_close(found.semantic, semantic, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.matting, matting, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dropped", ["encoder", "resnet"])
def test_either_name_of_the_encoder_is_enough(net, narrow, dropped):
    both = from_aim(AT, narrow, net.state_dict())
    one = from_aim(AT, {n: v for n, v in narrow.items() if not n.startswith(dropped)}, net.state_dict())
    assert (both.aliases, one.aliases) == (216, 216 if dropped == "resnet" else 0)
    assert one.weights.keys() == both.weights.keys() == net.state_dict().keys()
    assert all(torch.equal(one.weights[name], value) for name, value in both.weights.items())


def test_counters_of_batches_that_old_files_lack_are_zero(net, narrow):
    old = {name: value for name, value in narrow.items() if not name.endswith("num_batches_tracked")}
    assert len(narrow) - len(old) == 71 + 36  # under their own names, and the encoder's once more
    weights = from_aim(AT, old, net.state_dict()).weights
    counters = [value for name, value in weights.items() if name.endswith("num_batches_tracked")]
    assert len(counters) == 71
    assert all(counter == 0 and counter.dtype == torch.int64 for counter in counters)


def test_every_fault_is_named_in_one_line(net, narrow):
    for name in [name for name in narrow if name.startswith("psp4.")]:
        del narrow[name]
    del narrow["decoder_final_g.bias"], narrow["resnet.bn1.weight"], narrow["encoder0.1.weight"]
    narrow["decoder2_l.0.weight"] = torch.zeros(8, 16, 1, 1)
    narrow["decoder2_l.1.bias"] = torch.zeros(8, dtype=torch.int64)
    narrow["refiner.0.weight"], narrow["refiner.0.bias"], narrow["loss"] = (
        torch.zeros(1),
        torch.zeros(1),
        torch.ones(()),
    )
    narrow["encoder1.0.0.bn1.bias"] = narrow["encoder1.0.0.bn1.bias"].clone().fill_(7)
    narrow["encoder0.0.weight"] = narrow["encoder0.0.weight"].half()
    with pytest.raises(AimmatError) as caught:
        from_aim(AT, narrow, net.state_dict())
    assert str(caught.value) == (
        "the weights in aim.pth do not fit the AimNet of the released AIM code: "
        "9 missing (resnet.bn1.weight, psp4 (all 7), decoder_final_g.bias); "
        "3 not in the network (refiner (all 2), loss); "
        "2 of another shape (decoder2_l.0.weight (8, 16, 1, 1) instead of (8, 16, 3, 3), "
        "decoder2_l.1.bias (8,) of integers instead of (8,)); "
        "2 aliases that differ (encoder0.0.weight from resnet.conv1.weight, "
        "encoder1.0.0.bn1.bias from resnet.layer1.0.bn1.bias)"
    )


def test_aliases_agree_when_their_bits_do(net, narrow):
    for name in ("resnet.bn1.bias", "encoder0.1.bias"):
        narrow[name] = torch.full((4,), torch.nan)
    assert from_aim(AT, narrow, net.state_dict()).aliases == 216
    narrow["encoder0.1.bias"] = torch.nextafter(narrow["encoder0.1.weight"], torch.ones(4))
    with pytest.raises(AimmatError, match=r"1 aliases that differ \(encoder0\.1\.bias from resnet\.bn1\.bias\)$"):
        from_aim(AT, narrow, net.state_dict())


def test_a_classifier_of_another_shape_is_a_fault(net, narrow):
    narrow |= {"resnet.fc.weight": torch.zeros(10, 512), "resnet.fc.bias": torch.zeros(1000)}
    with pytest.raises(AimmatError, match=r"1 of another shape \(resnet\.fc\.weight \(10, 512\) instead of"):
        from_aim(AT, narrow, net.state_dict())
    narrow["resnet.fc.weight"] = torch.zeros(1000, 512)
    assert list(from_aim(AT, narrow, net.state_dict()).unused) == ["resnet.fc.weight", "resnet.fc.bias"]


def test_layouts_are_told_apart_by_their_names(net, narrow):
    resnet = LAYOUT["resnet_shapes"](NARROW)
    assert [recognise(names) is not None for names in (narrow, resnet, net.state_dict())] == [True, False, False]
    assert [is_resnet(names) for names in (narrow, resnet, net.state_dict())] == [False, True, False]


def test_a_network_that_the_layout_cannot_hold_is_refused(net):
    with torch.device("meta"):
        bare = models.build("aimnet", mp=False, se=False, sa=False)
    for other, message in (
        (net, "this one has width=0.0625; write .safetensors instead"),
        (bare, "this one has mp=false, se=false, sa=false;"),
        (torch.nn.Linear(2, 2), "the released layout holds an AimNet, got Linear;"),
    ):
        with pytest.raises(AimmatError, match=re.escape(message)):
            to_aim(other)


def test_the_card_of_a_release_says_how_it_was_tested_and_where_it_is_from():
    content = Content(LAYOUT["fill"](LAYOUT["aim_shapes"]()), None)
    _, card, *_ = assemble(Path("models") / "aim.pth", content)
    assert card["model"] == {"name": "aimnet", "mp": True, "se": True, "sa": True, "width": 1.0, "protocol": "release"}
    assert card["inference"] == {
        "name": "hybrid",
        "semantic_scale": 1 / 4,
        "matting_scale": 1 / 3,
        "protocol": "release",
    }
    assert (card["protocol"], card["source"]) == (
        "release",
        "aim.pth, in the layout of the AimNet of the released AIM code",
    )
    named = assemble(Path("aim.pth"), content, RELEASES["aim-matting"]).card
    assert named["metrics"]["AIM-500, hybrid 1/4 + 1/3"]["sad"] == 41.72  # what its inference reproduces
    assert named["licence"] == "MIT"
    assert named["source"].startswith("aim-matting: https://")
