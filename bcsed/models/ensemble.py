"""Ensembles: networks, and score tables of others, whose scores are averaged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..config.contract import Contract, Frontend
from ..errors import BundleError, ConfigError
from ..scores.postprocess.combine import check_kind, weighted_mean
from ..scores.postprocess.weights import ClassWeights, Weight, check_weights, weight_rows
from ..scores.table import is_parquet
from ..scores.table_member import TableMember, read_table_member
from .backends import Array, Backend, OpenVinoBackend
from .bundle.bundle import Bundle, as_embedding, load
from .bundle.manifest import MANIFEST

Member: TypeAlias = Bundle | TableMember

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EnsembleMean:
    """The weighted mean over an ensemble's members, first its networks, then its tables; contains neither."""

    contracts: tuple[Contract, ...]  # of the networks
    weights: tuple[Weight, ...]  # of all members
    mean: str = "prob"
    classes: tuple[str, ...] = ()
    tables: tuple[tuple[str, ...], ...] = ()  # classes of each table

    def __post_init__(self) -> None:
        check_kind(self.mean)
        object.__setattr__(self, "classes", full_classes(self._member_classes, self.classes or None))
        _ = self.weight_of  # checked here

    @property
    def _member_classes(self) -> tuple[tuple[str, ...], ...]:
        return (*(contract.classes for contract in self.contracts), *self.tables)

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        """The members' front ends without repetition; members with equal ones share their spectrograms."""
        return tuple(dict.fromkeys(contract.frontend for contract in self.contracts))

    @cached_property
    def weight_of(self) -> npt.NDArray[np.float64]:
        """The weight of each member for each class, (members, K); 0 where it does not count."""
        return weight_rows(self.weights, self._member_classes, self.classes)

    @cached_property
    def columns(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each member, the column of the ensemble for each of its requested classes."""
        column_of = {name: k for k, name in enumerate(self.classes)}
        return tuple(
            np.array([column_of[name] for name in np.array(classes, object)[used]], np.int64)
            for classes, used in zip(self._member_classes, self.requested, strict=True)
        )

    @cached_property
    def requested(self) -> tuple[npt.NDArray[np.bool_], ...]:
        """For each member, which of its classes are requested and have a weight."""
        counting = [set(np.array(self.classes, object)[row > 0]) for row in self.weight_of]
        pairs = zip(self._member_classes, counting, strict=True)
        return tuple(np.array([name in used for name in classes], bool) for classes, used in pairs)

    def combine(self, scores: Sequence[tuple[int, Array]]) -> Array:
        """Return the weighted mean (R, K) of some members' scores of the same rows; NaN where no member has a score.

        `scores` are members' indices and probabilities (R, K of that member), NaN in rows that a table lacks; several
        views of a member share its weight. With ``mean='rank'`` all rows of the run must be given at once.
        """
        views = np.bincount([member for member, _ in scores], minlength=len(self.weights))
        parts = []
        for member, values in scores:
            columns = self.columns[member]
            weights = self.weight_of[member, columns] / views[member]
            parts.append((values[:, self.requested[member]], columns, weights))
        return weighted_mean(parts, len(self.classes), self.mean).astype(np.float32)


@dataclass(frozen=True)
class Ensemble:
    """Networks and tables, their weights, and the kind of mean over them."""

    members: tuple[Backend, ...]  # networks; each computes some or all of the classes, in any order
    weights: tuple[Weight, ...]  # of networks and tables; the mean of a class is over the members that have it
    mean: str = "prob"  # of probabilities; or 'logit', of their logits; or 'rank', of percentiles over all rows
    classes: tuple[str, ...] = ()  # K; by default those of the member that has most
    tables: tuple[TableMember, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", self.averaging.classes)

    @cached_property
    def averaging(self) -> EnsembleMean:
        """The mean without the networks, for use after they have been released."""
        contracts = tuple(member.contract for member in self.members)
        tables = tuple(table.classes for table in self.tables)
        return EnsembleMean(contracts, self.weights, self.mean, self.classes, tables)


def load_member(path: str | Path, missing_rows: str = "refuse") -> Member:
    """Load a bundle, or read a score table: a CSV or Parquet file, or a folder of predict; errors as both."""
    return read_table_member(path, missing_rows) if is_table(Path(path)) else load(path)


def is_table(path: Path) -> bool:
    """Return whether a path is named as a score table, or is a folder of predict."""
    is_folder = path.is_dir() and not (path / MANIFEST).exists() and (path / "manifest.json").is_file()
    return path.suffix.lower() == ".csv" or is_parquet(path) or is_folder


def describe_members(members: Sequence[Member], weights: Sequence[Weight] | None = None) -> list[dict[str, Any]]:
    """Return the origin and the weight of each member, for a manifest."""
    models = []
    for member, weight in zip(members, weights or [1.0] * len(members), strict=True):
        others, by_class = weight if isinstance(weight, ClassWeights) else (weight, ())
        of_classes = {"class_weights": dict(by_class)} if by_class else {}
        models.append({**member.describe(), "weight": others, **of_classes})
    return models


def from_bundles(
    bundles: Sequence[Member],
    weights: Sequence[Weight] | None = None,
    *,
    mean: str = "prob",
    classes: Sequence[str] | None = None,
    threads: int | None = None,
    precision: str = "f32",
    cache: str | Path | None = None,
    embeddings: bool = False,
) -> Ensemble:
    """Compile bundles into an ensemble, by default of equal weights; see also `Ensemble` and `bundle.compile_graph`.

    Score tables may follow the bundles, or be all members. With `embeddings` bundles compute these, see
    `bundle.as_embedding`.
    """
    networks, tables = split_members(bundles)
    if embeddings:
        networks = tuple(as_embedding(bundle) for bundle in networks)
    # Both are checked before the graphs are compiled, which takes long.
    of_members = [*(bundle.classes for bundle in networks), *(table.classes for table in tables)]
    all_classes = full_classes(of_members, classes)
    shares = tuple(weights) if weights is not None else (1.0,) * len(bundles)
    check_weights(shares, len(bundles))
    # A bundle that is named twice is compiled once: a backend has no state between windows.
    compiled = {
        bundle.path: OpenVinoBackend(bundle, threads=threads, precision=precision, cache=cache)
        for bundle in {bundle.path: bundle for bundle in networks}.values()
    }
    return Ensemble(tuple(compiled[bundle.path] for bundle in networks), shares, mean, all_classes, tables)


def split_members(members: Iterable[Member]) -> tuple[tuple[Bundle, ...], tuple[TableMember, ...]]:
    """Return bundles and tables; ConfigError if a table precedes a bundle, as members are numbered in this order."""
    ordered = list(members)
    networks = tuple(member for member in ordered if isinstance(member, Bundle))
    tables = tuple(member for member in ordered if isinstance(member, TableMember))
    if ordered != [*networks, *tables]:
        raise ConfigError(f"the score table {tables[0].path} precedes a bundle; name score tables last.")
    return networks, tables


def full_classes(members: Sequence[Sequence[str]], classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the classes of an ensemble: the given ones, or those of the member that has all.

    `members` are the classes of each member; those that are not in the ensemble are not used. Raises BundleError if no
    classes are given and no member has all, or a member has none of the given classes, or a given class is in no
    member.
    """
    if not members:
        raise ConfigError("an ensemble needs at least one bundle.")
    widest = max(members, key=len)
    all_classes = tuple(classes) if classes is not None else tuple(widest)
    for number, names in enumerate(members, 1):
        if not names:
            raise BundleError(f"bundle {number} has no classes, only an embedding; use it with embed and probe.")
        other = sorted(set(names) - set(all_classes))
        if other and classes is None:
            raise BundleError(
                f"members {1 + members.index(widest)} and {number} do not have the same classes: {other[0]!r} is in "
                "only one of them; give all classes as a sample submission."
            )
        if len(other) == len(names):
            raise BundleError(
                f"member {number} has none of the {len(all_classes)} requested classes; its classes are "
                f"{', '.join(names[:3])}, ..."
            )
        if other:
            _log.info("member %d: %d classes that are not requested are not used", number, len(other))
    known = {name for names in members for name in names}
    missing = [name for name in all_classes if name not in known]
    if missing:
        raise BundleError(
            f"no member has class {missing[0]!r} ({len(missing)} of {len(all_classes)} classes are missing); add one "
            "that was trained on it."
        )
    return all_classes
