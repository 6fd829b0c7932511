"""Callbacks: pictures for loggers and gallery, mattes as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.nn import functional as F

from aimmat.images import write_alpha
from aimmat.lit.module import MattingModule
from aimmat.lit.processes import gathered
from aimmat.schema import Batch, Category, ImageType, Prediction, Protocol, SemanticClass
from aimmat.tables import GalleryItem


class ValidationPanel(Callback):
    """One picture of the first validation images for W&B or TensorBoard: input, truth, alpha, error, trimaps.

    Args:
        pictures: how many images, at most 16: one montage an epoch stays small.
        side: longer side of a thumbnail, pixels.
    """

    def __init__(self, pictures: int = 8, side: int = 128) -> None:
        self.pictures, self.side = min(pictures, 16), side
        self._strips: list[np.ndarray] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first pictures."""
        if len(self._strips) < self.pictures and not trainer.sanity_checking:
            self._strips.append(_strip(outputs["prediction"], batch, self.side))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the montage to the loggers that show pictures."""
        if not self._strips or not trainer.is_global_zero:
            return
        width = max(strip.shape[1] for strip in self._strips)
        montage = np.vstack([np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in self._strips])
        self._strips = []
        step = max(trainer.global_step - 1, 0)  # as Lightning counts for the metrics
        key = f"{getattr(pl_module, 'prefix', '')}val/panel"
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                caption = "input, truth, alpha, error, true trimap, predicted trimap"
                logger.log_image(key, [montage], step=step, caption=[caption], file_type=["jpg"])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(key, montage, step, dataformats="HWC")


class TestPictures(Callback):
    """Keep what the gallery shows of the test, at thumbnail size.

    Args:
        pictures: how many at most, the first of the test; each process keeps its share, all have them at the end.
        side: longer side of a thumbnail, pixels.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    def __init__(self, pictures: int = 80, side: int = 256) -> None:
        self.pictures, self.side = pictures, side
        self.items: list[GalleryItem] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self.items = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep a picture with its row."""
        assert isinstance(pl_module, MattingModule)
        if len(self.items) * trainer.world_size >= self.pictures:
            return
        row = pl_module.rows[-1]
        self.items.append(gallery_item(row.name, row.scores, outputs["prediction"], batch, self.side))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put together what the processes kept."""
        self.items = gathered(self.items)[: self.pictures]


class WriteMattes(Callback):
    """Write the predicted matte of every test picture, an 8-bit PNG under the picture's name.

    Args:
        folder: where they go, made when the first is written.
        protocol: how values become levels, see `images.to_uint8`.
    """

    def __init__(self, folder: str | Path, protocol: Protocol = "paper") -> None:
        self.folder, self.protocol = Path(folder), protocol

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the mattes of a batch."""
        for name, alpha in zip(batch["name"], outputs["prediction"].alpha, strict=True):
            write_alpha(self.folder / f"{name}.png", alpha[0].float().cpu().numpy(), self.protocol)


def gallery_item(
    name: str, scores: dict[str, float], prediction: Prediction, batch: Batch, side: int = 256
) -> GalleryItem:
    """What the gallery shows of the one picture in a batch, its longer side at most `side` pixels."""
    return GalleryItem(
        name=name,
        type=list(ImageType)[int(batch["type"][0])],
        category=list(Category)[int(batch["category"][0])],
        image=_thumbnail(batch["image"], side),
        trimap=None if prediction.semantic is None else _trimap_grey(prediction.semantic.argmax(1, keepdim=True), side),
        matting=None if prediction.matting is None else _thumbnail(prediction.matting, side)[..., 0],
        alpha=_thumbnail(prediction.alpha, side)[..., 0],
        truth=_thumbnail(batch["alpha"], side)[..., 0],
        scores=scores,
    )


def _strip(prediction: Prediction, batch: Batch, side: int) -> np.ndarray:
    error = (prediction.alpha - batch["alpha"]).abs()
    parts = [_thumbnail(part, side) for part in (batch["image"], batch["alpha"], prediction.alpha, error)]
    parts.append(_trimap_grey(batch["semantic"], side)[..., None])
    if prediction.semantic is not None:
        parts.append(_trimap_grey(prediction.semantic.argmax(1, keepdim=True), side)[..., None])
    return np.hstack([np.broadcast_to(part, (*part.shape[:2], 3)) for part in parts])


def _thumbnail(image: Tensor, side: int) -> np.ndarray:
    """(1, C, H, W) in [0, 1] to (h, w, C) uint8."""
    zoom = min(1.0, side / max(image.shape[-2:]))
    size = [max(1, round(length * zoom)) for length in image.shape[-2:]]
    small = F.interpolate(image[:1].float(), size, mode="bilinear", antialias=True)
    return np.asarray(small[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy())


def _trimap_grey(classes: Tensor, side: int) -> np.ndarray:
    """(1, 1, H, W) class indices to (h, w) of 0, 128 and 255."""
    zoom = min(1.0, side / max(classes.shape[-2:]))
    size = [max(1, round(length * zoom)) for length in classes.shape[-2:]]
    small = F.interpolate(classes[:1].float(), size, mode="nearest")[0, 0]
    grey = torch.full_like(small, 128)
    grey[small == SemanticClass.BACKGROUND], grey[small == SemanticClass.FOREGROUND] = 0, 255
    return np.asarray(grey.byte().cpu().numpy())
