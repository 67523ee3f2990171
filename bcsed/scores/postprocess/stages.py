"""The steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ..checks.ids import split_row_id
from ..table import check_table

Floats = npt.NDArray[np.float64]


class Stage(Protocol):
    """Whatever makes a score table of a score table."""

    name: ClassVar[str]

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the table after this step."""

    def spell(self) -> list[str]:
        """Return what `read_steps` reads as this step."""


@dataclass(frozen=True)
class Smooth:
    """Weighted mean of a row and its neighbours in the same recording.

    At the ends of a recording the weights of rows that are not there go to those that are.

    Parameters
    ----------
    kernel : sequence of float
        An odd number of weights, that of the earliest row first; they need not sum to 1, nor be symmetric. The
        middle one is positive, none is negative. ``(1,)``, the default, leaves the rows as they are.
    of : mapping of str to sequence of float, or pairs of these
        Kernels of their own, by taxonomic class: those of frogs and insects, which go on calling, may be wider.

    Raises
    ------
    ConfigError
        If a kernel is none.
    """

    name: ClassVar[str] = "smooth"
    kernel: Sequence[float] = (1.0,)
    of: Mapping[str, Sequence[float]] | Sequence[tuple[str, Sequence[float]]] = ()

    def __post_init__(self) -> None:
        pairs = self.of.items() if isinstance(self.of, Mapping) else self.of
        own = tuple(sorted((str(taxon), _kernel(kernel)) for taxon, kernel in pairs))
        # Kept as tuples, whatever was given, so that equal steps are equal and hashable.
        object.__setattr__(self, "kernel", _kernel(self.kernel))
        object.__setattr__(self, "of", own)
        doubled = [left for (left, _), (right, _) in itertools.pairwise(own) if left == right]
        if doubled:
            raise ConfigError(f"smooth: the taxon {doubled[0]!r} has two kernels; give it one.")

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
        """Return the table after this step; `taxa` (class -> taxon) is needed where taxa have kernels.

        Raises
        ------
        DataError
            If the table is none, see `recordings`.
        ConfigError
            If a taxon has a kernel and `taxa` is not given, or none of its classes is of that taxon.
        """
        kernels = self._kernels([str(name) for name in table.columns], taxa)

        def smooth(block: Floats) -> Floats:
            answer = np.empty_like(block)
            for kernel, columns in kernels:
                answer[:, columns] = _weighted(block[:, columns], kernel)
            return answer

        return _each(table, smooth)

    def spell(self) -> list[str]:
        """Return what `read_steps` reads as this step."""
        told = [("smooth", self.kernel), *((f"smooth.{taxon}", kernel) for taxon, kernel in self._own())]
        return [f"{name}={','.join(map(repr, kernel))}" for name, kernel in told]

    def _own(self) -> Iterator[tuple[str, Sequence[float]]]:
        yield from (self.of.items() if isinstance(self.of, Mapping) else self.of)

    def _kernels(
        self, classes: Sequence[str], taxa: Mapping[str, str] | None
    ) -> list[tuple[Sequence[float], npt.NDArray[np.intp]]]:
        own = dict(self._own())
        if own and taxa is None:
            raise ConfigError(f"smooth: a kernel of {next(iter(own))!r} needs to know each class's taxon: give taxa.")
        known = taxa or {}
        strange = sorted(set(own) - set(known.values()))
        if strange:
            shown = ", ".join(sorted(set(filter(None, known.values())))) or "none"
            raise ConfigError(f"smooth: no class is of the taxon {strange[0]!r}; the taxa are {shown}.")
        groups: dict[Sequence[float], list[int]] = {}
        for place, name in enumerate(classes):
            groups.setdefault(own.get(known.get(name, ""), self.kernel), []).append(place)
        return [(kernel, np.array(places, np.intp)) for kernel, places in groups.items()]


@dataclass(frozen=True)
class TopRows:
    """Each class's rows, times the mean of its highest rows in the recording.

    The file-level scaling of published solutions: with `amount` 1 as in the second place of BirdCLEF 2025; with
    ``k=1`` and `amount` .4 the "rank-aware scaling" of public notebooks of 2026.

    Parameters
    ----------
    k : int >= 1
        How many rows are the highest; all of them in a recording that has fewer.
    amount : float >= 0
        What their mean is raised to; 0 leaves the rows as they are.

    Raises
    ------
    ConfigError
        If these are out of range.
    """

    name: ClassVar[str] = "top"
    k: int
    amount: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"top: the number of rows must be at least 1, got {self.k}.")
        if not 0 <= self.amount < float("inf"):
            raise ConfigError(f"top: the amount must be a number of at least 0, got {self.amount:g}.")

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the table after this step; errors as `recordings`."""
        return _each(table, lambda block: block * np.sort(block, axis=0)[-self.k :].mean(axis=0) ** self.amount)

    def spell(self) -> list[str]:
        """Return what `read_steps` reads as this step."""
        return [f"top={self.k}" if self.amount == 1 else f"top={self.k},{float(self.amount)!r}"]


@dataclass(frozen=True)
class Power:
    """Each score to a power: above 1 it sharpens, below 1 it flattens.

    Parameters
    ----------
    exponent : float > 0

    Raises
    ------
    ConfigError
        If it is out of range.
    """

    name: ClassVar[str] = "power"
    exponent: float

    def __post_init__(self) -> None:
        if not 0 < self.exponent < float("inf"):
            raise ConfigError(f"power: the exponent must be a number above 0, got {self.exponent:g}.")

    def __call__(self, table: pd.DataFrame, taxa: Mapping[str, str] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """Return the table after this step; errors as `recordings`."""
        return _each(table, lambda block: block**self.exponent)

    def spell(self) -> list[str]:
        """Return what `read_steps` reads as this step."""
        return [f"power={float(self.exponent)!r}"]


def recordings(index: Iterable[object]) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]]:
    """Return which rows are of which recording, in the order of time.

    Parameters
    ----------
    index : iterable of str
        Row ids ``<recording>_<end second>``, in any order; the recording's name may hold ``_`` and ``/``.

    Returns
    -------
    dict of str to (ends, places)
        By name, in order of first appearance: the end second of each row, increasing; and its place in `index`.

    Raises
    ------
    DataError
        If an id is no such id or stands twice, or a recording lacks rows between its first and last: neighbours
        would not be neighbours.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for place, row_id in enumerate(map(str, index)):
        name, end_s = split_row_id(row_id)
        if end_s < 0:
            raise DataError(f"row {row_id!r} is not named <recording>_<end second>, such as H02_20230420_074000_5.")
        found.setdefault(name, []).append((end_s, place))
    grouped = {}
    for name, pairs in found.items():
        ends, places = np.array(sorted(pairs), np.int64).T
        apart = np.diff(ends)
        if (apart == 0).any():
            raise DataError(f"row '{name}_{ends[:-1][apart == 0][0]}' stands more than once.")
        if len(apart) and ((apart != apart.min()).any() or (ends % apart[0]).any()):
            raise DataError(
                f"recording {name!r} lacks rows: those it has end at {', '.join(map(str, ends[:4]))} ... s; "
                "give the whole table, not a selection of its rows."
            )
        grouped[name] = (ends, places.astype(np.intp))
    return grouped


def _each(table: pd.DataFrame, act: Callable[[Floats], Floats]) -> pd.DataFrame:
    """Return the table made of `act` of each recording's rows (R, K) in the order of time."""
    if not len(table):
        return table
    check_table(table, where="the score table")
    # Row by row in memory: NumPy's sums and powers may differ in the last bit between layouts.
    values = np.ascontiguousarray(table.to_numpy(np.float64))
    answer = np.empty(values.shape, np.float32)
    for _, places in recordings(table.index).values():
        answer[places] = np.clip(act(values[places]), 0, 1)
    made: pd.DataFrame = pd.DataFrame(answer, index=table.index, columns=table.columns)
    return made


def _kernel(kernel: Sequence[float]) -> tuple[float, ...]:
    made = tuple(map(float, kernel))
    shown = ",".join(f"{weight:g}" for weight in made)
    if len(made) % 2 == 0:
        raise ConfigError(f"smooth: a kernel has an odd number of weights, got {len(made)} ({shown}).")
    if not all(0 <= weight < float("inf") for weight in made) or not made[len(made) // 2] > 0:
        raise ConfigError(f"smooth: weights are at least 0, and the middle one is positive; got {shown}.")
    return made


def _weighted(block: Floats, kernel: Sequence[float]) -> Floats:
    total, weights = np.zeros_like(block), np.zeros((len(block), 1))
    for offset, weight in enumerate(kernel, -(len(kernel) // 2)):
        # The rows that have a neighbour so many rows later.
        first, last = max(0, -offset), min(len(block), len(block) - offset)
        if first < last:
            total[first:last] += weight * block[first + offset : last + offset]
            weights[first:last] += weight
    smoothed: Floats = total / weights
    return smoothed
