from __future__ import annotations

import itertools
import sys
import warnings
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bcsed.data.annotations import read_annotations
from bcsed.errors import ConfigError, DataError
from bcsed.scores import detections
from bcsed.scores.detections.detect import DetectionSettings, Recording, detect
from bcsed.scores.detections.raven_audacity import RAVEN
from bcsed.scores.detections.taxonomy import ClassName
from bcsed.scores.table import make_table, row_ids

CLASSES = ("1139490", "frog1", "024")
RATE = 32_000
NAMES = {
    "1139490": ClassName("Ragoniella pulchella", "", "Insecta"),
    "frog1": ClassName("Leptodactylus podicipinus", "Pointedbelly Frog", "Amphibia"),
}
# Two recordings of one stem, one of them ending within a row; one with a clock; one without detections.
RECORDINGS = (
    Recording(path="in/siteA/0001.wav", name="siteA/0001", n_samples=RATE * 234 // 10, sample_rate=RATE),
    Recording(path="in/siteB/0001.WAV", name="siteB/0001", n_samples=44_100 * 10 + 1, sample_rate=44_100),
    Recording(path="in/H02_20230420_235950.ogg", name="H02_20230420_235950", n_samples=160_000, sample_rate=16_000),
    Recording(path="in/still.flac", name="still", n_samples=RATE * 5, sample_rate=RATE),
)
SCORES = {
    "siteA/0001": [[0.9, 0.1, 0], [0.5, 0.6, 0], [0.2, 0, 0], [0.7, 0, 0], [0.8, 0.51, 0]],
    "siteB/0001": [[0, 0, 0], [0.1, 0, 0], [0, 0.75, 0]],
    "H02_20230420_235950": [[0, 0, 0.4], [0, 0, 0.99999]],
    "still": [[0.1, 0.1, 0.1]],
}


def table_of(scores) -> pd.DataFrame:
    ids = [row_id for name, block in scores.items() for row_id in row_ids(name, len(block), 5)]
    return make_table(ids, CLASSES, np.concatenate([np.asarray(block) for block in scores.values()]))


TABLE = table_of(SCORES)
LINES = [
    ("in/siteA/0001.wav", "siteA/0001", "", 0.0, 10.0, "1139490", 0.9),
    ("in/siteA/0001.wav", "siteA/0001", "", 5.0, 10.0, "frog1", 0.6),
    ("in/siteA/0001.wav", "siteA/0001", "", 15.0, 23.4, "1139490", 0.8),
    ("in/siteA/0001.wav", "siteA/0001", "", 20.0, 23.4, "frog1", 0.51),
    ("in/siteB/0001.WAV", "siteB/0001", "", 10.0, (44_100 * 10 + 1) / 44_100, "frog1", 0.75),
    ("in/H02_20230420_235950.ogg", "H02_20230420_235950", "2023-04-20T23:59:55", 5.0, 10.0, "024", 0.99999),
]


def expected(lines=LINES) -> pd.DataFrame:
    return pd.DataFrame(lines, columns=list(detections.COLUMNS)).astype(detections.COLUMNS)


def write_all(out, formats=detections.FORMATS, recordings=RECORDINGS, names=None):
    with detections.write(out, formats, fmin_hz=20, fmax_hz=14_000, names=names) as add:
        for recording in recordings:
            mine = TABLE[TABLE.index.str.rpartition("_").get_level_values(0) == recording.name]
            add(recording, detect(mine, [recording]))
    return out


def test_detections_of_several_recordings():
    pd.testing.assert_frame_equal(detect(TABLE, RECORDINGS), expected())


def test_thresholds_gaps_and_lengths():
    def of(**settings):
        lines = detect(TABLE, RECORDINGS, DetectionSettings(**settings))
        return [tuple(line) for line in lines[lines["label"] == "1139490"][["start_s", "end_s"]].to_numpy()]

    assert of(merge=False) == [(0, 5), (5, 10), (15, 20), (20, 23.4)]
    assert of(gap_rows=1) == [(0, 23.4)]
    assert of(min_rows=3) == []
    assert of(gap_rows=1, min_rows=5) == [(0, 23.4)]
    assert of(threshold=0.85) == [(0, 5)]
    assert of(threshold=0.85, thresholds={"1139490": 0.2}) == [(0, 23.4)]
    # A score of exactly the threshold counts, despite the rounding to float32.
    assert of(threshold=0.7, merge=False) == [(0, 5), (15, 20), (20, 23.4)]


@st.composite
def scenes(draw):
    blocks, recordings = {}, []
    for name in ("b/x_1", "a", "20230420_074000")[: draw(st.integers(1, 3))]:
        rate, n_rows = draw(st.sampled_from([8000, 11_025, 44_100, 192_000])), draw(st.integers(1, 8))
        n_samples = draw(st.integers((n_rows - 1) * 5 * rate + 1, n_rows * 5 * rate))
        recordings.append(Recording(path=f"in/{name}.wav", name=name, n_samples=n_samples, sample_rate=rate))
        blocks[name] = draw(hnp.arrays("float32", (n_rows, 3), elements=st.floats(0, 1, width=32)))
    return table_of(blocks), recordings


@given(scenes(), st.floats(0.1, 0.9), st.booleans())
def test_detections_are_the_rows_above_the_threshold(scene, threshold, merge):
    table, recordings = scene
    lines = detect(table, recordings, DetectionSettings(threshold=threshold, merge=merge))
    for recording in recordings:
        for label in CLASSES:
            ours = lines[(lines["name"] == recording.name) & (lines["label"] == label)]
            spans = list(zip(ours["start_s"], ours["end_s"], ours["score"], strict=True))
            assert all(0 <= start < end <= recording.duration_s for start, end, _ in spans)
            # Merged detections do not touch.
            assert all(left[1] < right[0] or not merge for left, right in itertools.pairwise(spans))
            for row in range(int(np.ceil(recording.duration_s / 5))):
                score = table.loc[f"{recording.name}_{5 * (row + 1)}", label]
                hit = [s for s in spans if s[0] <= 5 * row < s[1]]
                assert len(hit) == (score >= np.float32(threshold))
                assert not hit or hit[0][2] >= score
            assert {float(s[2]) for s in spans} <= set(map(float, table[label]))


@given(scenes(), st.randoms(use_true_random=False))
def test_one_recording_at_a_time_in_any_order_of_rows(scene, random):
    table, recordings = scene
    whole = detect(table.iloc[random.sample(range(len(table)), len(table))], recordings, DetectionSettings(gap_rows=1))
    names = table.index.str.rpartition("_").get_level_values(0)
    alone = [detect(table[names == each.name], [each], DetectionSettings(gap_rows=1)) for each in recordings]
    pd.testing.assert_frame_equal(whole, pd.concat(alone, ignore_index=True))


def test_rows_from_later_in_a_recording():
    lines = detect(TABLE.iloc[3:5], RECORDINGS)
    pd.testing.assert_frame_equal(lines, expected(LINES[2:4]))


def test_times_are_products_and_not_sums():
    day = Recording(path="day.wav", name="day", n_samples=86_400 * RATE - 1, sample_rate=RATE)
    table = make_table(row_ids("day", 17_280, 5), ["a"], np.tile([[1.0], [0.0]], (8640, 1)))
    lines = detect(table, [day])
    np.testing.assert_array_equal(lines["start_s"], np.arange(8640) * 10.0)
    assert detect(table.iloc[::-1], [day], DetectionSettings(gap_rows=1)).to_numpy().tolist() == [
        ["day.wav", "day", "", 0.0, 86_395.0, "a", 1.0]
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"table": TABLE.iloc[:0], "detection": DetectionSettings(thresholds={"owl": 0.5})},
            "given for 'owl', which is not",
        ),
        ({"recordings": RECORDINGS[1:]}, "the table has rows of 'siteA/0001', which is not among the recordings"),
        ({"row_s": 10}, r"rows of 'siteA/0001' end at 5, 10, 15 \.\.\. s, which are not rows of 10 s"),
        ({"table": TABLE.iloc[:1], "row_s": 4}, "which are not rows of 4 s"),
        ({"table": TABLE.drop(index="siteA/0001_10")}, "recording 'siteA/0001' lacks rows"),
        (
            {"table": table_of({"still": np.zeros((2, 3))})},
            r"row 'still_10' begins at 5 s, but in/still\.flac ends at 5",
        ),
        ({"table": TABLE * np.nan}, "has the value nan"),
    ],
)
def test_invalid_tables_are_refused(change, message):
    arguments = {"table": TABLE, "recordings": RECORDINGS, "detection": None, "row_s": 5, **change}
    with pytest.raises((DataError, ConfigError), match=message):
        detect(arguments["table"], arguments["recordings"], arguments["detection"], row_s=arguments["row_s"])


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"threshold": 0}, r"the threshold: a threshold must be in \(0, 1\], got 0"),
        ({"thresholds": {"owl": 1.5}}, r"owl: a threshold must be in \(0, 1\], got 1\.5"),
        ({"gap_rows": -1}, "got -1 and 1"),
        ({"min_rows": 0}, "got 0 and 0"),
        ({"merge": False, "gap_rows": 1}, "leave them out, or merge"),
        ({"merge": False, "min_rows": 2}, "leave them out, or merge"),
    ],
)
def test_invalid_settings_are_refused(settings_, message):
    with pytest.raises(ConfigError, match=message):
        DetectionSettings(**settings_)


@pytest.mark.parametrize("name", ["", "../x", "/etc/x", "a//b", "a/./b", "a/.."])
def test_names_outside_the_folder_are_refused(name):
    with pytest.raises(DataError, match="is not a valid name"):
        Recording(path="in/x.wav", name=name, n_samples=1, sample_rate=1)


def test_a_recording_without_samples_is_refused():
    with pytest.raises(DataError, match=r"in/x\.wav: .* 0 samples at 8000 Hz"):
        Recording(path="in/x.wav", name="x", n_samples=0, sample_rate=8000)


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("20230420_074000", datetime(2023, 4, 20, 7, 40)),
        ("H02_20230420_074000", datetime(2023, 4, 20, 7, 40)),
        ("BC2026_Test_0001_S05_20250227_010002", datetime(2025, 2, 27, 1, 0, 2)),
        ("20191231_235959/SM4_20200229_120000.wav", datetime(2020, 2, 29, 12)),
        ("20230420T074000", datetime(2023, 4, 20, 7, 40)),
        ("20230420_074000T.WAV", datetime(2023, 4, 20, 7, 40)),
        ("20230420_074000_20230421_080000", datetime(2023, 4, 21, 8)),
        ("20230420_074000_20231399_999999", datetime(2023, 4, 20, 7, 40)),
        ("20230420_074000/0001", None),
        ("soundscape_8358733", None),
        ("5CC0A2B8", None),
        ("120230420_074000", None),
        ("20231320_074000", None),
    ],
)
def test_the_time_in_a_name(name, clock):
    assert detections.parse_time(name) == clock


def test_the_raven_tables_byte_by_byte(tmp_path):
    write_all(tmp_path, ["raven"])
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == [
        "raven/H02_20230420_235950.bcsed.selections.txt",
        "raven/bcsed.selections.txt",
        "raven/siteA/0001.bcsed.selections.txt",
        "raven/siteB/0001.bcsed.selections.txt",
        "raven/still.bcsed.selections.txt",
    ]
    header = (
        b"Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
        b"Begin File\tFile Offset (s)\tBegin Path\tSpecies\tScore\n"
    )
    view = b"\tSpectrogram 1\t1\t"
    assert (tmp_path / "raven/siteA/0001.bcsed.selections.txt").read_bytes() == header + (
        b"1" + view + b"0.000000\t10.000000\t20.0\t14000.0\t0001.wav\t0.000000\tin/siteA/0001.wav\t1139490\t0.9000\n"
        b"2" + view + b"5.000000\t10.000000\t20.0\t14000.0\t0001.wav\t5.000000\tin/siteA/0001.wav\tfrog1\t0.6000\n"
        b"3" + view + b"15.000000\t23.400000\t20.0\t14000.0\t0001.wav\t15.000000\tin/siteA/0001.wav\t1139490\t0.8000\n"
        b"4" + view + b"20.000000\t23.400000\t20.0\t14000.0\t0001.wav\t20.000000\tin/siteA/0001.wav\tfrog1\t0.5100\n"
    )
    # Not above half the sample rate, and a header where there is nothing.
    clock = (tmp_path / "raven/H02_20230420_235950.bcsed.selections.txt").read_bytes()
    assert clock == header + (
        b"1" + view + b"5.000000\t10.000000\t20.0\t8000.0\tH02_20230420_235950.ogg\t5.000000\t"
        b"in/H02_20230420_235950.ogg\t024\t1.0000\n"
    )
    assert (tmp_path / "raven/still.bcsed.selections.txt").read_bytes() == header
    combined = (tmp_path / "raven/bcsed.selections.txt").read_bytes()
    assert combined.startswith((tmp_path / "raven/siteA/0001.bcsed.selections.txt").read_bytes())
    # Times run over the sequence: 23.4 s, then 10 s and one sample of 44.1 kHz (22.675 us), rounded inwards.
    assert combined.removeprefix((tmp_path / "raven/siteA/0001.bcsed.selections.txt").read_bytes()) == (
        b"5" + view + b"33.400000\t33.400022\t20.0\t14000.0\t0001.WAV\t10.000000\tin/siteB/0001.WAV\tfrog1\t0.7500\n"
        b"6" + view + b"38.400023\t43.400022\t20.0\t8000.0\tH02_20230420_235950.ogg\t5.000000\t"
        b"in/H02_20230420_235950.ogg\t024\t1.0000\n"
    )


def test_the_audacity_labels_byte_by_byte(tmp_path):
    write_all(tmp_path, ["audacity"], names=NAMES)
    assert (tmp_path / "audacity/siteA/0001.bcsed.data.labels.txt").read_bytes() == (
        b"0.000000\t10.000000\tRagoniella pulchella;0.9000\n"
        b"5.000000\t10.000000\tPointedbelly Frog;0.6000\n"
        b"15.000000\t23.400000\tRagoniella pulchella;0.8000\n"
        b"20.000000\t23.400000\tPointedbelly Frog;0.5100\n"
    )
    assert (
        tmp_path / "audacity/H02_20230420_235950.bcsed.data.labels.txt"
    ).read_bytes() == b"5.000000\t10.000000\t024;1.0000\n"
    assert (tmp_path / "audacity/still.bcsed.data.labels.txt").read_bytes() == b""


def test_the_csv_byte_by_byte(tmp_path):
    write_all(tmp_path, ["csv"])
    assert (tmp_path / "detections.csv").read_bytes() == (
        b"recording,name,begin_time,start_s,end_s,label,score\n"
        b"in/siteA/0001.wav,siteA/0001,,0,10,1139490,0.9\n"
        b"in/siteA/0001.wav,siteA/0001,,5,10,frog1,0.6\n"
        b"in/siteA/0001.wav,siteA/0001,,15,23.4,1139490,0.8\n"
        b"in/siteA/0001.wav,siteA/0001,,20,23.4,frog1,0.51\n"
        b"in/siteB/0001.WAV,siteB/0001,,10,10.000022,frog1,0.75\n"
        b"in/H02_20230420_235950.ogg,H02_20230420_235950,2023-04-20T23:59:55,5,10,024,0.99999\n"
    )
    write_all(tmp_path, ["csv"], names=NAMES)
    lines = (tmp_path / "detections.csv").read_text().splitlines()
    assert lines[0] == "recording,name,begin_time,start_s,end_s,label,scientific_name,common_name,score"
    assert lines[1].endswith(",0,10,1139490,Ragoniella pulchella,,0.9")
    assert lines[2].endswith(",5,10,frog1,Leptodactylus podicipinus,Pointedbelly Frog,0.6")
    assert lines[6].endswith(",5,10,024,,,0.99999")


def test_written_files_are_read_again(tmp_path):
    write_all(tmp_path)
    pd.testing.assert_frame_equal(detections.read_detections(tmp_path / "detections.parquet"), expected())
    pd.testing.assert_frame_equal(detections.read_detections(tmp_path / "detections.csv"), expected(), rtol=1e-6)
    raven = read_annotations(tmp_path / "raven" / "bcsed.selections.txt")
    columns = expected()[["recording", "start_s", "end_s", "label", "score"]]
    pd.testing.assert_frame_equal(
        raven[list(columns)], columns.astype({"score": float}), rtol=0, atol=5e-5, check_column_type=False
    )
    np.testing.assert_allclose(raven["end_s"], columns["end_s"], atol=2e-6)
    assert raven["high_hz"].tolist() == [14_000.0] * 5 + [8000.0]
    labels = read_annotations(tmp_path / "audacity" / "siteA" / "0001.bcsed.data.labels.txt")
    assert labels[["start_s", "end_s", "label", "score"]].to_numpy().tolist() == [list(line[3:]) for line in LINES[:4]]
    assert set(labels["recording"]) == {"0001"}


def test_no_detections_are_valid_files(tmp_path):
    write_all(tmp_path, recordings=RECORDINGS[3:], names=NAMES)
    for name in ("detections.csv", "detections.parquet"):
        read = detections.read_detections(tmp_path / name)
        assert len(read) == 0 and list(read)[-3:] == ["scientific_name", "common_name", "score"]
        assert read["score"].dtype == np.float32 and read["start_s"].dtype == np.float64
    for name in ("bcsed.selections.txt", "still.bcsed.selections.txt"):
        read = read_annotations(tmp_path / "raven" / name)
        assert len(read) == 0 and read["start_s"].dtype == np.float64
        assert list(pd.read_csv(tmp_path / "raven" / name, sep="\t")) == list(RAVEN)
    assert len(read_annotations(tmp_path / "audacity" / "still.bcsed.data.labels.txt")) == 0
    # Without recordings.
    write_all(tmp_path / "nothing", recordings=())
    assert len(detections.read_detections(tmp_path / "nothing" / "detections.parquet")) == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="crowsetta needs Python 3.11")
def test_opened_by_crowsetta(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, about pandas and pydantic
        import crowsetta

        write_all(tmp_path)
        read = crowsetta.formats.bbox.Raven.from_file(
            tmp_path / "raven" / "siteA" / "0001.bcsed.selections.txt", annot_col="Species"
        )
        boxes = [(box.onset, box.offset, box.low_freq, box.high_freq, box.label) for box in read.to_bbox()]
        assert boxes == [(*line[3:5], 20.0, 14_000.0, line[5]) for line in LINES[:4]]
        labels = tmp_path / "audacity" / "H02_20230420_235950.bcsed.data.labels.txt"
        sequence = crowsetta.formats.seq.AudSeq.from_file(labels).to_seq()
    assert sequence.onsets_s.tolist() == [5] and sequence.offsets_s.tolist() == [10]
    assert sequence.labels.tolist() == ["024;1.0000"]


def test_opened_by_mir_eval(tmp_path):
    mir_eval_io = pytest.importorskip("mir_eval.io")
    write_all(tmp_path, ["audacity"], names=NAMES)
    folder = tmp_path / "audacity"
    spans, texts = mir_eval_io.load_labeled_intervals(folder / "siteA" / "0001.bcsed.data.labels.txt", delimiter="\t")
    np.testing.assert_array_equal(spans, [line[3:5] for line in LINES[:4]])
    assert texts[1] == "Pointedbelly Frog;0.6000"
    assert mir_eval_io.load_labeled_intervals(folder / "still.bcsed.data.labels.txt", delimiter="\t")[1] == []


def test_opened_by_pyarrow(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    write_all(tmp_path, ["parquet"])
    schema = pyarrow.parquet.read_schema(tmp_path / "detections.parquet")
    texts, numbers = ["recording", "name", "begin_time", "label"], ["start_s", "end_s"]
    assert {name: schema.field(name).type for name in schema.names} == {
        **dict.fromkeys(texts, pa.string()),
        **dict.fromkeys(numbers, pa.float64()),
        "score": pa.float32(),
    }


@settings(max_examples=30, deadline=None)  # it writes files
@given(scenes())
def test_the_sequence_of_raven_is_exact_and_within_the_audio(tmp_path_factory, scene):
    table, recordings = scene
    out = tmp_path_factory.mktemp("raven")
    with detections.write_raven(out, fmin_hz=20, fmax_hz=14_000) as add:
        for recording in recordings:
            add(recording, detect(table, recordings).query("name == @recording.name"))
    kinds = {name: float for name in RAVEN if "(" in name} | {"Species": str, "Begin Path": str}
    combined = pd.read_csv(out / "bcsed.selections.txt", sep="\t", dtype=kinds)
    assert combined["Selection"].tolist() == list(range(1, len(combined) + 1))
    before = 0.0
    for recording in recordings:
        mine = combined[combined["Begin Path"] == recording.path]
        assert (mine["Begin Time (s)"] >= before - 1e-9).all()
        assert (mine["End Time (s)"] <= before + recording.duration_s + 1e-9).all()
        np.testing.assert_allclose(mine["Begin Time (s)"] - mine["File Offset (s)"], before, atol=1.1e-6)
        assert (mine["High Freq (Hz)"] <= recording.sample_rate / 2).all()
        before += recording.duration_s


def test_hundreds_of_recordings_do_not_drift(tmp_path):
    recordings = [
        Recording(path=f"in/{k}.wav", name=str(k), n_samples=44_100 * 3 + 7, sample_rate=44_100) for k in range(300)
    ]
    table = make_table(row_ids("299", 1, 5), ["a"], np.ones((1, 1)))
    with detections.write_raven(tmp_path, fmin_hz=0, fmax_hz=1000) as add:
        for recording in recordings:
            add(recording, detect(table if recording.name == "299" else table.iloc[:0], [recording]))
    line = (tmp_path / "bcsed.selections.txt").read_text().splitlines()[1].split("\t")
    # 299 * (3 + 7 / 44100) = 897.04746031...; 300 * (3 + 7 / 44100) = 900.04761904...
    assert line[3:5] == ["897.047461", "900.047619"]


def test_a_killed_block_leaves_the_old_file(tmp_path):
    write_all(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with (
        pytest.raises(RuntimeError, match="killed"),
        detections.write(tmp_path, detections.FORMATS, fmin_hz=20, fmax_hz=14_000) as add,
    ):
        add(RECORDINGS[0], expected(LINES[:1]))
        raise RuntimeError("killed")
    complete = {"0001.bcsed.selections.txt", "0001.bcsed.data.labels.txt"}  # written when their recording is added
    assert {path: path.read_bytes() for path in before if path.name not in complete} == {
        path: text for path, text in before.items() if path.name not in complete
    }
    assert set(tmp_path.rglob("*.*")) == set(before)


def test_special_characters_do_not_break_the_formats(tmp_path):
    path = b'in/a,\t\xff\n"q".wav'.decode("utf-8", "surrogateescape")
    recording = Recording(path=path, name="x", n_samples=RATE, sample_rate=RATE)
    table = make_table(["x_5"], ["NA"], np.ones((1, 1)))
    lines = detect(table, [recording])
    with detections.write(tmp_path, detections.FORMATS, fmin_hz=20, fmax_hz=14_000) as add:
        add(recording, lines)
    for name in ("detections.csv", "detections.parquet"):
        read = detections.read_detections(tmp_path / name)
        assert read["recording"].tolist() == ['in/a,\t\\udcff\n"q".wav'] and read["label"].tolist() == ["NA"]
    raven = read_annotations(tmp_path / "raven" / "bcsed.selections.txt")
    assert raven["recording"].tolist() == ['in/a, \\udcff "q".wav'] and raven["label"].tolist() == ["NA"]


def test_many_detections_are_written_in_few_groups(tmp_path, monkeypatch):
    import pyarrow.parquet

    monkeypatch.setattr("bcsed.scores.detections.tables._GROUP", 3)
    write_all(tmp_path, ["parquet"])
    pd.testing.assert_frame_equal(detections.read_detections(tmp_path / "detections.parquet"), expected())
    assert pyarrow.parquet.ParquetFile(tmp_path / "detections.parquet").num_row_groups == 2


def test_labels_of_other_programs_are_read(tmp_path):
    (tmp_path / "labels.txt").write_text("1.5\t2.25\tjay; perhaps\n\\\t100.0\t2000.0\n3\t4\towl\n5\t6\tdog;.5\n")
    read = read_annotations(tmp_path / "labels.txt")
    assert read["label"].tolist() == ["jay; perhaps", "owl", "dog"] and read["start_s"].tolist() == [1.5, 3, 5]
    assert read["score"].isna().tolist() == [True, True, False] and read["score"][2] == 0.5


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_annotations, None, "there is no such file"),
        (detections.read_detections, None, "there is no such file"),
        (detections.read_detections, b"a,b\n", "no column 'recording', so it is not a table"),
        (detections.read_detections, b"", "not readable as a table of detections"),
        (detections.read_taxonomy, b"name\nx\n", "no column primary_label or label; its columns are name"),
        (detections.read_taxonomy, b"label\nx\nx\n", "the class 'x' is listed more than once"),
    ],
)
def test_unreadable_files_are_refused(tmp_path, read, text, message):
    if text is not None:
        (tmp_path / "file.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "file.csv")


def test_a_damaged_parquet(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="not readable as a table of detections"):
        detections.read_detections(tmp_path / "x.parquet")


def test_a_taxonomy(tmp_path):
    (tmp_path / "t.csv").write_text("primary_label,scientific_name,common_name,class_name\n024,Rana,,Amphibia\n")
    assert detections.read_taxonomy(tmp_path / "t.csv") == {"024": ClassName("Rana", "", "Amphibia")}
    (tmp_path / "t.csv").write_text("label,common_name\n024,frog\n")
    assert detections.read_taxonomy(tmp_path / "t.csv") == {"024": ClassName("", "frog", "")}


@pytest.mark.parametrize(
    ("formats", "band", "message"),
    [
        (["raven", "kaleidoscope"], (20, 14_000), "formats are raven, audacity, csv, parquet; got 'kaleidoscope'"),
        ([], (20, 14_000), "formats are raven, audacity, csv, parquet; got none"),
        (["raven"], (14_000, 20), "0 <= fmin_hz < fmax_hz, got 14000 and 20 Hz"),
    ],
)
def test_invalid_formats_are_refused(tmp_path, formats, band, message):
    with (
        pytest.raises(ConfigError, match=message),
        detections.write(tmp_path, formats, fmin_hz=band[0], fmax_hz=band[1]),
    ):
        pass


@pytest.mark.parametrize("kind", detections.FORMATS)
def test_detections_of_another_recording_are_refused(tmp_path, kind):
    with (
        pytest.raises(DataError, match="a detection in 'siteA/0001' was added to those in 'siteB/0001'"),
        detections.write(tmp_path, [kind], fmin_hz=20, fmax_hz=14_000) as add,
    ):
        add(RECORDINGS[1], expected(LINES[:1]))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
