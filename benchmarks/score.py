"""Time `python -m aimmat.score` with one process and with two: python benchmarks/score.py [--pairs 500] [--rounds 3].

The pairs are drawn into a temporary folder: 640 x 960 and 960 x 640 pixels with trimaps, one in ten soft all over.
Printed are wall times by turns and their ratio; nothing else may be running on the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np


def draw(folder: Path, seed: int) -> None:
    """Write one prediction, truth and trimap, three PNGs of one name."""
    rng = np.random.default_rng(seed)
    height, width = (640, 960) if seed % 2 else (960, 640)
    y, x = np.mgrid[:height, :width]
    clouds = cv2.resize(rng.random((9, 9)), (width, height), interpolation=cv2.INTER_CUBIC)
    radius = np.hypot((y - height / 2) / (height * 0.38), (x - width / 2) / (width * 0.36))
    alpha = np.clip((1 - radius) * 20 + 2 * np.sin(x * 0.5 + 6 * clouds), 0, 1)
    if seed % 10 == 0:
        alpha = np.clip(clouds, 0, 1) * 0.8
    noise = cv2.GaussianBlur(rng.random((height, width)), (0, 0), 3) - 0.5
    soft = (alpha > 0) & (alpha < 1)
    pred = np.clip(alpha + 0.3 * noise * soft + 0.1 * (clouds > 0.8) * (alpha == 0), 0, 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31))
    trimap = np.where(cv2.dilate(soft.astype(np.uint8), kernel) > 0, 0.5, alpha > 0.5)
    for part, matte in (("predictions", pred), ("truth", alpha), ("trimaps", trimap)):
        (folder / part).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / part / f"{seed:04}.png"), np.rint(255 * matte).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(given.pairs):
            draw(folder, seed)
        command = [sys.executable, "-m", "aimmat.score", str(folder / "predictions"), str(folder / "truth")]
        command += ["--trimaps", str(folder / "trimaps")]
        for _ in range(given.rounds):
            seconds = []
            for jobs in (1, 2):
                start = time.perf_counter()
                out = ["--jobs", str(jobs), "-o", str(folder / f"scores{jobs}")]
                subprocess.run(command + out, check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - start)
            print(f"{seconds[0]:.1f} s, {seconds[1]:.1f} s with two, ratio {seconds[0] / seconds[1]:.2f}", flush=True)
        rows = [(folder / f"scores{jobs}" / "rows.csv").read_bytes() for jobs in (1, 2)]
        print("same rows" if rows[0] == rows[1] else "ROWS DIFFER")


if __name__ == "__main__":
    main()
