"""Problems of a score table, and differences between two tables of the same recordings.

`examine` checks one table, `compare` two, `diagnose` reads one or two files and does both. Neither a network nor
decoded audio is needed: recordings are opened for their durations, and to recognise digital silence.

On one core, a table of 700 x 12 rows and 234 classes is read from CSV and checked in about a second, and two of them
are compared in five to ten (``tests/benchmarks/bench_doctor.py``).
"""

from ...scores.checks.finding import Finding
from .api import Diagnosis, diagnose, examine, read_scores
from .compare import Comparison, compare

__all__ = ["Comparison", "Diagnosis", "Finding", "compare", "diagnose", "examine", "read_scores"]
