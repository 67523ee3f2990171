from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcsed.errors import DataError
from bcsed.files import atomic_write
from bcsed.scores.table import (
    broadcast_recordings,
    check_submission,
    check_table,
    make_table,
    open_submission,
    read_table,
    row_ids,
)


@pytest.fixture
def table(rng):
    ids = row_ids("H02_20230420_074000", 12, 5) + row_ids("b", 2, 5)
    return make_table(ids, ["1139490", "cuckoo1"], rng.random((14, 2)))


def write(table, path, classes=None, **options):
    with open_submission(path, classes, **options) as add:
        add(table)


def test_a_written_table_is_read_again(table, tmp_path):
    write(table, tmp_path / "submission.csv")
    again = read_table(tmp_path / "submission.csv")
    assert list(again.columns) == ["1139490", "cuckoo1"]
    pd.testing.assert_frame_equal(again.astype("float32"), table, check_index_type=False, check_column_type=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv"]


def test_tables_are_appended_with_one_header(table, tmp_path):
    write(table, tmp_path / "all.csv")
    with open_submission(tmp_path / "parts.csv") as add:
        add(table.iloc[:12])
        add(table.iloc[12:])
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()


def test_a_submission_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="the submission has no rows"), open_submission(tmp_path / "s.csv"):
        pass
    assert not list(tmp_path.iterdir())


def test_the_columns_of_the_template_are_required(table, tmp_path):
    write(table, tmp_path / "s.csv", ["1139490", "cuckoo1"])
    with pytest.raises(DataError, match="another order: column 1 is '1139490', not 'cuckoo1'"):
        write(table, tmp_path / "t.csv", ["cuckoo1", "1139490"])
    with pytest.raises(DataError, match=r"1 missing \('owl1'\) and 1 unexpected \('cuckoo1'\)"):
        write(table, tmp_path / "t.csv", ["1139490", "owl1"])
    assert not (tmp_path / "t.csv").exists()


def test_identical_rows_of_a_recording_are_refused(table, tmp_path):
    table.iloc[:12] = table.iloc[0].to_numpy()
    assert broadcast_recordings(table) == ["H02_20230420_074000"]
    with pytest.raises(DataError, match="identical rows in 1 of 2 recordings"):
        write(table, tmp_path / "s.csv")
    write(table, tmp_path / "s.csv", constant=["H02_20230420_074000"])


def test_check_submission(table):
    classes, rows = list(table.columns), list(table.index)
    check_submission(table, classes, rows)
    for other, expected in ((rows[:-1], "has 14 rows, but the recordings have 13"), (rows[::-1], "instead of 'b_10'")):
        with pytest.raises(DataError, match=expected):
            check_submission(table, classes, other)
    with pytest.raises(DataError, match="the same scores in every row"):
        check_submission(table * 0, classes, rows)
    table.iloc[:12] = table.iloc[0].to_numpy()
    with pytest.raises(DataError, match="identical rows in 1 of 2 recordings"):
        check_submission(table, classes, rows)
    check_submission(table, classes, rows, max_broadcast=0.5)
    check_submission(table, classes, rows, constant=["H02_20230420_074000"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.iloc[:0], "has no rows"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than once"),
        (lambda t: t.assign(cuckoo1=np.nan), "the value nan at row"),
        (lambda t: t.assign(cuckoo1=1.5), r"the value 1\.5 .* probabilities in"),
        (lambda t: t.assign(cuckoo1="high"), "not numbers"),
    ],
)
def test_invalid_tables_are_refused(table, spoil, message):
    with pytest.raises(DataError, match=message):
        check_table(spoil(table))


def test_a_full_disk_leaves_the_old_file(tmp_path):
    (tmp_path / "s.csv").write_text("old")
    with (
        pytest.raises(DataError, match="could not be written"),
        atomic_write(tmp_path / "s.csv") as temporary,
    ):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")
    assert (tmp_path / "s.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "the file is empty"), ("a,b\n1,2\n", "no column 'row_id'; its first columns are 'a', 'b'")],
)
def test_unreadable_tables(tmp_path, text, sentence):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / "s.csv")


@pytest.mark.parametrize("columns", [["1139490", "cuckoo1", "cuckoo1"], ["1139490", "1139490", "cuckoo1"]])
def test_a_duplicate_column_is_refused(table, columns):
    with pytest.raises(DataError, match=r"1 unexpected \('\w+'\)"):
        check_table(table[columns], list(table.columns))
