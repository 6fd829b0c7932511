"""How a network sees a picture of any size: shrunk once (Resize), once per decoder (Hybrid), or in windows (Tile)."""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, cast, runtime_checkable

import torch
from torch import Tensor, nn

from aimmat.functional.fusion import fuse, keep_known, likeliest_class
from aimmat.functional.resize import resize
from aimmat.schema import AimmatError, Prediction, Protocol, is_release

Strategy = Callable[[nn.Module, Tensor], Prediction]


@runtime_checkable
class _Askable(typing.Protocol):
    """A network whose decoders can be asked one at a time."""

    def semantics(self, image: Tensor) -> Tensor: ...

    def details(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Resize:
    """Shrink the picture, run the network once and stretch what it says back to the picture's size.

    Args:
        scale: sides of the network's input over sides of the picture; the released AIM code uses 1/4.
        size: side of a square network input in pixels, whatever the picture's shape, as in the paper's DUTS
            pre-training (320); None uses `scale`.
        max_side: longest side that the network sees, in pixels.
        protocol: "release" resizes and rounds sizes as the released AIM code does.

    Source:
        The RESIZE test of the released GFM and AIM code.
    """

    scale: float = 1 / 4
    size: int | None = None
    max_side: int = 1600
    protocol: Protocol = "paper"

    def __post_init__(self) -> None:
        is_release(self.protocol)
        _check_positive(self, "scale", "size", "max_side")

    def __call__(self, net: nn.Module, image: Tensor) -> Prediction:
        """Predict at the picture's own size.

        Args:
            net: gives a Prediction and states its `stride`.
            image: (B, 3, H, W) in [0, 1]; of a network with four input channels (B, 4, H, W), the fourth a trimap of
                0, 0.5 and 1, whose known pixels are the answer.

        Returns:
            The prediction, every map (B, *, H, W).
        """
        _check_image(net, image)
        stride = cast(int, net.stride)
        height, width = image.shape[-2:]
        if fixed := _fixed(net):
            seen = fixed
        elif self.size is None:
            seen = working_size(height, width, self.scale, stride, self.max_side, self.protocol)
        else:
            seen = working_size(self.size, self.size, 1, stride, self.max_side, self.protocol)
        prediction = _stretch(net(_shown(image, seen, self.protocol)), (height, width), self.protocol)
        return _keep_known(prediction, image)


@dataclass(frozen=True)
class Hybrid:
    """Take the semantic decoder's word from a smaller picture, the matting decoder's from a larger one, and fuse.

    Context is judged better when the whole subject fits the receptive field, detail when it is large. Both maps are
    resized to the picture's own size and fused there by equation 2. What is resized of the semantic decoder is the
    probability of each class, so a hard fusion follows the smooth contour where the winner changes and known pixels
    stay known. The released code resizes the winners' grey levels, 0, 128 and 255, instead and takes as known only
    what is still 0 or 255, which widens the transition by about a coarse pixel.

    A network without one of the two decoders, or whose parts cannot be taken apart, is run once, at `matting_scale`, as
    by Resize; one that is made for pictures of one size, at that.

    Args:
        semantic_scale: sides of the input for the semantic decoder over sides of the picture.
        matting_scale: the same for the matting decoder; None takes the protocol's own. The paper gives "1/3 and 1/4,
            respectively" and does not say which is which; the smaller goes to the semantic decoder, as in the released
            code. That is written for 1/4 and 1/2; its README also has figures for 1/4 and 1/3.
        max_side: longest side that the network sees, in pixels.
        fusion: how `functional.fuse` reads the classes, "hard" by the likeliest one, "soft" by their expected value.
        protocol: "release" resizes, rounds sizes and fuses as the released AIM code does.

    Source:
        AIM paper, sections 3.3 (equation 2) and 4.2; Li et al., GFM, IJCV 2022; release: core/test.py.
    """

    semantic_scale: float = 1 / 4
    matting_scale: float | None = None
    max_side: int = 1600
    fusion: Literal["hard", "soft"] = "hard"
    protocol: Protocol = "paper"

    def __post_init__(self) -> None:
        _check_positive(self, "semantic_scale", "matting_scale", "max_side")
        if self.fusion not in ("hard", "soft"):
            raise AimmatError(f'fusion must be "hard" or "soft", got {self.fusion!r}')
        if is_release(self.protocol) and self.fusion == "soft":
            raise AimmatError("the release's fusion is hard; set fusion=hard or protocol=paper of the strategy")

    def __call__(self, net: nn.Module, image: Tensor) -> Prediction:
        """Predict at the picture's own size.

        Args:
            net: gives a Prediction and states its `stride`.
            image: (B, 3, H, W) in [0, 1]; of a network with four input channels (B, 4, H, W), the fourth a trimap of
                0, 0.5 and 1, whose known pixels are the answer.

        Returns:
            The prediction, every map (B, *, H, W).
        """
        _check_image(net, image)
        stride = cast(int, net.stride)
        height, width = image.shape[-2:]
        matting_scale = self.matting_scale or (1 / 2 if is_release(self.protocol) else 1 / 3)
        fine_size = _fixed(net) or working_size(height, width, matting_scale, stride, self.max_side, self.protocol)
        coarse_size = working_size(height, width, self.semantic_scale, stride, self.max_side, self.protocol)

        if isinstance(net, _Askable) and coarse_size != fine_size:
            classes = net.semantics(_shown(image, coarse_size, self.protocol))
            details = net.details(_shown(image, fine_size, self.protocol))
        else:
            fine = net(_shown(image, fine_size, self.protocol))
            if fine.semantic is None or fine.matting is None or not getattr(net, "apart", True):
                return _keep_known(_stretch(fine, (height, width), self.protocol), image)
            coarse = fine if coarse_size == fine_size else net(_shown(image, coarse_size, self.protocol))
            classes, details = coarse.semantic, fine.matting

        semantic = _stretch_classes(classes, (height, width), self.protocol)
        matting = _stretch_alpha(details, (height, width), self.protocol)
        return _keep_known(Prediction(semantic, matting, fuse(semantic, matting, hard=self.fusion == "hard")), image)


@dataclass(frozen=True)
class Tile:
    """See a large picture's details in windows that overlap, its context at once and small, and fuse the two.

    What a window says fades over the overlap, so that none has an edge. A network without one of the two decoders, or
    whose parts cannot be taken apart, sees windows alone: it knows nothing of the rest of the picture there.

    Args:
        semantic_scale: sides of the input for the semantic decoder over sides of the picture.
        matting_scale: sides of what the windows are cut from over sides of the picture; no cap.
        window: side of a window in pixels of that, rounded down to a multiple of the network's stride; a network that
            takes one size only has windows of that.
        overlap: pixels that neighbouring windows share at least.
        max_side: longest side that the semantic decoder sees, in pixels.
        protocol: "release" resizes, rounds sizes and fuses as the released AIM code does, which has no such strategy.
    """

    semantic_scale: float = 1 / 4
    matting_scale: float = 1.0
    window: int = 1024
    overlap: int = 256
    max_side: int = 1600
    protocol: Protocol = "paper"

    def __post_init__(self) -> None:
        is_release(self.protocol)
        _check_positive(self, "semantic_scale", "matting_scale", "window", "overlap", "max_side")
        if self.overlap > self.window / 2:
            raise AimmatError(
                f"overlap of the strategy must be at most half its window, got {self.overlap} of {self.window}"
            )

    def __call__(self, net: nn.Module, image: Tensor) -> Prediction:
        """Predict at the picture's own size.

        Args:
            net: gives a Prediction and states its `stride`.
            image: (B, 3, H, W) in [0, 1], or with a trimap as for Hybrid.

        Returns:
            The prediction, every map (B, *, H, W).
        """
        _check_image(net, image)
        stride = cast(int, net.stride)
        height, width = image.shape[-2:]
        small = _fixed(net) or working_size(height, width, self.semantic_scale, stride, self.max_side, self.protocol)
        context = _shown(image, small, self.protocol)
        if isinstance(net, _Askable):
            classes: Tensor | None = net.semantics(context)
            details: Callable[[Tensor], Tensor] = net.details
        else:
            seen = net(context)
            apart = seen.semantic is not None and seen.matting is not None and getattr(net, "apart", True)
            classes = seen.semantic if apart else None
            details = lambda picture: net(picture).matting if apart else net(picture).alpha  # noqa: E731
        large = working_size(height, width, self.matting_scale, stride, sys.maxsize, self.protocol)
        side = max(self.window // stride, 1) * stride if _fixed(net) is None else stride
        matting = _windows(details, _shown(image, large, self.protocol), side, min(self.overlap, side // 2))
        matting = _stretch_alpha(matting, (height, width), self.protocol)
        if classes is None:
            return _keep_known(Prediction(None, None, matting), image)
        semantic = _stretch_classes(classes, (height, width), self.protocol)
        return _keep_known(Prediction(semantic, matting, fuse(semantic, matting, hard=True)), image)


def _windows(details: Callable[[Tensor], Tensor], picture: Tensor, side: int, overlap: int) -> Tensor:
    """(B, 1, H, W): what is said of each window, the mean of those that share a pixel, weighted by their ramps."""
    height, width = picture.shape[-2:]
    total = picture.new_zeros(len(picture), 1, height, width, dtype=torch.float32)
    weight = total.new_zeros(height, width)
    for top, tall in _starts(height, side, overlap):
        for left, wide in _starts(width, side, overlap):
            place = slice(top, top + tall), slice(left, left + wide)
            ramp = torch.outer(_ramp(top, tall, height, overlap), _ramp(left, wide, width, overlap)).to(total.device)
            total[(..., *place)] += details(picture[(..., *place)].contiguous()).float() * ramp
            weight[place] += ramp
    return total / weight


def _starts(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Where windows begin and how long they are, evenly spread.

    >>> _starts(100, 128, 32), _starts(300, 128, 32)
    ([(0, 100)], [(0, 128), (86, 128), (172, 128)])
    """
    if length <= side:
        return [(0, length)]
    steps = -(-(length - side) // max(side - overlap, 1))
    return [(round(k * (length - side) / steps), side) for k in range(steps + 1)]


def _ramp(start: int, size: int, length: int, overlap: int) -> Tensor:
    """Weights of a window along one side: they rise from an edge inside the picture over the overlap."""
    place = torch.arange(size) + 0.5
    weight = torch.ones(size)
    if start > 0:
        weight = torch.minimum(weight, place / overlap)
    if start + size < length:
        weight = torch.minimum(weight, (size - place) / overlap)
    return weight


def build_strategy(name: str, **options: Any) -> Strategy:
    """Make a strategy from its name and options, as a config or a checkpoint states them.

    Args:
        name: "resize", "hybrid" or "tile".
        options: the constructor arguments of Resize, Hybrid or Tile.

    Returns:
        A callable, strategy(net, image) -> Prediction.

    Raises:
        AimmatError: unknown name, unknown option, or a value out of range.

    >>> build_strategy("hybrid", matting_scale=0.5)
    Hybrid(semantic_scale=0.25, matting_scale=0.5, max_side=1600, fusion='hard', protocol='paper')
    """
    strategies: dict[str, type[Resize | Hybrid | Tile]] = {"resize": Resize, "hybrid": Hybrid, "tile": Tile}
    if name not in strategies:
        raise AimmatError(f"no inference strategy is called {name!r}; choose one of {', '.join(strategies)}")
    known = [field.name for field in fields(strategies[name])]
    if unknown := sorted(set(options) - set(known)):
        raise AimmatError(f"the strategy {name} has no option {', '.join(unknown)}; its options are {', '.join(known)}")
    return strategies[name](**options)


def _fixed(net: nn.Module) -> tuple[int, int] | None:
    """The only size of pictures that a network takes, if it has one."""
    size = cast(int | None, getattr(net, "size", None))
    return (size, size) if size else None


def working_size(
    height: int, width: int, scale: float, stride: int, max_side: int, protocol: Protocol = "paper"
) -> tuple[int, int]:
    """Size at which a network sees a picture: scaled, the long side capped, each side a multiple of the stride.

    Each side goes to the nearest multiple, at least one stride, so the aspect ratio is kept as far as that allows.

    Args:
        height, width: the picture's size in pixels.
        scale: wanted size over the picture's size.
        stride: what the network's input sides must be a multiple of.
        max_side: longest side in pixels.
        protocol: "release" rounds down, to whole pixels and then to a multiple, and caps each side on its own. Where
            that gives 0 pixels, and the released code fails, it is one stride.

    Returns:
        Height and width in pixels.

    Raises:
        AimmatError: an unknown protocol.

    >>> working_size(1080, 1620, 1 / 4, stride=32, max_side=1600)
    (256, 416)
    >>> working_size(4000, 6000, 1 / 2, stride=32, max_side=1600)
    (1056, 1600)
    >>> working_size(4000, 6000, 1 / 2, stride=32, max_side=1600, protocol="release")
    (1600, 1600)
    """
    longest = max(max_side // stride, 1) * stride
    if is_release(protocol):
        tall, wide = (min(max(int(side * scale) // stride, 1) * stride, longest) for side in (height, width))
        return tall, wide
    scale = min(scale, longest / max(height, width))
    tall, wide = (max(int(side * scale / stride + 0.5), 1) * stride for side in (height, width))
    return tall, wide


def resize_trimap(trimap: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a trimap so that a pixel is known only where all pixels that it is made of agree.

    Args:
        trimap: (B, 1, h, w), 0 background, 1 foreground, in between transition.
        size: (H, W) in pixels.

    Returns:
        (B, 1, H, W) of 0, 0.5 and 1.

    >>> resize_trimap(torch.tensor([[[[0.0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]]]]), (1, 6))
    tensor([[[[0.0000, 0.0000, 0.5000, 1.0000, 1.0000, 1.0000]]]])
    """
    if trimap.shape[-2:] == size:
        return trimap
    # A mean of zeros is 0 to the bit, and no other mean of values >= 0 is.
    others = torch.cat((trimap > 0, trimap < 1), dim=1).to(trimap)
    background, foreground = (resize(others, size) == 0).to(trimap).chunk(2, dim=1)
    return (1 - background + foreground) / 2


def _shown(image: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """What a network is shown of a picture: its colours, and its trimap if it comes with one."""
    if image.shape[1] == 3:
        return resize(image, size, protocol)
    return torch.cat((resize(image[:, :3], size, protocol), resize_trimap(image[:, 3:], size)), dim=1)


def _keep_known(prediction: Prediction, image: Tensor) -> Prediction:
    """The prediction of a picture that comes with a trimap, whose known pixels are the answer."""
    if image.shape[1] == 3:
        return prediction
    return prediction._replace(alpha=keep_known(prediction.alpha, image[:, 3:]))


def _stretch(prediction: Prediction, size: tuple[int, int], protocol: Protocol) -> Prediction:
    semantic, matting, alpha, _ = prediction
    return Prediction(
        None if semantic is None else _stretch_classes(semantic, size, protocol),
        None if matting is None else _stretch_alpha(matting, size, protocol),
        _stretch_alpha(alpha, size, protocol),
    )


def _stretch_classes(logits: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Resize the class probabilities, or the release's grey levels; returned as logarithms, which are logits again."""
    if is_release(protocol):
        label = likeliest_class(logits.float(), protocol)
        grey = resize(torch.tensor((0, 128 / 255, 1), device=label.device)[label], size, protocol)
        background, foreground = grey == 0, grey == 1
        probabilities = torch.cat([background, ~(background | foreground), foreground], dim=1).float()
    else:
        probabilities = resize(logits.float().softmax(dim=1), size)
    return probabilities.clamp_(min=torch.finfo(torch.float32).tiny).log_()


def _stretch_alpha(alpha: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Resize; rounding may lead a last digit out of [0, 1], so it is clamped."""
    return resize(alpha.float(), size, protocol).clamp(0, 1)


def _check_image(net: nn.Module, image: Tensor) -> None:
    channels = getattr(net, "input_channels", 3)
    if image.ndim != 4 or image.shape[1] != channels or image.numel() == 0 or not image.is_floating_point():
        fourth = ", the fourth a trimap" if channels == 4 else ""
        raise ValueError(
            f"image must be a float batch (B, {channels}, H, W) with values in [0, 1]{fourth}, got "
            f"{tuple(image.shape)} {image.dtype}; a bare ({channels}, H, W) picture becomes one with image[None]"
        )


def _check_positive(strategy: Resize | Hybrid | Tile, *names: str) -> None:
    for name in names:
        value = getattr(strategy, name)
        if name in ("size", "matting_scale") and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise AimmatError(f"{name} of the strategy must be a number above 0, got {value!r}")
