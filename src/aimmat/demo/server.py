"""The demo's server: the page, the sample photographs, and the one question it answers, a picture for its results."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import PurePath
from secrets import token_hex
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aimmat.console import sentence
from aimmat.demo.work import OPAQUE, SPREAD, Limits, Result, TooLarge, cut, read, type_of
from aimmat.schema import AimmatError

if TYPE_CHECKING:
    from aimmat.inference import Predictor

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

SAMPLES = {  # photographs of the sample set and who took them
    "chelsea.jpg": "A cat; Stefan van der Walt, CC0",
    "astronaut.jpg": "An astronaut; NASA, public domain",
    "dandelions.jpg": "Dandelions; Clemens Engelhardt, CC0",
    "coffee.jpg": "A cup of coffee; Rachel Michetti, CC0",
    "flower.jpg": "A flower; vultilion, CC BY 2.0",
}


def application(predictor: Predictor, title: str, limits: Limits = Limits()) -> Starlette:  # noqa: B008, it is a tuple
    """Make the server.

    `GET /` is the page. `POST /predict?name=NAME` takes the bytes of a picture as its whole body and answers with
    multipart/form-data: the pictures of a `Result`, and `facts`, JSON with the size, type and shares; or with JSON,
    {"error": a sentence}: 413 for what is too large, 400 for what is no picture, 403 for what another site's page sent.

    Args:
        predictor: computes one picture at a time; those that come meanwhile wait.
        title: what the page calls the network.
        limits: the largest picture that is accepted.

    Returns:
        An ASGI application.
    """
    said = {
        "title": f"{type(predictor.net).__name__} · {title}",
        "device": str(predictor.device),
        "bytes": limits.bytes,
        "pixels": limits.pixels,
        "opaque": OPAQUE,
        "spread": SPREAD,
        "samples": SAMPLES,
    }
    html = files("aimmat").joinpath("demo", "page.html").read_text(encoding="utf-8")
    html = html.replace("{{facts}}", json.dumps(said).replace("<", "\\u003c"))
    one_at_a_time = asyncio.Lock()
    worker = ThreadPoolExecutor(1)  # always the same: each thread that torch is called from gets a pool of its own

    async def page(request: Request) -> Response:
        return Response(html, media_type="text/html", headers=HEADERS)

    async def sample(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in SAMPLES:
            return _error(404, f"there is no sample picture {name}")
        content = files("aimmat").joinpath("data", "sample", "photos", name).read_bytes()
        return Response(content, media_type="image/jpeg", headers=HEADERS)

    def compute(content: bytes, name: str) -> Response:
        start = perf_counter()
        photo = read(content, name, limits)
        return _answer(cut(predictor, photo), photo.colours.shape, start)

    async def predict(request: Request) -> Response:
        if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            return _error(403, "pictures are taken from this server's own page alone")
        name = PurePath(request.query_params.get("name", "")).name[:100] or "the picture"
        try:
            content = await _body(request, name, limits.bytes)
            async with one_at_a_time:
                if await request.is_disconnected():
                    return Response(status_code=499)  # nobody waits for it any more
                return await asyncio.get_running_loop().run_in_executor(worker, compute, content, name)
        except TooLarge as error:
            return _error(413, sentence(error))
        except AimmatError as error:
            return _error(400, sentence(error))
        except (RuntimeError, MemoryError) as error:  # torch's word for a device without memory is the first
            return _error(500, f"{name} could not be computed: {sentence(error)}")

    return Starlette(
        routes=[Route("/", page), Route("/sample/{name}", sample), Route("/predict", predict, methods=["POST"])]
    )


async def _body(request: Request, name: str, limit: int) -> bytes:
    """The whole body, in memory. What is too much is read and dropped: who is cut off never sees the answer."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        else:
            parts.clear()
    if size > limit:
        raise TooLarge(
            f"{name} has {size / 1e6:.1f} MB; the page takes up to {limit / 1e6:g} MB: shrink it, or save it as JPEG"
        )
    return b"".join(parts)


def _answer(result: Result, size: tuple[int, ...], start: float) -> Response:
    """The results as multipart/form-data, which `Response.formData()` of every browser reads."""
    kind = None if result.shares is None else type_of(result.shares)
    facts: dict[str, Any] = {
        "width": size[1],
        "height": size[0],
        "type": kind,
        "shares": None if result.shares is None else result.shares._asdict(),
        "seconds": round(perf_counter() - start, 2),
    }
    boundary = token_hex(16)
    parts = [
        _part(boundary, "facts", "application/json", json.dumps(facts).encode()),
        _part(boundary, "photo", "image/jpeg", result.photo),
        _part(boundary, "matte", "image/png", result.matte),
        _part(boundary, "cutout", "image/png", result.cutout),
    ]
    if result.trimap is not None:
        parts.append(_part(boundary, "trimap", "image/png", result.trimap))
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return Response(body, headers=HEADERS, media_type=f"multipart/form-data; boundary={boundary}")


def _part(boundary: str, name: str, media_type: str, content: bytes) -> bytes:
    file = f'; filename="{name}"' if media_type.startswith("image/") else ""  # without one it is text
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\nContent-Type: {media_type}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, HEADERS)
