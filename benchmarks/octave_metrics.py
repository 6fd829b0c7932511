"""Measure the golden pairs with the MATLAB code itself: python benchmarks/octave_metrics.py FOLDER --source TEXT

FOLDER holds compute_sad_loss.m, compute_mse_loss.m, compute_gradient_loss.m, compute_connectivity_error.m and
gaussgradient.m of Deep Image Matting's evaluation code; GNU Octave and its package image must be installed
(Debian: octave, octave-image). Writes tests/golden/matlab_metrics.json, or the file named with --out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from runpy import run_path

import numpy as np
from scipy.io import savemat

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
FILES = (
    *("compute_sad_loss.m", "compute_mse_loss.m", "compute_gradient_loss.m", "compute_connectivity_error.m"),
    "gaussgradient.m",
)
SCRIPT = """
pkg load image
addpath(argv(){1})
info = pkg("list", "image"){1};
printf("%s\\n%s\\n", version(), info.version)
for name = strsplit(argv(){3}, ",")
  pair = load(fullfile(argv(){2}, [name{1} ".mat"]));
  for trimap = {pair.trimap, 128 * ones(size(pair.trimap), "uint8")}
    args = {pair.pred, pair.target, trimap{1}};
    scores = [compute_sad_loss(args{:}), compute_mse_loss(args{:}), ...
              compute_gradient_loss(args{:}) / 1000, compute_connectivity_error(args{:}, 0.1) / 1000];
    printf("%s %.17g %.17g %.17g %.17g\\n", name{1}, scores)
  end
end
"""


def measure(folder: Path) -> tuple[list[str], dict[str, dict[str, float | None]]]:
    """Versions of Octave and its package image, and each pair's errors; None where Octave says NaN."""
    pairs = run_path(str(GOLDEN / "pairs.py"))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for pair in pairs["MATLAB_NAMES"]:
            pred, target, trimap = pairs["matlab_pair"](pair)
            # not as PNG: Octave's imread makes a matte of nothing but 0 and 255 a logical one, 1 where it should be 255
            savemat(work / f"{pair}.mat", {"pred": pred, "target": target, "trimap": trimap})
        script = work / "measure.m"
        script.write_text(SCRIPT)
        command = ["octave-cli", "--no-init-file", script, folder, work, ",".join(pairs["MATLAB_NAMES"])]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    figures: dict[str, dict[str, float | None]] = {}
    for row, line in enumerate(lines[2:]):
        pair, *scores = line.split()
        suffix = (
            "" if row % 2 else "_transition"
        )  # the pair's own trimap comes first, then one that is unknown all over
        for key, score in zip(("sad", "mse", "grad", "conn"), map(float, scores), strict=True):
            figures.setdefault(pair, {})[key + suffix] = None if np.isnan(score) else score
    return lines[:2], figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", required=True, help="repository, folder and commit of the MATLAB files")
    parser.add_argument("--out", type=Path, default=GOLDEN / "matlab_metrics.json")
    given = parser.parse_args()
    (octave, image), figures = measure(given.folder.resolve())
    record = {
        "derivation": "The MATLAB functions were given the pairs of tests/golden/pairs.py under GNU Octave, once with "
        "the pair's trimap (the _transition figures) and once with a trimap of 128 all over; gradient and "
        "connectivity divided by 1000, as the evaluation scripts do. null stands for NaN.",
        "command": f'python benchmarks/octave_metrics.py FOLDER --source "{given.source}"',
        "source": given.source,
        "sha256": {name: sha256((given.folder / name).read_bytes()).hexdigest() for name in FILES},
        "octave": octave,
        "octave-image": image,
        "figures": figures,
    }
    given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
