"""What an exported file computes: a network, or a whole strategy around it, from one image to its maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aimmat.functional.fusion import fuse
from aimmat.inference import Hybrid, Strategy
from aimmat.models.layers import Network
from aimmat.schema import AimmatError, Prediction

OUTPUTS = ("semantic", "matting", "alpha")
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Graph:
    """One image, (B, C, H, W) in [0, 1], to the maps that `names` lists, each (B, *, H, W)."""

    module: nn.Module  # gives a tuple
    names: tuple[str, ...]  # of OUTPUTS, alpha last
    channels: int  # C
    multiple: int  # of H and W
    size: Size | None  # the only H and W; None: they are free

    def example(self) -> Tensor:
        """An image to follow the computation with: its sides differ from each other and from all channel counts."""
        height, width = self.size or (max(self.multiple * 2, 264), max(self.multiple * 3, 296))
        if not self.size:
            height, width = (side // self.multiple * self.multiple for side in (height, width))
        return torch.rand(2, self.channels, height, width, generator=torch.Generator().manual_seed(0))


class Maps(nn.Module):
    """A network's prediction as a tuple, of a picture as it comes or as a strategy shows it."""

    def __init__(self, net: Network, names: tuple[str, ...], strategy: Strategy | None = None) -> None:
        super().__init__()
        self.net, self.names, self.strategy = net, names, strategy

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) -> one map for each name."""
        prediction = self.net(image) if self.strategy is None else self.strategy(self.net, image)
        return tuple(getattr(prediction, name) for name in self.names)


class Fusion(nn.Module):
    """Equation 2 as a module, which can be traced."""

    def __init__(self, hard: bool) -> None:
        super().__init__()
        self.hard = hard

    def forward(self, semantic: Tensor, matting: Tensor) -> Tensor:
        """(B, 3, H, W) and (B, 1, H, W) -> alpha."""
        return fuse(semantic, matting, self.hard)


class FreeHybrid(nn.Module):
    """`inference.Hybrid` under the paper's protocol for pictures of any size: the two working sizes are computed in
    the graph, by the same steps in float64. Written so that TorchScript can compile it too.
    """

    def __init__(self, maps: nn.Module, fusion: nn.Module, strategy: Hybrid, stride: int) -> None:
        super().__init__()
        self.maps, self.fusion = maps, fusion
        self.semantic_scale, self.matting_scale = strategy.semantic_scale, strategy.matting_scale or 1 / 3
        self.stride, self.longest = stride, max(strategy.max_side // stride, 1) * stride

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> semantic, matting and alpha at the same size."""
        size = [image.shape[2], image.shape[3]]
        matting = self.maps(self.shown(image, self.matting_scale))[1]
        semantic = self.maps(self.shown(image, self.semantic_scale))[0]
        semantic = F.interpolate(semantic.softmax(dim=1), size, mode="bilinear", antialias=True)
        semantic = semantic.clamp(min=1.1754943508222875e-38).log()  # float32's least normal number
        matting = F.interpolate(matting, size, mode="bilinear", antialias=True).clamp(0, 1)
        return semantic, matting, self.fusion(semantic, matting)

    def shown(self, image: Tensor, scale: float) -> Tensor:
        """The picture at its working size, see `inference.working_size`."""
        sides = torch.stack(
            (
                torch.scalar_tensor(image.shape[2], dtype=torch.float64),
                torch.scalar_tensor(image.shape[3], dtype=torch.float64),
            )
        )
        scales = (self.longest / sides.max()).clamp(max=scale)
        cells: list[int] = (sides * scales / self.stride + 0.5).floor().clamp(min=1).long().tolist()
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            for side in cells:  # what torch.export must know of a size that is computed
                torch._check(side >= 1)  # type: ignore[no-untyped-call]
        size = [self.stride * side for side in cells]
        return F.interpolate(image, size, mode="bilinear", antialias=True)


def graph_of(net: Network, strategy: Strategy | None = None, size: Size | None = None) -> Graph:
    """The graph that is exported, in evaluation mode.

    Args:
        net: the network.
        strategy: None is the network alone, whose image has sides that are multiples of its stride.
        size: the only (H, W) of the image; None leaves them free.

    Raises:
        AimmatError: the strategy cannot be exported, for this network or for free sizes.
    """
    net = net.eval()
    stride, channels = net.stride, net.input_channels
    with torch.no_grad():
        prediction: Prediction = net(torch.zeros(1, channels, 4 * stride, 4 * stride))
    names = tuple(name for name in OUTPUTS if getattr(prediction, name) is not None)
    if strategy is None:
        if size is not None and (size[0] % stride or size[1] % stride):
            raise AimmatError(f"the sides of the network's image are multiples of {stride}, got {size[0]}x{size[1]}")
        # U2-Net takes any sides by rounding odd ones up, which torch.export cannot follow where they are free.
        return Graph(Maps(net, names), names, channels, stride if stride > 1 or size else 32, size)
    if channels != 3 or names != OUTPUTS or not getattr(net, "apart", True):
        raise AimmatError("the hybrid strategy takes a network with two decoders; export this one alone")
    if size is not None:
        return Graph(Maps(net, names, strategy), names, channels, 1, size)
    if cast(Hybrid, strategy).protocol == "release":
        raise AimmatError(
            "the release's hybrid strategy is exported for one size of picture only, since it rounds and resizes by "
            "rules that no runtime has; give --size HxW, or --protocol paper for any size"
        )
    fusion = Fusion(cast(Hybrid, strategy).fusion == "hard")
    return Graph(FreeHybrid(Maps(net, names), fusion, cast(Hybrid, strategy), stride), names, channels, 1, None)
