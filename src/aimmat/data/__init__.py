"""Scenes to train and test on: where their files lie, procedural ones, and the datasets that deliver them."""

from aimmat.data.layouts import SAMPLE_MANIFEST, Entry, read_folder, read_manifest
from aimmat.data.scenes import CutoutScenes, EpochSampler, Key, MixedScenes, SceneDataset, SceneSource, SyntheticScenes
from aimmat.data.transforms import geometric, photometric

__all__ = [
    "SAMPLE_MANIFEST",
    "CutoutScenes",
    "Entry",
    "EpochSampler",
    "Key",
    "MixedScenes",
    "SceneDataset",
    "SceneSource",
    "SyntheticScenes",
    "geometric",
    "photometric",
    "read_folder",
    "read_manifest",
]
