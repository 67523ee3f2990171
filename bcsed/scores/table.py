"""The score table: one line per row of a recording, one column per class.

Conventions
-----------
A table is a DataFrame of float32 in [0, 1] with an index named ``row_id`` (``<stem>_<end second>`` in
BirdCLEF) and one column per class, in the competition's order. `make` makes one, `check` says what is
wrong with one, and nothing is written that was not checked.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError
from ..files import atomic_write, read_errors
from .checks.api import check
from .checks.finding import ERROR
from .checks.ids import parse_row_ids
from .checks.values import find_broadcast

ROW_ID = "{stem}_{end}"

_log = logging.getLogger(__name__)


def row_ids(stem: str, n_rows: int, row_s: int, form: str = ROW_ID, first_row: int = 0) -> list[str]:
    """Return the ids of a recording's rows.

    Examples
    --------
    >>> row_ids("H02_20230420_074000", 2, 5)
    ['H02_20230420_074000_5', 'H02_20230420_074000_10']
    """
    return [form.format(stem=stem, end=(row + 1) * row_s) for row in range(first_row, first_row + n_rows)]


def make_table(ids: Sequence[str], classes: Sequence[str], scores: npt.NDArray[np.float32]) -> pd.DataFrame:
    """Make a score table.

    Parameters
    ----------
    ids : sequence of R str
    classes : sequence of K str
    scores : ndarray, shape (R, K)
    """
    table: pd.DataFrame = pd.DataFrame(
        np.asarray(scores, np.float32).reshape(len(ids), len(classes)),
        index=pd.Index(list(ids), dtype=object),
        columns=pd.Index(list(classes), dtype=object),
    )
    table.index.name = "row_id"
    return table


def check_table(table: pd.DataFrame, classes: Sequence[str] | None = None, *, where: str = "the table") -> None:
    """Refuse a table that would be scored wrongly, or not at all.

    Parameters
    ----------
    table : DataFrame
        Indexed by row id.
    classes : sequence of str, optional
        The columns that it must have, in this order.
    where : str
        What the message calls the table.

    Raises
    ------
    DataError
        If it is empty, a row id stands twice, columns differ, or a value is no number or outside [0, 1].
    """
    if table.empty:
        raise DataError(f"{where} has no rows.")
    doubled = table.index[table.index.duplicated()]
    if len(doubled):
        raise DataError(f"{where} has row {doubled[0]!r} more than once ({len(doubled)} such rows).")
    if classes is not None:
        _check_columns(list(table.columns), list(classes), where)
    kinds = pd.api.types
    strange = [t for t in set(table.dtypes) if not kinds.is_numeric_dtype(t) or kinds.is_bool_dtype(t)]
    if strange:
        name = next(name for name, dtype in table.dtypes.items() if dtype in strange)
        raise DataError(f"{where} has values in column {name!r} that are no numbers.")
    values = table.to_numpy(np.float64)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{where} holds no number at row {table.index[row]!r}, class {table.columns[column]!r}.")
    outside = (values < 0) | (values > 1)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        raise DataError(
            f"{where} holds {values[row, column]:g} at row {table.index[row]!r}, class "
            f"{table.columns[column]!r}; scores are probabilities in [0, 1]."
        )


def read_parquet(path: Path, form: str = "Parquet") -> pd.DataFrame:
    """Read a Parquet table, a named index as a column, texts as Python's own.

    pandas would leave texts as they lie in the file, and find bytes that are none only when they are used.

    Raises
    ------
    DataError
        If it is not `form`, whatever is wrong with it.
    """
    with read_errors(path, form):
        table: pd.DataFrame = pd.read_parquet(path)
        if table.index.name is not None:
            table = table.reset_index()
        texts = [name for name, kind in table.dtypes.items() if pd.api.types.is_string_dtype(kind)]
        plain: pd.DataFrame = table.astype(dict.fromkeys(texts, object))
    return plain


def broadcast_recordings(table: pd.DataFrame) -> list[str]:
    """Return the stems of recordings with several rows, all of them identical.

    That is the mark of one window's answer given to all rows of its file, a fault that cost the
    post-mortem's author his second round of pseudolabels.
    """
    where = parse_row_ids(table.index)
    return [where.stems[place] for place in find_broadcast(where, table.to_numpy())]


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a wide CSV of ``row_id`` and one column per class; class names stay text.

    Raises
    ------
    DataError
        If it cannot be read as such a table.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        table = pd.read_csv(path, dtype={"row_id": str})
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    if "row_id" not in table.columns:
        shown = ", ".join(map(str, table.columns[:5]))
        raise DataError(f"{path}: no column 'row_id'; its columns begin with {shown}.")
    indexed: pd.DataFrame = table.set_index("row_id")
    return indexed


def write_submission(
    table: pd.DataFrame,
    path: str | Path,
    sample_submission: str | Path | None = None,
    *,
    constant: Collection[str] = (),
) -> None:
    """Check a table and write it as ``submission.csv``, whole or not at all.

    Parameters
    ----------
    table : DataFrame
        A score table.
    path : str or Path
        Where to.
    sample_submission : str or Path, optional
        The competition's template; the table must have exactly its columns, in its order.
    constant : collection of str
        Stems of recordings whose rows are rightly all the same, such as digital silence.

    Raises
    ------
    DataError
        If the table fails `check`, or a recording's rows are all identical.
    """
    classes = None
    if sample_submission is not None:
        classes = [str(name) for name in read_table(sample_submission).columns]
    with open_submission(path, classes, constant=constant) as add:
        add(table)
        for finding in check(table, classes=classes, silent=constant):
            # What makes it unfit is refused; the rest is for the user to judge.
            if finding.severity == ERROR and finding.name != "broadcast":
                _log.warning("the submission: %s", finding.sentence)


@contextmanager
def open_submission(
    path: str | Path, classes: Sequence[str] | None = None, *, constant: Collection[str] = ()
) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Give a function that adds recordings' rows to a ``submission.csv``, written whole or not at all.

    Parameters
    ----------
    path : str or Path
    classes : sequence of str, optional
        The columns that every table must have, in this order; those of the first by default.
    constant : collection of str
        See `write_submission`; asked when all rows are there.

    Raises
    ------
    DataError
        If a table fails `check`, no row came, or a recording's rows are all identical.
    """
    same: list[str] = []
    with atomic_write(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:

            def add(table: pd.DataFrame) -> None:
                nonlocal classes
                check_table(table, classes, where="the submission")
                begun, classes = classes is not None and stream.tell() > 0, list(map(str, table.columns))
                table.to_csv(stream, index_label="row_id", header=not begun, lineterminator="\n")
                same.extend(broadcast_recordings(table))

            yield add
            if not stream.tell():
                raise DataError("the submission has no rows.")
        wrong = [stem for stem in same if stem not in constant]
        if wrong:
            raise DataError(
                f"the submission repeats one answer over all rows of {len(wrong)} recordings, {wrong[0]!r} first; "
                "one window's answer was given to every row, or the recording is constant."
            )


def _check_columns(given: list[object], wanted: list[str], where: str) -> None:
    names = [str(name) for name in given]
    if names == wanted:
        return
    # Counted: a column may also stand there twice.
    missing = list((Counter(wanted) - Counter(names)).elements())
    extra = list((Counter(names) - Counter(wanted)).elements())
    if missing or extra:
        lacks = f"lacks {', '.join(missing[:3])} ({len(missing)})" if missing else ""
        has = f"has {', '.join(extra[:3])} ({len(extra)}) besides" if extra else ""
        raise DataError(f"{where} {' and '.join(filter(None, (lacks, has)))}.")
    for place, (name, right) in enumerate(zip(names, wanted, strict=True)):
        if name != right:
            raise DataError(
                f"{where} has its columns in another order: column {place + 1} is {name!r} where {right!r} belongs."
            )
