"""A teacher's embeddings of the training clips, computed beforehand by another model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...config.contract import Frontend
from ...errors import DataError
from ...files import read_errors

Vectors = npt.NDArray[np.float32]


class Embeddings:
    """A teacher's embeddings, found by clip and start of the window."""

    def __init__(
        self,
        names: Sequence[str],  # of the training clips, as in the label file
        clips: npt.NDArray[np.str_],  # of each embedding, (M,)
        start_s: npt.NDArray[np.float64],  # of its window, (M,)
        vectors: npt.NDArray[np.floating],  # (M, D)
        frontend: Frontend,
        *,
        where: str = "the embeddings",
    ) -> None:
        if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
            raise DataError(f"{where}: vectors must be finite numbers of shape (windows, D), got {vectors.shape}.")
        length = np.linalg.norm(np.asarray(vectors, np.float64), axis=1, keepdims=True)
        self.unknown: Vectors = np.zeros(vectors.shape[1], np.float32)  # the embedding of other clips, (D,)
        self._frame_s = frontend.hop_length / frontend.sample_rate
        order = np.lexsort((start_s, clips))
        self._vectors: Vectors = (vectors / np.maximum(length, 1e-12)).astype(np.float32)[order]
        self._start, clips = start_s[order], clips[order]
        known, first = np.unique(clips, return_index=True)
        ranges = dict(zip(map(str, known), zip(first, [*first[1:], len(clips)], strict=True), strict=True))
        self._ranges = [ranges.get(name) for name in names]
        self.n_known = sum(bounds is not None for bounds in self._ranges)
        if not self.n_known:
            raise DataError(
                f"{where}: none of the {len(names)} clips has an embedding; clips are named as in the label file, "
                f"such as {names[0]!r}, and the file has {str(clips[0])!r}."
            )

    def nearest(self, clip: int, first: int) -> Vectors:
        """Return the embedding of the window that starts nearest to a frame of a clip, (D,); zeros if unknown."""
        bounds = self._ranges[clip]
        if bounds is None:
            return self.unknown
        begin, end = bounds
        offset = int(np.abs(self._start[begin:end] - first * self._frame_s).argmin())
        return np.asarray(self._vectors[begin + offset])


def read_embeddings(path: str | Path, names: Sequence[str], frontend: Frontend) -> Embeddings:
    """Read embeddings from a Parquet or npz file.

    Parquet has the columns ``clip`` (or ``filename``), ``start_s`` and ``vector`` (lists of equal length); npz the
    arrays ``clip`` (M,), ``start_s`` (M,) and ``vector`` (M, D). Pickled values are not read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of embeddings.")
    with read_errors(path, "a table of embeddings, with clip, start_s and vector, in Parquet or npz"):
        if path.suffix == ".npz":
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                clips, start_s, vectors = stored["clip"], stored["start_s"], stored["vector"]
        else:
            table = pd.read_parquet(path)
            clips = table["clip" if "clip" in table else "filename"].to_numpy(str)
            start_s, vectors = table["start_s"].to_numpy(), np.stack(table["vector"].to_list())
        if not len(clips) == len(start_s) == len(vectors):
            raise ValueError(f"{len(clips)} clips, {len(start_s)} starts and {len(vectors)} vectors")
        # numpy raises if the arrays have other shapes or types.
        return Embeddings(names, clips.astype(str), start_s.astype(np.float64), vectors, frontend, where=str(path))
