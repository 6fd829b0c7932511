"""Weights on disk, and the ready network that they make."""

from aimmat.weights.checkpoints import load_network, save_network

__all__ = ["load_network", "save_network"]
