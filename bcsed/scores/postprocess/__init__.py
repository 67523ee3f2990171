"""Post-processing stages of score tables, and the mean of several tables.

A table is a score table of `bcsed.scores.table`. A stage keeps rows, columns and their order, and processes each
recording separately, in time order: the result is bit-identical if tables of one recording each are processed one by
one. `combine` by ranks and `spearman` need all rows and are not stages.

* `Smooth` : weighted mean with the neighbouring rows, with a kernel per taxon.
* `TopRows` : lowers a class in recordings without high scores of the class.
* `Power` : sharpens if above 1. Alone it does not change the order within a class, hence not the ROC-AUC; before or
  after a stage that mixes rows it does.

The same stage has gained in one published solution and lost in another: `bcsed evaluate --ablate` evaluates each on
and off.
"""

from .combine import MEANS, combine, spearman
from .parse import COMMON, apply, check_stages, describe, parse_stages
from .stages import MemberStage, Power, Smooth, Stage, TopRows, split_stages
from .weights import ClassWeights, Weight, parse_weights

__all__ = [
    "COMMON",
    "MEANS",
    "ClassWeights",
    "MemberStage",
    "Power",
    "Smooth",
    "Stage",
    "TopRows",
    "Weight",
    "apply",
    "check_stages",
    "combine",
    "describe",
    "parse_stages",
    "parse_weights",
    "spearman",
    "split_stages",
]
