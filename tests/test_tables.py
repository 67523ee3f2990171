"""Tables as spreadsheets and other people leave them: read as meant, or refused with the place and the way out."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import write_csv

from bcsed.analysis import doctor
from bcsed.cli.app import main
from bcsed.data import detect_competition, read_class_list, read_train
from bcsed.data.label_files import read_soundscape_labels
from bcsed.errors import DataError
from bcsed.files import read_csv
from bcsed.scores.evaluation import read_truth
from bcsed.scores.table import read_table

TEXT = "row_id,a,b\nx_5,0.25,0\nx_10,1,0.5\n"

SAME = {
    "byte order mark": "\ufeff" + TEXT,
    "carriage returns": TEXT.replace("\n", "\r\n"),
    "quotes": TEXT.replace("x_5", '"x_5"').replace("row_id", '"row_id"'),
    "blanks in the header": TEXT.replace(",a,b", " , a,b "),
    "blanks at ids": TEXT.replace("x_5", " x_5").replace("x_10", "x_10 "),
    "commas at the end": TEXT.replace("\n", ",,\n"),
    "no line end": TEXT.rstrip("\n"),
    "a blank line at the end": TEXT + "\n",
}
REFUSED = {
    "semicolons": (TEXT.replace(",", ";"), "separated by ';'; save it with commas"),
    "tabs": (TEXT.replace(",", "\t"), r"separated by '\\t'; save it with commas"),
    "bars": (TEXT.replace(",", "|"), r"separated by '\|'; save it with commas"),
    "a column twice": (TEXT.replace(",b", ",a"), "the column 'a' occurs 2 times"),
    "a column twice but for blanks": (TEXT.replace(",b", ",a "), "the column 'a' occurs 2 times"),
    "the id twice": (TEXT.replace(",b", ",row_id"), "the column 'row_id' occurs 2 times"),
    "more cells": (TEXT.replace("0.25,0", "0.25,0,3"), "CSV|its rows have more"),
    "more cells everywhere": (TEXT.replace("x_", "1,x_"), "its header names 3 columns, and its rows have more"),
    "nothing": ("", "the file is empty"),
    "nulls": ("\0" * 50, "row_id|CSV"),
    "utf-16": (TEXT.encode("utf-16"), "not readable as CSV"),
    "a page": ("<html>\n<body>sign in</body></html>\n", "no column 'row_id'; its first columns are '<html>'"),
    "another case": (TEXT.replace("row_id", "Row_ID"), "no column 'row_id'; its first columns are 'Row_ID', 'a', 'b'"),
    "an empty id": (TEXT.replace("x_10", ""), "row 3 of the file has no row_id"),
}


def save(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", SAME)
def test_the_same_table_in_other_forms(tmp_path, name):
    table = read_table(save(tmp_path / "t.csv", SAME[name]))
    assert (list(table.index), list(table.columns)) == (["x_5", "x_10"], ["a", "b"])
    np.testing.assert_array_equal(table.to_numpy(), [[0.25, 0], [1, 0.5]])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_score_table_is_refused(tmp_path, name):
    text, sentence = REFUSED[name]
    with pytest.raises(DataError, match=sentence):
        read_table(save(tmp_path / "t.csv", text))


def test_doctor_names_the_column_of_ids_and_keeps_what_is_wrong(tmp_path):
    for name in ("Row_ID", "id", "ROW_ID"):
        found = doctor.diagnose(save(tmp_path / "t.csv", TEXT.replace("row_id", name))).findings
        assert f"the ids of rows are in the column '{name}'" in next(f for f in found if f.name == "id column").sentence
    found = doctor.diagnose(save(tmp_path / "t.csv", TEXT.replace(",b", ",a"))).findings
    assert "duplicate classes" in {finding.name for finding in found}
    found = doctor.diagnose(save(tmp_path / "t.csv", TEXT.replace("x_5", "x_5 "))).findings
    assert "row ids" in {finding.name for finding in found}
    for end in ("9" * 30, "1" * 10):
        found = doctor.diagnose(save(tmp_path / "t.csv", TEXT.replace("x_5", f"x_{end}"))).findings
        assert "row ids" in {finding.name for finding in found}
    with pytest.raises(DataError, match="separated by ';'"):
        doctor.diagnose(save(tmp_path / "t.csv", TEXT.replace(",", ";")))


@pytest.mark.parametrize("end", ["1e300", "00:00:" + "9" * 40, "nan", "inf", "1" * 12])
def test_times_beyond_all_bounds_are_refused(tmp_path, end):
    path = save(tmp_path / "l.csv", f"filename,start,end,primary_label\nx.ogg,0,{end},a\n")
    with pytest.raises(DataError, match="is not a whole second"):
        read_soundscape_labels(path, ["a"])


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_column_without_a_name_is_refused(tmp_path, position, capsys):
    lines = [line.split(",") for line in TEXT.splitlines()]
    for number, line in enumerate(lines):
        line.insert(position, str(number) if number else "")
    path = save(tmp_path / "t.csv", "\n".join(map(",".join, lines)) + "\n")
    with pytest.raises(DataError, match="a column has no name; remove it"):
        read_table(path)
    assert main(["doctor", str(path)]) == 1
    assert "1 column without a name" in capsys.readouterr().out


def test_a_truth_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"has no rows|is empty"):
        read_truth(save(tmp_path / "t.csv", "row_id,a\n"), ["a"])
    with pytest.raises(DataError, match="the table is empty"):
        read_csv(save(tmp_path / "t.csv", "filename,label\n"), ["filename"])


# ---- labels ----------------------------------------------------------------------------------------------------


def clips(folder, labels, header=("filename", "label")):
    (folder / "audio").mkdir()
    write_csv(folder / "labels.csv", list(header), [[f"c{k}.wav", label] for k, label in enumerate(labels)])
    return folder


def test_blanks_around_labels_are_no_classes(tmp_path):
    folder = clips(tmp_path, ["frog", "frog ", " owl", "owl", "\tfrog", " ", "nocall "], header=("filename ", " label"))
    competition = detect_competition(folder)
    classes = read_class_list(folder, competition)
    assert classes == ("frog", "owl")
    assert list(read_train(folder, competition, classes)["label"]) == ["frog", "frog", "owl", "owl", "frog", "", ""]


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("frog;owl", r"line 3 has several labels in the column label, 'frog;owl'; name one class there"),
        ("['frog', 'owl']", "line 3 has several labels"),
        ("row_id", "the class name 'row_id' is a column of tables"),
        ("frog\nowl", r"the class name 'frog\\nowl' contains control"),
        ("a\x00b", "contains control"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, label, sentence):
    folder = clips(tmp_path, ["frog", label, "owl"])
    with pytest.raises(DataError, match=sentence):
        read_class_list(folder, detect_competition(folder))


def test_the_lists_of_a_competition_may_differ_by_blanks(year, tmp_path):
    folder = shutil.copytree(year, tmp_path / "data")
    expected = read_class_list(folder, detect_competition(folder))
    for name in ("taxonomy.csv", "sample_submission.csv", "train.csv"):
        text = (year / name).read_text()
        (folder / name).write_text(text.replace("cuckoo1,", "cuckoo1 ,"))
        assert read_class_list(folder, detect_competition(folder)) == expected
        table = read_train(folder, detect_competition(folder), expected)
        assert set(table["label"]) == set(expected)
    (folder / "taxonomy.csv").write_text((year / "taxonomy.csv").read_text().replace("cuckoo1,", "Cuckoo1,"))
    with pytest.raises(DataError, match=r"only in .*: 'cuckoo1'; only in .*: 'Cuckoo1'"):
        read_class_list(folder, detect_competition(folder))
    for name in ("taxonomy.csv", "sample_submission.csv", "train.csv"):
        (folder / name).write_text((year / name).read_text().replace(",", ";"))
        with pytest.raises(DataError, match=rf"{name}: its columns are separated by ';'"):
            competition = detect_competition(folder)
            read_train(folder, competition, read_class_list(folder, competition))
        (folder / name).write_text((year / name).read_text())


def test_numbers_are_read_to_the_same_bits(tmp_path):
    values = np.random.default_rng(0).random((50, 3))
    table = pd.DataFrame(values, columns=["a", "b", "c"], index=[f"x_{5 * k}" for k in range(1, 51)])
    table.to_csv(tmp_path / "t.csv", index_label="row_id")
    expected = pd.read_csv(tmp_path / "t.csv", index_col="row_id")
    np.testing.assert_array_equal(read_table(tmp_path / "t.csv").to_numpy(), expected.to_numpy())
