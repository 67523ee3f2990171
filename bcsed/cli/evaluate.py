"""The command that compares scores with the truth: score, with each step on and off, each member in and out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd


def score(options: argparse.Namespace) -> int:
    """Compare a score table with the truth."""
    import numpy as np

    from ..scores import metrics
    from ..scores.checks.ids import split_row_id
    from ..scores.evaluation import read_truth
    from ..scores.table import check_table

    scores, members, told = _scores(options)
    check_table(scores, where=str(options.scores))
    truth = read_truth(options.truth, list(map(str, scores.columns)))
    known = metrics.align_tables(truth, scores, extra=True, where=str(options.scores))
    found = metrics.score_tables(truth, known)
    files = [split_row_id(row_id)[0] for row_id in truth.index]
    sure = ""
    if len(set(files)) > 1:
        low, high = metrics.bootstrap_auc(truth, known, files, rng=np.random.default_rng(0))
        sure = f" (95 % over recordings: {low:.3f} to {high:.3f})"
    print(
        f"macro ROC-AUC {found.macro_auc:.4f} over {found.n_classes} of {truth.shape[1]} classes, {found.n_rows} "
        f"rows{sure}; cmAP {found.cmap:.4f}, LRAP {found.lrap:.4f}"
    )
    if options.per_class:
        print(metrics.per_class(truth, known).to_string(index=False, float_format="%.4f"))
    ablation(options, truth, scores, members=members, **told)
    return 0


def score_options(add: Callable[..., Any]) -> None:
    """Add those of score."""
    add("scores", metavar="SCORES", help="a table like submission.csv, or a folder made by predict")
    add(
        "--truth",
        required=True,
        metavar="FILE",
        help="a table of 0 and 1, or labels: filename,start,end,primary_label",
    )
    add("--per-class", action="store_true", help="a line for each class")
    add(
        "--ablate",
        nargs="*",
        metavar="STEP",
        help="score each step on and off: smooth=W,W,W, smooth.TAXON=W,W,W, top=K, top=K,AMOUNT, power=E "
        "(without any: smooth=0.2,0.6,0.2 top=3); of a folder with members, each of these too",
    )
    add("--taxonomy", metavar="FILE", help="taxonomy.csv, for the kernels of taxa")


def _scores(options: argparse.Namespace) -> tuple[pd.DataFrame, dict[str, pd.DataFrame] | None, dict[str, Any]]:
    """Return a score table, its members where a folder holds them, and their weights and mean.

    To ablate steps, scores are wanted that have had none: those of the members, or of a run without any.
    """
    from pathlib import Path

    from ..scores import postprocess
    from ..scores.table import read_table

    folder = Path(options.scores)
    if not folder.is_dir():
        return read_table(folder), None, {}
    from ..predict import outputs
    from ..predict.outputs import read_members
    from ..predict.store import MANIFEST

    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        steps, kind = list(manifest["post_processing"]), str(manifest["mean"])
        weights = [float(model["weight"]) for model in manifest["models"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is no finished folder of predict: {MANIFEST} says nothing of its models.") from error
    members = read_members(folder) if (folder / outputs.MEMBERS).is_dir() else None
    told = {"weights": weights, "kind": kind}
    if options.ablate is None or not steps:
        return read_table(folder / outputs.SUBMISSION), members, told
    if members is None:
        raise DataError(
            f"{folder} holds scores that have had {' '.join(steps)} already; predict with --format members, or without "
            "--post, to ablate steps."
        )
    return postprocess.combine(members, weights, kind=kind), members, told


def ablation(
    options: argparse.Namespace,
    truth: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    members: Mapping[str, pd.DataFrame] | None = None,
    weights: Sequence[float] | None = None,
    kind: str = "prob",
) -> None:
    """Print what each step, member and kind of mean is worth, if that is asked for.

    Parameters
    ----------
    options : Namespace
        With what `score_options` adds.
    truth : DataFrame
        Rows and classes of `scores` that are known.
    scores : DataFrame
        All rows of each recording, also those that `truth` says nothing of.
    members, weights, kind
        As `bcsed.scores.ablation.ablate`. Of two members or more it also tells how alike they are.

    Raises
    ------
    ConfigError, DataError
        As `bcsed.scores.ablation.ablate`, or if a taxonomy is given and nothing is asked for.
    """
    if options.ablate is None:
        if options.taxonomy is not None:
            raise ConfigError("--taxonomy is about the steps of --ablate; add it, or leave --taxonomy out.")
        return
    import numpy as np

    from ..scores.ablation import ablate, format_ablation
    from ..scores.detections.taxonomy import read_taxonomy
    from ..scores.postprocess.combine import spearman
    from ..scores.postprocess.parse import COMMON, parse_stages

    taxa = None
    if options.taxonomy is not None:
        taxa = {label: name.taxon for label, name in read_taxonomy(options.taxonomy).items()}
    steps = parse_stages(options.ablate or COMMON)
    rng = np.random.default_rng(0)
    found = ablate(truth, scores, steps, taxa=taxa, members=members, weights=weights, kind=kind, rng=rng)
    print(f"\n{format_ablation(found)}")
    if members is not None and len(members) > 1:
        alike = spearman(members).to_string(float_format="%.3f", na_rep="none")
        print(f"\nhow alike the members order the rows of a class (Spearman, mean over classes):\n{alike}")
