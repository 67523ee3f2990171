"""Annotations as labels of rows, as truth, as labelled soundscapes and as training clips."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_competition import write
from test_train import SMALL

from bcsed.analysis.compare.evaluate import evaluate_on_soundscapes
from bcsed.analysis.compare.runs import ComparedRun
from bcsed.cli.app import main
from bcsed.config.recipe import Data
from bcsed.config.strict import to_dict
from bcsed.data.annotated_rows import label_rows, plan_clips, write_rows
from bcsed.data.annotations import COLUMNS, read_annotations
from bcsed.data.competitions import FOLDERS, read_class_list
from bcsed.data.label_files import read_soundscape_labels, read_train
from bcsed.errors import ConfigError, DataError
from bcsed.predict import predict
from bcsed.report.api import report
from bcsed.scores.evaluation import read_truth
from bcsed.scores.labelling import label_recordings
from bcsed.scores.table import make_table
from bcsed.train.data import TrainInputs, prepare_data
from bcsed.train.soundscapes import read_labelled_rows, split_soundscapes

RATE = 8000
SECONDS = {"a/S1.wav": 12.0, "b/S2.flac": 20.0, "S3.wav": 5.0, "S4.wav": 7.0}
HEADER = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tSpecies"


def events_of(*rows) -> pd.DataFrame:
    lines = [(name, start, end, np.nan, np.nan, label, np.nan) for name, start, end, label in rows]
    return pd.DataFrame(lines, columns=list(COLUMNS)).astype(COLUMNS)


@pytest.fixture
def field(tmp_path):
    """Recordings, and a selection table of two of them."""
    rng = np.random.default_rng(0)
    for name, seconds in SECONDS.items():
        (tmp_path / "wav" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "wav" / name, 0.3 * rng.standard_normal(round(seconds * RATE)).clip(-3, 3), RATE)
    lines = [
        r"1	Spectrogram 1	4.5	5.05	C:\x\a\S1.wav	4.5	Turdus merula",
        r"2	Spectrogram 1	10.0	11.5	C:\x\a\S1.wav	10.0	eurasian jay",
        r"3	Spectrogram 1	14.0	15.0	C:\x\b\S2.flac	2.0	wind",
        r"4	Spectrogram 1	15.0	16.0	C:\x\b\S2.flac	3.0	jay",
    ]
    write(tmp_path, "all.txt", HEADER, *lines)
    write(
        tmp_path, "taxonomy.csv", "primary_label,scientific_name,common_name", "024,Turdus merula,", "jay,,Eurasian Jay"
    )
    write(tmp_path, "files.txt", "S3")
    return tmp_path


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_those_that_events_overlap(seed):
    rng = np.random.default_rng(seed)
    row_s, least, complete = (1, 5, 7)[seed % 3], (0.1, 0.5, 1.0)[seed // 3 % 3], seed % 2 == 0
    events = []
    for k in range(20):
        start = float(rng.integers(0, 300)) / 10
        events.append(("ab"[k % 2], start, start + float(rng.integers(1, 120)) / 10, ("x", "y", "nocall")[k % 3]))
    lengths = {"a": 42.0, "b": 50.5}
    rows = label_rows(events_of(*events), lengths, row_s=row_s, min_overlap_s=least, complete=complete)
    expected = {}
    for name, seconds in lengths.items():
        for k in range(int(np.ceil(seconds / row_s))):
            labels = set()
            for _, start, end, label in (event for event in events if event[0] == name and event[3] != "nocall"):
                overlaps = [min(end, r + row_s) - max(start, r) for r in range(0, 60, row_s)]
                if overlaps[k] > least - 1e-6 or overlaps[k] > max(overlaps) - 1e-6:
                    labels.add(label)
            if labels or complete:
                expected[name, k * row_s] = tuple(sorted(labels))
    found = dict(zip(zip(rows["filename"], rows["start_s"], strict=True), rows["labels"], strict=True))
    assert found == expected
    assert (rows["end_s"] - rows["start_s"] <= row_s).all()
    assert rows.loc[rows["filename"] == "b", "end_s"].max() <= 51 or not complete


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = label_rows(events_of(("a.wav", 1, 7, "x"), ("a.wav", 3601, 3602, "024")), {"a.wav": 3612.3})
    write_rows(tmp_path / "rows.csv", rows)
    pd.testing.assert_frame_equal(
        read_soundscape_labels(tmp_path / "rows.csv", ("024", "x")), rows, check_dtype=False, check_column_type=False
    )
    with pytest.raises(DataError, match="label 'x; y' has a ;"):
        write_rows(tmp_path / "rows.csv", label_rows(events_of(("a", 1, 2, "x; y")), {"a": 5.0}))
    with pytest.raises(ConfigError, match="got 6 and 5 s"):
        label_rows(events_of(), {}, min_overlap_s=6)


def test_command(field, capsys):
    out = field / "labels.csv"
    call = ["label", str(field / "all.txt"), "--recordings", str(field / "wav"), "--out", str(out)]
    assert main([*call, "--taxonomy", str(field / "taxonomy.csv"), "--files", str(field / "files.txt")]) == 0
    text = capsys.readouterr().out
    assert "024: 1 events, 1 rows" in text and "jay: 2 events, 2 rows" in text
    assert "taxonomy.csv: 'wind' (1 events)" in text
    assert "1 recordings have no annotation and no labels (S4.wav)" in text
    assert "8 rows of 3 annotated recordings, 5 of them without a label; 3 events" in text
    rows = read_soundscape_labels(out, ("024", "jay"))
    labels = {(name, start): labels for name, start, _, labels in rows.itertuples(index=False) if labels}
    # The first event overlaps the second row by 50 ms only.
    assert labels == {("a/S1.wav", 0): ("024",), ("a/S1.wav", 10): ("jay",), ("b/S2.flac", 0): ("jay",)}
    assert rows.groupby("filename").size().to_dict() == {"S3.wav": 1, "a/S1.wav": 3, "b/S2.flac": 4}
    events = read_annotations(field / "labels-events.csv")
    assert events["start_s"].tolist() == [4.5, 10, 3] and set(events["recording"]) == {"a/S1.wav", "b/S2.flac"}
    assert main([*call, "--incomplete"]) == 0
    assert len(read_soundscape_labels(out, ("Turdus merula", "eurasian jay", "wind", "jay"))) == 3


def test_what_the_command_refuses(field, capsys):
    call = ["label", str(field / "all.txt"), "--out", str(field / "labels.csv"), "--recordings"]
    assert main([*call, str(field / "wav" / "a")]) == 2
    assert r"all.txt: line 4: the recording 'C:\\x\\b\\S2.flac' matches none" in capsys.readouterr().err
    assert main(["label", str(field / "all.txt"), "--recordings", "x", "--out", str(field / "taxonomy.csv")]) == 2
    assert "taxonomy.csv is already there, and is not labels of rows of bcsed" in capsys.readouterr().err
    # A competition's labels begin like those of `label`, but nothing says that `label` wrote them.
    write(field, "expert.csv", "filename,start,end,primary_label", "S2.wav,0,5,owl")
    assert main(["label", str(field / "all.txt"), "--recordings", "x", "--out", str(field / "expert.csv")]) == 2
    assert "expert.csv is already there, and is not labels of rows of bcsed" in capsys.readouterr().err
    (field / "utf16.csv").write_text("filename,start,end,primary_label\nS2.wav,0,5,owl\n", encoding="utf-16")
    assert main(["label", str(field / "all.txt"), "--recordings", "x", "--out", str(field / "utf16.csv")]) == 2
    assert "utf16.csv is already there, and is not labels of rows of bcsed" in capsys.readouterr().err
    soundfile.write(field / "wav" / "a" / "S2.wav", np.full(RATE, 0.1), RATE)
    write(field, "files.txt", "S2.wav")
    assert main([*call, str(field / "wav"), "--files", str(field / "files.txt")]) == 2
    assert "'a/S2.wav' and 'b/S2.flac' have the same stem" in capsys.readouterr().err
    write(field, "taxonomy.csv", "label,common_name", "x,owl")
    assert main([*call, str(field / "wav"), "--taxonomy", str(field / "taxonomy.csv")]) == 2
    assert "none of the labels is in the taxonomy: 'Turdus merula'" in capsys.readouterr().err
    assert not (field / "labels.csv").exists()


def test_a_table_without_events_names_its_recording(field):
    """It was annotated, and nothing calls; a damaged recording is reported."""
    write(field, "S3.Table.1.selections.txt", HEADER.replace("\tBegin Path", ""))
    (field / "wav" / "S9.wav").write_bytes(b"RIFF")
    labelled = label_recordings([field / "S3.Table.1.selections.txt"], [field / "wav"])
    assert labelled.rows["labels"].tolist() == [()] and list(labelled.lengths) == ["S3.wav"]
    assert list(labelled.unreadable) == [str(field / "wav" / "S9.wav")]
    with pytest.raises(DataError, match=r"none.txt: without events: the recording 'none' matches none"):
        label_recordings([write(field, "none.txt", HEADER)], [field / "wav"])


def test_a_class_may_have_the_name_of_a_negative_label(field, tmp_path):
    """Such as noise, where it is listed as a class: else it is an event without any class."""
    events = events_of(("S1.wav", 1, 2, "noise"), ("S1.wav", 6, 7, "background"))
    lengths = {"S1.wav": 12.0}
    assert list(label_rows(events, lengths)["labels"]) == [(), (), ()]
    assert list(label_rows(events, lengths, classes=("noise", "x"))["labels"]) == [("noise",), (), ()]
    assert [clip.label for clip in plan_clips(events, lengths, 4, ("background",))] == ["background"]
    table = write(tmp_path, "events.csv", "file,start,end,label", "S1.wav,1,2,noise", "S1.wav,6,7,background")
    truth = read_truth(table, ("noise", "x"), ["S1_5", "S1_10", "S1_15"])
    assert truth.to_numpy().tolist() == [[1, 0], [0, 0], [0, 0]]
    rows = read_labelled_rows([table], field / "wav", ("a", "noise"), 5)
    assert list(rows["labels"][:2]) == [("noise",), ()]


def test_recordings_of_one_name_in_two_folders_are_refused(field):
    """Of two cards, the events of one must not get the sound of the other."""
    for card in ("card1", "card2"):
        (field / card).mkdir()
        shutil.copy(field / "wav" / "S3.wav", field / card / "20250101_060000.wav")
    events = write(field, "events.csv", "file,start,end,label", "card1/20250101_060000.wav,1,2,jay")
    with pytest.raises(DataError, match=r"are both named '20250101_060000\.wav'; name a folder that contains both"):
        label_recordings([events], [field / "card1", field / "card2"])
    labelled = label_recordings([events], [field / "card1", field / "card1" / "20250101_060000.wav"])
    assert list(labelled.lengths) == ["20250101_060000.wav"]


def test_rows_name_recordings_in_subfolders_with_or_without_them(field):
    """As `label` and `review read` write them; and the end of a recording as its own, or as that of the last row."""
    header, classes = "filename,start,end,primary_label", ("024", "jay")
    long = write(field, "long.csv", header, "a/S1.wav,0,5,024", "a/S1.wav,10,12,jay", "S4.wav,5,7,jay")
    short = write(field, "short.csv", header, "S1.wav,0,5,024", "S1.wav,10,15,jay", "S2.flac,0,5,")
    rows = read_labelled_rows([long, short], field / "wav", classes, 5)
    assert rows[["filename", "start_s", "end_s"]].values.tolist() == [
        ["a/S1.wav", 0, 5],
        ["a/S1.wav", 10, 15],
        ["S4.wav", 5, 10],
        ["b/S2.flac", 0, 5],
    ]
    other = write(field, "other.csv", header, "S4.wav,5,10,")
    with pytest.raises(DataError, match=r"two files label 'S4\.wav' from 5 to 10 s differently"):
        read_labelled_rows([long, other], field / "wav", classes, 5)
    (field / "wav" / "c").mkdir()
    shutil.copy(field / "wav" / "a" / "S1.wav", field / "wav" / "c")
    with pytest.raises(DataError, match=r"'S1\.wav' may be 'a/S1\.wav', 'c/S1\.wav'; write its folder too"):
        read_labelled_rows([short], field / "wav", classes, 5)


def test_truth_of_longer_rows(field, capsys):
    """The length of the rows is that of the scores; a table of scores can be compared without recordings."""
    ids = ["S1_10", "S1_20", "S2_10", "S2_20"]
    make_table(ids, ("024", "jay"), np.array([[0.9, 0.1], [0.2, 0.3], [0.1, 0.8], [0.3, 0.2]])).to_csv(field / "s.csv")
    labels = write(field, "rows.csv", "filename,start,end,primary_label", "S1.wav,0,10,024", "S2.wav,0,10,jay")
    assert read_truth(labels, ("024", "jay"), ids).index.tolist() == ["S1_10", "S2_10"]
    assert main(["evaluate", str(field / "s.csv"), "--truth", str(labels)]) == 0
    events = write(field, "events.csv", "file,start,end,label", "S1.wav,3,6,024", "S2.wav,7,8,jay")
    assert main(["compare", str(field / "s.csv"), "--truth", str(events), "--out", str(field / "out")]) == 0
    assert "1.000" in capsys.readouterr().out


def test_truth(field, capsys):
    """An annotation table labels all rows of its recordings, as the rows that it is converted to."""
    ids = [f"{stem}_{5 * k + 5}" for stem, n in (("S1", 3), ("S2", 4), ("S3", 1)) for k in range(n)]
    table = write(field, "events.csv", "file,start,end,label", "x/S1.wav,4.5,6,024", "S2,0,1,jay", "S2,1,2,nocall")
    truth = read_truth(table, ("jay", "024"), ids)
    assert list(truth.index) == ids[:7] and list(truth.columns) == ["jay", "024"]
    assert truth.to_numpy().tolist() == [[0, 1], [0, 1], [0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]
    with pytest.raises(DataError, match="labels that are not among the 1 classes: 'jay'"):
        read_truth(table, ("024",), ids)
    with pytest.raises(DataError, match=r"the recording 'x/S1.wav' matches none"):
        read_truth(table, ("jay", "024"), ids[3:])
    make_table(ids, ("jay", "024"), np.eye(8, 2)).to_csv(field / "scores.csv")
    write_rows(field / "rows.csv", label_rows(read_annotations(table).replace("x/S1.wav", "S1"), {"S1": 12, "S2": 20}))
    texts = []
    for path in (table, field / "rows.csv"):
        assert main(["evaluate", str(field / "scores.csv"), "--truth", str(path), "--per-class"]) == 0
        assert main(["calibrate", str(field / "scores.csv"), "--truth", str(path), "--min-positives", "1"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "7 rows" in texts[0]


def test_truth_of_a_bundle(oracle, recordings, tmp_path, capsys):
    """Only the headers of the recordings say which rows there are."""
    table = write(tmp_path, "events.csv", "file,start,end,label", "long.wav,4,26,loud", "odd.wav,20,23.4,quiet")
    assert main(["evaluate", str(oracle.path), "--recordings", str(recordings), "--truth", str(table)]) == 0
    assert "over 2 of 2 classes, 17 rows" in capsys.readouterr().out
    plain = {"path": oracle.path, "experiment": "x", "recipe": {}, "contract": to_dict(oracle.contract), "origin": {}}
    run = ComparedRun(**plain, fold=None, checkpoint="last", history=pd.DataFrame())
    evaluation = evaluate_on_soundscapes(run, [recordings], table)
    assert set(evaluation.files) == {"long", "odd"} and evaluation.truth.sum() == 7


@pytest.mark.slow
def test_truth_of_a_report(oracle, recordings, tmp_path):
    table = write(tmp_path, "events.csv", "file,start,end,label", "long.wav,4,26,loud", "odd.wav,20,23.4,quiet")
    predict([oracle], [recordings], out=tmp_path / "scores")
    page = report([tmp_path / "scores"], tmp_path / "page.html", truth=table).path.read_text()
    assert "17 soundscape rows" in page


@pytest.mark.parametrize("clip_s", [3.0, 10.0, 60.0])
def test_clips_contain_the_events(clip_s):
    rng, lengths = np.random.default_rng(0), {"a": 40.0, "b": 15.0}
    rows = [(("a", 39.0), ("b", 14.0))[k % 2] for k in range(40)]
    starts = [(name, float(rng.uniform(0, limit - 5))) for name, limit in rows]
    events = events_of(*[(name, s, s + rng.uniform(0.1, 5), "xyz"[k % 3]) for k, (name, s) in enumerate(starts)])
    clips = plan_clips(events, lengths, clip_s)
    for clip in clips:
        assert 0 <= clip.start_s < clip.end_s <= lengths[clip.recording] + 1e-9
        assert clip.end_s - clip.start_s == pytest.approx(
            min(max(clip_s, clip.end_s - clip.start_s), lengths[clip.recording])
        )
        assert all(0 < centre < clip.end_s - clip.start_s for centre in clip.centres)
        assert clip.label not in clip.secondary
    centres = {(c.recording, c.label, round(c.start_s + x, 6)) for c in clips for x in c.centres}
    columns = (events["recording"], events["label"], ((events["start_s"] + events["end_s"]) / 2).round(6))
    assert centres == set(zip(*columns, strict=True))
    assert len(clips) < len(events)


def test_clips_are_a_folder_to_train_on(field, capsys):
    call = ["label", str(field / "all.txt"), "--recordings", str(field / "wav"), "--out", str(field / "labels.csv")]
    call += ["--clips", str(field / "clips"), "--clip-s", "4"]
    assert main(call) == 0
    classes = read_class_list(field / "clips", FOLDERS)
    assert classes == ("Turdus merula", "eurasian jay", "jay", "wind")
    table = read_train(field / "clips", FOLDERS, classes)
    assert table["recording"].tolist() == ["S1", "S1", "S2", "S2"]
    assert table["secondary"].tolist() == [(), (), ("wind",), ("jay",)]
    assert table["centres"].tolist() == [(2.0,), (2.75,), (2.0,), (2.0,)]
    wave, _ = soundfile.read(table["path"][1])
    np.testing.assert_allclose(wave, soundfile.read(field / "wav" / "a" / "S1.wav")[0][8 * RATE :], atol=1e-4)
    assert main(call) == 2
    assert "is not empty; name a new folder for the clips" in capsys.readouterr().err


def test_labelled_soundscapes_of_folders(field):
    """The file of rows in the folder, further files, and conflicts between them."""
    data = field / "data"
    data.mkdir()
    (field / "wav").rename(data / "soundscapes")
    write(data, "soundscape_labels.csv", "filename,start,end,primary_label", "S3.wav,0,5,jay", "a/S1.wav,0,5,")
    split = split_soundscapes(data, FOLDERS, ("024", "jay"), Data(soundscapes="train"), None)
    assert len(split.train) == 2 and split.labelled == {"S3.wav", "a/S1.wav"}
    more = write(field, "more.csv", "filename,start,end,primary_label", "S3.wav,0,5,jay", "S4.wav,5,7,024")
    events = write(field, "events.csv", "file,start,end,label", "S2,3,4,024")
    split = split_soundscapes(data, FOLDERS, ("024", "jay"), Data(), None, [more, events])
    assert len(split.valid) == 4 and len(split.truth) == 7
    assert split.truth.loc[["S2_5", "S4_10", "S3_5"]].to_numpy().tolist() == [[1, 0], [1, 0], [0, 1]]
    more.write_text("filename,start,end,primary_label\nS3.wav,0,5,024\n")
    own = data / "soundscape_labels.csv"
    with pytest.raises(
        DataError, match=r"'S3.wav' from 0 to 5 s differently: .*soundscape_labels.csv \(jay\) and .*more"
    ):
        read_labelled_rows([own, more], data / "soundscapes", ("024", "jay"), 5)
    with pytest.raises(DataError, match=r"labels that are not among the 1 classes: '024'"):
        read_labelled_rows([events], data / "soundscapes", ("jay",), 5)


def test_training_takes_further_labels(year, tmp_path):
    shutil.copytree(year, tmp_path / "data")
    year = tmp_path / "data"
    folder = (year / "test_soundscapes").rename(year / "train_soundscapes")
    path = sorted(folder.glob("*.ogg"))[0]
    classes = prepare_data(SMALL, year, fold=None).classes
    table = write(tmp_path, "rows.csv", "filename,start,end,primary_label", f"{path.name},0,5,{classes[0]}")
    inputs = TrainInputs(labels=(table,))
    ready = prepare_data(SMALL.vary("x", data__soundscapes="train"), year, fold=None, inputs=inputs)
    assert ready.inputs.labelled is not None and ready.sources["labelled_rows"] == 1
    assert len(ready.sources["labels"][0]) == 64
    ready = prepare_data(SMALL, year, fold=None, inputs=inputs)
    assert ready.row_truth.index.tolist() == [f"{path.stem}_5"]
    write(tmp_path, "rows.csv", "filename,start,end,primary_label", f"gone.ogg,0,5,{classes[0]}")
    with pytest.raises(DataError, match=r"none of the 1 soundscapes of .*rows.csv is in"):
        prepare_data(SMALL, year, fold=None, inputs=inputs)


def test_a_clip_has_the_labels_of_short_calls_too():
    rows = [("r", 4.0, 6.0, "owl"), ("r", 5.0, 5.05, "bat"), ("r", 5.2, 5.3, "frog"), ("r", 15.0, 15.01, "far")]
    events = pd.DataFrame(rows, columns=["recording", "start_s", "end_s", "label"])
    clips = {clip.label: clip.secondary for clip in plan_clips(events, {"r": 20.0}, 10.0)}
    assert clips["owl"] == ("bat", "frog")
