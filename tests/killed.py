"""`python killed.py POINT ARGUMENT...`: train as `python -m aimmat.train ARGUMENT...` and be killed at a point."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

from aimmat import train
from aimmat.lit import MattingModule, SaveLast
from aimmat.train import report, stages


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def instead(owner, name, when=lambda *_, **__: True, then=kill):
    """Have `then` called in place of a function, where `when` holds for what it is given."""
    real = getattr(owner, name)
    setattr(owner, name, lambda *given, **named: (then if when(*given, **named) else real)(*given, **named))


def halve(file):
    os.ftruncate(file, os.fstat(file).st_size // 2)
    kill()


def batch(module, batch, index):
    return [Path(module.trainer.default_root_dir).name, module.trainer.global_step, index] == ["matting", 2, 5]


def kill_worker(done):
    """Kill a process of joblib, which ends the others, as soon as a file is there."""

    def wait():
        while not done.exists():
            time.sleep(0.02)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


writings = itertools.count(1)
POINTS = {
    "before the first step": lambda: instead(SaveLast, "on_train_start"),
    "while the second checkpoint is written": lambda: instead(os, "fsync", lambda _: next(writings) == 2, halve),
    "in a validation": lambda: instead(MattingModule, "validation_step"),
    "between the renames": lambda: instead(Path, "replace", lambda path, _: path.name == "last.ckpt.partial"),
    "before a stage's weights": lambda: instead(stages, "save_network"),
    "between stages": lambda: instead(stages, "latest", lambda folder: folder.parent.name == "matting"),
    "in the middle of an epoch and a step": lambda: instead(MattingModule, "training_step", batch),
    "in the test": lambda: instead(MattingModule, "test_step", lambda module, batch, index: index == 1),
    "in the test of job 6": lambda: instead(
        MattingModule, "test_step", lambda module, *_: Path(module.trainer.default_root_dir).name == "6"
    ),
    "in joblib's job 6, a stage done": lambda: kill_worker(Path("sweep", "6", "saliency", "model.safetensors")),
    "while tables are written": lambda: instead(report, "gallery_png"),
}

if __name__ == "__main__":
    _, point, *sys.argv[1:] = sys.argv
    POINTS[point]()
    sys.exit(train.main())
