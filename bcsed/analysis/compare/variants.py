"""Compute the table of a comparison: each variant's AUC with its interval, and its gain over the first variant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...config.diff import describe_difference
from ...errors import DataError
from ...scores import metrics
from ...scores.evaluation import KINDS, Evaluation
from .runs import ComparedRun

_NAN = float("nan")


def compare_variants(
    compared: Sequence[ComparedRun], *, n_draws: int = 1000, seed: int = 0, by_name: bool = False
) -> pd.DataFrame:
    """Compare variants: runs that differ only in seed and fold form one variant.

    Parameters
    ----------
    compared : sequence of ComparedRun
        The others are compared with the variant of the first.
    n_draws, seed : int
        Bootstrap samples, which depend on the seed and the names of the recordings, not on the order of the runs.
    by_name : bool
        Treat all runs of an experiment's name as one variant, even with different pseudolabels: for plans of rounds
        that were repeated with several seeds.

    Returns
    -------
    DataFrame
        One line per variant, in order of first appearance:

        * ``experiment``; ``differs``: its settings that differ from the first variant's;
        * ``scored_on``, ``folds``, ``seeds`` (text) and ``n_runs``: the data and the runs;
        * ``auc``: macro ROC-AUC, the mean over held-out sets of the mean over seeds; ``auc_sd``: standard deviation of
          the runs, NaN for a single one; ``low``, ``high``: 95 % interval over recordings, NaN for a single recording;
        * ``n_classes``: number of classes with an AUC (text, a range where runs differ);
        * ``gain``, ``gain_low``, ``gain_high``: the paired difference to the first variant on common data; NaN for
          the first, and without common data;
        * ``seconds``: training time per run; NaN for bundles;
        * ``note``: a warning about the line, else ''.

    Raises DataError if there are no runs, a run is given twice or has no evaluation, or no class of it has an AUC.
    """
    if not compared:
        raise DataError("there is nothing to compare; name the folders of finished runs.")
    for number, run in enumerate(compared):
        if run.path.resolve() in {earlier.path.resolve() for earlier in compared[:number]}:
            raise DataError(f"{run.path} is named more than once; name each run once.")
    scores = _bootstrap(compared, n_draws, seed)
    variants = [_Variant(runs, scores) for runs in group_runs(compared, by_name=by_name)]
    table: pd.DataFrame = pd.DataFrame([_line(variant, variants[0]) for variant in variants])
    return table


def group_runs(compared: Sequence[ComparedRun], *, by_name: bool = False) -> list[list[ComparedRun]]:
    """Return the runs of each variant (each experiment's name with `by_name`), in order of first appearance."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in compared:
        key = run.experiment if by_name else json.dumps([run.experiment, run.settings], sort_keys=True)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


@dataclass(frozen=True)
class _Score:
    auc: float
    n_classes: int
    draws: npt.NDArray[np.float64]  # macro AUC of each bootstrap sample; NaN where it has none


class _Variant:
    """The runs of one variant, grouped by the data on which they were evaluated."""

    def __init__(self, runs: Sequence[ComparedRun], scores: Mapping[int, _Score]) -> None:
        self.runs, self.scores = runs, [scores[id(run)] for run in runs]
        self.by_data: dict[str, list[_Score]] = {}
        for run, score in zip(runs, self.scores, strict=True):
            self.by_data.setdefault(_evaluation(run).fingerprint, []).append(score)

    def auc(self, data: Iterable[str]) -> float:
        """Return the mean over data sets of the mean over seeds, so that unequal numbers of seeds have no weight."""
        return float(np.mean([np.mean([score.auc for score in self.by_data[key]]) for key in data]))

    def draws(self, data: Iterable[str]) -> npt.NDArray[np.float64]:
        """Return the same mean for each bootstrap sample, (n,)."""
        means = [np.mean([score.draws for score in self.by_data[key]], axis=0) for key in data]
        return np.asarray(np.mean(means, axis=0), np.float64)

    def scored_on(self) -> str:
        """Describe the data on which the runs were evaluated."""
        parts = []
        evaluations = [_evaluation(run) for run in self.runs]
        for kind in sorted({evaluation.kind for evaluation in evaluations}):
            of_kind = [evaluation for evaluation in evaluations if evaluation.kind == kind]
            n_items = len({name for evaluation in of_kind for name in evaluation.ids})
            n_files = len({name for evaluation in of_kind for name in evaluation.files})
            parts.append(f"{n_items} {KINDS[kind]}" + (f" of {n_files} recordings" if n_files < n_items else ""))
        return " and ".join(parts)


def _line(variant: _Variant, first: _Variant) -> dict[str, object]:
    low, high = _interval(variant.draws(variant.by_data))
    shared = [key for key in variant.by_data if key in first.by_data] if variant is not first else []
    gain, gain_low, gain_high = _NAN, _NAN, _NAN
    if shared:
        gain = variant.auc(shared) - first.auc(shared)
        gain_low, gain_high = _interval(variant.draws(shared) - first.draws(shared))
    n_classes = sorted({score.n_classes for score in variant.scores})
    return {
        "experiment": variant.runs[0].experiment,
        "differs": describe_difference(first.runs[0].settings, variant.runs[0].settings),
        "scored_on": variant.scored_on(),
        "folds": _join(run.fold for run in variant.runs),
        "seeds": _join(run.seed for run in variant.runs),
        "n_runs": len(variant.runs),
        "auc": variant.auc(variant.by_data),
        "auc_sd": float(np.std([score.auc for score in variant.scores], ddof=1)) if len(variant.runs) > 1 else _NAN,
        "low": low,
        "high": high,
        "n_classes": f"{n_classes[0]}" if len(n_classes) == 1 else f"{n_classes[0]}-{n_classes[-1]}",
        "gain": gain,
        "gain_low": gain_low,
        "gain_high": gain_high,
        "seconds": float(np.mean([run.seconds for run in variant.runs])),
        "note": _note(variant, first, shared, has_interval=bool(np.isfinite(low))),
    }


def _note(variant: _Variant, first: _Variant, shared: Sequence[str], *, has_interval: bool) -> str:
    notes = []
    if not has_interval:
        notes.append("There is no interval: it needs more recordings.")
    if variant is not first and not shared:
        notes.append(
            f"It was scored on other data than line 1 ({variant.scored_on()} instead of {first.scored_on()}): the two "
            "figures cannot be compared, so there is no gain."
        )
    elif variant is not first and len(shared) < max(len(variant.by_data), len(first.by_data)):
        notes.append(
            f"The gain is on common data only: {len(shared)} of {len(variant.by_data)} held-out sets here and of "
            f"{len(first.by_data)} in line 1."
        )
    return " ".join(notes)


def _bootstrap(compared: Sequence[ComparedRun], n_draws: int, seed: int) -> dict[int, _Score]:
    """Score every run on common bootstrap samples of recordings; the key is the run's `id`.

    Runs that share a recording, even through a third run, are resampled together; disjoint folds independently.
    """
    scores: dict[int, _Score] = {}
    for files, runs in _shared_recording_groups(compared):
        names = sorted(files)
        column_of = {name: column for column, name in enumerate(names)}
        digest = hashlib.sha256("\n".join(names).encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        weights = metrics.bootstrap_weights(len(names), n_draws, rng=rng) if len(names) > 1 else None
        for run in runs:
            evaluation = _evaluation(run)
            try:
                auc, n_classes = metrics.macro_auc(evaluation.truth, evaluation.scores)
            except DataError as error:
                raise DataError(f"{run.path}: {error}") from error
            draws = np.full(n_draws, _NAN)
            if weights is not None and len(set(evaluation.files)) > 1:
                file_of = np.array([column_of[name] for name in evaluation.files], np.intp)
                draws = metrics.bootstrap_macro_auc(evaluation.truth, evaluation.scores, file_of, weights)
            scores[id(run)] = _Score(auc, n_classes, draws)
    return scores


def _shared_recording_groups(compared: Sequence[ComparedRun]) -> list[tuple[set[str], list[ComparedRun]]]:
    """Group runs that share recordings: the names of all their recordings, and the runs."""
    groups: list[tuple[set[str], list[ComparedRun]]] = []
    for run in compared:
        files = set(_evaluation(run).files)
        joined = [group for group in groups if group[0] & files]
        groups = [group for group in groups if not group[0] & files]
        groups.append((files.union(*(names for names, _ in joined)), [*(r for _, runs in joined for r in runs), run]))
    return groups


def _interval(draws: npt.NDArray[np.float64]) -> tuple[float, float]:
    finite = draws[np.isfinite(draws)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (_NAN, _NAN)
    return float(low), float(high)


def _evaluation(run: ComparedRun) -> Evaluation:
    if run.evaluation is None:
        raise DataError(
            f"{run.path} has no evaluation: it has no held-out data; evaluate it on labelled soundscapes with "
            "--recordings and --truth."
        )
    return run.evaluation


def _join(values: Iterable[int | None]) -> str:
    return ", ".join(map(str, sorted({value for value in values if value is not None}))) or "none"
