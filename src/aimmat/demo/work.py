"""What the page shows of a picture: matte, cut-out, trimap, and the type that the network takes it for."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from aimmat.images import decode_image
from aimmat.schema import AimmatError, ImageType

if TYPE_CHECKING:
    from torch import Tensor

    from aimmat.inference import Predictor

LONGEST = 32_767  # pixels of a side: browsers draw no larger canvas

OPAQUE = 0.25  # least certain foreground in the subject of an SO picture; 98 % of the sample set's have more
SPREAD = 0.15  # most certain background of an NS picture; STM pictures of the sample set have 0.32 or more


class TooLarge(AimmatError):
    """More bytes or pixels than the page accepts."""


class Limits(NamedTuple):
    """The largest picture that is accepted."""

    bytes: int = 32_000_000
    pixels: int = 25_000_000


class Photo(NamedTuple):
    """A picture that was sent."""

    colours: np.ndarray  # (H, W, 3) uint8, upright
    profile: bytes | None  # ICC, of RGB colours


class Shares(NamedTuple):
    """How much of a picture the network calls what; the three add up to 1."""

    background: float
    transition: float
    foreground: float


class Result(NamedTuple):
    """What is shown; pictures are files in memory, all of the photo's size."""

    photo: bytes  # JPEG, as the network saw it
    matte: bytes  # grey PNG
    cutout: bytes  # RGBA PNG, straight colours
    trimap: bytes | None  # grey PNG, 0, 128 and 255; None where the network predicts none
    shares: Shares | None


def read(content: bytes, name: str, limits: Limits) -> Photo:
    """Read a picture from memory, if it is not too large.

    Args:
        content: of the file, in any format that Pillow reads; an animation gives its first frame.
        name: of the file, for errors.
        limits: the largest picture that is read. Its pixels are counted before they are decoded.

    Returns:
        The picture; its profile is None if it has none, or one of CMYK or grey, which its RGB colours no longer have.

    Raises:
        TooLarge: more pixels than the limit, or a side that no browser draws.
        AimmatError: the content is no picture, or a damaged one.
    """
    profile = None
    try:
        with Image.open(BytesIO(content)) as image:
            if image.width * image.height > limits.pixels or max(image.size) > LONGEST:
                raise TooLarge(
                    f"{name} has {image.width} x {image.height} pixels; the page takes up to "
                    f"{limits.pixels / 1e6:g} megapixels and {LONGEST} a side: shrink it first"
                )
            if image.mode.startswith(("RGB", "P")):
                profile = image.info.get("icc_profile")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(
            f"{name} has far more than the {limits.pixels / 1e6:g} megapixels that the page takes: shrink it first"
        ) from None
    except (OSError, ValueError, SyntaxError):
        pass  # said below, in the words of every command
    return Photo(decode_image(content, name), profile)


def cut(predictor: Predictor, photo: Photo) -> Result:
    """Predict a picture and make the files that the page shows.

    Args:
        predictor: its network and strategy are applied.
        photo: the picture.

    Returns:
        The results at the picture's own size.
    """
    import torch  # here, as `import aimmat.demo` and --help need not wait for it

    from aimmat.functional.fusion import likeliest_class
    from aimmat.images import to_uint8
    from aimmat.inference.cutout import cut_out, foreground_colours

    with torch.inference_mode():
        image = torch.from_numpy(photo.colours).to(predictor.device).permute(2, 0, 1)[None].float() / 255
        prediction = predictor.predict(image)
        alpha = prediction.alpha.float()
        classes = None if prediction.semantic is None else likeliest_class(prediction.semantic)[0, 0].cpu().numpy()
        del prediction  # before the colours are solved for, which takes as much memory again
        colours = (foreground_colours(image, alpha)[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    matte = _array(alpha)
    return Result(
        photo=_file(photo.colours, "JPEG", photo.profile),
        matte=_file(to_uint8(matte)),
        cutout=_file(cut_out(colours, matte), profile=photo.profile),
        trimap=None if classes is None else _file(np.array([0, 128, 255], np.uint8)[classes]),
        shares=None if classes is None else shares_of(classes),
    )


def shares_of(classes: np.ndarray) -> Shares:
    """How much of a predicted trimap is what.

    Args:
        classes: class index, 0 background, 1 transition, 2 foreground; any shape.

    Returns:
        The shares.

    >>> shares_of(np.array([[0, 0], [1, 2]]))
    Shares(background=0.5, transition=0.25, foreground=0.25)
    """
    counts = np.bincount(classes.ravel(), minlength=3) / classes.size
    return Shares(*(float(count) for count in counts))


def type_of(shares: Shares) -> ImageType | None:
    """The type that a network takes a picture for: that whose generalised trimap its own map resembles.

    A trimap (SO) has certain foreground in its subject, a duomap (STM) background and transition alone, a unimap (NS)
    transition alone. Predicted maps are never so pure. The subject is what is not background: from a quarter of certain
    foreground on it is opaque; below, the picture is non-salient if less than 15 % of it is background.

    Args:
        shares: of the predicted map.

    Returns:
        The type; None if all is background.

    Source:
        AIM paper, section 3.2, for the three maps; the two limits are ours.

    >>> type_of(Shares(0.6, 0.1, 0.3)), type_of(Shares(0.6, 0.35, 0.05)), type_of(Shares(0.02, 0.96, 0.02))
    (<ImageType.SO: 'SO'>, <ImageType.STM: 'STM'>, <ImageType.NS: 'NS'>)
    """
    subject = shares.transition + shares.foreground
    if subject == 0:
        return None
    if shares.foreground >= OPAQUE * subject:
        return ImageType.SO
    return ImageType.NS if shares.background < SPREAD else ImageType.STM


def _array(alpha: Tensor) -> np.ndarray:
    """(1, 1, H, W) as (H, W)."""
    return alpha[0, 0].cpu().numpy()


def _file(pixels: np.ndarray, format: str = "PNG", profile: bytes | None = None) -> bytes:
    file = BytesIO()
    options = {"quality": 92} if format == "JPEG" else {"compress_level": 1}  # higher ones cost seconds and save little
    Image.fromarray(pixels).save(file, format=format, icc_profile=profile, **options)
    return file.getvalue()
