"""Embeddings that another model made of the clips beforehand: ``clip, window -> vector``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...config.contract import Frontend
from ...errors import DataError
from ...files import read_errors

Vectors = npt.NDArray[np.float32]


class Embeddings:
    """A teacher's embeddings, looked up by clip and place.

    Parameters
    ----------
    names : sequence of N str
        The clips of the training, as the label file names them.
    clips : ndarray of str, shape (M,)
        The clip of each embedding.
    start_s : ndarray of float, shape (M,)
        Where its window begins, in seconds.
    vectors : ndarray, shape (M, D)
    signal : Frontend
        What a training window is.

    Raises
    ------
    DataError
        If no clip of the training has an embedding, or a vector is no vector of finite numbers.
    """

    def __init__(
        self,
        names: Sequence[str],
        clips: npt.NDArray[np.str_],
        start_s: npt.NDArray[np.float64],
        vectors: npt.NDArray[np.floating],
        frontend: Frontend,
        *,
        where: str = "the embeddings",
    ) -> None:
        if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
            raise DataError(f"{where}: vectors must be finite numbers of shape (windows, D), got {vectors.shape}.")
        length = np.linalg.norm(np.asarray(vectors, np.float64), axis=1, keepdims=True)
        self.vectors: Vectors = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
        self.none: Vectors = np.zeros(vectors.shape[1], np.float32)
        self._frame_s = frontend.hop_length / frontend.sample_rate
        order = np.lexsort((start_s, clips))
        self._start, self.vectors, clips = start_s[order], self.vectors[order], clips[order]
        known, first = np.unique(clips, return_index=True)
        last = np.append(first[1:], len(clips))
        place = {str(name): k for k, name in enumerate(known)}
        self._runs = [(int(first[k]), int(last[k])) if (k := place.get(name, -1)) >= 0 else None for name in names]
        self.n_known = sum(run is not None for run in self._runs)
        if not self.n_known:
            raise DataError(
                f"{where}: none of the {len(names)} clips has an embedding; clips are named as in the label file, "
                f"such as {names[0]!r}, and the file has {str(clips[0])!r}."
            )

    @property
    def size(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def vector(self, row: int, first: int) -> Vectors:
        """Return the embedding whose window begins nearest to frame `first` of a clip, (D,); zeros for none."""
        run = self._runs[row]
        if run is None:
            return self.none
        begin, end = run
        nearest = int(np.abs(self._start[begin:end] - first * self._frame_s).argmin())
        found: Vectors = self.vectors[begin + nearest]
        return found


def read_embeddings(path: str | Path, names: Sequence[str], frontend: Frontend) -> Embeddings:
    """Read embeddings from a Parquet or npz file.

    Parquet has the columns ``clip`` (or ``filename``), ``start_s`` and ``vector`` (lists of equal length); npz the
    arrays ``clip`` (M,), ``start_s`` (M,) and ``vector`` (M, D). No pickle is read.

    Raises
    ------
    DataError
        If there is no such file, or it is no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of embeddings.")
    with read_errors(path, "a table of embeddings, with clip, start_s and vector, in Parquet or npz"):
        clips, start_s, vectors = _npz(path) if path.suffix == ".npz" else _parquet(path)
        # Arrays of other shapes or types are numpy's to refuse.
        return Embeddings(names, clips.astype(str), start_s.astype(np.float64), vectors, frontend, where=str(path))


def _npz(path: Path) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64], Vectors]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        clips, start_s, vectors = stored["clip"], stored["start_s"], stored["vector"]
    if not len(clips) == len(start_s) == len(vectors):
        raise ValueError(f"{len(clips)} clips, {len(start_s)} starts and {len(vectors)} vectors")
    return clips, start_s, vectors


def _parquet(path: Path) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64], Vectors]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    name = "clip" if "clip" in table.column_names else "filename"
    vectors = np.stack(table["vector"].to_numpy(zero_copy_only=False))
    return np.asarray(table[name].to_pylist(), str), table["start_s"].to_numpy().astype(np.float64), vectors
