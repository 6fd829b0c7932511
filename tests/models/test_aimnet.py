from itertools import product

import pytest
import torch
import torch.nn.functional as F

from aimmat.models import AimNet, build, count_macs, count_parameters
from aimmat.schema import AimmatError

SWITCHES = [dict(zip(("mp", "se", "sa"), on, strict=True)) for on in product([False, True], repeat=3)]


def on_paper(**switches):
    """A network of the paper's size without its memory."""
    with torch.device("meta"):
        return AimNet(**switches)


def test_parameters_are_those_of_the_paper():
    net = on_paper()
    assert count_parameters(net) == 54_785_191
    # The release also holds ResNet's ImageNet classifier, which nothing uses: 512 x 1000 weights and 1000 biases.
    # The paper's "55.3M" counts it.
    assert count_parameters(net) + 512 * 1000 + 1000 == 55_298_191


@pytest.mark.parametrize(("size", "macs"), [(320, 30.5000e9), (512, 78.0657e9), (800, 190.5769e9)])
def test_multiply_accumulates_are_those_of_the_release(size, macs):
    # Counted on the released network with hooks on its convolutions and linear layers. The paper's 191.52 G at
    # 800 x 800 adds biases, batch normalisation, ReLU, pooling and upsampling as ptflops 0.6.4 counts them.
    assert count_macs(on_paper(), size) == pytest.approx(macs, abs=5e4)  # the last printed digit


def test_each_switch_takes_its_own_parameters_away():
    full = count_parameters(on_paper())
    # Two matrices C x C/16 in each of five blocks: C = 256, 128, 64, 64, 64.
    assert full - count_parameters(on_paper(se=False)) == 2 * (256 * 16 + 128 * 8 + 3 * 64 * 4) == 11_776
    assert full - count_parameters(on_paper(sa=False)) == 2 * 7 * 7 + 1
    assert full == count_parameters(on_paper(mp=False))  # only strides and pools differ


def test_the_linear_layers_cost_as_much_as_they_hold():
    assert count_macs(on_paper(), 320) - count_macs(on_paper(se=False), 320) == 11_776


def test_counting_leaves_the_network_as_it_was():
    net = AimNet(width=0.125).train()
    net.encoder.eval()  # frozen, say
    before = {key: value.clone() for key, value in net.state_dict().items()}
    count_macs(net, (64, 96))
    assert net.training
    assert net.matting.bridge.training
    assert not net.encoder.stem.training
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


# What the released network gives (core/network/AimNet.py at commit 48e3dc8, run on the CPU with torch 2.13) when its
# tensors are filled as below, in the order of our state_dict: the decoders' sigmoids and their fusion in the first
# row, at columns 0, 21, 42 and 63.
RELEASED = {
    "semantic": [
        [0.029517, 0.027245, 0.115808, 0.466777],
        [0.997559, 0.028376, 0.733430, 0.118735],
        [0.103589, 0.401729, 0.287265, 0.111158],
    ],
    "matting": [0.492298, 0.561925, 0.597293, 0.522374],
    "alpha": [0.492298, 1.0, 0.597293, 0.0],
}
HEADS = {"semantic.head.weight": 0.02, "matting.head.weight": 0.2}  # small enough that no sigmoid saturates


def test_outputs_are_those_of_the_release():
    generator = torch.Generator().manual_seed(0)
    net = AimNet().eval()
    with torch.no_grad():
        for key, value in net.state_dict().items():
            if value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator)
                if value.ndim > 1:
                    value.copy_(noise * HEADS.get(key, 1) * (2 / value[0].numel()) ** 0.5)
                else:
                    value.copy_(0.1 * noise + ("bias" not in key and "mean" not in key))
        prediction = net(torch.rand(1, 3, 64, 64, generator=generator))
    for name, row in {
        "semantic": prediction.semantic[0, :, 0, ::21].sigmoid(),
        "matting": prediction.matting[0, 0, 0, ::21],
        "alpha": prediction.alpha[0, 0, 0, ::21],
    }.items():
        # Measured 1.4e-6 apart; machines order float32 sums differently.
        torch.testing.assert_close(row, torch.tensor(RELEASED[name]), rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [0.01, 0.3])
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_combination_trains_a_step_and_has_no_dead_parameter(switches, width):
    torch.manual_seed(0)
    net = build("aimnet", width=width, **switches).train()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 64, 64, generator=generator)
    alpha = torch.rand(2, 1, 64, 64, generator=generator)
    classes = torch.randint(3, (2, 64, 64), generator=generator)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    prediction = net(image)
    loss = F.cross_entropy(prediction.semantic, classes) + F.l1_loss(prediction.matting, alpha)
    (loss + F.l1_loss(prediction.alpha, alpha)).backward()
    optimizer.step()

    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    changed = [not torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True)]
    assert all(changed), [name for (name, _), moved in zip(net.named_parameters(), changed, strict=True) if not moved]


def test_the_first_step_is_the_imagenet_normalisation():
    net = AimNet(width=0.125).eval()
    seen = []
    net.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1).expand(1, 3, 32, 32).clone()
    with torch.no_grad():
        net(image)
        net(image + torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1))
    torch.testing.assert_close(seen[0], torch.zeros(1, 3, 32, 32), rtol=0, atol=1e-6)  # float32 roundings
    torch.testing.assert_close(seen[1], torch.ones(1, 3, 32, 32), rtol=0, atol=1e-6)
    assert not {"mean", "std"} & set(net.state_dict())


def test_hard_fusion_takes_the_likeliest_class_and_soft_fusion_the_expected_one():
    hard, soft = AimNet(width=0.125).eval(), AimNet(width=0.125, fusion="soft").eval()
    soft.load_state_dict(hard.state_dict())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = hard(image), soft(image)
    label = a.semantic.argmax(dim=1, keepdim=True)
    assert torch.equal(a.alpha, torch.where(label == 1, a.matting, (label == 2).float()))
    probability = b.semantic.softmax(dim=1)
    unified = probability[:, 1:2] / 2 + probability[:, 2:]
    weight = 2 * (unified - 0.5).abs()  # equation 2
    torch.testing.assert_close(b.alpha, (1 - weight) * b.matting + weight * unified, rtol=0, atol=1e-6)


def gradients(net, image):
    prediction = net(image)
    weights = torch.randn(prediction.alpha.shape, generator=torch.Generator().manual_seed(2))
    ((prediction.matting + prediction.alpha) * weights).sum().backward()
    return prediction, {name: p.grad for name, p in net.named_parameters()}


def test_the_release_sees_the_same_and_learns_as_torchs_unpooling_teaches(monkeypatch):
    nets = {name: AimNet(width=0.125, protocol=name).train() for name in ("paper", "release")}
    nets["release"].load_state_dict(nets["paper"].state_dict())
    twin = AimNet(width=0.125).train()
    twin.load_state_dict(nets["paper"].state_dict())
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    paper, taught = gradients(nets["paper"], image)
    release, ours = gradients(nets["release"], image)

    def torchs(x, indices, size, losers):
        return F.max_unpool2d(x, indices, 2, output_size=size)

    monkeypatch.setattr("aimmat.models.aimnet.unpool", torchs)
    _, expected = gradients(twin, image)
    for a, b in zip(paper[:3], release[:3], strict=True):
        assert torch.equal(a, b)
    learnt = [name for name, gradient in expected.items() if gradient is not None]
    for name in learnt:
        torch.testing.assert_close(ours[name], expected[name])
    # What lies above the last unpooling never meets a loser; the bridge below all of them does.
    bridge = "matting.bridge.0.0.weight"
    assert torch.equal(ours["matting.head.weight"], taught["matting.head.weight"])
    assert not torch.allclose(ours[bridge], taught[bridge], rtol=1e-2)


def test_the_release_fuses_by_the_first_of_the_largest_sigmoids():
    net = AimNet(width=0.125, protocol="release").eval()
    with torch.no_grad():
        net.semantic.head.weight.zero_()
        net.semantic.head.bias.copy_(torch.tensor([-5.0, 30.0, 40.0]))  # in float32 both sigmoids are 1
        prediction = net(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(prediction.alpha, prediction.matting)


def test_autocast_computes_the_matte_in_float32():
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert {t.dtype for t in AimNet(width=0.125).eval()(image)[:3]} == {torch.float32}


def test_channels_last_gives_the_same_matte():
    torch.manual_seed(0)
    net = AimNet(width=0.125).eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(image).matting
        moved = net.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last)).matting
    # A rounding can move a pooling's maximum to its neighbour and with it a value, hence the looser bound.
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("switches", "sentence"),
    [
        ({"mp": "false"}, "aimnet's switch mp is true or false, got 'false'"),
        ({"sa": 1}, "aimnet's switch sa is true or false, got 1"),
        ({"width": 0}, "aimnet's width is a number above 0 and at most 4, got 0; 1 is the paper's"),
        ({"width": float("nan")}, "aimnet's width is a number above 0 and at most 4, got nan; 1 is the paper's"),
        ({"width": True}, "aimnet's width is a number above 0 and at most 4, got True; 1 is the paper's"),
        ({"fusion": "mean"}, "aimnet's fusion is hard or soft, got 'mean'"),
        ({"protocol": "aim"}, "protocol must be paper or release, got 'aim'"),
        (
            {"protocol": "release", "fusion": "soft"},
            "aimnet's fusion is hard in the release; set fusion=hard or protocol=paper",
        ),
    ],
)
def test_a_value_that_a_switch_cannot_have_is_refused_in_a_sentence(switches, sentence):
    with pytest.raises(AimmatError) as refused:
        build("aimnet", **switches)
    assert str(refused.value) == sentence
