"""The score table: one row per time interval of a recording, one column per class.

A score table is a DataFrame of float32 in [0, 1]. Its index is named ``row_id`` (``<recording>_<end second>`` in
BirdCLEF); its columns are the classes in the competition's order. Every table is checked before it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError
from ..files import atomic_write, quote_list, read_columns, read_errors, read_json, require_file
from .checks.ids import parse_row_ids
from .checks.values import find_broadcast

ROW_ID = "{stem}_{end}"
# Score tables in a folder of predict, and the columns of the second that are not classes.
SUBMISSION, SCORES = "submission.csv", "scores.parquet"
_ORIGIN = ["recording", "start_s", "end_s"]


def row_ids(stem: str, n_rows: int, row_s: int, form: str = ROW_ID, first_row: int = 0) -> list[str]:
    """Return the ids of a recording's rows.

    >>> row_ids("H02_20230420_074000", 2, 5)
    ['H02_20230420_074000_5', 'H02_20230420_074000_10']
    """
    return [form.format(stem=stem, end=(row + 1) * row_s) for row in range(first_row, first_row + n_rows)]


def make_table(ids: Sequence[str], classes: Sequence[str], scores: npt.NDArray[np.float32]) -> pd.DataFrame:
    """Return a score table of R ids, K classes and scores of shape (R, K)."""
    table: pd.DataFrame = pd.DataFrame(
        np.asarray(scores, np.float32).reshape(len(ids), len(classes)),
        index=pd.Index(list(ids), dtype=object, name="row_id"),
        columns=pd.Index(list(classes), dtype=object),
    )
    return table


def check_table(table: pd.DataFrame, classes: Sequence[str] | None = None, *, where: str = "the table") -> None:
    """Raise DataError if a table is empty, repeats a row id, or has a value that is not a number in [0, 1].

    `classes` are the required columns, in order; `where` is the name of the table in messages.
    """
    if table.empty:
        raise DataError(f"{where} has no rows.")
    duplicates = table.index[table.index.duplicated()]
    if len(duplicates):
        raise DataError(f"{where} has row {duplicates[0]!r} more than once ({len(duplicates)} duplicates).")
    if classes is not None:
        _check_columns(list(map(str, table.columns)), list(classes), where)
    types = pd.api.types
    for name, dtype in table.dtypes.items():
        if not types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype):
            raise DataError(f"{where} has values in column {name!r} that are not numbers.")
    values = table.to_numpy(np.float64)
    invalid = ~((values >= 0) & (values <= 1))
    if invalid.any():
        # A missing number is reported before a number outside the range.
        row, column = np.argwhere(invalid if np.isfinite(values).all() else ~np.isfinite(values))[0]
        raise DataError(
            f"{where} has the value {values[row, column]:g} at row {table.index[row]!r}, class "
            f"{table.columns[column]!r}; scores must be probabilities in [0, 1]."
        )


def _check_columns(names: list[str], classes: list[str], where: str) -> None:
    # Counted, because a column may be repeated.
    missing, unexpected = Counter(classes) - Counter(names), Counter(names) - Counter(classes)
    lists = (("missing", [*missing.elements()]), ("unexpected", [*unexpected.elements()]))
    problems = [f"{len(items)} {what} ({quote_list(items, 3)})" for what, items in lists if items]
    if problems:
        raise DataError(f"{where} has the wrong columns: {' and '.join(problems)}.")
    for number, (name, expected) in enumerate(zip(names, classes, strict=True), 1):
        if name != expected:
            raise DataError(f"{where} has its columns in another order: column {number} is {name!r}, not {expected!r}.")


def check_submission(
    table: pd.DataFrame,
    classes: Sequence[str],
    rows: Sequence[str],
    *,
    constant: Collection[str] = (),
    max_broadcast: float = 0.0,
    where: str = "the submission",
) -> None:
    """Raise DataError if Kaggle would reject a submission, or if its scores are evidently useless.

    `classes` and `rows` are the required columns and row ids, in order. The rows of the recordings `constant` (stems,
    such as of digital silence) may be identical, and those of at most a share `max_broadcast` of the others.
    """
    check_table(table, classes, where=where)
    ids = list(map(str, table.index))
    if ids != list(rows):
        pairs = (f"row {a!r} instead of {b!r}" for a, b in zip(ids, rows, strict=False) if a != b)
        difference = next(pairs, "the other rows are correct")
        raise DataError(f"{where} has {len(ids)} rows, but the recordings have {len(rows)}: {difference}.")
    values = table.to_numpy(np.float64)
    if len(values) > 1 and (values == values[0]).all():
        raise DataError(f"{where} has the same scores in every row, which would score 0.5; it is not written.")
    n_recordings = len(parse_row_ids(ids).stems)
    _check_broadcast(broadcast_recordings(table), n_recordings, constant, max_broadcast, where)


def _check_broadcast(
    stems: Sequence[str], n_recordings: int, constant: Collection[str], max_share: float, where: str
) -> None:
    broadcast = [stem for stem in stems if stem not in constant]
    if len(broadcast) > max_share * n_recordings:
        raise DataError(
            f"{where} has identical rows in {len(broadcast)} of {n_recordings} recordings, {broadcast[0]!r} first; "
            "the scores of one window were written to every row, or the recording is constant."
        )


def broadcast_recordings(table: pd.DataFrame) -> list[str]:
    """Return the stems of recordings with several rows, all of them identical.

    Such rows are the result of writing one window's scores to all rows of a file. This error cost the author of a
    published post-mortem the second round of pseudolabels.
    """
    ids = parse_row_ids(table.index)
    return [ids.stems[k] for k in find_broadcast(ids, table.to_numpy())]


def read_parquet(path: Path, form: str = "Parquet") -> pd.DataFrame:
    """Read a Parquet table, with a named index as a column; DataError if the file is not a `form`.

    Text becomes Python strings here, because pandas would otherwise detect invalid bytes only when the text is used.
    """
    with read_errors(path, form):
        table: pd.DataFrame = pd.read_parquet(path)
        if table.index.name is not None:
            table = table.reset_index()
        texts = [name for name, dtype in table.dtypes.items() if pd.api.types.is_string_dtype(dtype)]
        plain: pd.DataFrame = table.astype(dict.fromkeys(texts, object))
    return plain


def is_parquet(path: Path) -> bool:
    """Return whether a file is named as Parquet."""
    return path.suffix.lower() in (".parquet", ".pq")


def table_file(path: Path) -> Path:
    """Return the score table of a folder of predict, or the path itself of a file."""
    # Files of an earlier call, with other settings, may remain beside those that the last one wrote.
    manifest = path / "manifest.json"
    formats = read_json(manifest).get("formats") if manifest.is_file() else None
    names = {"submission": SUBMISSION, "scores": SCORES}
    written = [name for kind, name in names.items() if not isinstance(formats, list) or kind in formats]
    files = [path / name for name in written if (path / name).is_file()]
    if path.is_dir() and not files:
        raise DataError(
            f"{path} contains neither {SUBMISSION} nor {SCORES}; name a score table, or a folder of predict."
        )
    return files[0] if files else path


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV or Parquet table with ``row_id`` and one column per class.

    DataError if the file is missing or not such a table. Of the ``scores.parquet`` of predict, only classes are read.
    """
    path = Path(path)
    if is_parquet(path):
        require_file(path)
        table = read_parquet(path)
        table.columns = table.columns.astype(str)
        table = table.drop(columns=_ORIGIN if set(_ORIGIN) <= set(table.columns) else [])
    else:
        table = read_columns(path, texts=["row_id"], low_memory=False)
    if "row_id" not in table.columns:
        raise DataError(f"{path}: no column 'row_id'; its first columns are {quote_list(table.columns)}.")
    if "" in table.columns:
        raise DataError(f"{path}: a column has no name; remove it, such as the index that pandas writes.")
    if table["row_id"].isna().any():
        number = int(table["row_id"].isna().to_numpy().argmax())
        raise DataError(f"{path}: row {number + 2} of the file has no row_id.")
    indexed: pd.DataFrame = table.assign(row_id=table["row_id"].astype(str).str.strip()).set_index("row_id")
    return indexed


@contextmanager
def open_submission(
    path: str | Path, classes: Sequence[str] | None = None, *, constant: Collection[str] = ()
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends score tables to a ``submission.csv``, which is written atomically.

    `classes` are the required columns, by default those of the first table. `constant` contains the stems of recordings
    whose rows may be identical; it is read at the end of the block. Raises DataError if a table fails `check_table`,
    no rows were added, or a recording's rows are identical.
    """
    broadcast: list[str] = []
    n_recordings = 0
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:

            def add(table: pd.DataFrame) -> None:
                nonlocal classes, n_recordings
                check_table(table, classes, where="the submission")
                classes = list(map(str, table.columns))
                table.to_csv(stream, index_label="row_id", header=not stream.tell(), lineterminator="\n")
                broadcast.extend(broadcast_recordings(table))
                n_recordings += len(parse_row_ids(table.index).stems)

            yield add
            if not stream.tell():
                raise DataError("the submission has no rows.")
        _check_broadcast(broadcast, n_recordings, constant, 0, "the submission")
