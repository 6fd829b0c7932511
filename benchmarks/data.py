"""Time training samples beside the released AIM loader: python benchmarks/data.py AIM_CHECKOUT [--check]

AIM_CHECKOUT is a checkout of github.com/JizhiziLi/AIM, whose core/data.py is imported as it is. Both sides read the
same files, foregrounds of 1080 x 1620 and 2048 x 3072 pixels over one background of 1365 x 2048, with the same draws:
crop size, flip, blur, noise. One core, one allocator, the sides by turns, CPU time; a figure is the mean over all draws
of the median over rounds. Ours are crops as uint8 from the cache, the same with compositing, a batch of 16 on the CPU,
and crops as uint8 from PNG and JPEG. Before that, workers: samples a second and memory. With --check the exit code is 1
unless every ratio is at least what the project promises.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import product
from multiprocessing import Process
from pathlib import Path
from statistics import fmean, median
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import PIL
import skimage
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from aimmat.console import keep_memory
from aimmat.data import Entry, Key
from aimmat.data.cache import cached_pictures, write_cache
from aimmat.data.composites import CompositeDataset
from aimmat.functional.batches import compose

SIZES = {(1080, 1620): (50, 20, 6), (2048, 3072): (90, 30, 4)}  # least ratios: from the cache, composited, from files
CROPS = (640, 960, 1280)
BATCH = 16
KERNEL = 40  # of the blur, the middle one of both sides' five


# The files and the two sides


def entries_of(folder: Path) -> list[Entry]:
    return [
        Entry(folder / "foreground.png", "foreground", "train", folder / "alpha.png"),
        Entry(folder / "background.jpg", "background", "train"),
    ]


def make_files(folder: Path, height: int, width: int) -> list[Entry]:
    """A disc with a soft border; the colours are as detailed as make a PNG of 2 bytes a pixel."""
    rng = np.random.default_rng(0)

    def colours(height: int, width: int) -> Image.Image:
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 5, (height, width, 3))
        return Image.fromarray(fine.clip(0, 255).astype(np.uint8))

    y, x = np.mgrid[:height, :width]
    alpha = np.clip((0.35 * height - np.hypot(y - height / 2, x - width / 2)) * 12, 0, 255).astype(np.uint8)
    colours(height, width).save(folder / "foreground.png")
    Image.fromarray(alpha).save(folder / "alpha.png")
    colours(1365, 2048).save(folder / "background.jpg", quality=90)
    return entries_of(folder)


class Release:
    """The released loader with its draws set from outside."""

    def __init__(self, checkout: Path, smoothing: bool) -> None:
        class Normalize:  # stands in for torchvision's
            def __init__(self, mean: list[float], std: list[float]) -> None:
                self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

            def __call__(self, image: torch.Tensor) -> torch.Tensor:
                return (image - self.mean) / self.std

        torchvision = ModuleType("torchvision")
        torchvision.transforms = SimpleNamespace(Normalize=Normalize)  # type: ignore[attr-defined]
        sys.modules["torchvision"] = torchvision
        sys.path.insert(0, str(checkout / "core"))
        self.data, self.util = import_module("data"), import_module("util")
        if not smoothing:
            self.util.resize = partial(skimage.transform.resize, anti_aliasing=False)

    def loader(self, folder: Path) -> Dataset:
        alpha = np.array(Image.open(folder / "alpha.png"))
        cv2.imwrite(str(folder / "usr.png"), self.util.gen_trimap_with_dilate(alpha, 30))
        loader = self.data.LoadDataset.__new__(self.data.LoadDataset)  # its constructor lists the folders of the sets
        loader.SOD_DATA, loader.transform = False, self.data.DatasetTransform()
        loader.samples = [[str(folder / name) for name in ("foreground.png", "background.jpg", "alpha.png", "usr.png")]]
        return loader  # type: ignore[no-any-return]

    def draw(self, crop: int, flip: bool, blur: bool, noise: bool) -> None:
        yes = iter([blur, noise, flip, True])  # in the order in which it asks; the last: around the transition
        drawn = SimpleNamespace(
            random=lambda: 0.0 if next(yes) else 1.0,
            choice=lambda kernels: KERNEL,
            randint=lambda least, most: CROPS.index(crop),
        )
        self.data.random = self.util.random = drawn


def ours(entries: list[Entry], crop: int, flip: bool, cache: Path | None) -> CompositeDataset:
    return CompositeDataset(entries, crop_sizes=[crop], transition=1.0, flip=float(flip), cache=cache)


def composited(dataset: CompositeDataset, epoch: int, blur: bool, noise: bool) -> None:
    layers = default_collate([dataset[Key(epoch * BATCH + i, 0)] for i in range(BATCH)])
    chances = {"blur_probability": float(blur), "noise_probability": float(noise)}
    compose(layers, augment=True, trimap_kernel=30, rssn_options=chances | {"blur_kernels": [KERNEL]})


# Time


def timed(work: Callable[[], Any], share: int = 1) -> float:
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start) / share


def compare(release: Release, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds a sample, by side, one figure for each draw."""
    theirs, entries = release.loader(folder), entries_of(folder)
    found: dict[str, list[float]] = {}
    for crop, blur, noise in product(CROPS, (False, True), (False, True)):
        flip = blur != noise
        mapped, decoded = ours(entries, crop, flip, folder / "cache"), ours(entries, crop, flip, None)
        times: dict[str, list[float]] = {}
        for epoch in range(rounds + 1):
            release.draw(crop, flip, blur, noise)
            sides: dict[str, tuple[Callable[[], Any], int]] = {
                "release": (lambda: theirs[0], 1),
                "cache": (lambda: [mapped[Key(epoch * BATCH + i, 0)] for i in range(BATCH)], BATCH),  # noqa: B023
                "cache, composited": (lambda: composited(mapped, epoch, blur, noise), BATCH),  # noqa: B023
                "files": (lambda: decoded[Key(epoch, 0)], 1),  # noqa: B023
            }
            for side, (work, share) in sides.items():
                times.setdefault(side, []).append(timed(work, share))
        for side, measured in times.items():
            found.setdefault(side, []).append(median(measured[1:]))  # the first round warms up
    return found


# Workers


class Watched(Dataset):
    """Samples with the memory that their worker has taken since it began, MiB."""

    def __init__(self, dataset: Dataset, length: int) -> None:
        self.dataset, self.length, self.start = dataset, length, 0.0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[float, Any]:
        if not self.start:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
            self.start = _status("VmRSS")
        sample = self.dataset[Key(index, 0) if isinstance(self.dataset, CompositeDataset) else 0]
        return _status("VmHWM") - self.start, sample


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def workers(dataset: Dataset, number: int, length: int) -> tuple[float, float]:
    """Samples a second after the first batch, and the most that a worker took."""
    loader = DataLoader(Watched(dataset, length), 8, num_workers=number, worker_init_fn=_one_thread)
    batches: Iterator = iter(loader)
    peak = float(next(batches)[0].max())
    start, count = time.perf_counter(), 0
    for memory, _ in batches:
        peak, count = max(peak, float(memory.max())), count + len(memory)
    return count / (time.perf_counter() - start), peak


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def prepare(folder: Path, height: int, width: int) -> None:
    folder.mkdir()
    list(write_cache(cached_pictures(make_files(folder, height, width), folder / "cache")))


def report_workers(release: Release, folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    for number in sorted({1, 2, cores} if cores > 1 else {1}):
        rate, peak = workers(CompositeDataset(entries_of(folder), cache=folder / "cache"), number, 400 * number)
        print(f"  {number} worker{'s' * (number > 1)} from the cache: {rate:.0f} samples a second, {peak:.0f} MiB each")
    print(f"  1 worker from files: {workers(CompositeDataset(entries_of(folder)), 1, 16)[1]:.0f} MiB")
    release.draw(960, False, False, True)
    release.data.random.random = lambda: 0.0  # for any number of samples
    print(f"  1 worker of the release: {workers(release.loader(folder), 1, 16)[1]:.0f} MiB", flush=True)


def report_ratios(times: dict[str, list[float]], least: tuple[int, ...]) -> bool:
    slow, good = fmean(times["release"]), True
    print(f"  {'release':18} {slow:8.1f} ms a sample")
    for (side, measured), ratio in zip(list(times.items())[1:], least, strict=True):
        each = sorted(one / other for one, other in zip(times["release"], measured, strict=True))
        reached = slow / fmean(measured)
        good &= reached >= ratio
        print(
            f"  {side:18} {fmean(measured):8.1f} ms: {reached:5.1f} times as fast "
            f"(draw by draw {each[0]:.0f} to {each[-1]:.0f}; at least {ratio} is promised)",
            flush=True,
        )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="of every draw (%(default)s)")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--default-allocator", action="store_true", help="not with glibc told to keep freed memory")
    parser.add_argument(
        "--no-smoothing",
        action="store_true",
        help="have the release shrink without a low-pass, as scikit-image 0.14.5 does, which it asks for",
    )
    given = parser.parse_args()
    if not (given.checkout / "core" / "data.py").is_file():
        raise SystemExit(f"{given.checkout} holds no core/data.py; give a checkout of github.com/JizhiziLi/AIM")
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    print(f"scikit-image {skimage.__version__}, Pillow {PIL.__version__}, OpenCV {cv2.__version__}")
    release = Release(given.checkout, smoothing=not given.no_smoothing)
    good = True
    with tempfile.TemporaryDirectory() as name:
        folders = {size: Path(name) / str(size[0]) for size in SIZES}
        for size, folder in folders.items():
            maker = Process(target=prepare, args=(folder, *size))  # what it frees would hide what a worker takes
            maker.start()
            maker.join()
        for (height, width), folder in folders.items():
            print(f"{height} x {width}")
            report_workers(release, folder)
        if not given.default_allocator:
            keep_memory()
        for (height, width), folder in folders.items():
            print(f"{height} x {width}")
            good &= report_ratios(compare(release, folder, given.rounds), SIZES[height, width])
    return int(given.check and not good)


if __name__ == "__main__":
    sys.exit(main())
