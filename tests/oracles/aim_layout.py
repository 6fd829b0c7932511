"""The released AimNet from its description: the entries of its checkpoint, and what it computes from them.

Source:
    github.com/JizhiziLi/AIM at 48e3dc8, core/network; the paper's supplement, Table 2. Written down module by module
    under the release's names; nothing here knows ours.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F

CHANNELS = (64, 64, 128, 256, 512)


def resnet_shapes(channels=CHANNELS, classes=1000):
    """Name -> shape of a ResNet-34, in the order of its state dict."""
    shapes = {}
    _conv(shapes, "conv1", 3, channels[0], 7, bias=False)
    _norm(shapes, "bn1", channels[0])
    for layer, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        before, after = channels[layer - 1], channels[layer]
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            _conv(shapes, f"{name}.conv1", before if block == 0 else after, after, 3, bias=False)
            _norm(shapes, f"{name}.bn1", after)
            _conv(shapes, f"{name}.conv2", after, after, 3, bias=False)
            _norm(shapes, f"{name}.bn2", after)
            if block == 0 and layer > 1:
                _conv(shapes, f"{name}.downsample.0", before, after, 1, bias=False)
                _norm(shapes, f"{name}.downsample.1", after)
    if classes:
        shapes |= {"fc.weight": (classes, channels[4]), "fc.bias": (classes,)}
    return shapes


def aim_shapes(channels=CHANNELS, classes=1000, aliases=True):
    """Name -> shape of the released checkpoint, in the order of its state dict."""
    c0, c1, c2, c3, c4 = channels
    resnet = resnet_shapes(channels, classes)
    shapes = {f"resnet.{name}": shape for name, shape in resnet.items()}
    if aliases:
        for theirs, alias in (("conv1", "encoder0.0"), ("bn1", "encoder0.1"), ("layer1", "encoder1.0")):
            shapes |= {alias + n[len(theirs) :]: s for n, s in resnet.items() if n.startswith(f"{theirs}.")}
        for k in (2, 3, 4):
            shapes |= {f"encoder{k}{n[6:]}": s for n, s in resnet.items() if n.startswith(f"layer{k}.")}
    for stage in range(3):
        _conv(shapes, f"psp_module.stages.{stage}.1", c4, c4, 1, bias=False)
    _conv(shapes, "psp_module.bottleneck", 4 * c4, c4, 1)
    for k, after in ((4, c3), (3, c2), (2, c1), (1, c0)):
        _conv(shapes, f"psp{k}.0", c4, after, 3)
        _norm(shapes, f"psp{k}.1", after)
    plan = {4: (2 * c4, c4, c4, c3), 3: (2 * c3, c3, c3, c2), 2: (2 * c2, c2, c2, c1), 1: (2 * c1, c1, c1, c0)}
    plan |= {0: (2 * c0, c0, c0)}
    for k, steps in plan.items():
        _chain(shapes, f"decoder{k}_g", steps)
        if k == 0:
            _conv(shapes, "decoder0_g_spatial", 2, 1, 7)
        squeezed = max(4, steps[-1] // 16)  # below 64 channels, which the release never has, four as in aimmat
        shapes[f"decoder{k}_g_se.fc.0.weight"] = (squeezed, steps[-1])
        shapes[f"decoder{k}_g_se.fc.2.weight"] = (steps[-1], squeezed)
    _conv(shapes, "decoder_final_g", c0, 3, 3)
    _chain(shapes, "bridge_block", (c4,) * 4)
    for k, steps in plan.items():
        _chain(shapes, f"decoder{k}_l", steps)
    _conv(shapes, "decoder_final_l", c0, 1, 3)
    return shapes


def fill(shapes, seed=0):
    """Random tensors; an alias shares the memory of what it stands for."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        if name.startswith("encoder"):
            layer = {"0.0": "conv1", "0.1": "bn1", "1.0": "layer1"}.get(name[7:10])
            rest = f"{layer}{name[10:]}" if layer else f"layer{name[7:]}"
            tensors[name] = tensors[f"resnet.{rest}"]
        elif name.endswith("num_batches_tracked"):
            tensors[name] = torch.randint(1, 99999, (), generator=generator)
        elif name.endswith("running_var"):
            tensors[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            # Of these sizes, what flows through the layers neither grows nor vanishes.
            norm = len(shape) == 1 and name.endswith("weight")
            scale = 0.3 if len(shape) == 1 else (2 / torch.Size(shape[1:]).numel()) ** 0.5
            tensors[name] = torch.randn(shape, generator=generator) * scale + norm
    return tensors


def forward(weights, image):
    """Semantic logits and matting alpha of the released network, evaluation mode, for a normalised image."""

    def conv(name, x, dilation=1):
        weight = weights[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, weights.get(f"{name}.bias"), padding=padding, dilation=dilation)

    def norm(name, x):
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{name}.{kind}"] for kind in kinds))

    def chain(name, x, dilation=1, convolutions=3):
        for j in range(0, 3 * convolutions, 3):
            x = norm(f"{name}.{j + 1}", conv(f"{name}.{j}", x, dilation)).relu()
        return x

    def larger(x, scale=2):
        return F.interpolate(x, scale_factor=scale, mode="bilinear")

    def excited(name, x):
        hidden = F.linear(x.mean((2, 3)), weights[f"{name}.fc.0.weight"]).relu()
        return x * F.linear(hidden, weights[f"{name}.fc.2.weight"]).sigmoid()[:, :, None, None]

    def residual(layer, x):
        for block in range((3, 4, 6, 3)[layer - 1]):
            name = f"resnet.layer{layer}.{block}"
            y = norm(f"{name}.bn1", conv(f"{name}.conv1", x)).relu()
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y))
            if f"{name}.downsample.0.weight" in weights:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x))
            x = (x + y).relu()
        return x

    e = [norm("resnet.bn1", conv("resnet.conv1", image)).relu()]
    x, first = F.max_pool2d(e[0], 3, 2, 1, return_indices=True)
    where = [first]
    for layer in (1, 2, 3, 4):
        x, found = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        where.append(found)
        x = residual(layer, x)
        e.append(x)

    size = e[4].shape[-2:]
    pyramid = [
        F.interpolate(conv(f"psp_module.stages.{stage}.1", F.adaptive_avg_pool2d(e[4], grid)), size, mode="bilinear")
        for stage, grid in enumerate((1, 3, 5))
    ]
    psp = conv("psp_module.bottleneck", torch.cat([*pyramid, e[4]], 1)).relu()
    x = torch.cat([psp, e[4]], 1)
    for k in (4, 3, 2, 1):
        x = excited(f"decoder{k}_g_se", larger(chain(f"decoder{k}_g", x)))
        lead = norm(f"psp{k}.1", conv(f"psp{k}.0", psp)).relu()
        x = torch.cat([larger(lead, 2 ** (5 - k)), x], 1)
    x = larger(chain("decoder0_g", x, convolutions=2))
    attention = conv("decoder0_g_spatial", torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()
    semantic = conv("decoder_final_g", excited("decoder0_g_se", x))

    x = chain("bridge_block", e[4], dilation=2)
    for k in (4, 3, 2, 1):
        x = F.max_unpool2d(chain(f"decoder{k}_l", torch.cat([x, e[k]], 1)), where[k], 2, 2)
    x = chain("decoder0_l", torch.cat([F.max_unpool2d(x, where[0], 2, 2), e[0]], 1), convolutions=2)
    return semantic, conv("decoder_final_l", x + x * attention).sigmoid()


def _conv(shapes, name, before, after, kernel, bias=True):
    shapes[f"{name}.weight"] = (after, before, kernel, kernel)
    if bias:
        shapes[f"{name}.bias"] = (after,)


def _norm(shapes, name, channels):
    for kind in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.{kind}"] = (channels,)
    shapes[f"{name}.num_batches_tracked"] = ()


def _chain(shapes, name, steps):
    for j, (before, after) in enumerate(pairwise(steps)):
        _conv(shapes, f"{name}.{3 * j}", before, after, 3)
        _norm(shapes, f"{name}.{3 * j + 1}", after)
