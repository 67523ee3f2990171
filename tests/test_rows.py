from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcsed.errors import DataError
from bcsed.scores.table import (
    atomic_write,
    broadcast_recordings,
    check_table,
    make_table,
    read_table,
    row_ids,
    write_submission,
)


@pytest.fixture
def table(rng):
    ids = row_ids("H02_20230420_074000", 12, 5) + row_ids("b", 2, 5)
    return make_table(ids, ["1139490", "cuckoo1"], rng.random((14, 2)))


def test_written_and_read_again(table, tmp_path):
    write_submission(table, tmp_path / "submission.csv")
    again = read_table(tmp_path / "submission.csv")
    assert list(again.columns) == ["1139490", "cuckoo1"]
    pd.testing.assert_frame_equal(again.astype("float32"), table, check_index_type=False, check_column_type=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.csv"]


def test_against_the_template(table, tmp_path):
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("row_id,1139490,cuckoo1\na_5,.5,.5\n")
    write_submission(table, tmp_path / "s.csv", sample)
    sample.write_text("row_id,cuckoo1,1139490\na_5,.5,.5\n")
    with pytest.raises(DataError, match="another order: column 1 is '1139490' where 'cuckoo1' belongs"):
        write_submission(table, tmp_path / "t.csv", sample)
    sample.write_text("row_id,1139490,owl1\na_5,.5,.5\n")
    with pytest.raises(DataError, match=r"lacks owl1 \(1\) and has cuckoo1 \(1\) besides"):
        write_submission(table, tmp_path / "t.csv", sample)
    assert not (tmp_path / "t.csv").exists()


def test_window_0_broadcast_to_its_file_is_refused(table, tmp_path):
    table.iloc[:12] = table.iloc[0].to_numpy()
    assert broadcast_recordings(table) == ["H02_20230420_074000"]
    with pytest.raises(DataError, match="repeats one answer over all rows of 1 recordings"):
        write_submission(table, tmp_path / "s.csv")
    write_submission(table, tmp_path / "s.csv", constant=["H02_20230420_074000"])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda t: t.iloc[:0], "has no rows"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than once"),
        (lambda t: t.assign(cuckoo1=np.nan), "no number at row"),
        (lambda t: t.assign(cuckoo1=1.5), "probabilities in"),
        (lambda t: t.assign(cuckoo1="high"), "no numbers"),
    ],
)
def test_what_is_wrong_with_a_table(table, spoil, sentence):
    with pytest.raises(DataError, match=sentence):
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
    [("", "not readable as CSV"), ("a,b\n1,2\n", "no column 'row_id'; its columns begin with a, b")],
)
def test_unreadable_tables(tmp_path, text, sentence):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_table(tmp_path / "s.csv")


@pytest.mark.parametrize("doubled", [["1139490", "cuckoo1", "cuckoo1"], ["1139490", "1139490", "cuckoo1"]])
def test_a_class_that_stands_twice_is_refused(table, doubled):
    with pytest.raises(DataError, match=r"the table has \w+ \(1\) besides"):
        check_table(table[doubled], list(table.columns))
