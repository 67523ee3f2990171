"""Score recordings in parallel, within a time budget, and on several machines.

Threads decode recordings and compute their spectrograms while OpenVINO computes windows; the number of blocks in
memory is bounded, so memory depends neither on the number of recordings nor on their length. Scores are stored as
Parquet parts, and everything else (means, post-processing, files) is made from them.
"""

from ..models.ensemble import Ensemble, from_bundles
from .api import RunOptions, predict
from .blocks import pool_rows, score_recording
from .budget import Budget, process_age_s
from .outputs import FORMATS, OutputOptions, read_members
from .result import Result
from .spec import Windowing
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
    "from_bundles",
    "pool_rows",
    "predict",
    "process_age_s",
    "read_members",
    "score_recording",
]
