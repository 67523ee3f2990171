"""The stages, and the rows of each recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NoReturn, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ..checks.ids import split_row_id
from ..table import check_table

Floats = npt.NDArray[np.float64]


class Stage(Protocol):
    """A function from score table to score table, with a text form."""

    @property
    def name(self) -> str:
        """The kind of stage, which occurs once in a sequence."""

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the table after this stage; errors as `apply`."""

    def spell(self) -> list[str]:
        """Return the texts that `parse_stages` parses as this stage."""


@dataclass(frozen=True)
class Smooth:
    """Weighted mean of a row and its neighbours in the same recording.

    A kernel is an odd number of weights, the earliest row first; they need not sum to 1, nor be symmetric. The middle
    weight is positive, none is negative. At the ends of a recording the weights of missing rows are left out.
    `by_taxon` are kernels of taxonomic classes: those of frogs and insects, which call for long, may be wider.
    """

    name: ClassVar[str] = "smooth"
    kernel: Sequence[float] = (1.0,)  # changes nothing
    by_taxon: Mapping[str, Sequence[float]] | Sequence[tuple[str, Sequence[float]]] = ()

    def __post_init__(self) -> None:
        pairs = self.by_taxon.items() if isinstance(self.by_taxon, Mapping) else self.by_taxon
        by_taxon = tuple(sorted((str(taxon), _check_kernel(kernel)) for taxon, kernel in pairs))
        names = [taxon for taxon, _ in by_taxon]
        for taxon in names:
            if names.count(taxon) > 1:
                raise ConfigError(f"smooth: the taxon {taxon!r} has two kernels; give one.")
        # Tuples, so that equal stages are equal and hashable.
        object.__setattr__(self, "kernel", _check_kernel(self.kernel))
        object.__setattr__(self, "by_taxon", by_taxon)

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the table after this stage; `taxa` (class -> taxon) is required for kernels by taxon."""
        by_taxon = dict(self.by_taxon)
        if by_taxon and taxa is None:
            raise ConfigError(
                f"smooth: the kernel of {next(iter(by_taxon))!r} needs the taxon of each class: name a --taxonomy."
            )
        taxa = taxa or {}
        unknown = sorted(set(by_taxon) - set(taxa.values()))
        if unknown:
            known = ", ".join(sorted(set(filter(None, taxa.values())))) or "none"
            raise ConfigError(f"smooth: no class is of the taxon {unknown[0]!r}; the taxa are {known}.")
        columns_of: dict[Sequence[float], list[int]] = {}
        for column, name in enumerate(map(str, table.columns)):
            columns_of.setdefault(by_taxon.get(taxa.get(name, ""), self.kernel), []).append(column)

        def smooth(scores: Floats) -> Floats:
            smoothed = np.empty_like(scores)
            for kernel, columns in columns_of.items():
                smoothed[:, columns] = _weighted(scores[:, columns], kernel)
            return smoothed

        return _map_recordings(table, smooth)

    def spell(self) -> list[str]:
        """Return the texts that `parse_stages` parses as this stage."""
        by_taxon = {f"smooth.{taxon}": kernel for taxon, kernel in dict(self.by_taxon).items()}
        kernels = {"smooth": self.kernel, **by_taxon}
        return [f"{name}={','.join(map(repr, kernel))}" for name, kernel in kernels.items()]


@dataclass(frozen=True)
class TopRows:
    """Each class's scores times the mean of its highest scores in the recording.

    The file-level scaling of published solutions: `amount` 1 is that of the second place of BirdCLEF 2025; ``k=1``
    and `amount` 0.4 the "rank-aware scaling" of public notebooks of 2026.
    """

    name: ClassVar[str] = "top"
    k: int  # number of highest rows, at least 1; all rows in a shorter recording
    amount: float = 1.0  # exponent of their mean, at least 0; 0 changes nothing

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"top: the number of rows must be at least 1, got {self.k}.")
        if not 0 <= self.amount < float("inf"):
            raise ConfigError(f"top: the amount must be a number of at least 0, got {self.amount:g}.")

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the table after this stage; errors as `apply`."""
        return _map_recordings(
            table, lambda scores: scores * np.sort(scores, axis=0)[-self.k :].mean(axis=0) ** self.amount
        )

    def spell(self) -> list[str]:
        """Return the texts that `parse_stages` parses as this stage."""
        return [f"top={self.k}" if self.amount == 1 else f"top={self.k},{float(self.amount)!r}"]


@dataclass(frozen=True)
class Power:
    """Each score to the power of `exponent` > 0: above 1 it sharpens, below 1 it flattens."""

    name: ClassVar[str] = "power"
    exponent: float

    def __post_init__(self) -> None:
        if not 0 < self.exponent < float("inf"):
            raise ConfigError(f"power: the exponent must be a number above 0, got {self.exponent:g}.")

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the table after this stage; errors as `apply`."""
        return _map_recordings(table, lambda scores: scores**self.exponent)

    def spell(self) -> list[str]:
        """Return the texts that `parse_stages` parses as this stage."""
        return [f"power={float(self.exponent)!r}"]


@dataclass(frozen=True)
class MemberStage:
    """A stage for the scores of one member of an ensemble, before the mean; see `split_stages`."""

    member: int  # number, from 1
    stage: Stage

    @property
    def name(self) -> str:
        """The kind of stage of this member."""
        return f"{self.member}.{self.stage.name}"

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> NoReturn:  # noqa: ARG002
        """Raise ConfigError: a table alone has no members."""
        text = self.spell()[0]
        raise ConfigError(f"{text!r} is a stage of member {self.member}; only predict applies it, before the mean.")

    def spell(self) -> list[str]:
        """Return the texts that `parse_stages` parses as this stage."""
        return [f"{self.member}.{text}" for text in self.stage.spell()]


def split_stages(stages: Iterable[Stage], n_members: int) -> tuple[tuple[Stage, ...], tuple[tuple[Stage, ...], ...]]:
    """Return the stages after the mean, and those of each member before it; ConfigError for an unknown member."""
    own: list[list[Stage]] = [[] for _ in range(n_members)]
    shared = []
    for stage in stages:
        if not isinstance(stage, MemberStage):
            shared.append(stage)
        elif 1 <= stage.member <= n_members:
            own[stage.member - 1].append(stage.stage)
        else:
            raise ConfigError(
                f"{stage.spell()[0]!r}: there is no member {stage.member}; the members are 1 to {n_members}."
            )
    return tuple(shared), tuple(map(tuple, own))


def rows_by_recording(row_ids: Iterable[object]) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]]:
    """Return the end seconds of each recording's rows, increasing, and the index of each in `row_ids`.

    The recordings are in order of first appearance. Raises DataError if an id is invalid or repeated, or a recording
    lacks rows between its first and last: neighbours in the table would not be neighbours in time.
    """
    pairs: dict[str, list[tuple[int, int]]] = {}
    for index, row_id in enumerate(row_ids):
        name, end_s = split_row_id(row_id)
        if end_s < 0:
            raise DataError(f"row {row_id!r} is not named <recording>_<end second>, such as H02_20230420_074000_5.")
        pairs.setdefault(name, []).append((end_s, index))
    grouped = {}
    for name, of_recording in pairs.items():
        ends, rows = np.array(sorted(of_recording), np.int64).T
        steps = np.diff(ends)
        if (steps == 0).any():
            raise DataError(f"row '{name}_{ends[:-1][steps == 0][0]}' occurs more than once.")
        if len(steps) and ((steps != steps.min()).any() or (ends % steps[0]).any()):
            raise DataError(
                f"recording {name!r} lacks rows: its rows end at {', '.join(map(str, ends[:4]))} ... s; give the "
                "complete table, not a selection of its rows."
            )
        grouped[name] = (ends, rows.astype(np.intp))
    return grouped


def _map_recordings(table: pd.DataFrame, function: Callable[[Floats], Floats]) -> pd.DataFrame:
    """Return the table after applying a function to each recording's rows (R, K) in time order."""
    if not len(table):
        return table
    check_table(table, where="the score table")
    # C order: NumPy's sums and powers may differ in the last bit between memory layouts.
    values = np.ascontiguousarray(table.to_numpy(np.float64))
    scores = np.empty(values.shape, np.float32)
    for _, rows in rows_by_recording(table.index).values():
        scores[rows] = np.clip(function(values[rows]), 0, 1)
    mapped: pd.DataFrame = pd.DataFrame(scores, index=table.index, columns=table.columns)
    return mapped


def _check_kernel(kernel: Sequence[float]) -> tuple[float, ...]:
    weights = tuple(map(float, kernel))
    text = ",".join(f"{weight:g}" for weight in weights)
    if len(weights) % 2 == 0:
        raise ConfigError(f"smooth: a kernel has an odd number of weights, got {len(weights)} ({text}).")
    if not all(0 <= weight < float("inf") for weight in weights) or not weights[len(weights) // 2] > 0:
        raise ConfigError(f"smooth: weights are at least 0, and the middle one is positive; got {text}.")
    return weights


def _weighted(scores: Floats, kernel: Sequence[float]) -> Floats:
    total, weights = np.zeros_like(scores), np.zeros((len(scores), 1))
    for offset, weight in enumerate(kernel, -(len(kernel) // 2)):
        # The rows whose neighbour at this offset is in the recording.
        first, last = max(0, -offset), min(len(scores), len(scores) - offset)
        if first < last:
            total[first:last] += weight * scores[first + offset : last + offset]
            weights[first:last] += weight
    return total / weights
