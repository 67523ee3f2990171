"""Settings of the three notebooks: the only place of their defaults, with the comments that the notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def _setting(default: Any, comment: str) -> Any:
    return field(default=default, metadata={"comment": comment})


@dataclass(frozen=True, kw_only=True)
class _Settings:
    competition: str = _setting("birdclef-2026", "slug or path of the competition's data")


@dataclass(frozen=True, kw_only=True)
class TrainSettings(_Settings):
    """Settings of `bcsed.kaggle.train`; ``changes`` are those of ``bcsed train --set``."""

    experiment: str = _setting("exp-39", "a name listed by `bcsed experiments`")
    changes: Sequence[str] = _setting((), 'fields to change, such as ["fit.epochs=15"]')
    fold: int | None = _setting(0, "the held-out fold, or None")
    pretrained: str = _setting("none", 'slug or path of initial weights; "none" for a random start')
    pseudolabels: str = _setting("", "slug or path of a table, if several are attached")
    resume: str = _setting("auto", '"fresh", or the slug or path of the run to continue')
    hours: float = _setting(8.3, "the training stops after these hours and can be continued")
    processes: int | None = _setting(None, "processes that share every batch; None for one per GPU")
    jobs: int = _setting(4, "decoding threads of each process")
    cache_gb: float = _setting(4.0, "memory for decoded recordings of each process")


@dataclass(frozen=True, kw_only=True)
class _ScoringSettings(_Settings):
    bundles: Sequence[str] = _setting((), "slugs, names or paths of bundles; [] for all that are attached")
    weights: Sequence[float] | None = _setting(None, "one weight per bundle, or None for equal weights")
    windows: str = _setting("centred", "or sliding, which is faster")
    stride_s: float | None = _setting(None, "stride of sliding windows in seconds; None for half a window")
    jobs: int = _setting(2, "decoding threads")


@dataclass(frozen=True, kw_only=True)
class PseudolabelSettings(_ScoringSettings):
    """Settings of `bcsed.kaggle.pseudolabel`; see `bcsed.train.pseudolabels.Selection` for the selection."""

    select: str = _setting("threshold", "or top, or soft: which probabilities are kept")
    threshold: float = _setting(0.5, "with threshold: the lowest probability")
    top_n: int = _setting(0, "with top: rows of each class, the highest")
    min_score: float = _setting(0.1, "with top: the lowest probability")
    power: float = _setting(1.0, "exponent of the probabilities; above 1 sharpens")
    limit: int | None = _setting(None, "number of soundscapes; None for all")
    hours: float = _setting(8.3, "the work stops after these hours and can be continued")


@dataclass(frozen=True, kw_only=True)
class SubmitSettings(_ScoringSettings):
    """Settings of `bcsed.kaggle.submit`; see `bcsed.predict.predict`."""

    ensemble_mean: str = _setting("prob", "mean of the bundles: prob, logit or rank")
    postprocess: Sequence[str] = _setting((), 'stages, such as ["smooth=0.2,0.6,0.2", "top=3"]')
    budget_min: float = _setting(80.0, "minutes from the start within which all rows are written")
    rehearse: int = _setting(20, "number of soundscapes in a rehearsal")
