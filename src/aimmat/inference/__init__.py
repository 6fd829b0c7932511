"""From a picture of any size and form to its matte: strategies and the predictor that applies one."""

from aimmat.inference.predictor import Predictor
from aimmat.inference.strategies import Hybrid, Resize, Strategy, Tile, build_strategy, working_size

__all__ = ["Hybrid", "Predictor", "Resize", "Strategy", "Tile", "build_strategy", "working_size"]
