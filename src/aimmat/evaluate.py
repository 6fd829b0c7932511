"""`python -m aimmat.evaluate`: the test of `python -m aimmat.train` alone, for weights that are there already.

It takes the settings of `python -m aimmat.train`: init=RUN (a run's folder, a file, a release), or model=onnx
path=FILE.onnx, and the data of the test. What it leaves is a run's folder too.

    python -m aimmat.evaluate init=RUN data=aim500 inference=hybrid paths.data_dir=DATA
"""

from __future__ import annotations

import sys


def main() -> int:
    """Entry point; see `python -m aimmat.evaluate --help`."""
    from aimmat.train.command import main as train

    sys.argv[1:] = ["stages=[]", "task_name=evaluate", *sys.argv[1:]]
    return train()


if __name__ == "__main__":
    sys.exit(main())
