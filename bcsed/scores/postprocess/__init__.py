"""Score table -> score table, one frozen step each; and the mean of several tables.

Conventions
-----------
A table is one of `bcsed.scores.table`: row ids ``<recording>_<end second>``, scores in [0, 1]. A step keeps its rows,
columns and their order, and works on each recording's rows alone, in the order of time: tables of one recording
each, one after the other, come to the same bits as all of them at once. `rank_columns`, `combine` by ranks and
`spearman` are about all rows, and are no steps.

Steps
-----
* `Smooth` : a row listens to its neighbours, with a kernel per taxon.
* `TopRows` : a recording in which a class is never sure counts less.
* `Power` : above 1 it sharpens. Alone it changes no ranking within a class, hence no ROC-AUC; before or after
  a step that mixes rows, it does.

In the published solutions the same step has gained and lost: `bcsed score --ablate` scores each on and off.
"""

from __future__ import annotations

from .combine import MEANS, combine, logits, rank_columns, spearman
from .parse import COMMON, apply, check_stages, describe, parse_stages
from .stages import Power, Smooth, Stage, TopRows, recordings

__all__ = [
    "COMMON",
    "MEANS",
    "Power",
    "Smooth",
    "Stage",
    "TopRows",
    "apply",
    "check_stages",
    "combine",
    "describe",
    "logits",
    "parse_stages",
    "rank_columns",
    "recordings",
    "spearman",
]
