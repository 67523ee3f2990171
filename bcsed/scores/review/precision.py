"""Estimate the precision of scores from a reviewed random sample, with intervals."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError
from ...files import shorten_list
from ..calibration import write_threshold_table
from .answers import ANSWERS

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.9


def weigh(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the answered lines with ``positive`` and the inclusion ``probability`` of an answer.

    The lines of a stratum without a clear answer (unanswered, or unsure) are missing at random, so that the answered
    ones stand for all of them.
    """
    clear = answers["answer"].isin(("yes", "no", "other"))
    share = clear.groupby(answers["stratum"]).transform("mean")
    lines = answers.assign(probability=answers["probability"] * share, positive=answers["answer"] == "yes")
    result: pd.DataFrame = lines[clear].reset_index(drop=True)
    return result


def describe_gaps(answers: pd.DataFrame) -> str:
    """Return a sentence about the strata without any clear answer, which no estimate covers; '' if there are none."""
    clear = answers["answer"].isin(("yes", "no", "other")).groupby(answers["stratum"]).transform("any")
    if clear.all():
        return ""
    weight, empty = 1 / answers["probability"], sorted(set(answers["stratum"][~clear]))
    share = float(weight[~clear].sum() / weight.sum())
    of_all = f"{len(empty)} of {answers['stratum'].nunique()} strata ({shorten_list(empty, 3)})"
    return f"{of_all} have no clear answer: the estimates leave out {share:.0%} of the rows; answer some in each"


def estimate_share(
    positive: npt.NDArray[np.bool_],
    probability: Floats,
    stratum: npt.NDArray[np.object_],
    inside: npt.NDArray[np.bool_],
    confidence: float = CONFIDENCE,
) -> tuple[float, float, float]:
    """Return the share of positives among the candidates that are `inside` a domain, and an interval.

    The share is Hájek's estimator. Its variance is that of a stratified sample with unequal probabilities (Hájek
    1964); the interval is Wilson's, with the number of answers that would have this variance in a simple sample.
    """
    weight = np.where(inside, 1 / probability, 0.0)
    if not inside.any():
        return float("nan"), 0.0, 1.0
    total = weight.sum()
    share = float((weight * positive).sum() / total)
    kish = total**2 / max(float(((1 - probability) * weight**2).sum()), 1e-12)
    codes, free = pd.factorize(stratum)[0], 1 - probability
    n_of, free_of = np.bincount(codes), np.bincount(codes, free)
    residual = weight * (positive - share) / total
    mean = np.bincount(codes, free * residual) / np.maximum(free_of, 1e-12)
    spread = np.bincount(codes, free * (residual - mean[codes]) ** 2)
    variance = float((n_of / np.maximum(n_of - 1, 1) * spread).sum())
    n = min(share * (1 - share) / variance, kish) if 0 < share < 1 and variance > 0 else kish
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle, half = (share + z * z / (2 * n)), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return share, max(0.0, float(low)), min(1.0, float(high))


def estimate_precision(answers: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return the precision of each class at each of its answered scores as the threshold, the highest first.

    `answers` are those of `read_answers`. The columns are ``class, threshold, precision, low, high`` (the interval),
    ``n_answers, n_positive`` (clear answers at or above the threshold, and those that are yes) and ``n_detected`` (the
    estimated number of rows at or above it).
    """
    lines = weigh(answers)
    score, probability = lines["score"].to_numpy(float), lines["probability"].to_numpy(float)
    positive, stratum = lines["positive"].to_numpy(bool), lines["stratum"].to_numpy(object)
    rows = []
    for name in dict.fromkeys(answers["class"]):
        of_class = (lines["class"] == name).to_numpy(bool)
        for threshold in np.unique(score[of_class])[::-1]:
            inside = of_class & (score >= threshold)
            values = estimate_share(positive, probability, stratum, inside, confidence)
            counts = int(inside.sum()), int(positive[inside].sum()), float((1 / probability[inside]).sum())
            rows.append((name, float(threshold), *values, *counts))
    columns = ["class", "threshold", "precision", "low", "high", "n_answers", "n_positive", "n_detected"]
    table: pd.DataFrame = pd.DataFrame(rows, columns=columns)
    return table


def find_thresholds(
    answers: pd.DataFrame, curve: pd.DataFrame, *, precision: float, min_positives: int
) -> pd.DataFrame:
    """Return for each class the lowest threshold whose estimated precision reaches `precision`.

    `curve` is the result of `estimate_precision`. At least `min_positives` answers at or above a threshold must be yes.
    The columns are the class, the numbers of each answer, those of the line of `curve`, and ``reason``: empty, or why
    there is no threshold (then NaN).
    """
    if not 0 < precision <= 1 or min_positives < 1:
        raise ConfigError(
            f"the precision must be in (0, 1] and the yes answers at least 1, got {precision:g} and {min_positives}."
        )
    rows = []
    for name, lines in answers.groupby("class", sort=True):
        counts = {answer: int((lines["answer"] == answer).sum()) for answer in ANSWERS}
        enough = curve[(curve["class"] == name) & (curve["n_positive"] >= min_positives) & (curve["threshold"] > 0)]
        reached = enough[enough["precision"] >= precision]
        row = {"class": name, **counts, "threshold": np.nan, "precision": np.nan, "low": np.nan, "high": np.nan}
        if len(enough) == 0:
            reason = f"{counts['yes']} yes answers, {min_positives} needed"
        elif len(reached) == 0:
            reason = f"precision reaches {enough['precision'].max():.3f} at most"
        else:
            best = reached.loc[reached["threshold"].idxmin()]
            row |= {column: float(best[column]) for column in ("threshold", "precision", "low", "high")}
            reason = ""
        rows.append({**row, "reason": reason})
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def write_thresholds(table: pd.DataFrame, path: str | Path, *, precision: float, min_positives: int) -> None:
    """Write the result of `find_thresholds` in the form of `bcsed.scores.calibration.write_thresholds`."""
    n_rows = int(table[list(ANSWERS)].to_numpy().sum())
    write_threshold_table(table, path, {"precision": precision, "min_positives": min_positives, "n_rows": n_rows})
