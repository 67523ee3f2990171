from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcsed.data.competitions import (
    BIRDCLEF_2025,
    BIRDCLEF_2026,
    COMPETITIONS,
    FOLDERS,
    SEVERAL,
    Competition,
    detect_competition,
    read_class_list,
    read_taxa,
    site_of,
)
from bcsed.data.label_files import check_files, parse_labels, read_soundscape_labels, read_train, truth_table
from bcsed.errors import DataError

CLASSES = ("024", "24", "1139490", "grekis", "ywcpar")


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the label files of a small BirdCLEF 2025."""
    write(
        tmp_path,
        "taxonomy.csv",
        "primary_label,inat_taxon_id,scientific_name,common_name,class_name",
        "ywcpar,1,a,a,Aves",
        "grekis,2,b,b,Aves",
        "1139490,3,c,c,Insecta",
        "24,4,d,d,Amphibia",
        "024,5,e,e,",
    )
    write(tmp_path, "sample_submission.csv", f"row_id,{','.join(CLASSES)}", "x_5,0,0,0,0,0")
    write(
        tmp_path,
        "train.csv",
        "primary_label,secondary_labels,filename,author",
        "1139490,[''],1139490/CSA36385.ogg,Fabio A. Sarria-S",
        "024,[],024/iNat7.ogg,",
        "grekis,\"['ywcpar', 'grekis', 'ywcpar']\",grekis/XC100_0.ogg,A",
        "ywcpar,,ywcpar/XC100-1.ogg,A",
        "24,\"['024']\",24/H02_20230420_074000.ogg,B",
    )
    return tmp_path


def write_clips(folder: Path, *clips: str) -> Path:
    for clip in clips:
        write(folder, f"audio/{clip}", "not audio")
    return folder


class TestDetect:
    def test_each_competition_by_its_files(self, data: Path) -> None:
        assert detect_competition(data) is BIRDCLEF_2025
        write(data, "train_soundscapes_labels.csv", "filename,start,end,primary_label")
        assert detect_competition(str(data)) is BIRDCLEF_2026

    @pytest.mark.parametrize(
        ("year", "extra", "filename", "path"),
        [
            (2021, "train_short_audio/a/XC1.ogg", "XC1.ogg", "train_short_audio/a/XC1.ogg"),
            (2022, "scored_birds.json", "a/XC1.ogg", "train_audio/a/XC1.ogg"),
            (2023, "eBird_Taxonomy_v2021.csv", "a/XC1.ogg", "train_audio/a/XC1.ogg"),
            (2024, "unlabeled_soundscapes/1.ogg", "a/XC1.ogg", "train_audio/a/XC1.ogg"),
        ],
    )
    def test_earlier_years(self, tmp_path: Path, year: int, extra: str, filename: str, path: str) -> None:
        """Each is detected by its own files; the submissions of 2021 and 2022 have no classes."""
        write(tmp_path, extra, "")
        write(
            tmp_path,
            "train_metadata.csv",
            "primary_label,secondary_labels,filename",
            f"a,\"['b']\",{filename}",
            "b,[],b/XC2.ogg",
        )
        header = {2021: "row_id,birds", 2022: "row_id,target"}.get(year, "row_id,b,a")
        write(tmp_path, "sample_submission.csv", header, "x,0,0")
        competition = detect_competition(tmp_path)
        assert competition.name == f"birdclef-{year}"
        classes = read_class_list(tmp_path, competition)
        assert classes == (("a", "b") if year < 2023 else ("b", "a"))
        assert read_taxa(tmp_path, competition) == {"a": "", "b": ""}
        table = read_train(tmp_path, competition, classes)
        assert table["path"][0] == str(tmp_path / path)
        assert list(table["recording"]) == ["XC1", "XC2"]
        assert table["secondary"][0] == ("b",)

    def test_several_years_have_one_class_list(self, tmp_path: Path) -> None:
        old, new = tmp_path / "birdclef-2021", tmp_path / "birdclef-2025"
        write(old, "train_short_audio/a/XC1.ogg", "")
        write(
            old, "train_metadata.csv", "primary_label,secondary_labels,filename", "a,\"['c']\",XC1.ogg", "b,[],XC2.ogg"
        )
        with pytest.raises(DataError, match="Its folder 'birdclef-2021' is of a competition: name that"):
            detect_competition(tmp_path)
        write(new, "train.csv", "primary_label,secondary_labels,filename", "c,[],c/XC1.ogg", "a,\"['b']\",a/XC4.ogg")
        write(new, "taxonomy.csv", "primary_label,class_name", "c,Aves", "a,Amphibia")
        write(new, "sample_submission.csv", "row_id,c,a", "x,0,0")
        competition = detect_competition(tmp_path)
        assert competition is SEVERAL
        # Not the folder itself, whose clips would be soundscapes.
        assert not (tmp_path / competition.soundscapes_dir).exists()
        classes = read_class_list(tmp_path, competition)
        assert classes == ("a", "b", "c")
        assert read_taxa(tmp_path, competition) == {"a": "Amphibia", "b": "", "c": "Aves"}
        table = read_train(tmp_path, competition, classes)
        assert list(table["filename"]) == [
            "birdclef-2021/train_short_audio/a/XC1.ogg",
            "birdclef-2021/train_short_audio/b/XC2.ogg",
            "birdclef-2025/train_audio/c/XC1.ogg",
            "birdclef-2025/train_audio/a/XC4.ogg",
        ]
        assert list(table["path"]) == [str(tmp_path / name) for name in table["filename"]]
        # What one year does not know as a class, another does; a recording of two years stays in one fold.
        assert list(table["secondary"]) == [("c",), (), (), ("b",)]
        assert list(table["recording"]) == ["XC1", "XC2", "XC1", "XC4"]

    def test_other_recordings(self, tmp_path: Path) -> None:
        assert detect_competition(write_clips(tmp_path, "owl/a.wav")) is FOLDERS

    def test_the_error_lists_the_files(self, tmp_path: Path) -> None:
        write(tmp_path, "train_labels.csv", "x")
        with pytest.raises(DataError, match=r"no competition matches its files \(train_labels.csv\)"):
            detect_competition(tmp_path)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="nowhere: there is no such folder"):
            detect_competition(tmp_path / "nowhere")

    def test_names_are_the_keys(self) -> None:
        assert all(name == value.name for name, value in COMPETITIONS.items())


class TestClassList:
    def test_order_is_the_submission(self, data: Path) -> None:
        assert read_class_list(data, BIRDCLEF_2025) == CLASSES

    def test_taxonomy_where_there_is_no_submission(self, data: Path) -> None:
        (data / "sample_submission.csv").unlink()
        assert read_class_list(data, BIRDCLEF_2025) == ("ywcpar", "grekis", "1139490", "24", "024")

    def test_two_lists_that_differ(self, data: Path) -> None:
        write(data, "sample_submission.csv", "row_id,024,24,1139490,grekis,newbird")
        with pytest.raises(DataError, match=r"submission.csv: 'newbird'; only in .*taxonomy.csv: 'ywcpar'"):
            read_class_list(data, BIRDCLEF_2025)

    def test_duplicate_column_is_not_renamed(self, data: Path) -> None:
        write(data, "sample_submission.csv", "row_id,grekis,grekis")
        with pytest.raises(DataError, match="the column 'grekis' occurs 2 times"):
            read_class_list(data, BIRDCLEF_2025)

    def test_header_without_row_id(self, data: Path) -> None:
        write(data, "sample_submission.csv", "id,grekis")
        with pytest.raises(DataError, match="the first column must be row_id, got id"):
            read_class_list(data, BIRDCLEF_2025)

    @pytest.mark.parametrize("competition", [BIRDCLEF_2025, BIRDCLEF_2026])
    def test_never_from_folders_in_a_competition(self, tmp_path: Path, competition: Competition) -> None:
        write(tmp_path, "train_audio/grekis/XC1.ogg", "")
        with pytest.raises(DataError, match=r"no class list; needed: sample_submission\.csv or taxonomy\.csv"):
            read_class_list(tmp_path, competition)

    def test_other_recordings_by_folder(self, tmp_path: Path) -> None:
        assert read_class_list(write_clips(tmp_path, "owl/a.wav", "ant/b.OGG"), FOLDERS) == ("ant", "owl")

    def test_other_recordings_by_label_file(self, tmp_path: Path) -> None:
        write_clips(tmp_path, "clips/a.wav")
        write(tmp_path, "labels.csv", "filename,label", "clips/a.wav,owl", "clips/b.wav,007")
        assert read_class_list(tmp_path, FOLDERS) == ("007", "owl")
        assert read_class_list(tmp_path, replace(FOLDERS, row_s=3)) == ("007", "owl")

    def test_the_class_list_determines_the_order(self, tmp_path: Path) -> None:
        write_clips(tmp_path, "owl/a.wav", "ant/b.wav")
        write(tmp_path, "classes.txt", "owl", "", " ant ", "bee")
        assert read_class_list(tmp_path, FOLDERS) == ("owl", "ant", "bee")
        write(tmp_path, "classes.csv", "label,class_name", "ant,Insecta", "owl,Aves")
        with pytest.raises(DataError, match=r"classes\.txt: 'bee'; only in .*classes\.csv: nothing"):
            read_class_list(tmp_path, FOLDERS)

    def test_taxa(self, data: Path) -> None:
        assert read_taxa(data, BIRDCLEF_2025) == {
            "024": "",
            "24": "Amphibia",
            "1139490": "Insecta",
            "grekis": "Aves",
            "ywcpar": "Aves",
        }
        (data / "taxonomy.csv").unlink()
        assert set(read_taxa(data, BIRDCLEF_2025).values()) == {""}


class TestReadTrain:
    def test_all_columns(self, data: Path) -> None:
        table = read_train(data, BIRDCLEF_2025, CLASSES)
        assert list(table.columns) == ["path", "filename", "label", "secondary", "recording", "author", "centres"]
        assert list(table["label"]) == ["1139490", "024", "grekis", "ywcpar", "24"]
        assert list(table["secondary"]) == [(), (), ("ywcpar",), (), ("024",)]
        assert list(table["recording"]) == ["CSA36385", "iNat7", "XC100", "XC100", "H02_20230420_074000"]
        assert list(table["author"]) == ["Fabio A. Sarria-S", "", "A", "A", "B"]
        assert table["path"][0] == str(data / "train_audio" / "1139490" / "CSA36385.ogg")

    def test_without_optional_columns(self, data: Path) -> None:
        write(data, "train.csv", "filename,primary_label", "a/XC1.ogg,024")
        table = read_train(data, BIRDCLEF_2025, CLASSES)
        assert table.loc[0, ["secondary", "recording", "author"]].tolist() == [(), "XC1", ""]

    def test_unknown_secondary_labels_are_dropped_and_counted(
        self, data: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "bcsed"):
            table = read_train(data, BIRDCLEF_2025, ("024", "24", "1139490", "grekis", "ywcpar"))
            assert not caplog.records
            row = "grekis,\"['b', 'ywcpar', 'a']\",grekis/{}"
            write(data, "train.csv", "primary_label,secondary_labels,filename", row.format(1), row.format(2))
            table = read_train(data, BIRDCLEF_2025, CLASSES)
        assert list(table["secondary"]) == [("ywcpar",)] * 2
        assert "dropped 4 secondary labels outside the classes: a, b" in caplog.text

    def test_unknown_label(self, data: Path) -> None:
        with pytest.raises(DataError, match="labels that are not among the 3 classes: '24', 'ywcpar'; correct"):
            read_train(data, BIRDCLEF_2025, ("024", "1139490", "grekis"))

    def test_missing_column(self, data: Path) -> None:
        write(data, "train.csv", "label,filename", "grekis,a.ogg")
        with pytest.raises(DataError, match="no column 'primary_label'; its columns are 'label', 'filename'"):
            read_train(data, BIRDCLEF_2025, CLASSES)

    def test_empty_table(self, data: Path) -> None:
        write(data, "train.csv", "primary_label,filename")
        with pytest.raises(DataError, match=r"train\.csv: the table is empty"):
            read_train(data, BIRDCLEF_2025, CLASSES)
        (data / "train.csv").write_text("")
        with pytest.raises(DataError, match=r"train\.csv: the file is empty"):
            read_train(data, BIRDCLEF_2025, CLASSES)
        (data / "train.csv").unlink()
        with pytest.raises(DataError, match=r"train\.csv: there is no such file"):
            read_train(data, BIRDCLEF_2025, CLASSES)

    def test_duplicate_file(self, data: Path) -> None:
        write(data, "train.csv", "primary_label,filename", "024,a.ogg", "24,a.ogg")
        with pytest.raises(DataError, match=r"'a.ogg' is listed more than once \(1 duplicates\)"):
            read_train(data, BIRDCLEF_2025, CLASSES)

    def test_missing_files_are_counted(self, data: Path) -> None:
        table = read_train(data, BIRDCLEF_2025, CLASSES)
        write(data / "train_audio", "024/iNat7.ogg", "")
        with pytest.raises(DataError, match=r"4 of 5 recordings are missing: .*CSA36385.ogg, .* and 1 more"):
            check_files(table)
        check_files(table.iloc[[1]])

    def test_other_recordings_by_folder(self, tmp_path: Path) -> None:
        write_clips(tmp_path, "owl/deep/a.wav", "ant/b.ogg", "ant/.b.ogg", "ant/notes.txt")
        table = read_train(tmp_path, FOLDERS, ("ant", "owl"))
        assert list(table["filename"]) == ["ant/b.ogg", "owl/deep/a.wav"]
        assert list(table["label"]) == ["ant", "owl"]
        check_files(table)
        write_clips(tmp_path, "stray.wav")
        with pytest.raises(DataError, match=r"stray\.wav is not in a class folder; move it to"):
            read_train(tmp_path, FOLDERS, ("ant", "owl"))

    def test_other_recordings_by_label_file(self, tmp_path: Path) -> None:
        write_clips(tmp_path, "a_0.wav")
        write(
            tmp_path,
            "labels.csv",
            "filename,label,secondary_labels,recording",
            "a_0.wav,owl,ant;bee,a",
            "a_1.wav,ant,,a",
            "b_1.wav,bee,,",
        )
        table = read_train(tmp_path, FOLDERS, ("ant", "bee", "owl"))
        assert list(table["secondary"]) == [("ant", "bee"), (), ()]
        assert list(table["recording"]) == ["a", "a", "b_1"]

    def test_other_recordings_absent(self, tmp_path: Path) -> None:
        (tmp_path / "audio").mkdir()
        with pytest.raises(DataError, match=r"no recordings; needed: .*audio/<class>/<recording>.wav"):
            read_train(tmp_path, FOLDERS, ("ant",))


class TestParseLabels:
    @pytest.mark.parametrize("cell", ["", "  ", "[]", "['']", ";", "[ ]"])
    def test_nothing(self, cell: str) -> None:
        assert parse_labels(cell) == ()

    @pytest.mark.parametrize("cell", ["['024', 'b']", '["024", "b"]', " ['024','b'] ", "024;b", " 024 ; b;"])
    def test_two(self, cell: str) -> None:
        assert parse_labels(cell) == ("024", "b")

    @given(st.lists(st.text("abc0123 -", min_size=1).map(str.strip).filter(bool)))
    def test_inverse_of_repr(self, labels: list[str]) -> None:
        assert parse_labels(repr(labels)) == tuple(labels)

    @pytest.mark.parametrize(
        "cell", ["['a' 'b']", "['a'\n 'b']", "['a'", "[a]", "[024]", "[1.5]", "[__import__('os')]", "[['a']]"]
    )
    def test_no_list(self, cell: str) -> None:
        with pytest.raises(DataError, match="is not a list of labels"):
            parse_labels(cell)


class TestSoundscapeLabels:
    HEAD = "filename,start,end,primary_label"

    def test_duplicate_rows_are_merged(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            "labels.csv",
            self.HEAD,
            "b.ogg,00:00:00,00:00:05,24;024",
            "b.ogg,00:00:55,00:01:00,",
            "b.ogg,00:00:00,00:00:05,ywcpar;24",
            "a.ogg,01:00:00,3605.0,grekis",
        )
        table = read_soundscape_labels(path, ("ywcpar", "grekis", "024", "24"))
        assert table.to_dict("list") == {
            "filename": ["b.ogg", "b.ogg", "a.ogg"],
            "start_s": [0, 55, 3600],
            "end_s": [5, 60, 3605],
            "labels": [("ywcpar", "024", "24"), (), ("grekis",)],
        }
        assert table["start_s"].dtype == table["end_s"].dtype == np.int64

    @pytest.mark.parametrize(
        ("row", "sentence"),
        [
            ("a.ogg,0,5,nobird", "labels that are not among the 5 classes: 'nobird'; correct"),
            ("a.ogg,0,3.36,24", "the time '3.36' is not a whole second; write HH:MM:SS or seconds"),
            ("a.ogg,soon,5,24", "the time 'soon' is not a whole second"),
            ("a.ogg,,5,24", "the time '' is not a whole second"),
            ("a.ogg,5,5,24", "a row of 'a.ogg' begins at 5 s and ends at 5 s"),
        ],
    )
    def test_refusals(self, tmp_path: Path, row: str, sentence: str) -> None:
        path = write(tmp_path, "labels.csv", self.HEAD, row)
        with pytest.raises(DataError, match=sentence):
            read_soundscape_labels(path, CLASSES)


class TestTruthTable:
    LABELS = pd.DataFrame(
        {
            "filename": ["a/x.1.ogg", "a/x.1.ogg", "y.wav"],
            "start_s": [0, 5, 55],
            "end_s": [5, 10, 58],
            "labels": [("24",), (), ("024", "grekis")],
        }
    )

    def test_rows_and_columns(self) -> None:
        truth = truth_table(self.LABELS, CLASSES)
        assert list(truth.index) == ["x.1_5", "x.1_10", "y_60"]
        assert truth.index.name == "row_id"
        assert tuple(truth.columns) == CLASSES
        assert (truth.dtypes == np.float32).all()
        assert truth.to_numpy().tolist() == [[0, 1, 0, 0, 0], [0] * 5, [1, 0, 0, 1, 0]]

    def test_another_form_of_id(self) -> None:
        longer = pd.DataFrame({"filename": ["x.ogg"], "start_s": [10], "end_s": [20], "labels": [("24",)]})
        assert list(truth_table(longer, CLASSES, 10, "{stem}@{end}").index) == ["x@20"]
        with pytest.raises(DataError, match=r"'x.ogg' is labelled from 10 to 20 s, which is not a row of 5 s"):
            truth_table(longer, CLASSES)

    def test_off_the_grid(self) -> None:
        with pytest.raises(DataError, match="from 3 to 8 s, which is not a row of 5 s"):
            truth_table(self.LABELS.assign(start_s=3, end_s=8), CLASSES)

    def test_two_lines_of_one_row(self) -> None:
        duplicate = pd.concat([self.LABELS, self.LABELS.iloc[[2]].assign(filename="other/y.wav")])
        with pytest.raises(DataError, match="two lines of labels are row 'y_60'"):
            truth_table(duplicate, CLASSES)

    def test_unknown_label(self) -> None:
        with pytest.raises(DataError, match="the soundscape labels: labels that are not among the 2 classes: '24'"):
            truth_table(self.LABELS, ("024", "grekis"))


@pytest.mark.parametrize(
    ("name", "competition", "site"),
    [
        ("BC2026_Train_0039_S22_20211231_201500.ogg", BIRDCLEF_2026, "S22"),
        ("d/BC2026_Test_0001_S05_20250227_010002", BIRDCLEF_2026, "S05"),
        ("H02_20230420_074000.ogg", BIRDCLEF_2025, "H02"),
        ("soundscape_8358733.ogg", BIRDCLEF_2025, "soundscape_8358733"),
        ("H02_20230420_074000.ogg", BIRDCLEF_2026, "H02_20230420_074000"),
        ("H02_20231341_074000.ogg", BIRDCLEF_2025, "H02"),
        ("20230420_074000.WAV", FOLDERS, "20230420_074000"),
        ("north_pond_20230420_074000.WAV", FOLDERS, "north_pond"),
    ],
)
def test_the_site_in_a_name(name: str, competition: Competition, site: str) -> None:
    assert site_of(name, competition) == site


def test_marked_calls_are_seconds(tmp_path: Path) -> None:
    write(tmp_path, "labels.csv", "filename,label,centres", "a.wav,x,1.5; 20", "b.wav,x,", "c.wav,y,3")
    table = read_train(tmp_path, FOLDERS, ("x", "y"))
    assert table["centres"].tolist() == [(1.5, 20.0), (), (3.0,)]
    write(tmp_path, "labels.csv", "filename,label,centres", "a.wav,x,soon")
    with pytest.raises(DataError, match=r"the centres 'soon' are not seconds; write 1\.5;20"):
        read_train(tmp_path, FOLDERS, ("x", "y"))
