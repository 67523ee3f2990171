"""Every stage between a recording and its rows, as arrays; and the first stage at which two pipelines part.

`trace` runs the code that `bcsed.predict` runs and keeps what it makes on the way. `foreign` takes the arrays of
another pipeline, a notebook's for instance, by the names of the stages (`bcsed.analysis.trace.stages.STAGES`). `compare`
names the first stage at which two traces differ, by how much, where, and, as far as the arrays say, why.
"""

from .api import N_ROWS, trace
from .compare import TOLERANCES, Stage, TraceDifference, compare
from .stages import STAGES, Trace, from_arrays, read, write

__all__ = [
    "N_ROWS",
    "STAGES",
    "TOLERANCES",
    "Stage",
    "Trace",
    "TraceDifference",
    "compare",
    "from_arrays",
    "read",
    "trace",
    "write",
]
