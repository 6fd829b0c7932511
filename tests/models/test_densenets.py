import pytest
import torch

from aimmat.models import count_parameters
from aimmat.models.densenets import DENSENETS, DenseNet


def on_paper(kind, **switches):
    """An encoder of its full size without its memory."""
    with torch.device("meta"):
        return DenseNet(kind, **switches)


@pytest.mark.parametrize(("kind", "parameters"), [("densenet121", 6_953_856), ("densenet201", 18_092_928)])
def test_parameters_are_those_of_torchvision_without_its_classifier(kind, parameters):
    # torchvision states 7,978,856 and 20,013,928 with a classifier of 1,024 or 1,920 x 1,000 weights and 1,000 biases.
    whole = {"densenet121": 7_978_856, "densenet201": 20_013_928}[kind]
    net = on_paper(kind)
    assert count_parameters(net) == parameters == whole - (net.channels[-1] + 1) * 1000


@pytest.mark.parametrize(("kind", "layers"), [("densenet121", (6, 12, 24, 16)), ("densenet201", (6, 12, 48, 32))])
def test_names_are_those_of_torchvision(kind, layers):
    norm, names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"), {"features.conv0.weight"}
    names |= {f"features.{name}.{value}" for name in ("norm0", "norm5") for value in norm}
    for block, count in enumerate(layers, start=1):
        for layer in (f"features.denseblock{block}.denselayer{i}" for i in range(1, count + 1)):
            names |= {f"{layer}.conv{k}.weight" for k in (1, 2)}
            names |= {f"{layer}.norm{k}.{value}" for k in (1, 2) for value in norm}
        if block < 4:
            names |= {f"features.transition{block}.conv.weight"}
            names |= {f"features.transition{block}.norm.{value}" for value in norm}
    assert set(on_paper(kind).state_dict()) == names


def test_maps_have_the_channels_and_sizes_of_densenet_201():
    with torch.device("meta"):
        net = DenseNet("densenet201")
        seen = net(torch.empty(1, 3, 64, 96))
    assert {name: tuple(value.shape[1:]) for name, value in seen.items()} == {
        "relu0": (64, 32, 48),
        "pool0": (64, 16, 24),
        "denseblock1": (256, 16, 24),
        "transition1": (128, 8, 12),
        "denseblock2": (512, 8, 12),
        "transition2": (256, 4, 6),
        "denseblock3": (1792, 4, 6),
        "transition3": (896, 2, 3),
        "denseblock4": (1920, 2, 3),
        "norm5": (1920, 2, 3),
    }
    assert net.channels == (64, 256, 512, 1792, 1920)


@pytest.mark.parametrize("kind", DENSENETS)
def test_the_first_pool_can_be_left_out(kind):
    with torch.device("meta"):
        net = DenseNet(kind, pool=False)
        seen = net(torch.empty(1, 3, 64, 64))
    assert seen["pool0"].shape == seen["relu0"].shape
    assert seen["norm5"].shape == (1, net.channels[-1], 4, 4)
    assert net.state_dict().keys() == on_paper(kind).state_dict().keys()


def test_a_layer_keeps_what_came_in_and_adds_its_growth():
    net = DenseNet("densenet121", width=0.125).eval()
    x = torch.rand(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = net.features.denseblock1.denselayer1
    with torch.no_grad():
        out = layer(x)
        added = layer.conv2(layer.norm2(layer.conv1(layer.norm1(x).relu())).relu())
    assert out.shape == (1, 8 + 4, 4, 4)
    assert torch.equal(out[:, :8], x)
    torch.testing.assert_close(out[:, 8:], added, rtol=0, atol=0)  # the same operations


def test_no_map_is_changed_after_it_was_seen():
    # Activations work in place: what a later part does must not reach an earlier map.
    net = DenseNet("densenet121", width=0.125).eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    copies = {}
    for name, layer in net.features.named_children():
        layer.register_forward_hook(lambda _, __, out, name=name: copies.update({name: out.clone()}))
    with torch.no_grad():
        seen = net(image)
    for name in ("relu0", "pool0", "denseblock1", "denseblock2", "denseblock3", "denseblock4", "norm5"):
        assert torch.equal(seen[name], copies[name]), name


def test_a_narrow_one_has_a_growth_of_at_least_four():
    net = on_paper("densenet121", width=0.0625)
    assert net.features.denseblock1.denselayer1.conv2.out_channels == 4
    assert net.channels[0] == 4
