"""A network as a file that other runtimes run, and the certificate that it says there what it says here."""

from __future__ import annotations

import json
import tempfile
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, Literal, cast

from aimmat.schema import AimmatError, Protocol

__all__ = ["export"]

FormatName = Literal["onnx", "torchscript", "openvino"]


def export(
    kind: FormatName,
    source: str | PathLike[str],
    path: str | PathLike[str],
    *,
    strategy: Literal["network", "hybrid"] = "network",
    size: tuple[int, int] | None = None,
    protocol: Protocol | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a network for another runtime, with a certificate beside it, or nothing at all.

    Args:
        kind: the format.
        source: what `weights.load_network` takes: a file, a run's folder or a release's name.
        path: the file; beside it comes PATH.json, the certificate, and with OpenVINO's .xml its .bin.
        strategy: "network" is the network alone, "hybrid" the hybrid strategy around it, for pictures as they are.
        size: the only (height, width) of the image; None leaves both free, as the batch always is.
        protocol: as for `load_network`.
        overwrite: existing files may be replaced.

    Returns:
        The certificate.

    Raises:
        AimmatError: the path has another suffix, exists or cannot be written; a package is missing; the source cannot
            be loaded; the strategy cannot be exported so; or the file differs from the network by more than the
            tolerance, see `certificate.TOLERANCE`.
    """
    from aimmat.export.formats import FORMATS  # here, since torch takes a second

    form, path = FORMATS[kind], Path(path)
    files = [path, *(path.with_suffix(suffix) for suffix in form.more), path.with_name(f"{path.name}.json")]
    if path.suffix != form.suffix:
        raise AimmatError(f"a file for {kind} ends in {form.suffix}, got {path}")
    if not overwrite and (there := [str(file) for file in files if file.exists()]):
        raise AimmatError(f"{there[0]} exists; --overwrite replaces it")
    if path.is_dir():
        raise AimmatError(f"{path} is a folder; give the path of a file")
    if missing := [name for name in form.packages if find_spec(name) is None]:
        raise AimmatError(
            f"exporting to {kind} needs {' and '.join(missing)}; install by pip install 'aimmat[{form.extra}]'"
        )

    from aimmat.export.certificate import certify
    from aimmat.export.graphs import graph_of
    from aimmat.inference import Hybrid, build_strategy
    from aimmat.models.layers import Network
    from aimmat.weights import load_network

    net, card = load_network(source, protocol)
    if not list(net.parameters()):
        raise AimmatError(f"{source} is itself an exported file; give the weights that it was made from")
    inference = card.get("inference") or {}
    if inference.get("name") != "hybrid":  # the card's test is another one: what hybrid does without options
        inference = {"name": "hybrid"}
    test = build_strategy(**{"protocol": card.get("protocol", "paper")} | inference) if strategy == "hybrid" else None
    if size is not None and min(size) < 1:
        raise AimmatError(f"a size is height and width above 0, got {size[0]}x{size[1]}")
    graph = graph_of(cast(Network, net), cast(Hybrid | None, test), size)
    card = card | {
        "export": {
            "format": kind,
            "strategy": strategy,
            "size": list(size) if size else None,
            "multiple": graph.multiple,
            "outputs": list(graph.names),
        }
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            written = [Path(folder) / file.name for file in files]
            form.write(graph, written[0], card)
            certificate = certify(graph, form.open(written[0]), form, card)
            written[-1].write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
            for file, place in reversed(list(zip(written, files, strict=True))):
                file.replace(place)  # what is named last
    except OSError as error:
        raise AimmatError(f"cannot write {path}: {error.strerror or error}") from error
    return certificate
