"""`python -m aimmat.bench`: how large a network is, how long one image takes and how much memory it needs."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aimmat.models import NETWORKS, build, count_macs, count_parameters, switches_of
from aimmat.models.layers import Network
from aimmat.schema import AimmatError

USAGE = """\
python -m aimmat.bench model=aimnet [width=0.25] [sizes=320,512,800] [device=auto] [threads=2]

Prints parameters, multiply-accumulates (convolutions and linear layers), latency and peak memory of a network with
fresh weights, for one square image of each size, in float32.

  model    networks to measure, by name, in one table: aimnet,gfm; or all   (aimnet)
  sizes    sides in pixels, multiples of the network's stride               (320,512,800)
  device   auto, cpu, cuda or cuda:N; auto takes a GPU where there is one   (auto)
  threads  threads of the CPU                                               (torch's choice)

Every other argument is a switch of the network, such as width=0.25 or mp=false. Latency is the median after a warm-up.
Each size runs in a process of its own: on the CPU, peak memory is all that this process held, Python and torch
included; on a GPU, what torch allocated there."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments behind `python -m aimmat.bench`, each key=value; None takes the process's own.

    Returns:
        The exit code: 0; 1, or 130 after Ctrl-C, with one sentence on stderr.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if {"--help", "-h"} & set(arguments):
        print(USAGE)
        return 0
    try:
        Console().print(_table(**_parse(arguments)))
    except AimmatError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: a table needs every size; fewer sizes take less time", file=sys.stderr)
        return 130
    return 0


def measure(
    name: str, switches: dict[str, Any], size: int, device: str = "cpu", threads: int | None = None
) -> dict[str, float]:
    """Time one network on one image, in this process.

    Args:
        name: the network's name.
        switches: its constructor's arguments.
        size: side of the square image, a multiple of the network's stride.
        device: "cpu" or a CUDA device.
        threads: threads of the CPU; None leaves torch's choice.

    Returns:
        "seconds": the median of up to 20 forward passes in about three seconds, at least three, after a warm-up.
        "bytes": peak memory; on the CPU that of the whole process since its start, on CUDA what torch allocated.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    net = build(name, **switches).eval().to(device)
    image = torch.rand(1, net.input_channels, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    on_gpu = image.device.type == "cuda"
    seconds: list[float] = []
    with torch.inference_mode():
        net(image)  # warm-up: kernels are chosen and memory is taken
        while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < 3):
            if on_gpu:
                torch.cuda.synchronize(image.device)
            start = time.perf_counter()
            net(image)
            if on_gpu:
                torch.cuda.synchronize(image.device)
            seconds.append(time.perf_counter() - start)
    if on_gpu:
        peak = torch.cuda.max_memory_allocated(image.device)
    else:
        # Linux counts in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": median(seconds), "bytes": float(peak)}


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    """Arguments as _table takes them."""
    given: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not (key and equals and value):
            raise AimmatError(f"arguments are written key=value, got {argument!r}; --help lists them")
        if key in given:
            raise AimmatError(f"{key} is given twice, as {given[key]} and as {value}; keep one")
        given[key] = value
    wanted = given.pop("model", "aimnet")
    there = [name for name, net in NETWORKS.items() if net.trainable]
    names = there if wanted == "all" else wanted.split(",")
    sizes = [_whole("sizes", side) for side in given.pop("sizes", "320,512,800").split(",")]
    threads = _whole("threads", given.pop("threads")) if "threads" in given else None
    device = _device(given.pop("device", "auto"))
    return {"names": names, "switches": _switches(given), "sizes": sizes, "device": device, "threads": threads}


def _switches(given: dict[str, str]) -> dict[str, Any]:
    """Words turned into the truth values and numbers they spell; the network judges them."""
    switches: dict[str, Any] = {}
    for key, value in given.items():
        if value.lower() in ("true", "false"):
            switches[key] = value.lower() == "true"
            continue
        try:
            switches[key] = float(value)
        except ValueError:
            switches[key] = value
    return switches


def _whole(key: str, value: str) -> int:
    """A whole number above 0."""
    if not value.isdecimal() or int(value) == 0:
        raise AimmatError(f"{key} takes whole numbers above 0, got {value!r}; for instance {key}=2 or sizes=320,512")
    return int(value)


def _device(name: str) -> str:
    """The device that a name stands for, once it is known to be there."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{k}" for k in range(gpus))]
    if name == "auto":
        return "cuda" if gpus else "cpu"
    if name not in there:
        raise AimmatError(f"there is no device {name!r} here; the devices are auto, {', '.join(there)}")
    return name


def _table(names: list[str], switches: dict[str, Any], sizes: list[int], device: str, threads: int | None) -> Table:
    """Every network at every size, measured in a fresh process each, laid out."""
    with torch.device("meta"):  # this process stays small: a child's peak starts from its parent's
        nets = {name: build(name, **switches) for name in names}
    for name, net in nets.items():
        for size in sizes:
            if size % net.stride:
                raise AimmatError(f"sizes of {name} are multiples of {net.stride}, got {size}")
    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else _threads(threads)
    several = len(names) > 1
    table = Table(title=f"{_said(nets, switches)}\n{device}, {where}, float32, batch 1")
    if several:
        table.add_column("network")
        table.add_column("parameters", justify="right")
    for heading in ("size", "MACs, G", "latency, ms", "peak memory, MiB"):
        table.add_column(heading, justify="right")
    pairs = [(name, size) for name in names for size in sizes]
    progress = track(pairs, description=f"measuring {', '.join(names)}", console=Console(stderr=True), transient=True)
    for name, size in progress:
        result = _measure_apart(name, switches, size, device, threads)
        table.add_row(
            *([name, f"{count_parameters(nets[name]):,}"] if several else []),
            f"{size} x {size}",
            f"{count_macs(nets[name], size) / 1e9:.2f}",
            f"{result['seconds'] * 1e3:.1f}",
            f"{result['bytes'] / 2**20:.0f}",
        )
    return table


def _said(nets: dict[str, Network], switches: dict[str, Any]) -> str:
    """What is measured: the switches of one network with their defaults, of several those that were set."""
    if len(nets) > 1:
        return ", ".join(["networks as published", *(f"{key}={value}" for key, value in switches.items())])
    ((name, net),) = nets.items()
    said = ", ".join(f"{key}={value}" for key, value in {**switches_of(name), **switches}.items())
    return f"{name} ({said}): {count_parameters(net):,} parameters"


def _threads(threads: int | None) -> str:
    """'1 thread', '2 threads'."""
    number = threads or torch.get_num_threads()
    return f"{number} thread{'s' * (number > 1)}"


def _measure_apart(*arguments: Any) -> dict[str, float]:
    """measure() in a fresh process, whose peak memory is its own."""
    code = "import json, sys; from aimmat.bench import measure; print(json.dumps(measure(*json.loads(sys.argv[1]))))"
    child = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if child.returncode:
        cause = (child.stderr.strip().splitlines() or [f"it was ended with code {child.returncode}"])[-1]
        raise AimmatError(
            f"measuring {arguments[0]} at {arguments[2]} x {arguments[2]} on {arguments[3]} failed: {cause}; "
            f"a smaller size or width needs less memory"
        )
    result: dict[str, float] = json.loads(child.stdout)
    return result


if __name__ == "__main__":
    sys.exit(main())
