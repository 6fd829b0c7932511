"""`python -m aimmat.demo --weights PATH_OR_NAME`: a page in the browser that cuts out the picture one drops on it."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from pathlib import Path

from aimmat.console import guarded, keep_memory
from aimmat.demo.work import Limits
from aimmat.schema import AimmatError

DESCRIPTION = """\
Serves a page on this machine: drop, choose or paste a picture there and see its matte, cut-out and predicted trimap, on
any background. One network is held in memory and computes one picture at a time; pictures are never written to disk."""

EPILOG = """\
Other machines can reach the page only with --host 0.0.0.0, and then everybody on the network can. It has neither
passwords nor encryption: it is for one's own desk, not for the internet."""

GRACE = 3  # seconds in which Ctrl-C waits for answers that are on their way


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; see `python -m aimmat.demo --help`."""
    given = _parser().parse_args(arguments)
    return guarded(lambda: _run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m aimmat.demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-w", "--weights", metavar="PATH_OR_NAME", help="a run's folder, a file of weights or the name of a release"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on, 0 for any free one (%(default)s)")
    parser.add_argument(
        "--max-mb", type=float, default=32, metavar="MB", help="largest file that is accepted (%(default)s)"
    )
    parser.add_argument(
        "--max-megapixels", type=float, default=25, metavar="MP", help="largest picture that is accepted (%(default)s)"
    )
    return parser


def _run(given: argparse.Namespace) -> int:
    if given.weights is None:
        raise AimmatError(
            "no weights are given; --weights takes a run's folder (`python -m aimmat.train` trains a small network in "
            "minutes), a file of weights, or aim-matting, which downloads those of the authors of AIM"
        )
    for name, most in (("max_mb", 1000), ("max_megapixels", 89)):  # Pillow holds more for an attack
        if not 0 < getattr(given, name) <= most:
            option = f"--{name.replace('_', '-')}"
            raise AimmatError(f"{option} must be above 0 and at most {most}, got {getattr(given, name):g}")
    if not 0 <= given.port <= 65535:
        raise AimmatError(f"--port must be from 0 to 65535, got {given.port}; 0 takes any free one")
    try:
        import uvicorn

        from aimmat.demo.server import application
    except ModuleNotFoundError as error:
        raise AimmatError(
            f"the demo needs the package {error.name}, which is not installed; pip install 'aimmat[demo]'"
        ) from error
    import aimmat

    with _listen(given.host, given.port) as listener:  # before the weights: a port that is taken is said at once
        keep_memory()
        predictor = aimmat.load(given.weights, device=given.device)
        limits = Limits(round(given.max_mb * 1e6), round(given.max_megapixels * 1e6))
        app = application(predictor, _title(given.weights), limits)
        server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", ws="none", log_level="warning", timeout_graceful_shutdown=GRACE)
        )
        host, port = listener.getsockname()[:2]
        print(f"open http://{f'[{host}]' if ':' in host else host}:{port} in a browser; Ctrl-C ends it", flush=True)
        server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise AimmatError(
            f"cannot listen on port {port} of {host}: {(error.strerror or str(error)).lower()}; "
            f"choose another --port (0 takes any free one) or --host"
        ) from error


def _title(weights: str) -> str:
    """What the page calls the network: a run's folder or a file, without the way there."""
    path = Path(weights)
    return path.resolve().parent.name if path.name == "model.safetensors" else path.name
