"""Scores of a network on labelled data with their truth, and their npz file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..data.annotated_rows import is_annotation_table, label_rows
from ..data.annotations import read_annotations
from ..data.label_files import check_known, multi_hot, read_soundscape_labels, truth_table
from ..errors import DataError
from ..files import atomic_write, check_schema, read_errors, require_file
from .checks.ids import RowIds, infer_row_s, parse_row_ids
from .metrics import align_tables, check_truth
from .table import check_table, make_table, read_table

KINDS = {"rows": "soundscape rows", "clips": "held-out clips"}
# Files without a number are of schema 1: they differ in nothing else.
SCHEMA = 1
_ARRAYS = ("kind", "ids", "files", "classes", "truth", "scores")


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The scores of N items and K classes, and their truth; a DataError if these do not fit one another."""

    kind: str  # 'rows': labelled rows of soundscapes, scored as in a submission; or 'clips': complete clips
    ids: tuple[str, ...]  # N, unique
    files: tuple[str, ...]  # the recording of each item
    classes: tuple[str, ...]  # K, unique
    truth: npt.NDArray[np.uint8]  # (N, K), 0 or 1
    scores: npt.NDArray[np.float32]  # (N, K), finite

    def __post_init__(self) -> None:
        shape = len(self.ids), len(self.classes)
        if self.kind not in KINDS:
            raise DataError(f"the kind of an evaluation must be one of {', '.join(KINDS)}; got {self.kind!r}.")
        if not all(shape) or len(self.files) != len(self.ids):
            raise DataError(f"{shape[0]} items, {len(self.files)} recordings and {shape[1]} classes do not fit.")
        for noun, names in (("item", self.ids), ("class", self.classes)):
            name, times = Counter(names).most_common(1)[0]
            if times > 1:
                raise DataError(f"{noun} {name!r} occurs more than once in the evaluation.")
        for noun, values in (("truth", self.truth), ("scores", self.scores)):
            if values.shape != shape:
                raise DataError(f"the {noun} must have shape {shape}, got {values.shape}.")
        check_truth(self.truth)
        if not np.isfinite(self.scores).all():
            row, column = np.argwhere(~np.isfinite(self.scores))[0]
            raise DataError(f"the score of {self.ids[row]!r}, class {self.classes[column]!r} is not a finite number.")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of items, recordings, classes and truth in sorted order: equal if two evaluations can be paired."""
        rows, columns = np.argsort(np.array(self.ids)), np.argsort(np.array(self.classes))
        digest = hashlib.sha256(self.kind.encode())
        for names, order in ((self.ids, rows), (self.files, rows), (self.classes, columns)):
            digest.update("\n".join(names[index] for index in order).encode() + b"\0")
        digest.update(self.truth[np.ix_(rows, columns)].tobytes())
        return digest.hexdigest()


def make_evaluation(truth: pd.DataFrame, scores: pd.DataFrame, *, where: str = "the scores") -> Evaluation:
    """Return the evaluation of a score table that has at least the rows and classes of `truth`.

    Errors as `bcsed.scores.metrics.align_tables`; DataError if truth is not 0 or 1.
    """
    aligned = align_tables(truth, scores, extra=True, where=where)
    rows = parse_row_ids(truth.index)
    return Evaluation(
        kind="rows",
        ids=tuple(map(str, truth.index)),
        files=tuple(rows.stems[index] for index in rows.recording),
        classes=tuple(map(str, truth.columns)),
        truth=check_truth(truth.to_numpy(np.float64)).astype(np.uint8),
        scores=aligned.to_numpy(np.float32),
    )


def write_evaluation(path: str | Path, evaluation: Evaluation) -> None:
    """Write an evaluation as npz; errors as `bcsed.files.atomic_write`."""
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            schema=np.array(SCHEMA),
            kind=np.array(evaluation.kind),
            ids=np.array(evaluation.ids),
            files=np.array(evaluation.files),
            classes=np.array(evaluation.classes),
            truth=evaluation.truth.astype(np.uint8),
            scores=evaluation.scores.astype(np.float32),
        )


def read_evaluation(path: str | Path) -> Evaluation:
    """Read a file that `write_evaluation` or a training wrote; DataError if it is missing, incomplete or damaged."""
    path = Path(path)
    require_file(path)
    # numpy would not close the path of a truncated file.
    with read_errors(path, "npz"), path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        missing = [name for name in _ARRAYS if name not in stored.files]
        if missing:
            raise DataError(f"{path} is not an evaluation of bcsed: it lacks {', '.join(missing)}.")
        check_schema({"schema": int(stored["schema"])} if "schema" in stored.files else {}, path, (SCHEMA,))
        arrays = {name: stored[name] for name in _ARRAYS}
        truth, scores = arrays["truth"].astype(np.uint8, casting="safe"), arrays["scores"].astype(np.float32)
        texts = {name: tuple(map(str, arrays[name])) for name in ("ids", "files", "classes")}
    try:
        return Evaluation(kind=str(arrays["kind"]), truth=truth, scores=scores, **texts)
    except DataError as error:
        raise DataError(f"{path} is damaged: {error}") from error


def read_truth(
    path: str | Path, classes: Sequence[str], row_ids: Iterable[str] | None = None, row_s: int | None = None
) -> pd.DataFrame:
    """Read the labels of rows; return a table of 0 and 1, indexed by ``row_id``.

    The file is a wide CSV, ``row_id`` and a column per class, which may have some of the scored `classes` only, in
    its own order; or labels in the form ``filename,start,end,primary_label`` (see `bcsed.data.read_soundscape_labels`),
    which give a column for each of `classes` and have rows of `row_s` seconds, by default those of `row_ids`, a table's
    index, else 5; or, if the `row_ids` of the recordings are known, a table for
    `bcsed.data.annotations.read_annotations`, which labels all their rows of the recordings that are in it. Another
    class is an error.
    """
    path = Path(path)
    require_file(path)
    if row_ids is not None and is_annotation_table(path):
        return _annotated_truth(path, classes, parse_row_ids(row_ids))
    with path.open(encoding="utf-8", errors="replace") as stream:
        header = stream.readline()
    if "row_id" not in header:
        if row_s is None and isinstance(row_ids, (pd.Index, Sequence)):
            row_s = infer_row_s(parse_row_ids(row_ids))
        return truth_table(read_soundscape_labels(path, classes), classes, row_s=row_s or 5)
    table = read_table(path)
    check_table(table, where=str(path))
    unknown = [name for name in map(str, table.columns) if name not in classes]
    if unknown:
        raise DataError(f"{path}: class {unknown[0]!r} is not in the scores ({len(unknown)} such classes).")
    return table


def _annotated_truth(path: Path, classes: Sequence[str], rows: RowIds) -> pd.DataFrame:
    row_s = infer_row_s(rows) or 5
    ends = {stem: float(rows.end_s[rows.recording == k].max()) for k, stem in enumerate(rows.stems)}
    events = read_annotations(path, recordings=ends)
    if events.empty:
        raise DataError(f"{path}: contains no event; name rows without labels by `bcsed label --files`.")
    lengths = {name: ends[name] for name in dict.fromkeys(events["recording"])}
    labelled = label_rows(events, lengths, row_s=row_s, classes=classes)
    check_known(set().union(*labelled["labels"]), classes, path)
    ids = [f"{name}_{start_s + row_s}" for name, start_s in zip(labelled["filename"], labelled["start_s"], strict=True)]
    truth: pd.DataFrame = make_table(ids, classes, multi_hot(labelled["labels"], classes))
    return truth
