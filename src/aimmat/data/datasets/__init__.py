"""The data sets: what they are and how they are read."""

from aimmat.data.datasets.catalogue import DATASETS, DatasetInfo, Part
from aimmat.data.datasets.reader import Survey, read_dataset, survey

__all__ = ["DATASETS", "DatasetInfo", "Part", "Survey", "read_dataset", "survey"]
