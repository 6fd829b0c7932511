"""Scenes to train and test on: where their files lie, procedural ones, and the datasets that deliver them."""

from aimmat.data.datasets import DATASETS, DatasetInfo, Survey, read_dataset, survey
from aimmat.data.layouts import SAMPLE_MANIFEST, Entry, read_folder, read_manifest, read_types, write_manifest
from aimmat.data.scenes import (
    CutoutScenes,
    EpochBatches,
    EpochSampler,
    Key,
    MixedScenes,
    SceneDataset,
    SceneSource,
    SyntheticScenes,
    shared_out,
)
from aimmat.data.transforms import geometric, photometric

__all__ = [
    "DATASETS",
    "SAMPLE_MANIFEST",
    "CutoutScenes",
    "DatasetInfo",
    "Entry",
    "EpochBatches",
    "EpochSampler",
    "Key",
    "MixedScenes",
    "SceneDataset",
    "SceneSource",
    "Survey",
    "SyntheticScenes",
    "geometric",
    "photometric",
    "read_dataset",
    "read_folder",
    "read_manifest",
    "read_types",
    "shared_out",
    "survey",
    "write_manifest",
]
