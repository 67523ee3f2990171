"""Read label files as tables of clips, of soundscape labels, and of true rows."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError
from ..files import read_csv, shorten_list
from ..recordings import find_recordings, printable
from .competitions import SEVERAL, Competition, competitions_in, list_clips, negative_labels

log = logging.getLogger(__name__)


def read_train(folder: str | Path, competition: Competition, classes: Sequence[str]) -> pd.DataFrame:
    """Read the labelled clips, one row per clip in the file's order, and the recordings of the folder ``noise``.

    The columns are ``path`` (str, joined to `folder`), ``filename``, ``label``, ``secondary`` (tuple of str, without
    the label), ``recording``, ``author`` ('' if unknown) and ``centres`` (tuple of float, seconds of marked calls; from
    an optional column, separated by semicolons). ``recording`` is the column of that name, else the part of the stem
    that matches `recording_pattern` (XC123 for ``XC123_0`` and ``XC123-1``), else the stem. The label of a negative
    clip, without any of the classes, is '': in the file an empty cell or one of `NEGATIVE_LABELS` such as ``nocall``,
    for `FOLDERS` also a folder of that name; for the folder ``noise`` see `add_noise`. Unknown secondary labels, common
    in BirdCLEF, are dropped with a warning. Raises DataError if a column is missing, the table is empty or has only
    negatives, a file is repeated, or a label is unknown. The clips of `SEVERAL` follow each other; their ``filename``
    is the path below `folder`.
    """
    folder = Path(folder)
    if competition is SEVERAL:
        tables = [read_train(*inner, classes) for inner in competitions_in(folder)]
        joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
        joined["filename"] = [Path(path).relative_to(folder).as_posix() for path in joined["path"]]
        return joined
    raw, source = list_clips(folder, competition), folder / competition.train_csv
    duplicates = raw["filename"][raw["filename"].duplicated()]
    if len(duplicates):
        raise DataError(f"{source}: {duplicates.iloc[0]!r} is listed more than once ({len(duplicates)} duplicates).")
    label = raw[competition.label_column]
    negative = label.isin(negative_labels(classes))
    _log_negatives(label[negative & ~label.isin(["", "nocall"])], source)
    label = label.mask(negative, "")
    check_known(label[label != ""], classes, source)
    if not label.any():
        raise DataError(f"{source}: none of the {len(label)} clips has a label; training needs some that have.")
    empty = pd.Series([""] * len(raw), index=raw.index, dtype=object)
    stems = [PurePosixPath(name).stem for name in raw["filename"]]
    audio, prefixes = folder / competition.audio_dir, label if competition.class_folders else [""] * len(raw)
    matches = [re.match(competition.recording_pattern, stem) for stem in stems]
    ids = [match.group() if match else stem for match, stem in zip(matches, stems, strict=True)]
    table: pd.DataFrame = pd.DataFrame(
        {
            "path": [str(audio / prefix / name) for prefix, name in zip(prefixes, raw["filename"], strict=True)],
            "filename": raw["filename"],
            "label": label,
            "secondary": _known_secondary(raw.get("secondary_labels", empty), label, classes, source),
            "recording": [cell or name for cell, name in zip(raw.get("recording", empty), ids, strict=True)],
            "author": raw.get("author", empty).str.strip(),
            "centres": [_centres(cell, source) for cell in raw.get("centres", empty)],
        }
    )
    noise = folder / competition.noise_dir
    return add_noise(table, noise) if competition.noise_dir and noise.is_dir() else table


def add_noise(table: pd.DataFrame, folder: str | Path) -> pd.DataFrame:
    """Return a table of `read_train` with the recordings of a folder as negatives, each a recording of its own.

    Their ``filename`` starts with the folder's name. DataError if the folder contains no recording, or a name occurs
    twice.
    """
    paths, parent = find_recordings([folder]), Path(folder).absolute().parent
    names = [printable(path.absolute().relative_to(parent).as_posix()) for path in paths]
    repeated = sorted(set(names).intersection(table["filename"]))
    if repeated:
        raise DataError(
            f"{folder}: {repeated[0]!r} is the name of a clip too ({len(repeated)} such); rename the folder."
        )
    columns = {"path": [str(path) for path in paths], "filename": names, "recording": names}
    constant = {name: [value] * len(paths) for name, value in (("label", ""), ("secondary", ()), ("author", ""))}
    noise = pd.DataFrame({**columns, **constant, "centres": [()] * len(paths)})
    joined: pd.DataFrame = pd.concat([table, noise], ignore_index=True)
    return joined


def parse_labels(cell: str) -> tuple[str, ...]:
    """Read a cell of labels, either a Python list or separated by semicolons.

    >>> parse_labels("['']"), parse_labels("['grekis', 'whtdov']"), parse_labels("22961;024")
    ((), ('grekis', 'whtdov'), ('22961', '024'))
    """
    if not cell.strip().startswith("["):
        return tuple(part.strip() for part in cell.split(";") if part.strip())
    try:
        items = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError):
        items = [None]
    # NumPy prints lists without commas, and Python would join adjacent strings into one label.
    joined = re.search(r"""['"]\s+['"]""", cell)
    if joined or not all(isinstance(item, (str, int)) for item in items):
        raise DataError(f"{cell!r} is not a list of labels; write ['a', 'b'] or a;b.")
    return tuple(str(item).strip() for item in items if str(item).strip())


def check_files(table: pd.DataFrame) -> None:
    """Raise a DataError with their number if files in the column ``path`` are missing."""
    missing = [path for path in table["path"] if not Path(path).is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(table)} recordings are missing: {shorten_list(missing, 3)}.")


def read_soundscape_labels(path: str | Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read the labels of soundscape intervals.

    The CSV has ``filename,start,end,primary_label``: times as ``HH:MM:SS`` or whole seconds, and labels separated by
    semicolons; the cell of an interval without calls is empty, or one of `NEGATIVE_LABELS`. A column ``known`` lists
    the classes that were searched for, as `bcsed review read` writes it: all others are unknown, not absent. DataError
    if it is invalid, or a label is unknown or beside one of the negative labels.

    The result has ``filename``, ``start_s``, ``end_s`` (int64) and ``labels`` (tuple, in class order), one row per
    interval in order of first appearance. The labels of repeated intervals (all are in 2026) are joined. If the file
    has ``known``, so has the result (tuple).
    """
    path = Path(path)
    raw = read_csv(path, ["filename", "start", "end", "primary_label"])
    starts, ends = ([_seconds(cell, path) for cell in raw[name]] for name in ("start", "end"))
    negative = negative_labels(classes)
    index = {name: k for k, name in enumerate(classes)}
    columns = {"labels": "primary_label", **({"known": "known"} if "known" in raw else {})}
    table = pd.DataFrame()
    for column, source in columns.items():
        merged: dict[tuple[str, int, int], set[str]] = {}
        for name, start_s, end_s, cell in zip(raw["filename"], starts, ends, raw[source], strict=True):
            if end_s <= start_s:
                raise DataError(f"{path}: a row of {name!r} begins at {start_s} s and ends at {end_s} s.")
            labels = set(parse_labels(cell))
            if labels & negative and labels - negative:
                raise DataError(
                    f"{path}: a row of {name!r} has the labels {cell!r}, of a class and of none; remove either."
                )
            merged.setdefault((name, start_s, end_s), set()).update(labels - negative)
        check_known(set().union(*merged.values()), classes, path)
        if table.empty:
            table = pd.DataFrame(list(merged), columns=["filename", "start_s", "end_s"])
        table[column] = [tuple(sorted(labels, key=index.__getitem__)) for labels in merged.values()]
    if "known" in table and any(set(row.labels) - set(row.known) for row in table.itertuples()):
        raise DataError(f"{path}: a row has a primary_label that is not in its column known; add it there.")
    typed: pd.DataFrame = table.astype({"start_s": np.int64, "end_s": np.int64})
    return typed


def truth_table(
    labels: pd.DataFrame, classes: Sequence[str], row_s: int = 5, row_id: str = "{stem}_{end}"
) -> pd.DataFrame:
    """Return the labels of soundscape rows in the form of a score table.

    Each line of `labels` must be one row of the grid, of which the last of a recording may be shorter; else a DataError
    is raised, as if only some classes of a row are known. The result contains 0 and 1 (float32) for the labelled rows.
    """
    if "known" in labels and any(len(known) < len(classes) for known in labels["known"]):
        advice = "such rows are for training, and `bcsed review read` estimates precision from them"
        raise DataError(f"only some classes are known in labelled rows, which cannot be the truth of all; {advice}.")
    ids, last_s = [], labels.groupby("filename")["end_s"].max()
    for filename, start_s, end_s in zip(labels["filename"], labels["start_s"], labels["end_s"], strict=True):
        if start_s % row_s or not 0 < end_s - start_s <= row_s:
            interval = f"labelled from {start_s} to {end_s} s, which is not a row of {row_s} s"
            raise DataError(f"{filename!r} is {interval}; set the row length of the labels.")
        if end_s - start_s < row_s and end_s < last_s[filename]:
            text = f"a row of {end_s - start_s} s from {start_s} s on before others"
            raise DataError(f"{filename!r} has {text}, where rows have {row_s} s; set the row length of the labels.")
        ids.append(row_id.format(stem=PurePosixPath(filename).stem, end=int(start_s) + row_s))
    index = pd.Index(ids, dtype=object, name="row_id")
    if index.has_duplicates:
        raise DataError(f"two lines of labels are row {index[index.duplicated()][0]!r}.")
    check_known(set().union(*labels["labels"]), classes, "the soundscape labels")
    truth = multi_hot(labels["labels"], classes)
    table: pd.DataFrame = pd.DataFrame(truth, index=index, columns=pd.Index(list(classes), dtype=object))
    return table


def multi_hot(
    labels: pd.Series[Any], classes: Sequence[str], known: pd.Series[Any] | None = None
) -> npt.NDArray[np.float32]:
    """Return 1 at the labels of each row, else 0, or NaN where a class is not `known`, shape (R, K)."""
    column = {name: k for k, name in enumerate(classes)}
    values = np.full((len(labels), len(classes)), 0 if known is None else np.nan, np.float32)
    for row, names in enumerate(() if known is None else known):
        values[row, [column[name] for name in names]] = 0
    for row, names in enumerate(labels):
        values[row, [column[name] for name in names]] = 1
    return values


def _log_negatives(labels: pd.Series[str], source: Path) -> None:
    if len(labels):
        names = shorten_list(sorted(set(labels)))
        advice = "list a name as a class in classes.txt if it is to be detected"
        log.warning("%s: %d clips labelled %s are negatives, without any class; %s", source, len(labels), names, advice)


def _seconds(cell: str, path: Path) -> int:
    parts = cell.strip().split(":")
    try:
        value = sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))
    except ValueError:
        value = float("nan")
    if len(parts) > 3 or not value.is_integer() or not 0 <= value < 1e9:
        raise DataError(f"{path}: the time {cell!r} is not a whole second; write HH:MM:SS or seconds.")
    return int(value)


def _centres(cell: str, path: Path) -> tuple[float, ...]:
    try:
        seconds = tuple(float(part) for part in cell.split(";") if part.strip())
    except ValueError:
        seconds = (-1.0,)
    if not all(0 <= second < float("inf") for second in seconds):
        raise DataError(f"{path}: the centres {cell!r} are not seconds; write 1.5;20 for two of them.")
    return seconds


def _known_secondary(
    cells: pd.Series[str], primary: Iterable[str], classes: Sequence[str], source: Path
) -> list[tuple[str, ...]]:
    # Few distinct cells occur, so each is parsed once.
    parsed = {cell: parse_labels(cell) for cell in cells.unique()}
    dropped = [name for cell in cells for name in parsed[cell] if name not in classes]
    if dropped:
        names = shorten_list(sorted(set(dropped)))
        log.warning("%s: dropped %d secondary labels outside the classes: %s", source, len(dropped), names)
    known = {cell: dict.fromkeys(name for name in parsed[cell] if name in classes) for cell in parsed}
    return [tuple(name for name in known[cell] if name != label) for cell, label in zip(cells, primary, strict=True)]


def check_known(labels: Iterable[str], classes: Sequence[str], source: str | Path) -> None:
    """Raise a DataError if labels are not among the classes."""
    unknown = sorted(set(labels) - set(classes))
    if unknown:
        problem = f"labels that are not among the {len(classes)} classes: {shorten_list(map(repr, unknown))}"
        raise DataError(f"{source}: {problem}; correct them, or add them to the class list.")
