"""Which of several trainings is better, and how sure that is.

Conventions
-----------
Whatever is compared is a `Compared`: a run's folder or a bundle, and its *answers*, what it gave on labelled
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

from ...config.diff import differs
from ...scores.evaluation import Answers, read_answers, read_truth, write_answers
from ...train.grid import run_named
from .evaluate import on_soundscapes
from .render import show, write
from .runs import Compared, read
from .variants import table

__all__ = [
    "Answers",
    "Compared",
    "differs",
    "on_soundscapes",
    "read",
    "read_answers",
    "read_truth",
    "run_named",
    "show",
    "table",
    "write",
    "write_answers",
]
