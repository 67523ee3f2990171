"""Which of several trainings is better, and how sure that is.

Conventions
-----------
Whatever is compared is a `ComparedRun`: a run's folder or a bundle, and its *answers*, what it gave on labelled
data that it did not learn from. Runs that differ only in their seed and in their fold are one *variant*, and
one line of the `table`.

Intervals are over recordings: whole recordings are drawn again and again, the same ones for all runs that
heard them, so that the *gain* of a variant over the first is a paired difference and usually much surer than
the two figures it is the difference of. What another seed would have changed is not in the interval; train
several seeds to see that. The best checkpoint was chosen on the very data that a run held out, so its figures
are a little too good there, alike for all; labelled soundscapes that no training saw (`on_soundscapes`) have
no such flaw.
"""

from __future__ import annotations

from ...config.diff import describe_difference
from ...scores.evaluation import Evaluation, read_evaluation, read_truth, write_evaluation
from ...train.grid import train_grid
from .evaluate import evaluate_on_soundscapes
from .render import format_table, write_table
from .runs import ComparedRun, read_run
from .variants import compare_variants

__all__ = [
    "ComparedRun",
    "Evaluation",
    "compare_variants",
    "describe_difference",
    "evaluate_on_soundscapes",
    "format_table",
    "read_evaluation",
    "read_run",
    "read_truth",
    "train_grid",
    "write_evaluation",
    "write_table",
]
