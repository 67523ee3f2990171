"""Label files -> tables of clips, of labelled parts of soundscapes, and of true rows."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import read_csv, shorten_list
from .competitions import Competition, list_clips

log = logging.getLogger(__name__)


def read_train(folder: str | Path, competition: Competition, classes: Sequence[str]) -> pd.DataFrame:
    """Read the labelled clips.

    Returns
    -------
    DataFrame
        One row per clip, in the file's order: ``path`` (str, joined to `folder`), ``filename``, ``label``,
        ``secondary`` (tuple of str, without the label itself), ``recording``, ``author`` ('' unknown) and
        ``centres`` (tuple of float, seconds of marked calls; a column of that name, between semicolons).
        ``recording`` says which clips are cuts of one recording, and must stay in one fold: a column of that
        name where the file has one, else the beginning of the stem that matches `recording_pattern`
        (``XC123_0`` and ``XC123-1`` are both XC123, under whatever label), else the whole stem. Other names
        say nothing about cuts, so ``a_0`` and ``a_1`` stay two recordings unless the column says otherwise.

    Raises
    ------
    DataError
        If a column is missing, the table is empty, a file stands twice, or a label is not among the classes.
        Secondary labels outside the classes are common in BirdCLEF: they are dropped, and counted in the log.
    """
    folder = Path(folder)
    raw, where = list_clips(folder, competition), folder / competition.train_csv
    doubled = raw["filename"][raw["filename"].duplicated()]
    if len(doubled):
        raise DataError(f"{where}: {doubled.iloc[0]!r} stands more than once ({len(doubled)} such rows).")
    label = raw[competition.label_column]
    _check_known(label, classes, where)
    empty = pd.Series([""] * len(raw), index=raw.index, dtype=object)
    cells = raw.get("secondary_labels", empty)
    stems = [PurePosixPath(name).stem for name in raw["filename"]]
    begins = [re.match(competition.recording_pattern, stem) for stem in stems]
    ids = [begin.group() if begin else stem for begin, stem in zip(begins, stems, strict=True)]
    table: pd.DataFrame = pd.DataFrame(
        {
            "path": [str(folder / competition.audio_dir / name) for name in raw["filename"]],
            "filename": raw["filename"],
            "label": label,
            "secondary": _known_secondary(cells, label, classes, where),
            "recording": [given or own for given, own in zip(raw.get("recording", empty), ids, strict=True)],
            "author": raw.get("author", empty).str.strip(),
            "centres": [_centres(cell, where) for cell in raw.get("centres", empty)],
        }
    )
    return table


def parse_labels(cell: str) -> tuple[str, ...]:
    """Read a cell of labels: a written Python list, or labels between semicolons.

    Raises
    ------
    DataError
        If it opens a list and is none, lacks commas, or has items other than text and whole numbers.

    Examples
    --------
    >>> parse_labels("['']"), parse_labels("['grekis', 'whtdov']"), parse_labels("22961;024")
    ((), ('grekis', 'whtdov'), ('22961', '024'))
    """
    if not cell.strip().startswith("["):
        return tuple(part.strip() for part in cell.split(";") if part.strip())
    try:
        items = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError):
        items = [None]
    # NumPy writes lists without commas, and Python would join such neighbours into one label.
    joined = re.search(r"""['"]\s+['"]""", cell)
    if joined or not all(isinstance(item, (str, int)) for item in items):
        raise DataError(f"{cell!r} is no list of labels; write ['a', 'b'] or a;b.")
    return tuple(str(item).strip() for item in items if str(item).strip())


def check_files(table: pd.DataFrame) -> None:
    """Refuse (DataError) a table of clips if a ``path`` of it is not there, with the number of these."""
    gone = [path for path in table["path"] if not Path(path).is_file()]
    if gone:
        raise DataError(f"{len(gone)} of {len(table)} recordings are missing: {shorten_list(gone, 3)}.")


def read_soundscape_labels(path: str | Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read which classes call in which part of which soundscape.

    The CSV has ``filename,start,end,primary_label``: times as ``HH:MM:SS`` or whole seconds, labels between
    semicolons, an empty cell where nothing calls.

    Returns
    -------
    DataFrame
        ``filename``, ``start_s``, ``end_s`` (int64) and ``labels`` (tuple, in class order); one row per part,
        in order of first appearance. Parts that stand more than once (all do in 2026) hold the union.

    Raises
    ------
    DataError
        If a column is missing, the table is empty, a time is not a whole second, a part does not end
        after it begins, or a label is not among the classes.
    """
    path = Path(path)
    raw = read_csv(path, ["filename", "start", "end", "primary_label"])
    starts = [_seconds(cell, path) for cell in raw["start"]]
    ends = [_seconds(cell, path) for cell in raw["end"]]
    merged: dict[tuple[str, int, int], set[str]] = {}
    for name, start_s, end_s, cell in zip(raw["filename"], starts, ends, raw["primary_label"], strict=True):
        if end_s <= start_s:
            raise DataError(f"{path}: a row of {name!r} begins at {start_s} s and ends at {end_s} s.")
        merged.setdefault((name, start_s, end_s), set()).update(parse_labels(cell))
    _check_known(set().union(*merged.values()), classes, path)
    place = {name: k for k, name in enumerate(classes)}
    table = pd.DataFrame(list(merged), columns=["filename", "start_s", "end_s"])
    table["labels"] = [tuple(sorted(labels, key=place.__getitem__)) for labels in merged.values()]
    typed: pd.DataFrame = table.astype({"start_s": np.int64, "end_s": np.int64})
    return typed


def truth_table(
    labels: pd.DataFrame, classes: Sequence[str], row_s: int = 5, row_id: str = "{stem}_{end}"
) -> pd.DataFrame:
    """Return the labels of soundscape rows in the form of a score table.

    Parameters
    ----------
    labels : DataFrame
        As from `read_soundscape_labels`; each line is one row of the grid (a recording's last may be short).
    classes : sequence of K str
    row_s, row_id
        Seconds of a row, and form of its id; see `Competition`.

    Returns
    -------
    DataFrame, shape (R, K)
        float32 of 0 and 1, index ``row_id``. Only rows that were labelled are there.

    Raises
    ------
    DataError
        If a line does not lie on the grid, two lines are the same row, or a label is not among the classes.
    """
    ids = []
    for filename, start_s, end_s in zip(labels["filename"], labels["start_s"], labels["end_s"], strict=True):
        if start_s % row_s or not 0 < end_s - start_s <= row_s:
            raise DataError(
                f"{filename!r} is labelled from {start_s} to {end_s} s, which is no row of {row_s} s; "
                "give the row length of the labels."
            )
        ids.append(row_id.format(stem=PurePosixPath(filename).stem, end=int(start_s) + row_s))
    index = pd.Index(ids, dtype=object, name="row_id")
    if index.has_duplicates:
        raise DataError(f"two lines of labels are row {index[index.duplicated()][0]!r}.")
    _check_known(set().union(*labels["labels"]), classes, "the soundscape labels")
    place = {name: k for k, name in enumerate(classes)}
    truth = np.zeros((len(ids), len(classes)), np.float32)
    for row, names in enumerate(labels["labels"]):
        truth[row, [place[name] for name in names]] = 1
    table: pd.DataFrame = pd.DataFrame(truth, index=index, columns=pd.Index(list(classes), dtype=object))
    return table


def _seconds(cell: str, path: Path) -> int:
    parts = cell.strip().split(":")
    try:
        value = sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        value = float("nan")
    if len(parts) > 3 or not value.is_integer() or value < 0:
        raise DataError(f"{path}: the time {cell!r} is no whole second; write HH:MM:SS or seconds.")
    return int(value)


def _centres(cell: str, path: Path) -> tuple[float, ...]:
    try:
        seconds = tuple(float(part) for part in cell.split(";") if part.strip())
    except ValueError:
        seconds = (-1.0,)
    if not all(0 <= second < float("inf") for second in seconds):
        raise DataError(f"{path}: the centres {cell!r} are no seconds; write 1.5;20 for two of them.")
    return seconds


def _known_secondary(
    cells: pd.Series[str], primary: Iterable[str], classes: Sequence[str], where: Path
) -> list[tuple[str, ...]]:
    # Few cells differ, so each spelling is parsed once.
    parsed = {cell: parse_labels(cell) for cell in cells.unique()}
    dropped = [name for cell in cells for name in parsed[cell] if name not in classes]
    if dropped:
        shown = shorten_list(sorted(set(dropped)))
        log.warning("%s: dropped %d secondary labels outside the classes: %s", where, len(dropped), shown)
    known = {cell: dict.fromkeys(name for name in parsed[cell] if name in classes) for cell in parsed}
    return [tuple(name for name in known[cell] if name != own) for cell, own in zip(cells, primary, strict=True)]


def _check_known(labels: Iterable[str], classes: Sequence[str], where: str | Path) -> None:
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        raise DataError(
            f"{where}: labels that are not among the {len(classes)} classes: {shorten_list(map(repr, unknown))}; "
            "correct them, or add them to the class list."
        )
