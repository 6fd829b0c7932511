"""`python -m aimmat.export`: a network for ONNX Runtime, TorchScript or OpenVINO, with a certificate."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aimmat.console import guarded, keep_memory
from aimmat.export import export
from aimmat.schema import PROTOCOLS, AimmatError

DESCRIPTION = """\
Writes a network as a file that another runtime runs. Its input is `image`, (B, 3, H, W), RGB in [0, 1]: what the
network subtracts and divides by is inside. Its outputs are `semantic` (logits of background, transition, foreground),
`matting` and `alpha`, as far as the network has them. Batch, height and width are free; the network's sides are
multiples of its stride, the hybrid strategy takes pictures as they are.

Beside FILE comes FILE.json: how far the file and the network differ at three sizes and two batch sizes, and how the SAD
of sample pictures differs. A file that differs by more than the tolerance in it is not written."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.export --help`."""
    given = _parser().parse_args(arguments)

    def run() -> None:
        keep_memory()
        certificate = export(
            given.format,
            given.weights,
            given.output,
            strategy=given.strategy,
            size=_size(given.size),
            protocol=given.protocol,
            overwrite=given.overwrite,
        )
        print(f"{given.output}: {_summary(certificate)}")

    return guarded(run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aimmat.export",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("format", choices=("onnx", "torchscript", "openvino"), help="the runtime's format")
    parser.add_argument("weights", metavar="WEIGHTS", help="a checkpoint, a run's folder or the name of a release")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="a file .onnx, .pt (TorchScript) or .xml"
    )
    parser.add_argument(
        "--strategy",
        choices=("network", "hybrid"),
        default="network",
        help="the network alone, or the hybrid strategy around it: two sizes and their fusion (%(default)s)",
    )
    parser.add_argument("--size", default="dynamic", metavar="HxW", help="the only size of the image (%(default)s)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="what is computed (what the weights were trained for)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    return parser


def _size(text: str) -> tuple[int, int] | None:
    """Height and width; None where they are free.

    >>> _size("512x768")
    (512, 768)
    """
    if text == "dynamic":
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})[xX]([1-9]\d{0,4})", text)
    if match is None:
        raise AimmatError(f"--size is HEIGHTxWIDTH in pixels, such as 512x768, or dynamic, got {text!r}")
    return int(match[1]), int(match[2])


def _summary(certificate: dict[str, Any]) -> str:
    alphas = [entry["alpha"] for entry in certificate["compared"]]
    largest, mean = (max(alpha[figure] for alpha in alphas) for figure in ("largest", "mean"))
    change = max(sample["difference"] for sample in certificate["samples"].values())
    return f"alpha differs by {largest:.1e} at most, {mean:.1e} on average; SAD of samples by {change:.1e}"


if __name__ == "__main__":
    sys.exit(main())
