"""A teacher's embeddings of clips and soundscapes, for distillation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...predict.embeddings import read_embeddings

Array = npt.NDArray[np.float32]


class Teacher:
    """The embeddings of windows of files, in the order of their names, without their mean and of length 1.

    Embeddings of a network with ReLU are all similar to their mean; without it, their cosine measures what differs.
    """

    def __init__(self, names: Sequence[str], windows: pd.DataFrame, vectors: Array, window_s: npt.ArrayLike) -> None:
        order = np.lexsort((windows["start_s"], windows["filename"]))
        centred = vectors[order] - vectors.mean(0)
        self._vectors = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        self._start_s = windows["start_s"].to_numpy(np.float64)[order]
        self._end_s = self._start_s + np.asarray(window_s)[order]
        known, first = np.unique(windows["filename"].to_numpy(str)[order], return_index=True)
        self._ranges = dict(zip(map(str, known), zip(first, [*first[1:], len(order)], strict=True), strict=True))
        self.names = names
        self.unknown: Array = np.zeros(vectors.shape[1], np.float32)  # the embedding of other files, (E,)

    @property
    def n_known(self) -> int:
        """The number of files that have an embedding."""
        return sum(name in self._ranges for name in self.names)

    @property
    def others(self) -> frozenset[str]:
        """The files that have an embedding and are not among the names."""
        return frozenset(self._ranges).difference(self.names)

    def of(self, names: Sequence[str]) -> Teacher:
        """Return the same embeddings for other files."""
        other = copy.copy(self)
        other.names = names
        return other

    def between(self, index: int, begin_s: float, end_s: float) -> Array:
        """Return the embedding of a range of a file (s), (E,): the mean of its windows by overlap; zeros if unknown.

        Of a range that no window overlaps, it is that of the nearest window.
        """
        bounds = self._ranges.get(self.names[index])
        if bounds is None:
            return self.unknown
        windows = slice(*bounds)
        gap = np.maximum(self._start_s[windows], begin_s) - np.minimum(self._end_s[windows], end_s)
        weight = (-gap).clip(0) if gap.min() < 0 else gap == gap.min()
        mean = weight.astype(np.float32) @ self._vectors[windows]
        length = float(np.linalg.norm(mean))
        # Opposite windows have no mean direction.
        return np.asarray(mean / length, np.float32) if length > 1e-4 else self.unknown


def read_teacher(paths: Sequence[str | Path], names: Sequence[str]) -> Teacher:
    """Read embeddings of clips, named as in the label file, and of soundscapes.

    The files are those of `bcsed.predict.embeddings.read_embeddings`. DataError if one is invalid, they are of several
    networks, no clip has an embedding, or all embeddings are equal.
    """
    tables = [read_embeddings(path) for path in paths]
    kinds = [(vectors.shape[1], metadata.get("fingerprint")) for _, vectors, metadata in tables]
    for path, kind in zip(paths, kinds, strict=True):
        if kind != kinds[0]:
            raise DataError(f"{paths[0]} and {path} are embeddings of different networks; make both with one bundle.")
    windows = pd.concat([frame for frame, _, _ in tables], ignore_index=True)
    twice = windows[windows.duplicated()]
    if len(twice):
        name, start = twice.iloc[0]
        raise DataError(
            f"the window of {name!r} at {start:g} s is in several of {', '.join(map(str, paths))}; name each "
            "table once, and embed different recordings of one name together, from a folder of both."
        )
    vectors = np.concatenate([vectors for _, vectors, _ in tables])
    lengths_s = [np.full(len(frame), _window_s(frame, metadata)) for frame, _, metadata in tables]
    teacher = Teacher(names, windows, vectors, np.concatenate(lengths_s))
    where = ", ".join(map(str, paths))
    if not teacher.n_known:
        raise DataError(
            f"{where}: none of the {len(names)} clips has an embedding; clips are named as in the label file, "
            f"such as {names[0]!r}, and the file has {windows['filename'].iloc[0]!r}."
        )
    if not np.ptp(vectors, axis=0).any():
        raise DataError(f"{where}: all embeddings are equal, so nothing can be learned from them.")
    return teacher


def _window_s(frame: pd.DataFrame, metadata: dict[str, object]) -> float:
    """Return the length of the windows of a table (s): as described, or else the usual distance between two."""
    length = metadata.get("window_s")
    if isinstance(length, int | float) and length > 0:
        return float(length)
    steps = frame.sort_values(["filename", "start_s"]).groupby("filename")["start_s"].diff().dropna()
    return float(steps.median()) if len(steps) else 0.0
