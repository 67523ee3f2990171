"""What is wrong with a score table; where two tables of the same recordings part.

`examine` looks at one table, `compare` at two, `diagnose` at whichever are given. Nothing here needs a network or
audio; recordings are opened for their durations only, and to see whether one of them is digital silence.

Seen on one core: a table of 700 x 12 rows and 234 classes, read from CSV and examined, in about a second; two of
them compared in a few (``tests/benchmarks/bench_doctor.py``).
"""

from ...scores.checks.finding import Finding
from .api import Diagnosis, diagnose, examine
from .compare import Comparison, compare
from .read import read_scores

__all__ = ["Comparison", "Diagnosis", "Finding", "compare", "diagnose", "examine", "read_scores"]
