"""What a network answered on labelled data, beside the truth; a file of plain arrays."""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..data.label_files import read_soundscape_labels, truth_table
from ..errors import DataError
from ..files import atomic_write, read_errors
from .table import check_table, read_table

KINDS = {"rows": "soundscape rows", "clips": "held-out clips"}
_ARRAYS = ("kind", "ids", "files", "classes", "truth", "scores")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scores of N items and K classes, and what is true.

    Parameters
    ----------
    kind : {'rows', 'clips'}
        Labelled rows of soundscapes, scored as in a submission; or whole clips.
    ids : tuple of N str
        Each once.
    files : tuple of N str
        The recording that each item is of.
    classes : tuple of K str
        Each once.
    truth : ndarray of uint8, shape (N, K)
        0 or 1.
    scores : ndarray of float32, shape (N, K)
        Finite.

    Raises
    ------
    DataError
        If these do not fit one another.
    """

    kind: str
    ids: tuple[str, ...]
    files: tuple[str, ...]
    classes: tuple[str, ...]
    truth: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = len(self.ids), len(self.classes)
        if self.kind not in KINDS:
            raise DataError(f"the kind of answers must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        if not all(shape) or len(self.files) != len(self.ids):
            raise DataError(f"{shape[0]} items, {len(self.files)} recordings and {shape[1]} classes do not fit.")
        for what, names in (("item", self.ids), ("class", self.classes)):
            doubled = [name for name, times in Counter(names).items() if times > 1]
            if doubled:
                raise DataError(f"the {what} {doubled[0]!r} stands more than once in the answers.")
        for what, values in (("truth", self.truth), ("scores", self.scores)):
            if values.shape != shape:
                raise DataError(f"the {what} must have shape {shape}, got {values.shape}.")
        if not np.isin(self.truth, (0, 1)).all():
            raise DataError(f"truth must be 0 or 1, got {self.truth[~np.isin(self.truth, (0, 1))][0]}.")
        if not np.isfinite(self.scores).all():
            row, column = np.argwhere(~np.isfinite(self.scores))[0]
            raise DataError(f"the score of {self.ids[row]!r}, class {self.classes[column]!r} is no finite number.")

    @cached_property
    def task(self) -> str:
        """What was asked and is true, whatever the order of items and classes: equal where two can be paired."""
        rows, columns = np.argsort(np.array(self.ids)), np.argsort(np.array(self.classes))
        digest = hashlib.sha256(self.kind.encode())
        for names, order in ((self.ids, rows), (self.files, rows), (self.classes, columns)):
            digest.update("\n".join(names[place] for place in order).encode() + b"\0")
        digest.update(self.truth[np.ix_(rows, columns)].tobytes())
        return digest.hexdigest()


def write_evaluation(path: str | Path, answers: Evaluation) -> None:
    """Write answers as npz, whole or not at all; errors as `bcsed.scores.table.replacing`."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            kind=np.array(answers.kind),
            ids=np.array(answers.ids),
            files=np.array(answers.files),
            classes=np.array(answers.classes),
            truth=answers.truth.astype(np.uint8),
            scores=answers.scores.astype(np.float32),
        )


def read_evaluation(path: str | Path) -> Evaluation:
    """Read what `write_answers`, or a training, has written.

    Raises
    ------
    DataError
        If the file is not there, is damaged, lacks an array, or its arrays do not fit one another.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    with read_errors(path, "npz"), path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
    lacking = [name for name in _ARRAYS if name not in names]
    if lacking:
        raise DataError(f"{path} holds no answers of bcsed: it lacks {', '.join(lacking)}.")
    with read_errors(path, "npz"), np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in _ARRAYS}
        truth, scores = found["truth"].astype(np.uint8, casting="safe"), found["scores"].astype(np.float32)
        made = {name: tuple(map(str, found[name])) for name in ("ids", "files", "classes")}
    try:
        return Evaluation(kind=str(found["kind"]), truth=truth, scores=scores, **made)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def read_truth(path: str | Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read which classes are heard in which row.

    Parameters
    ----------
    path : str or Path
        A CSV: a wide table, ``row_id`` and a column per class, or labels in the form
        ``filename,start,end,primary_label`` (see `bcsed.data.read_soundscape_labels`).
    classes : sequence of K str
        The classes that are scored.

    Returns
    -------
    DataFrame
        Indexed by ``row_id``. A wide table may have some of the classes only, and keeps its own order; labels
        make a column of 0 and 1 for each of `classes`.

    Raises
    ------
    DataError
        If there is no such file, it is neither of these, or it has a class that is not among `classes`.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: there is no such file.")
    with file.open(encoding="utf-8", errors="replace") as stream:
        header = stream.readline()
    if "row_id" in header:
        table = read_table(file)
        check_table(table, where=str(file))
        lacking = [name for name in map(str, table.columns) if name not in classes]
        if lacking:
            raise DataError(f"{file}: class {lacking[0]!r} is not in the scores ({len(lacking)} such classes).")
        return table
    return truth_table(read_soundscape_labels(file, classes), classes)
