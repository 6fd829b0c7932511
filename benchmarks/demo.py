"""Print the SAD of demo runs against the best constant predictor: python benchmarks/demo.py [--check] RUN...

For each run, over all test pictures and within each type: the network's SAD, the best constant's (all 0, all 0.5, all
1, the mean alpha of the type) and their ratio; for several runs also mean and spread. With --check the exit code is 1
unless the ratio is at most 0.70 over all pictures and below 1 within each type.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import fmean

from aimmat.tables import read_rows, summarise

KEYS = {"all": "sad", "SO": "sad/type/SO", "STM": "sad/type/STM", "NS": "sad/type/NS"}


def ratios(run: Path) -> dict[str, float]:
    network = summarise(read_rows(run / "rows.csv"))
    constants = {file.stem: summarise(read_rows(file)) for file in sorted((run / "constants").glob("*.csv"))}
    if not constants:
        raise SystemExit(f"{run} holds no constants; train with constants=true")
    print(run)
    found = {}
    for name, key in KEYS.items():
        best = min(constants, key=lambda constant: constants[constant][key])
        found[name] = network[key] / constants[best][key]
        against = f"best constant {constants[best][key]:6.2f} ({best})"
        print(f"  {name:3}  SAD {network[key]:6.2f}  {against}  ratio {found[name]:.2f}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    found = [ratios(run) for run in given.runs]
    if len(found) > 1:
        for name in KEYS:
            values = [run[name] for run in found]
            spread = f"from {min(values):.2f} to {max(values):.2f}"
            print(f"{name:3}  mean ratio {fmean(values):.2f}, {spread}, {len(values)} runs")
    good = all(run["all"] <= 0.7 and max(run["SO"], run["STM"], run["NS"]) < 1 for run in found)
    if given.check and not good:
        print("worse than asked: at most 0.70 over all pictures and below 1 within each type", file=sys.stderr)
    return int(given.check and not good)


if __name__ == "__main__":
    sys.exit(main())
