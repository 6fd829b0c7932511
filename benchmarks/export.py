"""CPU time of exported files against torch, one thread, interleaved: python benchmarks/export.py [SIZE] [WIDTH].

Weights are random: time does not depend on them. A round runs each once, in turn; printed is the median over the rounds
of each one's CPU time over torch's in the same round.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from aimmat import models
from aimmat.console import keep_memory
from aimmat.export.formats import FORMATS
from aimmat.export.graphs import graph_of

ROUNDS = 7

size, width = int(sys.argv[1]) if len(sys.argv) > 1 else 320, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
keep_memory()
torch.set_num_threads(1)
torch.manual_seed(0)
graph = graph_of(models.build("aimnet", width=width))
image = torch.rand(1, 3, size, size)


def in_torch(image):
    with torch.inference_mode():
        return graph.module(image)


runs = {"torch": in_torch}
with tempfile.TemporaryDirectory() as folder:
    for name, form in FORMATS.items():
        path = Path(folder) / f"x{form.suffix}"
        form.write(graph, path, {})
        runs[name] = form.open(path)
    rounds = []
    for _ in range(ROUNDS + 1):
        seconds = {}
        for name, run in runs.items():
            start = time.process_time()
            run(image)
            seconds[name] = time.process_time() - start
        rounds.append(seconds)
for name in runs:
    ratio = median(seconds["torch"] / seconds[name] for seconds in rounds[1:])  # the first warms up
    print(
        f"{name:12} {median(seconds[name] for seconds in rounds[1:]) * 1000:8.0f} ms  {ratio:5.2f} x as fast as torch"
    )
