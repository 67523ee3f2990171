"""Every stage between a recording and its rows as arrays, and the first stage at which two pipelines differ.

`trace` runs the code of `bcsed.predict` and returns its intermediate arrays. `from_arrays` takes the arrays of another
pipeline, such as a notebook, by the names of the stages (`STAGES`). `compare` names the first stage at which two
traces differ, the size and position of the difference, and its cause if the arrays show it.
"""

from .api import N_ROWS, trace
from .compare import TOLERANCES, StageDifference, TraceDifference, compare
from .stages import STAGES, Trace, from_arrays, read, write

__all__ = [
    "N_ROWS",
    "STAGES",
    "TOLERANCES",
    "StageDifference",
    "Trace",
    "TraceDifference",
    "compare",
    "from_arrays",
    "read",
    "trace",
    "write",
]
