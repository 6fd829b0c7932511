"""Nothing leaves the machine while tests run, and nothing is written outside their folders."""

import os

os.environ |= {
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}

import cv2
import pytest
import torch


@pytest.fixture(autouse=True)
def _at_home(tmp_path, monkeypatch):
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    cv2.setNumThreads(0)  # forked workers cannot share its threads
    torch.set_num_threads(1)  # the tests run beside each other
