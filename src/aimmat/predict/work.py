"""Pictures through the network and into files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from aimmat.console import sentence
from aimmat.functional.fusion import likeliest_class
from aimmat.images import write_alpha
from aimmat.inference import Predictor, Strategy, build_strategy
from aimmat.inference.cutout import cut_out, foreground_colours, lay_on
from aimmat.predict.inputs import Photo, read_photo
from aimmat.predict.outputs import Job, Look, is_hopeless, write_picture
from aimmat.schema import AimmatError, Prediction, Protocol

Outcome = tuple[Job, str | None]  # None, or the sentence that says why there is no result


def strategy_of(current: Strategy, name: str, options: dict[str, Any]) -> Strategy:
    """Change the options of a strategy, or take another one, which keeps its protocol.

    Args:
        current: the strategy that the weights were tested with.
        name: of the wanted one.
        options: those that differ from the current one's, or from the defaults of another.

    Returns:
        The strategy.

    Raises:
        AimmatError: an unknown option, or a value out of range.
    """
    if type(current).__name__.lower() != name:
        return build_strategy(name, protocol=_protocol(current), **options)
    return build_strategy(name, **(vars(current) | options)) if options else current


def predict_files(predictor: Predictor, jobs: Iterable[Job], look: Look, batch: int = 1) -> Iterator[Outcome]:
    """Read, predict and write pictures.

    Args:
        predictor: its network and strategy are applied.
        jobs: the pictures and the files to make of each.
        look: what the files hold.
        batch: most pictures at once; only pictures of one size that follow each other are.

    Yields:
        Each job when it is done or has failed; the failure of one does not touch the others.

    Raises:
        AimmatError: no result could be written at all, such as on a full disk, or the network has not what is asked of
            it.
    """
    group: list[tuple[Job, Photo]] = []
    for job in jobs:
        try:
            photo = read_photo(job.path)
        except Exception as error:  # whatever is wrong with one file
            yield job, _named(job, error)
            continue
        if group and photo.colours.shape != group[0][1].colours.shape:
            yield from _predict_group(predictor, group, look)
            group = []
        group.append((job, photo))
        if len(group) == batch:
            yield from _predict_group(predictor, group, look)
            group = []
    if group:
        yield from _predict_group(predictor, group, look)


@torch.inference_mode()
def _predict_group(predictor: Predictor, group: Sequence[tuple[Job, Photo]], look: Look) -> Iterator[Outcome]:
    try:
        colours = torch.from_numpy(np.stack([photo.colours for _, photo in group]))
        images = colours.to(predictor.device).permute(0, 3, 1, 2).contiguous().float() / 255
        prediction = predictor.predict(images)
    except Exception as error:
        if len(group) == 1:
            yield group[0][0], _named(group[0][0], error)
        else:  # one may pass where several do not fit into memory
            for one in group:
                yield from _predict_group(predictor, [one], look)
        return
    for index, (job, photo) in enumerate(group):
        own = slice(index, index + 1)
        semantic, matting = (None if part is None else part[own].float() for part in prediction[:2])
        said = Prediction(semantic, matting, prediction.alpha[own].float())
        try:
            _write(job, photo, images[own], said, look, _protocol(predictor.strategy))
        except _Lacking:
            raise
        except Exception as error:
            if is_hopeless(error):
                raise
            yield job, _named(job, error)
        else:
            yield job, None


def _write(job: Job, photo: Photo, image: Tensor, prediction: Prediction, look: Look, protocol: Protocol) -> None:
    alpha = _array(prediction.alpha)
    for kind, path in job.targets.items():
        if kind == "matte" or (kind == "main" and look.matte):
            write_alpha(path, alpha, protocol, look.bits)
        elif kind == "main":
            colours = _levels(foreground_colours(image, prediction.alpha, look.fg))
            picture = (
                cut_out(colours, alpha, look.premultiplied)
                if look.background is None
                else lay_on(_fitted(look.background, alpha.shape), colours, alpha)
            )
            write_picture(path, picture, photo.profile, look.quality)
        elif kind == "matting":
            write_alpha(path, _array(_part(prediction.matting, "matting")), protocol, look.bits)
        elif kind == "semantic":
            write_picture(path, _levels(_part(prediction.semantic, kind).softmax(dim=1)))
        else:
            classes = _array(likeliest_class(_part(prediction.semantic, "semantic")))
            write_picture(path, np.array([0, 128, 255], np.uint8)[classes])


class _Lacking(AimmatError):
    """The network has no such decoder, for no picture."""


def _part(part: Tensor | None, name: str) -> Tensor:
    if part is None:
        option = "--save-parts" if name == "matting" else "--save-trimap and --save-parts"
        raise _Lacking(f"this network has no {name} decoder; leave {option} out")
    return part


def _array(one: Tensor) -> np.ndarray:
    """(1, 1, H, W) as (H, W)."""
    return one[0, 0].cpu().numpy()


def _levels(colours: Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (colours[0] * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def _fitted(background: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A picture scaled to cover the size and cropped around its middle; a colour as it is."""
    if background.ndim == 1:
        return background
    fitted = ImageOps.fit(Image.fromarray(background), (size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def _protocol(strategy: Strategy) -> Protocol:
    return getattr(strategy, "protocol", "paper")


def _named(job: Job, error: Exception) -> str:
    """What is wrong with a picture, with its name."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"{job.path}: there is not enough memory for it; give a smaller --max-side, or shrink the picture"
    said = sentence(error)
    return said if str(job.path) in said else f"{job.path}: {said}"
