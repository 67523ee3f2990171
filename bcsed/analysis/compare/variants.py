"""Runs -> a table of variants: how good each is, how sure that is, and what it gains over the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...config.diff import describe_difference
from ...errors import DataError
from ...scores import metrics
from ...scores.evaluation import KINDS, Evaluation
from .runs import ComparedRun

COLUMNS = (
    *("experiment", "differs", "scored_on", "folds", "seeds", "n_runs", "auc", "auc_sd", "low", "high", "n_classes"),
    *("gain", "gain_low", "gain_high", "seconds", "note"),
)
_NAN = float("nan")


def compare_variants(
    compared: Sequence[ComparedRun], *, n_draws: int = 1000, seed: int = 0, by_name: bool = False
) -> pd.DataFrame:
    """Compare variants: runs that differ only in their seed and fold are one.

    Parameters
    ----------
    compared : sequence of ComparedRun
        The variant of the first is what the others are compared with.
    n_draws : int
        Draws of the bootstrap.
    seed : int
        The draws follow from it and from the names of the recordings, not from the order of the runs.
    by_name : bool
        Take the runs of each experiment's name as one variant, whatever pseudolabels they learned from: plans
        of rounds that were repeated with several seeds.

    Returns
    -------
    DataFrame
        One line per variant, in order of first appearance:

        * ``experiment``, and ``differs``: what it changes of the first;
        * ``scored_on``, ``folds``, ``seeds`` (text) and ``n_runs``: what the figures are of;
        * ``auc``: macro ROC-AUC, the mean over runs (over what was held out, and over the seeds of each such
          set); ``auc_sd``: the standard deviation over runs, NaN for one; ``low``, ``high``: its 95 % interval
          over recordings, NaN where there is only one;
        * ``n_classes``: how many classes the AUC is a mean of (text, a range where runs differ);
        * ``gain``, ``gain_low``, ``gain_high``: the paired difference to the first variant, on what both
          were scored on; NaN for the first, and where there is no such data;
        * ``seconds``: training time per run; NaN for bundles;
        * ``note``: a sentence where something must be known to read the line, else ''.

    Raises
    ------
    DataError
        If there is nothing to compare, a run stands twice or has no answers, or nothing in them can be scored.
    """
    _check(compared)
    drawn = _drawn(compared, n_draws, seed)
    variants = [_Variant(runs, [drawn[id(one)] for one in runs]) for runs in group(compared, by_name=by_name)]
    lines = [_line(variant, variants[0]) for variant in variants]
    made: pd.DataFrame = pd.DataFrame(lines, columns=list(COLUMNS))
    return made


def group(compared: Sequence[ComparedRun], *, by_name: bool = False) -> list[list[ComparedRun]]:
    """Return the runs of each variant, in order of first appearance; `by_name`, those of each experiment."""
    groups: dict[str, list[ComparedRun]] = {}
    for one in compared:
        key = one.experiment if by_name else json.dumps([one.experiment, one.settings], sort_keys=True)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


@dataclass(frozen=True)
class _Score:
    """One run's macro AUC, the classes that it is a mean of, and its AUC in each draw (NaN where none)."""

    auc: float
    n_classes: int
    draws: npt.NDArray[np.float64]


class _Variant:
    """Runs of one variant, grouped by what they were scored on."""

    def __init__(self, runs: Sequence[ComparedRun], scores: Sequence[_Score]) -> None:
        self.runs, self.scores = runs, scores
        self.tasks: dict[str, list[_Score]] = {}
        self.answers: dict[str, Evaluation] = {}
        for one, score in zip(runs, scores, strict=True):
            answers = _answers(one)
            self.answers[answers.fingerprint] = answers
            self.tasks.setdefault(answers.fingerprint, []).append(score)

    def auc(self, tasks: Iterable[str]) -> float:
        """Return the mean over tasks of the mean over seeds: unequal numbers of seeds do not weigh."""
        return float(np.mean([np.mean([score.auc for score in self.tasks[task]]) for task in tasks]))

    def draws(self, tasks: Iterable[str]) -> npt.NDArray[np.float64]:
        """Return the same mean in each draw, (n,)."""
        means = [np.mean([score.draws for score in self.tasks[task]], axis=0) for task in tasks]
        drawn: npt.NDArray[np.float64] = np.mean(means, axis=0)
        return drawn

    def scored_on(self) -> str:
        """Say how much of what the runs were scored on."""
        parts = []
        for kind in sorted({answers.kind for answers in self.answers.values()}):
            of_kind = [answers for answers in self.answers.values() if answers.kind == kind]
            n_items = len({name for answers in of_kind for name in answers.ids})
            n_files = len({name for answers in of_kind for name in answers.files})
            parts.append(f"{n_items} {KINDS[kind]}" + (f" of {n_files} recordings" if n_files < n_items else ""))
        return " and ".join(parts)


def _line(variant: _Variant, first: _Variant) -> dict[str, object]:
    low, high = _interval(variant.draws(variant.tasks))
    shared = [task for task in variant.tasks if task in first.tasks] if variant is not first else []
    gain, gain_low, gain_high = _NAN, _NAN, _NAN
    if shared:
        gain = variant.auc(shared) - first.auc(shared)
        gain_low, gain_high = _interval(variant.draws(shared) - first.draws(shared))
    scored = sorted({score.n_classes for score in variant.scores})
    return {
        "experiment": variant.runs[0].experiment,
        "differs": describe_difference(first.runs[0].settings, variant.runs[0].settings),
        "scored_on": variant.scored_on(),
        "folds": _listed(one.fold for one in variant.runs),
        "seeds": _listed(one.seed for one in variant.runs),
        "n_runs": len(variant.runs),
        "auc": variant.auc(variant.tasks),
        "auc_sd": float(np.std([score.auc for score in variant.scores], ddof=1)) if len(variant.runs) > 1 else _NAN,
        "low": low,
        "high": high,
        "n_classes": f"{scored[0]}" if len(scored) == 1 else f"{scored[0]}-{scored[-1]}",
        "gain": gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "seconds": float(np.mean([one.seconds for one in variant.runs])),
        "note": _note(variant, first, shared, sure=np.isfinite(low)),
    }


def _note(variant: _Variant, first: _Variant, shared: Sequence[str], *, sure: bool) -> str:
    told = []
    if not sure:
        told.append("There is no interval: it would need more recordings.")
    if variant is not first and not shared:
        told.append(
            f"It was scored on other data than the first line ({variant.scored_on()}; there: {first.scored_on()}): "
            "the two figures cannot be compared, and no gain is given."
        )
    elif variant is not first and len(shared) < max(len(variant.tasks), len(first.tasks)):
        told.append(
            f"Only part of its data is the first line's (of {len(variant.tasks)} held-out sets here and "
            f"{len(first.tasks)} there, {len(shared)} in common): the gain is on that part."
        )
    return " ".join(told)


def _drawn(compared: Sequence[ComparedRun], n_draws: int, seed: int) -> dict[int, _Score]:
    """Score every run on common draws of recordings, by the run's `id`.

    Runs that share a recording, be it through a third run, are drawn from one urn, so that what they share is
    drawn alike; disjoint folds are drawn one by one.
    """
    found: dict[int, _Score] = {}
    for urn, members in _shared_recording_groups(compared):
        names = sorted(urn)
        column = {name: place for place, name in enumerate(names)}
        digest = hashlib.sha256("\n".join(names).encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        draws = metrics.bootstrap_weights(len(names), n_draws, rng=rng) if len(names) > 1 else None
        for one in members:
            answers = _answers(one)
            try:
                auc, n_classes = metrics.macro_auc(answers.truth, answers.scores)
            except DataError as error:
                raise DataError(f"{one.path}: {error}") from error
            drawn = np.full(n_draws, _NAN)
            if draws is not None and len(set(answers.files)) > 1:
                file_of = np.array([column[name] for name in answers.files], np.intp)
                drawn = metrics.bootstrap_macro_auc(answers.truth, answers.scores, file_of, draws)
            found[id(one)] = _Score(auc, n_classes, drawn)
    return found


def _shared_recording_groups(compared: Sequence[ComparedRun]) -> list[tuple[set[str], list[ComparedRun]]]:
    """Group runs that share recordings: the names of all these, and the runs."""
    urns: list[tuple[set[str], list[ComparedRun]]] = []
    for one in compared:
        files, members = set(_answers(one).files), [one]
        apart = []
        for urn in urns:
            if urn[0] & files:
                files |= urn[0]
                members = urn[1] + members
            else:
                apart.append(urn)
        urns = [*apart, (files, members)]
    return urns


def _interval(draws: npt.NDArray[np.float64]) -> tuple[float, float]:
    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return _NAN, _NAN
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)


def _check(compared: Sequence[ComparedRun]) -> None:
    if not compared:
        raise DataError("there is nothing to compare; name the folders of finished runs.")
    seen: set[object] = set()
    for one in compared:
        if one.path.resolve() in seen:
            raise DataError(f"{one.path} is named more than once; name each run once.")
        seen.add(one.path.resolve())
        _answers(one)


def _answers(one: ComparedRun) -> Evaluation:
    if one.evaluation is None:
        raise DataError(
            f"{one.path} has no answers to compare: nothing was held out of it; score it on labelled soundscapes "
            "with --recordings and --truth."
        )
    return one.evaluation


def _listed(values: Iterable[int | None]) -> str:
    numbers = sorted({value for value in values if value is not None})
    return ", ".join(map(str, numbers)) or "none"
