"""Weights on disk, and the ready network that they make."""

from aimmat.weights.backbones import load_backbone
from aimmat.weights.checkpoints import (
    load_network,
    read_network,
    save_backbone,
    save_network,
    save_release,
    save_resnet,
)
from aimmat.weights.releases import RELEASES, Release, fetch

__all__ = [
    "RELEASES",
    "Release",
    "fetch",
    "load_backbone",
    "load_network",
    "read_network",
    "save_backbone",
    "save_network",
    "save_release",
    "save_resnet",
]
