"""AimNet as it predicts: the same numbers up to rounding, in less time and memory; it cannot be trained or saved."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aimmat.functional.fusion import fuse
from aimmat.models.aimnet import AimNet
from aimmat.models.encoders import Features
from aimmat.models.layers import Network, unpool, upsample
from aimmat.schema import Prediction

MAX_MEMORY = 450  # MiB for the maps of a band: in float32 and at width 1 those of 640 x 640 pixels
STEP = 32  # a band's rows are a multiple of it
HALO = 8  # rows beside a band that its pooled values need: 3 of the stem, the rest of the pooling and its undoing
MARGIN = 3  # rows beside a band that its alpha needs: 1 of each of the last three convolutions


class FastAimNet(Network):
    """An AimNet's weights in the form that a CPU is fastest with.

    Batch normalisation is folded into the convolutions, and channels are last in memory. Each decoder can be asked
    alone, which leaves out what only the other one needs. Maps of the picture's full size, most of the network's
    memory, exist for a band of rows at a time; the rows beside a band that its values depend on are computed again, so
    no value depends on where the bands are.

    Args:
        net: whose weights are copied.
        dtype: of the arithmetic, torch.float32 or torch.bfloat16; predictions are float32.
        max_memory: MiB for the maps of a band, from which follow its rows; they are 32 at least.
    """

    stride = AimNet.stride

    def __init__(self, net: AimNet, dtype: torch.dtype = torch.float32, max_memory: float = MAX_MEMORY) -> None:
        super().__init__()
        self.hard, self.protocol, self.dtype = net.hard, net.protocol, dtype
        # Of a pixel: E_0, the unpooled map, both side by side, and E_0's maxima, a quarter as many, in int64.
        self.band = int(max_memory * 2**20 / (net.encoder.channels[0] * (4 * dtype.itemsize + 2)))  # pixels
        folded = deepcopy(net).eval().requires_grad_(False)
        _fold(folded)
        folded.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder, self.semantic = folded.encoder, folded.semantic
        self.attention, self.matting = folded.attention, folded.matting
        self.to(net.mean.device).eval()

    def forward(self, image: Tensor) -> Prediction:
        """As AimNet's."""
        logits, matting = self._see(image, semantics=True, details=True)
        assert logits is not None
        assert matting is not None
        return Prediction(semantic=logits, matting=matting, alpha=fuse(logits, matting, self.hard, self.protocol))

    def semantics(self, image: Tensor) -> Tensor:
        """What `forward` gives as `semantic`, by half of the work."""
        logits, _ = self._see(image, semantics=True, details=False)
        assert logits is not None
        return logits

    def details(self, image: Tensor) -> Tensor:
        """What `forward` gives as `matting`."""
        _, matting = self._see(image, semantics=False, details=True)
        assert matting is not None
        return matting

    def _see(self, image: Tensor, *, semantics: bool, details: bool) -> tuple[Tensor | None, Tensor | None]:
        self.check(image)
        bands = self._bands(image)
        features = self._encode(image, bands, indices=details)
        x = self.semantic.coarse(features.maps[4])  # (B, 64, H/2, W/2)
        logits, attention = self._guide(x, bands, semantics, details)
        del x
        if not details:
            return logits, None
        if not self.matting.mp:  # then no map of theirs has the full size but two of few channels
            return logits, self.matting(features, attention).float().sigmoid()
        x = self.matting.coarse(features)
        x = _unpool(x, features.indices[0][-1], (image.shape[-2] // 2, image.shape[-1] // 2))  # (B, 64, H/2, W/2)
        whole = features if len(bands) == 1 else None
        del features
        return logits, torch.cat([self._detail(image, band, x, attention, whole) for band in bands], dim=2)

    def _bands(self, image: Tensor) -> list[tuple[int, int]]:
        """First row and the one after the last, of each band."""
        batch, _, height, width = image.shape
        rows = max(self.band // (batch * width * STEP), 1) * STEP
        return list(pairwise([*range(0, height, rows), height]))

    def _finest(self, image: Tensor, band: tuple[int, int]) -> tuple[Tensor, int]:
        """E_0 of the band with rows beside it, and how many stand before it."""
        start, stop = max(band[0] - HALO, 0), min(band[1] + HALO, image.shape[-2])
        rows = self.normalise(image[:, :, start:stop])
        found: Tensor = self.encoder.stem(rows.to(dtype=self.dtype, memory_format=torch.channels_last))
        return found, band[0] - start

    def _encode(self, image: Tensor, bands: list[tuple[int, int]], indices: bool) -> Features:
        """As the encoder's, but E_0 and where its maxima were are not kept of several bands."""
        if not self.encoder.pools[1]:
            features: Features = self.encoder(
                self.normalise(image).to(dtype=self.dtype, memory_format=torch.channels_last)
            )
            return features
        pooled: list[Tensor] = []
        maps: list[Tensor] = []
        first: list[Tensor] = []
        for band in bands:
            e0, before = self._finest(image, band)
            kept = slice(before // 2, (before + band[1] - band[0]) // 2)
            if indices and len(bands) == 1:
                found, at = F.max_pool2d(e0, 3, stride=2, padding=1, return_indices=True)
                first.append(at)
            else:
                found = F.max_pool2d(e0, 3, stride=2, padding=1)
            pooled.append(found[:, :, kept])
            maps = [e0 if len(bands) == 1 else image]  # nobody looks at it then
            del e0
        x = pooled[0] if len(bands) == 1 else torch.cat(pooled, dim=2)
        del pooled
        where: list[tuple[Tensor, ...]] = []
        for stage in self.encoder.stages:
            if indices:
                x, at = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
                where.append((at,))
            else:
                x = F.max_pool2d(x, 3, stride=2, padding=1)
            x = stage(x)
            maps.append(x)
        if indices:
            where[0] = (*first, *where[0])
        return Features(tuple(maps), tuple(where))

    def _guide(
        self, x: Tensor, bands: list[tuple[int, int]], semantics: bool, attention: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The semantic decoder's last size: logits of the classes, (B, 3, H, W), and the attention (B, 1, H, W)."""
        logits, summaries = [], []
        height = 2 * x.shape[-2]
        # The factor of each channel follows from half the size: bilinear doubling keeps the mean.
        excited = self.semantic.excites[4](x) if semantics else x
        for start, stop in bands:
            first, last = max(start - 4, 0), min(stop + 4, height)
            kept = slice(start - first, stop - first)
            if semantics:
                logits.append(self.semantic.head(upsample(excited[:, :, first // 2 : last // 2]))[:, :, kept].float())
            if attention and self.attention is not None:
                guide = upsample(x[:, :, first // 2 : last // 2])[:, :, kept].permute(0, 2, 3, 1)
                summaries.append(torch.stack((guide.mean(dim=-1), guide.amax(dim=-1)), dim=1))
        weight = None
        if attention and self.attention is not None:
            weight = self.attention.conv(torch.cat(summaries, dim=2)).sigmoid()
        return torch.cat(logits, dim=2) if semantics else None, weight

    def _detail(
        self, image: Tensor, band: tuple[int, int], x: Tensor, attention: Tensor | None, whole: Features | None
    ) -> Tensor:
        """The matting decoder's last size: its alpha in a band."""
        if whole is None:
            e0, before = self._finest(image, band)
            indices = F.max_pool2d(e0, 3, stride=2, padding=1, return_indices=True)[1]
        else:
            e0, before, indices = whole.maps[0], 0, whole.indices[0][0]
        first = band[0] - before
        x = unpool(x[:, :, first // 2 : (first + e0.shape[-2]) // 2], indices, (e0.shape[-2], e0.shape[-1]))
        start, stop = max(band[0] - MARGIN, 0), min(band[1] + MARGIN, image.shape[-2])
        kept = slice(start - first, stop - first)
        x = self.matting.blocks[4](torch.cat((x[:, :, kept], e0[:, :, kept]), dim=1))
        if attention is not None:
            x = x.mul_(1 + attention[:, :, start:stop])
        alpha: Tensor = self.matting.head(x)[:, :, band[0] - start : band[1] - start].float().sigmoid()
        return alpha


def _unpool(x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """As `unpool`, which is torch's own on the CPU, but for the gradient."""
    return F.max_unpool2d(x, indices, [2, 2], output_size=size) if x.device.type == "cpu" else unpool(x, indices, size)


def _fold(net: nn.Module) -> None:
    """Put batch normalisation into the convolution before it."""
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for k, (one, other) in enumerate(pairwise(module)):
                if isinstance(one, nn.Conv2d) and isinstance(other, nn.BatchNorm2d):
                    module[k], module[k + 1] = fuse_conv_bn_eval(one, other), nn.Identity()
