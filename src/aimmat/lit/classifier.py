"""An encoder trained as a classifier, so that a matting network can start from it: network, module, data, schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from aimmat import models
from aimmat.data.classes import ClassDataset
from aimmat.lit.datamodule import MattingDataModule, _one_thread
from aimmat.lit.losses import check_finite
from aimmat.lit.steps import WholeSteps
from aimmat.schema import AimmatError
from aimmat.weights import save_resnet
from aimmat.weights.backbones import encoder_of, kind_of

CLASSES = 1000  # of ImageNet, and of the classifier in the released files


class Classifier(nn.Module):
    """The encoder of a matting network, the mean of its last map, and one linear layer.

    Args:
        model: name and switches of the network, as `aimmat.build` takes them.

    Raises:
        AimmatError: the network has no ResNet-34.

    Source:
        He et al., CVPR 2016, Table 1, last row.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        net = models.build(**model)
        self.encoder = encoder_of(net)
        self.fc = nn.Linear(self.encoder.channels[-1], CLASSES)
        for name in ("mean", "std"):  # so the encoder sees here what the matting network will show it
            self.register_buffer(name, getattr(net, name), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W), RGB in [0, 1] -> logits of the classes, (B, 1000)."""
        deepest = self.encoder((image - self.mean) / self.std).maps[-1]
        logits: Tensor = self.fc(deepest.mean(dim=(2, 3)))
        return logits


class ClassifierModule(WholeSteps):
    """Train the encoder of a matting network to name what a picture shows.

    Args:
        model: name and switches of the network, as `aimmat.build` takes them.
        optimizer: makes the optimiser of the parameters.
        schedule: makes a learning-rate schedule of `(optimizer, total_steps=...)`; None keeps the rate.
        prefix: put before the logged names: train/loss, and val/top1 and val/top5, shares of the pictures from 0 to 1.

    Raises:
        AimmatError: the network has no ResNet-34.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        optimizer: Callable[..., Optimizer] | None = None,
        schedule: Callable[..., Any] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self.net = Classifier(model)
        self.optimizer, self.schedule, self.prefix = optimizer, schedule, prefix
        self.top1, self.top5 = (MulticlassAccuracy(CLASSES, top_k=k, average="micro") for k in (1, 5))

    @property
    def kind(self) -> str:
        """What `load_backbone` has to be told of the saved weights: r34_mp or resnet34."""
        return kind_of(self.net.encoder)

    def save(self, path: Path) -> None:
        """Write the encoder and its classifier as a bare ResNet-34; see `aimmat.weights.save_resnet`."""
        save_resnet(path, self.net.encoder, self.net.fc)

    def forward(self, image: Tensor) -> Tensor:
        """The network itself: (B, 3, H, W) in [0, 1] to logits (B, 1000)."""
        return self.net(image)  # type: ignore[no-any-return]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross-entropy."""
        terms = {"cross_entropy": F.cross_entropy(self.net(batch["image"]), batch["label"])}
        check_finite(terms, batch)  # type: ignore[arg-type]
        return self.learn(terms, batch_idx)

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Whether the class is the likeliest, and whether it is among the five likeliest."""
        logits, size = self.net(batch["image"]), len(batch["label"])
        for name, metric in (("top1", self.top1), ("top5", self.top5)):
            metric.update(logits, batch["label"])
            self.log(f"{self.prefix}val/{name}", metric, on_step=False, on_epoch=True, batch_size=size)

    def configure_optimizers(self) -> Any:
        """The optimiser, and the schedule stepped after every batch."""
        assert self.optimizer is not None
        optimizer = self.optimizer(self.net.parameters())
        if self.schedule is None:
            return optimizer
        schedule = self.schedule(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ClassesDataModule(MattingDataModule):
    """Loaders of crops and their classes; in training as `MattingDataModule` has it, in validation by whole batches.

    Args:
        train: the crops to learn from.
        val: others of the same classes; None goes without validation.
        batch_size: as for `MattingDataModule`; validation takes as many at a time as training does.
        num_workers: loader processes, of training and validation each.
        seed: of the order of the training samples.
        on_error: "stop" or "skip", as for `MattingDataModule`.
        device_batch_size: as for `MattingDataModule`.

    Raises:
        AimmatError: the splits have other classes, or more than the classifier; another word for `on_error`.
    """

    def __init__(
        self,
        train: ClassDataset,
        val: ClassDataset | None,
        batch_size: int = 256,
        num_workers: int = 0,
        seed: int = 0,
        on_error: str = "stop",
        device_batch_size: int | None = None,
    ) -> None:
        differing = sorted(set(train.classes) ^ set(val.classes)) if val else []
        if differing:
            raise AimmatError(
                f"only one of train and val has a class folder {differing[0]}"
                f"{f' (and {len(differing) - 1} more like it)' if len(differing) > 1 else ''}; "
                f"both must have the same, since their order numbers the classes"
            )
        if len(train.classes) > CLASSES:
            raise AimmatError(
                f"train has {len(train.classes):,} class folders, but the classifier tells {CLASSES:,} classes apart; "
                f"leave some out"
            )
        super().__init__(train, val, None, _in_range, batch_size, num_workers, seed, on_error, device_batch_size)

    def val_dataloader(self) -> DataLoader | list:
        """Batches in order."""
        one_by_one = super().val_dataloader()
        if isinstance(one_by_one, list):
            return one_by_one
        return DataLoader(
            one_by_one.dataset,
            batch_size=self.shared_out(self.trainer.world_size if self.trainer else 1)[0],
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )


def staircase(optimizer: Optimizer, total_steps: int, stairs: int = 3, factor: float = 0.1) -> StepLR:
    """A learning rate that falls at equal distances.

    Args:
        optimizer: with the rate to start from.
        total_steps: of the whole training.
        stairs: how many rates there are; each but the first begins after another `total_steps / stairs` steps.
        factor: of a rate to the one before.
    """
    return StepLR(optimizer, step_size=-(-total_steps // stairs), gamma=factor)


def _in_range(batch: dict[str, Any], augment: bool) -> Any:
    """The crops in [0, 1]; what is random about them was drawn by the worker."""
    return {**batch, "image": batch["image"].float() / 255}
