"""Time and memory of a prediction beside the released AimNet: python benchmarks/inference.py AIM_CHECKOUT [--rounds 5]

AIM_CHECKOUT is a checkout of github.com/JizhiziLi/AIM. Both sides get the same random weights and pictures, one thread
and the CPU; the hybrid test has the released scales, 1/4 and 1/2, and its rounding. Each side runs in processes of its
own that take turns, so that what disturbs the machine disturbs both; CPU time counts, a ratio is the median of those of
the rounds. "as shipped" is the release under the C library's memory settings; "same" gives it those that our commands
set (`console.keep_memory`). Peak memory is that of fresh processes, with what they import and the picture.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from runpy import run_path
from statistics import median

import numpy as np
import torch

SIDES = ("release", "release, same", "float32", "bfloat16")
JOBS = ("forward 640", "hybrid 1080x1620")
LARGE = {  # what a fresh process does with 4000 x 6000 pixels
    "release": "1600 x 1600 seen, whatever the aspect",
    "float32": "1056 x 1600 seen",
    "bfloat16": "1056 x 1600 seen",
    "float32, 1600 x 1600": "1600 x 1600 seen, as the release",
}


def work(side: str, checkout: Path) -> None:
    """Do what the lines of standard input name and answer each with its seconds and the file of its result."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    if not side.startswith("release") or side.endswith("same"):
        from aimmat.console import keep_memory

        keep_memory()
    with tempfile.TemporaryDirectory() as name:
        jobs = prepare(side, checkout, Path(name))
        for line in sys.stdin:
            job, target = json.loads(line)
            started = time.process_time()
            found = jobs[job]()
            seconds = time.process_time() - started
            if target:
                np.save(target, found.astype(np.float32))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MiB
            print(json.dumps((seconds, peak)), file=answers, flush=True)


def prepare(side: str, checkout: Path, folder: Path) -> dict[str, Callable[[], np.ndarray]]:
    parity = run_path(str(Path(__file__).parent / "parity.py"))

    @cache
    def square() -> torch.Tensor:
        return parity["picture"](640, 640).float()

    @cache
    def photo() -> np.ndarray:
        return (255 * parity["picture"](1080, 1620)[0]).byte().permute(1, 2, 0).contiguous().numpy()

    def large() -> np.ndarray:
        return np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), dtype=np.uint8)

    if side.startswith("release"):
        release = parity["Release"](checkout, folder)
        hybrid = "hybrid 1/4 + 1/2"
        return {
            "forward 640": lambda: release.outputs(square())["fused"].numpy(),
            "hybrid 1080x1620": lambda: release.infer(photo(), hybrid).numpy(),
            "large": lambda: release.infer(large(), hybrid).numpy(),
        }
    from aimmat.inference import Hybrid, Predictor, Resize
    from aimmat.models import AimNet

    predictor = Predictor(parity["fill"](AimNet(protocol="release")), None, "cpu", side.split(",")[0])
    as_released = Hybrid(protocol="release")

    def predict(strategy: Hybrid | Resize, image: np.ndarray | torch.Tensor) -> np.ndarray:
        predictor.strategy = strategy
        return predictor(image)

    return {
        "forward 640": lambda: predict(Resize(scale=1), square()),  # it resizes nothing
        "hybrid 1080x1620": lambda: predict(as_released, photo()),
        "large": lambda: predict(as_released if "," in side else Hybrid(matting_scale=1 / 2), large()),
    }


class Worker:
    """A process of one side."""

    def __init__(self, side: str, checkout: Path) -> None:
        call = [sys.executable, __file__, str(checkout), "--side", side]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        environment["OMP_NUM_THREADS"] = "1"
        self.process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, job: str, target: Path | None = None) -> tuple[float, float]:
        print(json.dumps((job, str(target) if target else None)), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process for {job} ended with exit code {self.process.wait()}")
        seconds, peak = json.loads(line)
        return seconds, peak

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        work(given.side, given.checkout)
        return

    with tempfile.TemporaryDirectory() as name:
        workers = {side: Worker(side, given.checkout) for side in SIDES}
        for job in JOBS:
            mattes = {}
            for side, worker in workers.items():  # warms up, too
                worker.ask(job, Path(name, "matte.npy"))
                mattes[side] = np.load(Path(name, "matte.npy"))
            rounds = [{side: worker.ask(job)[0] for side, worker in workers.items()} for _ in range(given.rounds)]
            for side in SIDES:
                print(f"{job}, {side}: {1000 * median(one[side] for one in rounds):.0f} ms of CPU time", flush=True)
            for dtype in SIDES[2:]:
                shipped, same = (median(one[side] / one[dtype] for one in rounds) for side in SIDES[:2])
                apart = np.abs(mattes[dtype] - mattes["release"])
                print(
                    f"{job}, {dtype}: {shipped:.2f} times as fast as shipped, {same:.2f} same allocator, mean |d| "
                    f"{apart.mean():.1e}, above 0.02 in {100 * (apart > 0.02).mean():.3f} % of pixels",
                    flush=True,
                )
        for worker in workers.values():
            worker.close()

    peaks = {}
    for side, what in LARGE.items():
        worker = Worker(side, given.checkout)
        seconds, peaks[side] = worker.ask("large")
        worker.close()
        print(
            f"4000 x 6000, {side}, {what}: {seconds:.1f} s of CPU time, peak {peaks[side]:.0f} MiB, "
            f"{peaks[side] / peaks['release']:.2f} of the release's",
            flush=True,
        )


if __name__ == "__main__":
    main()
