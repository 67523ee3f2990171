"""Recordings -> score table, in parallel, within a budget, and over many machines.

Threads decode recordings and compute their pictures while OpenVINO answers windows; what is in flight is
bounded, so memory follows neither the number of recordings nor their length. What is scored is kept as Parquet
parts, and everything else (means, post-processing, files) is made of them.
"""

from ..models.ensemble import Ensemble, from_bundles
from ..scores import detections
from .api import RunOptions, predict
from .blocks import Windowing, pool_rows, score_recording
from .budget import Budget, process_age_s
from .outputs import FORMATS, OutputOptions, read_members
from .result import Result
from .workers import Workers

__all__ = [
    "FORMATS",
    "Budget",
    "Ensemble",
    "OutputOptions",
    "Result",
    "RunOptions",
    "Windowing",
    "Workers",
    "detections",
    "from_bundles",
    "pool_rows",
    "predict",
    "process_age_s",
    "read_members",
    "score_recording",
]
