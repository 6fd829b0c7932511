"""How far apart the losses of one recipe are by how its steps are shared out: python benchmarks/steps.py.

Four samples of 64 x 64 a step, 12 steps of Adam in two stages, batch norm frozen, CPU: in one process, in two, and
with accumulation. Printed is the largest difference of `train/loss` from the one process, and that of the first step of
the matting stage.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECIPE = [
    "data=synthetic",
    "data.train.source.size=64",
    "data.train.source.length=9",
    "data.val=null",
    "callbacks.best=null",
    "data.test.source.size=64",
    "data.test.source.length=2",
    "data.batch_size=4",
    "data.num_workers=0",
    "model.width=0.0625",
    "inference.semantic_scale=1",
    "inference.matting_scale=1",
    "frozen=[batch_norm]",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "logger=csv",
    "constants=false",
    "estimate=false",
]
TWO = ["trainer=ddp", "trainer.devices=2"]
WAYS = {
    "two processes": [*TWO, "data.device_batch_size=2"],
    "two processes x two accumulated": [*TWO, "data.device_batch_size=1"],
    "one process x two accumulated": ["data.device_batch_size=2"],
}


def losses(folder: Path, *arguments: str) -> list[tuple[str, float]]:
    """Stage and loss of every step."""
    call = [sys.executable, "-m", "aimmat.train", *RECIPE, *arguments, f"hydra.run.dir={folder}"]
    subprocess.run(call, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    with open(folder / "csv" / "metrics.csv") as file:
        return [
            (row["stage"], float(row[name]))
            for row in csv.DictReader(file)
            for name in ("saliency/train/loss", "train/loss")
            if row.get(name)
        ]


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        alone = losses(Path(root, "alone"))
        print(f"{len(alone)} steps in one process, losses from {alone[0][1]:.2f}", flush=True)
        first = next(place for place, (stage, _) in enumerate(alone) if stage == "matting")
        for place, (way, arguments) in enumerate(WAYS.items()):
            others = losses(Path(root, str(place)), *arguments)
            apart = [abs(one[1] - other[1]) for one, other in zip(alone, others, strict=True)]
            print(f"{way}: {max(apart):.1e} at most, {apart[first]:.1e} in the first step of matting", flush=True)


if __name__ == "__main__":
    main()
