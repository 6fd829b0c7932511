"""The proof that an exported file says what the network says: differences at several sizes and batch sizes."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import aimmat
from aimmat.data import CutoutScenes, read_manifest
from aimmat.export.formats import Format, Run
from aimmat.export.graphs import OUTPUTS, Graph, Size
from aimmat.functional.compositing import composite
from aimmat.functional.metrics import sad
from aimmat.schema import AimmatError, ImageType

BATCHES = (1, 2)

# Mean |difference| of each map, classes by their probabilities, and of a sample picture's SAD. The semantic decoder is
# smooth: runtimes differ by 1e-7 there. Unpooling is not: where neighbours are almost equal, the last digit decides
# where a value goes. So torch in float32 differs from torch in float64 by up to 0.09 at single pixels and 1.7e-4 on
# average (an AimNet of width 0.25 that the sample set trained); no bound on the largest difference would tell this
# from a fault, and none is set. Tolerated is a quarter of a level of 8 bits on average, and of a sample's SAD a third
# of what that could add up to; a wrong normalisation or alignment is beyond both by far.
TOLERANCE = {"semantic": 1e-5, "matting": 1e-3, "alpha": 1e-3, "sad": 0.05}


def certify(graph: Graph, run: Run, kind: Format, card: dict[str, Any]) -> dict[str, Any]:
    """Hold an exported file against the graph that it was made from.

    Args:
        graph: what torch computes, on the CPU in float32.
        run: the file's own runtime.
        kind: the file's format.
        card: of the file, whose `export` is repeated in the certificate.

    Returns:
        The certificate: plain JSON values.

    Raises:
        AimmatError: the file cannot be run at a size, or differs by more than the tolerance.
    """
    scenes = {type_.value: _scene(type_, 384) for type_ in ImageType}
    pictures = torch.cat([image for image, _ in scenes.values()])
    compared = []
    for size in [graph.size] if graph.size else _sizes(graph.multiple):
        shown = _fit(pictures, size, graph.channels)
        for batch in BATCHES:
            wanted, found = _both(graph, run, shown[:batch])
            compared.append(
                {"batch": batch, "size": list(size)}
                | {name: _differences(*pair) for name, *pair in zip(graph.names, wanted, found, strict=True)}
            )
    samples = {}
    for name, (image, alpha) in scenes.items():
        size = graph.size or (384, 384)
        wanted, found = _both(graph, run, _fit(image, size, graph.channels))
        truth = _fit(alpha, size, 1)
        ours, theirs = (sad(maps[-1], truth).item() for maps in (wanted, found))
        samples[name] = {"sad_torch": ours, "sad_exported": theirs, "difference": abs(ours - theirs)}
    packages = ("torch", "numpy", *kind.packages)
    certificate = {
        "export": card["export"],
        "model": card["model"],
        "versions": {"aimmat": aimmat.__version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "machine": f"{platform.system()} {platform.machine()}, CPU",
        "tolerance": TOLERANCE,
        "compared": compared,
        "samples": samples,
    }
    _judge(compared, samples)
    return certificate


def _judge(compared: list[dict[str, Any]], samples: dict[str, dict[str, float]]) -> None:
    for entry in compared:
        for name in set(OUTPUTS) & set(entry):
            if not entry[name]["mean"] <= TOLERANCE[name]:  # so written, NaN fails too
                height, width = entry["size"]
                raise AimmatError(
                    f"the exported file says something else than the network: {name} differs by "
                    f"{entry[name]['mean']:.1e} on average at {height} x {width}, batch {entry['batch']}; tolerated is "
                    f"{TOLERANCE[name]:.0e}, so no file was written"
                )
    for name, values in samples.items():
        if not values["difference"] <= TOLERANCE["sad"]:
            raise AimmatError(
                f"the exported file says something else than the network: the SAD of the {name} sample is "
                f"{values['sad_exported']:.3f} instead of {values['sad_torch']:.3f}; tolerated is "
                f"{TOLERANCE['sad']:g}, so no file was written"
            )


def _both(graph: Graph, run: Run, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    with torch.inference_mode():
        wanted = list(graph.module(image))
    height, width = image.shape[-2:]
    try:
        found = run(image)
    except Exception as error:  # runtimes have no common type
        raise AimmatError(
            f"the exported file cannot be run at {height} x {width}, batch {len(image)}: "
            f"{' '.join(str(error).split())[:200]}; no file was written"
        ) from error
    shapes = [[tuple(maps.shape) for maps in side] for side in (wanted, found)]
    if shapes[0] != shapes[1]:
        raise AimmatError(f"the exported file gives {shapes[1]} instead of {shapes[0]}; no file was written")
    return wanted, found


def _differences(wanted: Tensor, found: Tensor) -> dict[str, float]:
    """Of mattes, or of the probabilities that logits stand for."""
    if wanted.shape[1] == 3:
        wanted, found = wanted.softmax(dim=1), found.softmax(dim=1)
    difference = (wanted.double() - found.double()).abs()
    return {
        "largest": difference.max().item(),
        "mean": difference.mean().item(),
        "pixels": (difference > 0.5 / 255).double().mean().item(),
    }


def _sizes(multiple: int) -> list[Size]:
    """Three sizes: a small one, a square and one that is wider than tall."""
    if multiple == 1:
        return [(97, 131), (320, 320), (311, 500)]
    return [(-(-height // multiple) * multiple, -(-width // multiple) * multiple) for height, width in _FIXED]


_FIXED = ((64, 96), (256, 256), (192, 320))


def _fit(maps: Tensor, size: Size, channels: int) -> Tensor:
    """At a size; a channel beyond the colours is a trimap, all of it transition."""
    maps = F.interpolate(maps, size, mode="bilinear", antialias=True).clamp(0, 1)
    missing = channels - maps.shape[1]
    return torch.cat((maps, maps.new_full((len(maps), missing, *size), 0.5)), dim=1) if missing else maps


def _scene(type_: ImageType, size: int) -> tuple[Tensor, Tensor]:
    """A picture of the package's sample set with its matte, (1, 3, size, size) and (1, 1, size, size)."""
    scene = CutoutScenes(read_manifest(), "test", size).only([type_]).draw(0, np.random.default_rng(0))
    foreground, background, alpha = (
        torch.from_numpy(np.atleast_3d(layer).copy()).permute(2, 0, 1)[None].float() / 255
        for layer in (scene.foreground, scene.background, scene.alpha)
    )
    return composite(foreground, background, alpha), alpha
