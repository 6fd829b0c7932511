"""Lightning: the module around a network, its data, its losses, its callbacks."""

from aimmat.lit.callbacks import SaveOnExit, TestPictures, ValidationPanel, WholeCheckpoints
from aimmat.lit.datamodule import MattingDataModule
from aimmat.lit.losses import MattingLoss
from aimmat.lit.module import MattingModule

__all__ = [
    "MattingDataModule",
    "MattingLoss",
    "MattingModule",
    "SaveOnExit",
    "TestPictures",
    "ValidationPanel",
    "WholeCheckpoints",
]
