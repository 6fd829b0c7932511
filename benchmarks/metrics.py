"""Time the matting errors beside the released functions: python benchmarks/metrics.py [AIM_CHECKOUT] [--sizes HxW ...].

AIM_CHECKOUT is a clone of github.com/JizhiziLi/AIM; its core/evaluate.py runs in the same process (scikit-image is
needed), in turns with ours, on one thread, with one allocator. Printed are medians of CPU time, the median of the
ratios of each turn with the lowest and the highest, and how far the figures are apart. "all" is `measure` with a trimap
against all five released functions. Without a checkout only our times are printed. At the end: a pair of uniform noise,
and the memory that `measure` needs beside its input.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}

import argparse
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch

from aimmat.console import keep_memory
from aimmat.functional.metrics import connectivity_error, gradient_error, measure

NOISE = (1080, 1620)
LARGE = (4000, 6000)


def pair(kind: str, size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, truth of 8-bit levels, and trimap (0, 128, 255): a solid object, smoke, or noise."""
    rng = np.random.default_rng(seed)
    (height, width), short = size, min(size)
    if kind == "noise":
        pred, alpha = rng.random((2, *size))
    else:
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        radius = np.hypot(y / 0.84, x / 0.72)
        if kind == "solid":
            edge = 0.4 * short * (1 - radius) + 0.12 * short * (_clouds(rng, size, short // 6, 2, 0.55) - 0.5)
            alpha = edge / (0.012 * short) + 0.5
            pred = (edge + 0.01 * short * (_clouds(rng, size, short // 8, 4) - 0.5)) / (0.015 * short) + 0.5
        else:
            alpha = 1.4 * _clouds(rng, size, short // 4, 4, 0.6) * np.clip(1.6 - radius, 0, 1) - 0.15
            pred = alpha + 0.3 * (_clouds(rng, size, short // 6, 8) - 0.5) * (alpha > 0)
    alpha = np.round(255 * np.clip(alpha, 0, 1)) / 255
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (short // 50 | 1,) * 2)
    unknown = cv2.dilate(((alpha > 0) & (alpha < 1)).astype(np.uint8), kernel) > 0
    trimap = np.where(unknown, 128, np.where(alpha > 0.5, 255, 0)).astype(np.uint8)
    return np.clip(pred, 0, 1), alpha, trimap


def _clouds(rng: np.random.Generator, size: tuple[int, int], largest: int, smallest: int, fall: float = 0.5) -> Any:
    """Smooth noise in [0, 1] whose cells halve in size, and fall in weight, from the largest to the smallest."""
    total, weight, cell = np.zeros(size), 1.0, largest
    while cell >= smallest:
        lattice = rng.random((size[0] // cell + 2, size[1] // cell + 2))
        total += weight * cv2.resize(lattice, size[::-1], interpolation=cv2.INTER_CUBIC)
        weight, cell = weight * fall, cell // 2
    return (total - total.min()) / np.ptp(total)


def released(checkout: Path) -> ModuleType:
    """The release's core/evaluate.py as a module."""
    spec = spec_from_file_location("evaluate", checkout / "core" / "evaluate.py")
    if spec is None or spec.loader is None or not (checkout / "core" / "evaluate.py").is_file():
        raise SystemExit(f"{checkout} holds no core/evaluate.py; name a clone of github.com/JizhiziLi/AIM")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of CPU time, and the result."""
    start = time.process_time()
    result = call()
    return 1e3 * (time.process_time() - start), result


def compare(release: ModuleType | None, kind: str, size: tuple[int, int], rounds: int) -> None:
    """Print one pair's line for each of connectivity, gradient and all errors."""
    pred, alpha, trimap = pair(kind, size)
    ours = [torch.from_numpy(matte)[None, None] for matte in (pred, alpha)]
    classes = torch.from_numpy(trimap // 127)[None, None]
    calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "conn": (lambda: release.compute_connectivity_loss_whole_image(pred, alpha), lambda: connectivity_error(*ours)),
        "grad": (lambda: release.compute_gradient_whole_image(pred, alpha), lambda: gradient_error(*ours)),
        "all": (lambda: suite(release, pred, alpha, trimap), lambda: measure(*ours, classes)),
    }
    for name, (theirs, mine) in calls.items():
        both = [(timed(theirs) if release else (float("nan"), None), timed(mine)) for _ in range(rounds)]
        ratios = [reference[0] / own[0] for reference, own in both]
        line = f"{size[0]} x {size[1]} {kind:6} {name:5} {median(own[0] for _, own in both):7.0f} ms"
        if release:
            (_, expected), (_, found) = both[0]
            line += f"   release {median(reference[0] for reference, _ in both):7.0f} ms   ratio {median(ratios):5.1f}"
            line += f" ({min(ratios):.1f} to {max(ratios):.1f})   apart {apart(found, expected):.0e}"
        print(line, flush=True)


def suite(release: ModuleType, pred: np.ndarray, alpha: np.ndarray, trimap: np.ndarray) -> dict[str, float]:
    """The ten figures of the release, under our names."""
    transition = release.calculate_sad_mse_mad(pred, alpha, trimap)
    whole = release.calculate_sad_mse_mad_whole_img(pred, alpha)
    foreground, background = release.calculate_sad_fgbg(pred, alpha, trimap)
    conn = release.compute_connectivity_loss_whole_image(pred, alpha)
    grad = release.compute_gradient_whole_image(pred, alpha)
    names = ("sad_transition", "mse_transition", "mad_transition", "sad", "mse", "mad")
    figures = dict(zip(names, (*transition, *whole), strict=True))
    return figures | {"sad_foreground": foreground, "sad_background": background, "conn": conn, "grad": grad}


def apart(found: Any, expected: Any) -> float:
    """The largest relative difference; the release's transition also counts known pixels whose truth is not 0 or 1."""
    if not isinstance(expected, dict):
        found, expected = {"": found}, {"": expected}
    return max(abs(found[name].item() / value - 1) if value else found[name].item() for name, value in expected.items())


def memory(size: tuple[int, int]) -> None:
    """Print the most memory that `measure` takes beside its input; Linux alone says so."""
    pred, alpha, trimap = pair("smoke", size)
    tensors = [torch.from_numpy(array)[None, None] for array in (pred, alpha, trimap // 127)]
    del pred, alpha, trimap
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = _resident("VmRSS")
    measure(*tensors)
    mebi = sum(tensor.nbytes for tensor in tensors) / 2**20
    print(f"{size[0]} x {size[1]} smoke: {_resident('VmHWM') - before:.0f} MiB beside {mebi:.0f} MiB of float64 mattes")


def _resident(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path)
    parser.add_argument("--sizes", nargs="+", type=_size, default=[(1080, 1620), (2048, 3072)], metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--memory", type=_size, metavar="HxW", help="print nothing but the memory of one pair")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if given.memory:
        return memory(given.memory)
    keep_memory()
    warnings.simplefilter("ignore")  # of the release
    release = released(given.checkout) if given.checkout else None
    for size in given.sizes:
        for kind in ("solid", "smoke"):
            compare(release, kind, size, given.rounds)
    compare(release, "noise", NOISE, 1)
    if sys.platform == "linux":
        subprocess.run([sys.executable, __file__, "--memory", f"{LARGE[0]}x{LARGE[1]}"], check=True)
    return None


if __name__ == "__main__":
    main()
