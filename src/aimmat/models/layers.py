"""The blocks that the networks are built from, and the unpooling that knows who wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.schema import AimmatError, Batch

_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch 2.6 has not the first
_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]


def scaled(channels: int, width: float) -> int:
    """Number of channels of a narrower or wider network.

    Args:
        channels: number at width 1.
        width: factor, above 0.

    Returns:
        channels * width, rounded, at least 4: fewer do not carry three classes and a bias.

    >>> scaled(64, 1.0), scaled(64, 0.125), scaled(64, 0.01)
    (64, 8, 4)
    """
    return max(4, round(channels * width))


def check_width(name: str, width: float) -> None:
    """Refuse a width that no network can have.

    Raises:
        AimmatError: it is no number above 0 and at most 4.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0 < width <= 4:
        raise AimmatError(f"{name}'s width is a number above 0 and at most 4, got {width!r}; 1 is the paper's")


class Network(nn.Module):
    """What every network here states: the multiple that sides must have, and how many channels its input has.

    `forward` maps an image, (B, input_channels, H, W) in [0, 1], to a schema.Prediction; normalisation is its own
    first step.
    """

    stride: int
    input_channels: int = 3
    apart: bool = True  # whether semantic and matting may come from pictures of two sizes, and be fused after
    size: int | None = None  # side of the only square pictures that it takes; strategies show it those
    trainable: bool = True

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # The ImageNet statistics that pretrained encoders expect, RGB in [0, 1].
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def inputs(self, batch: Batch) -> Tensor:
        """What of a batch with its truth the network is shown: the image, unless it needs more.

        Returns:
            (B, input_channels, H, W) in [0, 1].
        """
        return batch["image"]

    def backbones(self) -> dict[str, nn.Module]:
        """Encoders that can start from weights trained elsewhere: torchvision's name of the network, and the module
        whose tensors have torchvision's names; empty where there is none.
        """
        return {}

    def normalise(self, image: Tensor) -> Tensor:
        """RGB in [0, 1] as ImageNet's encoders expect it."""
        return (image - self.mean) / self.std

    def check(self, image: Tensor) -> None:
        """Refuse what the network cannot take.

        Args:
            image: what should be (B, input_channels, H, W), floating point, H and W multiples of the stride.

        Raises:
            TypeError: image is not floating point.
            ValueError: image has another number of dimensions or channels, or other sides.
        """
        if not image.is_floating_point():
            raise TypeError(
                f"image must be floating point in [0, 1], got {image.dtype}; an 8-bit one becomes so with image / 255"
            )
        if image.ndim != 4 or image.shape[1] != self.input_channels:
            raise ValueError(
                f"image must be (B, {self.input_channels}, H, W), got {tuple(image.shape)}; "
                f"a single ({self.input_channels}, H, W) image becomes one with image[None]"
            )
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride or not height or not width:
            padded = [max(-(-side // self.stride), 1) * self.stride for side in (height, width)]
            raise ValueError(
                f"the sides of an image must be multiples of {self.stride}, got {height} x {width}; "
                f"pad it to {padded[0]} x {padded[1]}"
            )


def conv_bn_relu(
    in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1, bias: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU; at stride 1 the size stays.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel: side of the kernel, odd.
        stride: step of the convolution.
        dilation: distance between the kernel's taps.
        bias: a bias before batch normalisation changes nothing; the released weights hold one in both decoders.

    Returns:
        (B, in, H, W) -> (B, out, H / stride, W / stride), values >= 0.
    """
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def conv_stack(*channels: int, dilation: int = 1) -> nn.Sequential:
    """A chain of 3x3 conv_bn_relu: conv_stack(1024, 512, 512, 256) holds three."""
    return nn.Sequential(*(conv_bn_relu(before, after, dilation=dilation) for before, after in pairwise(channels)))


def upsample(x: Tensor, scale: int = 2) -> Tensor:
    """Bilinear enlargement of (B, C, H, W) by a whole factor, corners not aligned as in the release."""
    return F.interpolate(x, scale_factor=float(scale), mode="bilinear", align_corners=False)


class SqueezeExcite(nn.Module):
    """Weigh channels by what the whole map shows (SE).

    The bottleneck is a sixteenth of the channels, at least 4.

    Source:
        Hu et al., CVPR 2018; AIM supplement, Table 2, rows SE_0 to SE_4.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(4, channels // 16), bias=False)
        self.excite = nn.Linear(self.squeeze.out_features, channels, bias=False)
        # What comes in is >= 0 (a mean after ReLU): so no hidden unit starts dead, where four random ones do in one
        # of sixteen networks.
        self.squeeze.weight.data.abs_()

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of (B, C, H, W) by its own factor in (0, 1)."""
        mean = x.permute(0, 2, 3, 1).flatten(1, 2).mean(dim=1)  # its gradient is channels-last, as those it joins
        weight: Tensor = self.excite(F.relu(self.squeeze(mean))).sigmoid()  # (B, C)
        return x * weight[:, :, None, None]


class SpatialAttention(nn.Module):
    """Where to look: one map from the mean and the maximum over channels (SPA).

    Source:
        AIM paper, section 3.3; supplement, Table 2, row SPA, whose missing sigmoid text and release have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), values in (0, 1)."""
        pixels = x.permute(0, 2, 3, 1)  # so the gradient is channels-last, as those it joins
        summary = torch.stack((pixels.mean(dim=-1), pixels.max(dim=-1).values), dim=1)
        attention: Tensor = self.conv(summary).sigmoid()
        return attention


class PyramidPooling(nn.Module):
    """Context at several scales: means over grids of some cells beside the map itself (PPM).

    Args:
        channels: channels in, and of each scale.
        out_channels: channels out; None: as in.
        grids: cells along a side, of each scale.
        align_corners: how the scales are enlarged.

    Source:
        Zhao et al., CVPR 2017; AIM supplement, Table 2, row PPM. The release puts neither batch normalisation
        nor ReLU behind the scales' 1x1 convolutions.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        grids: tuple[int, ...] = (1, 3, 5),
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.grids, self.align_corners = grids, align_corners
        self.scales = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in grids)
        self.merge = nn.Conv2d((len(grids) + 1) * channels, out_channels or channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_channels, H, W), values >= 0."""
        context = [
            F.interpolate(
                scale(F.adaptive_avg_pool2d(x, grid)), x.shape[-2:], mode="bilinear", align_corners=self.align_corners
            )
            for grid, scale in zip(self.grids, self.scales, strict=True)
        ]
        return F.relu(self.merge(torch.cat((*context, x), dim=1)))


def unpool(x: Tensor, indices: Tensor, output_size: tuple[int, int], *, losers: bool = False) -> Tensor:
    """Put each pooled value back where its maximum was found, zeros elsewhere.

    Windows of 3x3 at stride 2 overlap, so several of them can name one pixel: the last in row-major order wins, which
    is what `max_unpool2d` does on the CPU (and leaves undefined on CUDA). Only the winner gets a gradient, on every
    device: the others do not appear in the result, so theirs is zero.

    Args:
        x: (B, C, h, w), what to put back.
        indices: (B, C, h, w) int64, as `max_pool2d(..., kernel_size=3, stride=2, padding=1, return_indices=True)`
            gives them: positions in the flattened H x W plane. Windows that do not overlap are welcome too.
        output_size: (H, W), the size that was pooled.
        losers: True hands the gradient of a pixel to every value that named it, as the backward of `max_unpool2d` and
            with it the release does: not the gradient of the result, but every value learns. More than a third of a
            random map's values lose.

    Returns:
        (B, C, H, W), the same bits on every device, under deterministic algorithms, when compiled and when exported.

    Raises:
        ValueError: x and indices differ in shape.

    Source:
        AIM supplement, Table 2, rows MU_0 to MU_4.

    >>> pooled, indices = F.max_pool2d(torch.eye(4)[None, None], 3, 2, 1, return_indices=True)
    >>> unpool(pooled, indices, (4, 4))[0, 0]
    tensor([[1., 0., 0., 0.],
            [0., 1., 0., 0.],
            [0., 0., 0., 0.],
            [0., 0., 0., 0.]])
    """
    if _is_exporting() or _is_tracing():
        return _exported_unpool(x, indices, output_size)
    if x.shape != indices.shape:
        raise ValueError(
            f"x and indices must have one shape, got {tuple(x.shape)} and {tuple(indices.shape)}; "
            f"the indices are those of the max-pool that this unpooling undoes"
        )
    unpooled: Tensor = _Unpool.apply(x, indices, output_size, losers)  # type: ignore[no-untyped-call]
    return unpooled


class _Unpool(torch.autograd.Function):
    """One way forward, and two rules back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, output_size: tuple[int, int], losers: bool) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.losers, ctx.last = losers, x.is_contiguous(memory_format=torch.channels_last)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            # Whoever shares a pixel writes the winner's value: then the order of writing does not matter. Eager on a
            # CPU, the pixels of a plane are written in turn, however many threads share the planes.
            value = x.clone()
            for earlier, later in _neighbours(indices):
                value[earlier] = torch.where(indices[earlier] == indices[later], x[later], value[earlier])
            x = value
        layout = torch.channels_last if ctx.last else torch.contiguous_format
        unpooled = torch.empty(*x.shape[:2], *output_size, dtype=x.dtype, device=x.device, memory_format=layout).zero_()
        pixels = _pixels(unpooled, ctx.last)  # a view
        pixels.scatter_(2 - ctx.last, _pixels(indices, ctx.last), _pixels(x, ctx.last))
        return unpooled

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (indices,) = ctx.saved_tensors
        taken = _pixels(grad, ctx.last).gather(2 - ctx.last, _pixels(indices, ctx.last))
        if ctx.last:
            taken = taken.mT
        taken = taken.view(indices.shape)
        if ctx.losers:
            return taken, None, None, None
        beaten = torch.zeros_like(indices, dtype=torch.bool)
        for earlier, later in _neighbours(indices):
            beaten[earlier] |= indices[earlier] == indices[later]
        return taken.masked_fill(beaten, 0), None, None, None


def _exported_unpool(x: Tensor, indices: Tensor, output_size: tuple[int, int]) -> Tensor:
    """The way forward in operators that every runtime has: no autograd function, nothing written into a slice."""
    values, places = F.pad(x, (1, 1, 0, 1)), F.pad(indices, (1, 1, 0, 1), value=-1)
    won = x
    for row in (0, 1):
        for column in (-1, 0, 1):
            if (row, column) > (0, 0):  # a later neighbour; the last of them wins
                there = ..., slice(row, row - 1 or None), slice(1 + column, column - 1 or None)
                won = torch.where(places[there] == indices, values[there], won)
    if _is_tracing():  # a new plane would be bound to the device that was traced on
        unpooled: Tensor = torch._C._nn.max_unpool2d(won, indices, output_size)  # type: ignore[attr-defined]
        return unpooled
    plane = x.new_zeros(x.shape[0], x.shape[1], output_size[0] * output_size[1])
    return plane.scatter(2, indices.flatten(2), won.flatten(2)).view(x.shape[0], x.shape[1], *output_size)


def _pixels(maps: Tensor, last: bool) -> Tensor:
    """Maps as (B, C, H * W), or as (B, H * W, C) where channels are last in memory too: either way in its order."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2) if last else maps.flatten(2)


def _neighbours(pooled: Tensor) -> Iterator[tuple[Any, Any]]:
    """Pairs of slices: cells, and the later neighbour whose 3x3 window overlaps theirs; the last neighbour last."""
    h, w = pooled.shape[-2:]
    for row, column in ((0, 1), (1, -1), (1, 0), (1, 1)):
        left, right = max(-column, 0), w - max(column, 0)
        yield (..., slice(h - row), slice(left, right)), (..., slice(row, h), slice(left + column, right + column))


def init_weights(net: nn.Module) -> None:
    """Weights for training from scratch: He's for convolutions, ones and zeros for batch normalisation.

    Args:
        net: changed in place. Linear layers keep torch's own rule; biases become 0.

    Source:
        He et al., ICCV 2015 (normal, fan out), as ResNet is usually started.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
