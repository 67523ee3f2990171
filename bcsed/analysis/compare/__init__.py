"""Compare finished runs and bundles on the same labelled data.

Runs that differ only in seed and fold form one *variant*, which is one line of the table of `compare_variants`.

The intervals are a bootstrap over recordings: complete recordings are resampled, the same ones for all runs that were
evaluated on them. The *gain* of a variant over the first is thus a paired difference, whose interval is usually much
narrower than those of the two figures. The interval does not cover the variance between seeds; train several seeds to
see it. The best checkpoint was selected on the same held-out data, so its figures are slightly too high, for all runs
alike; labelled soundscapes that no training used (`evaluate_on_soundscapes`) do not have this bias.
"""

from .evaluate import evaluate_on_soundscapes
from .render import format_table, write_table
from .runs import ComparedRun, read_run
from .variants import compare_variants

__all__ = ["ComparedRun", "compare_variants", "evaluate_on_soundscapes", "format_table", "read_run", "write_table"]
