"""One LightningDataModule for every data set: workers deliver uint8 layers, the device composites them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from aimmat.data import EpochSampler
from aimmat.schema import Batch, Layers


class MattingDataModule(LightningDataModule):
    """Loaders for training, validation and test.

    Args:
        train: samples as `aimmat.data.SceneDataset` gives them, all of one size.
        val: the same, of any sizes; None goes without validation.
        test: the same, of any sizes.
        compose: makes a `Batch` of `Layers` on their device: `compose(layers, augment: bool)`.
        batch_size: training samples per step and process.
        num_workers: loader processes of the training set; validation and test load in the main process.
        seed: of the order of the training samples.
    """

    def __init__(
        self,
        train: Dataset,
        val: Dataset | None,
        test: Dataset | None,
        compose: Callable[..., Batch],
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.val, self.test = train, val, test
        self.compose = compose
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    def train_dataloader(self) -> DataLoader:
        """Shuffled, every epoch anew; an incomplete last batch is left out."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(len(self.train), self.seed, rank=rank, world_size=world_size)  # type: ignore[arg-type]
        return DataLoader(
            self.train,
            batch_size=min(self.batch_size, len(sampler)),
            sampler=sampler,
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_one_thread,
        )

    def val_dataloader(self) -> DataLoader | list:
        """One picture at a time, in order."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader | list:
        """One picture at a time, in order."""
        return self._in_order(self.test)

    def _in_order(self, dataset: Dataset | None) -> DataLoader | list:
        if dataset is None:
            return []
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        mine = torch.utils.data.Subset(dataset, range(rank, len(dataset), world_size))  # type: ignore[arg-type]
        return DataLoader(mine, batch_size=1)

    def on_after_batch_transfer(self, batch: Layers, dataloader_idx: int) -> Batch:
        """Composite on the batch's device."""
        return self.compose(batch, augment=bool(self.trainer and self.trainer.training))


def _one_thread(worker: int) -> None:
    """Keep OpenCV in a worker from using the cores of the other workers and of the training."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
