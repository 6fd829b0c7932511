"""Metrics over a test set: each picture measured, then averaged over pictures, types and categories."""

from aimmat.functional.metrics import measure
from aimmat.metrics.matting import METRICS, MattingMetrics
from aimmat.metrics.semantic import SemanticMetrics

__all__ = ["METRICS", "MattingMetrics", "SemanticMetrics", "measure"]
