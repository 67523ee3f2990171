"""Ensembles: several networks whose scores are averaged."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config.contract import Contract, Frontend
from ..errors import BundleError, ConfigError
from ..scores.postprocess.combine import check_kind, check_weights, weighted_mean
from .backends import Array, Backend, OpenVinoBackend
from .bundle.bundle import Bundle, as_embedding

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnsembleMean:
    """The weighted mean over an ensemble's members; contains no network."""

    contracts: tuple[Contract, ...]
    weights: tuple[float, ...]
    mean: str = "prob"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kind(self.mean)
        check_weights(self.weights, len(self.contracts))
        object.__setattr__(self, "classes", full_classes(self.contracts, self.classes or None))

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        """The members' front ends without repetition; members with equal ones share their spectrograms."""
        return tuple(dict.fromkeys(contract.frontend for contract in self.contracts))

    @cached_property
    def columns(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each member, the column of the ensemble for each of its requested classes."""
        column_of = {name: k for k, name in enumerate(self.classes)}
        return tuple(
            np.array([column_of[name] for name in each.classes if name in column_of], np.int64)
            for each in self.contracts
        )

    @cached_property
    def requested(self) -> tuple[npt.NDArray[np.bool_], ...]:
        """For each member, which of its classes are requested."""
        return tuple(np.isin(each.classes, self.classes) for each in self.contracts)

    def combine(self, scores: Sequence[tuple[int, Array]]) -> Array:
        """Return the weighted mean (R, K) of some members' scores of the same rows; NaN where no member has the class.

        `scores` are members' indices and probabilities (R, K of that member); several views of a member share its
        weight. With ``mean='rank'`` all rows of the run must be given at once.
        """
        views = np.bincount([member for member, _ in scores], minlength=len(self.contracts))
        parts = [
            (values[:, self.requested[member]], self.columns[member], self.weights[member] / views[member])
            for member, values in scores
        ]
        return weighted_mean(parts, len(self.classes), self.mean).astype(np.float32)


@dataclass(frozen=True)
class Ensemble:
    """Members, their weights, and the kind of mean over them."""

    members: tuple[Backend, ...]  # each computes some or all of the classes, in any order
    weights: tuple[float, ...]  # positive; need not sum to 1; the mean of a class is over the members that have it
    mean: str = "prob"  # of probabilities; or 'logit', of their logits; or 'rank', of percentiles over all rows
    classes: tuple[str, ...] = ()  # K; by default those of the member that has most

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", self.averaging.classes)

    @cached_property
    def averaging(self) -> EnsembleMean:
        """The mean without the networks, for use after they have been released."""
        return EnsembleMean(tuple(member.contract for member in self.members), self.weights, self.mean, self.classes)


def from_bundles(
    bundles: Sequence[Bundle],
    weights: Sequence[float] | None = None,
    *,
    mean: str = "prob",
    classes: Sequence[str] | None = None,
    threads: int | None = None,
    precision: str = "f32",
    cache: str | Path | None = None,
    embeddings: bool = False,
) -> Ensemble:
    """Compile bundles into an ensemble, by default of equal weights; see also `Ensemble` and `bundle.compile_graph`.

    With `embeddings` they compute these, see `bundle.as_embedding`.
    """
    if embeddings:
        bundles = [as_embedding(bundle) for bundle in bundles]
    # Both are checked before the graphs are compiled, which takes long.
    all_classes = full_classes([bundle.contract for bundle in bundles], classes)
    shares = tuple(weights) if weights is not None else (1.0,) * len(bundles)
    check_weights(shares, len(bundles))
    # A bundle that is named twice is compiled once: a backend has no state between windows.
    compiled = {
        bundle.path: OpenVinoBackend(bundle, threads=threads, precision=precision, cache=cache)
        for bundle in {bundle.path: bundle for bundle in bundles}.values()
    }
    return Ensemble(tuple(compiled[bundle.path] for bundle in bundles), shares, mean, all_classes)


def full_classes(contracts: Sequence[Contract], classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the classes of an ensemble: the given ones, or those of the member that has all.

    Other classes of a member are not used. Raises BundleError if no classes are given and no member has all, or a
    member has none of the given classes, or a given class is in no member.
    """
    if not contracts:
        raise ConfigError("an ensemble needs at least one bundle.")
    widest = max(contracts, key=lambda contract: len(contract.classes))
    all_classes = tuple(classes) if classes is not None else widest.classes
    for number, contract in enumerate(contracts, 1):
        if not contract.classes:
            raise BundleError(f"bundle {number} has no classes, only an embedding; use it with embed and probe.")
        other = sorted(set(contract.classes) - set(all_classes))
        if other and classes is None:
            raise BundleError(
                f"bundles {1 + contracts.index(widest)} and {number} do not have the same classes: {other[0]!r} is in "
                "only one of them; give all classes as a sample submission."
            )
        if len(other) == len(contract.classes):
            raise BundleError(
                f"bundle {number} has none of the {len(all_classes)} requested classes; its classes are "
                f"{', '.join(contract.classes[:3])}, ..."
            )
        if other:
            _log.info("bundle %d: %d classes that are not requested are not used", number, len(other))
    known = {name for contract in contracts for name in contract.classes}
    missing = [name for name in all_classes if name not in known]
    if missing:
        raise BundleError(
            f"no bundle has class {missing[0]!r} ({len(missing)} of {len(all_classes)} classes are missing); add one "
            "that was trained on it."
        )
    return all_classes
