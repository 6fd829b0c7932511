"""Lightning: the module around a network, its data, its losses, its callbacks."""

from aimmat.lit.callbacks import TestPictures, ValidationPanel
from aimmat.lit.checkpoints import SaveLast, WholeCheckpoints
from aimmat.lit.classifier import ClassesDataModule, ClassifierModule
from aimmat.lit.curve import CurveLogger
from aimmat.lit.datamodule import MattingDataModule
from aimmat.lit.losses import MattingLoss
from aimmat.lit.module import MattingModule

__all__ = [
    "ClassesDataModule",
    "ClassifierModule",
    "CurveLogger",
    "MattingDataModule",
    "MattingLoss",
    "MattingModule",
    "SaveLast",
    "TestPictures",
    "ValidationPanel",
    "WholeCheckpoints",
]
