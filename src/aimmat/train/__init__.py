"""`python -m aimmat.train`: the stages, the test, the tables and the gallery of one run, composed by Hydra."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # importing albumentations asks the package index otherwise

from aimmat.tables.runs import run_name, switches
from aimmat.train.command import main, run
from aimmat.train.plan import check, config_dir, read_data, sequence, stage_data

__all__ = ["check", "config_dir", "main", "read_data", "run", "run_name", "sequence", "stage_data", "switches"]
