"""200 annotation tables after the conventions of other programs, a third of them damaged: read as meant, or refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bcsed.data.annotations import COLUMNS, match_recordings, read_annotations, write_annotations
from bcsed.errors import DataError

# Recordings in the order of a sequence, with their lengths (s).
LENGTHS = {"data/a/S1_20250101_060000.wav": 600.5, "data/b/S2_20250101_060000.wav": 61.25, "data/b/x.1.flac": 30.0}
FILES = list(LENGTHS)
LABELS = ("Turdus merula", "024", 'the "jay", grey', "Großer Brachvogel", "NA", "a; b")


def make_events(rng, files=FILES[:1], labels=LABELS) -> pd.DataFrame:
    """Return random events with times in microseconds; no two are equal."""
    rows = []
    for k in range(int(rng.integers(1, 12))):
        file = files[k % len(files)]
        start = int(rng.integers(0, 25_000_000)) + k
        end = start + int(rng.integers(1, 4_000_000))
        low = float(rng.integers(0, 40)) * 100
        label = labels[int(rng.integers(len(labels)))]
        rows.append((file, start / 1e6, end / 1e6, low, low + 1500.5, label, float(rng.integers(100)) / 100))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def write(path: Path, header, rows, *, mark="\t", end="\n", coding="utf-8", decimal=".") -> Path:
    """Write a table; with tabs nothing is quoted."""
    out = io.StringIO()
    lines = [header, *rows] if header else rows
    cells = [[f"{x:.6f}".replace(".", decimal) if isinstance(x, float) else str(x) for x in line] for line in lines]
    if mark == "\t":
        out.write("".join("\t".join(line) + end for line in cells))
    else:
        csv.writer(out, delimiter=mark, lineterminator=end).writerows(cells)
    path.write_bytes(out.getvalue().encode(coding))
    return path


RAVEN = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"]


def raven_pro(folder, rng, name="S1_20250101_060000.Table.1.selections.txt", **options):
    """All measurements in any order, each selection in two views."""
    events = make_events(rng).assign(score=np.nan)
    header = [*RAVEN, "Delta Time (s)", "Begin Clock Time", "Species", "Call Type", "Notes"]
    rows = []
    for k, e in enumerate(events.itertuples(), 1):
        for view in ("Waveform 1", "Spectrogram 1"):
            band = (e.low_hz, e.high_hz) if view[0] == "S" else ("", "")
            rows.append(
                [k, view, 1, e.start_s, e.end_s, *band, e.end_s - e.start_s, "06:00:01.000", e.label, "song", ""]
            )
    order = rng.permutation(len(header))
    path = write(folder / name, [header[k] for k in order], [[row[k] for k in order] for row in rows], **options)
    return path, events.assign(recording="S1_20250101_060000")


def raven_sequence(folder, rng):
    """One table over several files: times count over all of them."""
    events = make_events(rng, FILES).assign(score=np.nan)
    before = dict(zip(FILES, np.cumsum([0.0, *LENGTHS.values()]), strict=False))
    header = [*RAVEN, "Begin File", "Begin Path", "File Offset (s)", "End File", "Annotation"]
    rows = []
    for k, e in enumerate(events.itertuples(), 1):
        times = before[e.recording] + e.start_s, before[e.recording] + e.end_s
        path = "D:\\" + e.recording.replace("/", "\\")
        file = path.rpartition("\\")[2]
        rows.append([k, "Spectrogram 1", 1, *times, e.low_hz, e.high_hz, file, path, e.start_s, file, e.label])
    path = write(folder / "all.txt", header, rows, end="\r\n")
    return path, events.assign(recording=["D:\\" + name.replace("/", "\\") for name in events["recording"]])


def raven_lite(folder, rng):
    events = make_events(rng).assign(score=np.nan)
    rows = [
        [k, "Spectrogram 1", 1, e.start_s, e.end_s, e.low_hz, e.high_hz, e.label]
        for k, e in enumerate(events.itertuples(), 1)
    ]
    path = write(folder / "S1.selections.txt", [*RAVEN, "Annotation"], rows, end="\r\n", coding="utf-8-sig")
    return path, events.assign(recording="S1")


def raven_comma(folder, rng):
    return raven_pro(folder, rng, decimal=",", coding="utf-8-sig")


def raven_excel(folder, rng):
    """As Excel writes Unicode text."""
    path, events = raven_pro(folder, rng, end="\r\n")
    lines = path.read_text("utf-8").replace('the "jay", grey', '"the ""jay"", grey"')
    path.write_bytes(lines.encode("utf-16"))
    return path, events


def audacity(folder, rng, frequencies=False):
    events = make_events(rng).assign(score=np.nan)
    lines = []
    for e in events.itertuples():
        lines.append(f"{e.start_s:.6f}\t{e.end_s:.6f}\t{e.label}\n")
        if frequencies:
            lines.append(f"\\\t{e.low_hz:.6f}\t{e.high_hz:.6f}\n")
    path = folder / "S1.wav.txt"
    path.write_text("".join(lines))
    bands = {} if frequencies else {"low_hz": np.nan, "high_hz": np.nan}
    return path, events.assign(recording="S1.wav", **bands)


def audacity_frequencies(folder, rng):
    return audacity(folder, rng, frequencies=True)


def hawkears(folder, rng):
    events = make_events(rng)
    path = folder / "S1_20250101_060000_HawkEars.txt"
    path.write_text("".join(f"{e.start_s}\t{e.end_s}\t{e.label};{e.score:.3f}\n" for e in events.itertuples()))
    return path, events.assign(recording="S1_20250101_060000", low_hz=np.nan, high_hz=np.nan)


def birdnet_audacity(folder, rng):
    events = make_events(rng, labels=("Turdus merula, Eurasian Blackbird",))
    path = folder / "S1.BirdNET.results.txt"
    path.write_text("".join(f"{e.start_s}\t{e.end_s}\t{e.label}\t{e.score:.4f}\n" for e in events.itertuples()))
    return path, events.assign(recording="S1", low_hz=np.nan, high_hz=np.nan)


def birdnet_raven(folder, rng):
    events = make_events(rng)
    header = [*RAVEN, "Common Name", "Species Code", "Confidence", "Begin Path", "File Offset (s)"]
    rows = [
        [
            k,
            "Spectrogram 1",
            1,
            e.start_s,
            e.end_s,
            e.low_hz,
            e.high_hz,
            e.label,
            "eurbla",
            e.score,
            e.recording,
            e.start_s,
        ]
        for k, e in enumerate(events.itertuples(), 1)
    ]
    return write(folder / "BirdNET_SelectionTable.txt", header, rows), events


def tabular(folder, rng, header, cells, *, name="table.csv", files=FILES, band=False, score=True, **options):
    """A table with a header; `cells` are those of an event."""
    events = make_events(rng, files)
    path = write(folder / name, header.split(","), [cells(e) for e in events.itertuples()], **options)
    unknown = [*(() if band else ("low_hz", "high_hz")), *(() if score else ("score",))]
    return path, events.assign(**dict.fromkeys(unknown, np.nan))


def birdnet_csv(folder, rng):
    header = "Start (s),End (s),Scientific name,Common name,Confidence"
    cells = lambda e: [e.start_s, e.end_s, e.label, "x", e.score]  # noqa: E731
    path, events = tabular(folder, rng, header, cells, name="S1.BirdNET.results.csv", files=FILES[:1], mark=",")
    return path, events.assign(recording="S1")


def simple(header, cells, **options) -> Callable:
    return lambda folder, rng: tabular(folder, rng, header, cells, **{"mark": ",", **options})


def own_events(folder, rng):
    events = make_events(rng, FILES)
    write_annotations(folder / "events.csv", events)
    return folder / "events.csv", events


def clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{seconds % 60:09.6f}"


FORMS: dict[str, Callable] = {
    "Raven Pro": raven_pro,
    "Raven Pro, several files": raven_sequence,
    "Raven Lite": raven_lite,
    "Raven, comma decimals": raven_comma,
    "Raven through Excel": raven_excel,
    "Audacity": audacity,
    "Audacity, frequencies": audacity_frequencies,
    "HawkEars": hawkears,
    "HawkEars CSV": simple(
        "recording,name,start_time,end_time,score", lambda e: [e.recording, e.label, e.start_s, e.end_s, e.score]
    ),
    "BirdNET Audacity": birdnet_audacity,
    "BirdNET Raven": birdnet_raven,
    "BirdNET CSV": birdnet_csv,
    "BirdNET R": simple(
        "filepath,start,end,scientific_name,common_name,confidence,lat,lon,week",
        lambda e: [e.recording, e.start_s, e.end_s, e.label, "x", e.score, -1, -1, 3],
    ),
    "OpenSoundscape": simple(
        ",audio_file,annotation_file,annotation,start_time,end_time,low_f,high_f",
        lambda e: [e.Index, e.recording, "a.txt", e.label, e.start_s, e.end_s, e.low_hz, e.high_hz],
        band=True,
        score=False,
    ),
    "crowsetta": simple(
        "label,onset_s,offset_s,onset_sample,offset_sample,notated_path,annot_path,sequence,annotation",
        lambda e: [e.label, e.start_s, e.end_s, 1, 2, e.recording, "a.txt", 0, 0],
        score=False,
    ),
    "detections.csv of bcsed": simple(
        "recording,name,begin_time,start_s,end_s,label,scientific_name,score",
        lambda e: [e.recording, "n", "2025-01-01T06:00:00", e.start_s, e.end_s, e.label, "x", e.score],
    ),
    "events of bcsed": own_events,
    "semicolons, comma decimals": simple(
        "Label;Start;File;End".replace(";", ","),
        lambda e: [e.label, e.start_s, e.recording, e.end_s],
        mark=";",
        decimal=",",
        score=False,
    ),
    "TSV": simple(
        "file,start,end,species", lambda e: [e.recording, e.start_s, e.end_s, e.label], mark="\t", score=False
    ),
    "clock": simple(
        "filename,start,end,label",
        lambda e: [e.recording, clock(e.start_s), clock(e.end_s), e.label],
        end="\r\n",
        score=False,
    ),
}
EVENT = "a.wav,1.5,2.5,jay\n"
CSV = f"file,start,end,label\n{EVENT}"
# The content of a damaged table, and what the sentence names.
DAMAGES: dict[str, tuple[str | bytes, str]] = {
    "end before start": (f"{CSV}a.wav,5,4.25,jay\n", "line 3: the event from 5 to 4.25 s is not before its end"),
    "no length": (f"{CSV}a.wav,5,5,jay\n", "line 3: .*is not before its end"),
    "point label": ("1\t2\tjay\n3.5\t3.5\tjay\n", "line 2: .*3.5 to 3.5 s is not before its end"),
    "negative": (f"{CSV}a.wav,-0.5,1,jay\n", "line 3: the event from -0.5 to 1 s is negative"),
    "nan": (f"{CSV}a.wav,nan,1,jay\n", "line 3: the start 'nan' is not a number"),
    "infinite": (f"{CSV}a.wav,1,inf,jay\n", "line 3: the end 'inf' is not a number"),
    "too large": (f"{CSV}a.wav,1,1e999,jay\n", "line 3: the end '1e999' is too large"),
    "a word": (f"{CSV}a.wav,one,2,jay\n", "line 3: the start 'one' is not a number"),
    "no end": (f"{CSV}a.wav,1,,jay\n", "line 3: the end '' is not a number"),
    "no label column": (
        "file,start,end,note\na,1,2,x\n", "no column is 'label'; its columns are 'file', 'start', 'end', 'note'",
    ),
    "no start column": ("file,end,label\na,1,jay\n", "no column is 'start'"),
    "one-hot": ("file,start_time,end_time,jay,owl\na,0,5,0,1\n", "no column is 'label'"),
    "two labels": ("file,start,end,label,labels\na,1,2,x,y\n", "columns 'label', 'labels' could each be the label"),
    "two starts": ("file,start,start_s,end,label\na,1,2,3,x\n", "columns 'start', 'start_s' could each be the start"),
    "separator": ("file|start|end|label\na|1|2|x\n", "line 1: no tab, comma or semicolon separates"),
    "blanks": ("file start end label\na 1 2 x\n", "line 1: no tab, comma or semicolon separates"),
    "empty": ("", "the file is empty"),
    "blank": (" \r\n\r\n", "the file is empty"),
    "Latin-1": (f"{CSV}a.wav,3,4,Großer\n".encode("latin-1"), "line 3 is not UTF-8 .byte 0xdf"),
    "UTF-16 without a mark": (CSV.encode("utf-16-le"), "contains zero bytes"),
    "half a UTF-16": (CSV.encode("utf-16")[:-1], "is not UTF-16"),
    "cut off": (f"{CSV}a.wav,3", "line 3: 2 columns, but the header has 4"),
    "unquoted comma": (f"{CSV}a.wav,3,4,jay, grey\n", "line 3: 5 columns, but the header has 4"),
    "open quote": (f'{CSV}a.wav,3,4,"jay\n', "line 3: not readable as a table"),
    "several files without offsets": (
        "Begin Time (s)\tEnd Time (s)\tBegin File\tSpecies\n1\t2\ta.wav\tjay\n61\t62\tb.wav\tjay\n",
        "Begin Time .s. may count over all 2 files; add the column File Offset",
    ),
    "over the end of a file": (
        "Begin Time (s)\tEnd Time (s)\tFile Offset (s)\tBegin File\tEnd File\tSpecies\n1\t2\t1\ta.wav\tb.wav\tjay\n",
        "line 2: the event begins in 'a.wav' and ends in 'b.wav'",
    ),
    "frequencies": ("file,start,end,label,low_f,high_f\na,1,2,x,900,800\n", "line 2: the frequencies 900 to 800 Hz"),
    "a line of frequencies first": ("1\t2\tx\n\\\t1\t2\n\\\t1\t2\n", r"line 3: the frequencies .* do not follow"),
    "no label": (f"{CSV}a.wav,3,4, \n", "line 3: the event has no label"),
    "no label in Audacity": ("1\t2\tjay\n3\t4\n", "line 2: the event has no label"),
    "no recording": (f"{CSV},3,4,jay\n", "line 3: the event has no recording"),
    "two decimal marks": ("file;start;end;label\na;1,5;2.5;x\n", "line 2: '2.5' has another decimal mark"),
    "thousands": ("file;start;end;label\na;1;1.234,5;x\n", "line 2: the end '1.234,5' is not a number"),
}  # fmt: skip


def case(number: int) -> tuple[str, bool]:
    """Every third table is damaged."""
    kind = list(DAMAGES if number % 3 == 2 else FORMS)
    return kind[number // 3 % len(kind)] if number % 3 == 2 else kind[
        (number - number // 3) % len(kind)
    ], number % 3 == 2


@pytest.mark.parametrize("number", range(200), ids=lambda number: case(number)[0])
def test_read_as_meant_or_refused(tmp_path, number):
    name, is_damaged = case(number)
    if not is_damaged:
        path, expected = FORMS[name](tmp_path, np.random.default_rng(number))
        read = read_annotations(path)
        pd.testing.assert_frame_equal(read, expected.reset_index(drop=True).astype(COLUMNS), rtol=0, atol=4.9e-7)
        return
    content, message = DAMAGES[name]
    path = tmp_path / f"S{number}.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as error:
        read_annotations(path)
    assert str(error.value).startswith(str(path)) and str(error.value).endswith(".")


def test_all_forms_and_damages_occur():
    names = [case(number) for number in range(200)]
    assert {name for name, _ in names} == {*FORMS, *DAMAGES}
    assert sum(is_damaged for _, is_damaged in names) == 66


def test_recordings_are_matched(tmp_path):
    """By path as far as it is the same, by file name, by stem; paths of any system."""
    path, expected = raven_sequence(tmp_path, np.random.default_rng(1))
    read = read_annotations(path, recordings=LENGTHS)
    assert list(read["recording"]) == [name[3:].replace("\\", "/") for name in expected["recording"]]
    names = dict.fromkeys(("b/S2_20250101_060000.WAV", "x.1", "/mnt/data/a/S1_20250101_060000.wav"), "t: line 2")
    assert list(match_recordings(names, LENGTHS).values()) == [FILES[1], FILES[2], FILES[0]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("a/3.wav,1,2,jay\n", "line 3: the recording 'a/3.wav' matches none of the recordings"),
        ("1.wav,1,2,jay\n", "line 3: the recording '1.wav' matches 2 recordings: 'in/a/1.wav', 'in/b/1.wav'"),
        ("a/2.wav,1,2,jay\nc/2.wav,3,4,jay\n", "line 4: 'c/2.wav' and 'a/2.wav' both match 'in/a/2.wav'"),
        ("a/2.wav,9,10.5,jay\n", "line 3: the event from 9 to 10.5 s ends after in/a/2.wav, which has 10 s"),
        ("a/2.wav,10,10.05,jay\n", "line 3: the event from 10 to 10.05 s ends after"),
    ],
)
def test_recordings_that_do_not_match(tmp_path, table, message):
    path = tmp_path / "t.csv"
    path.write_text(f"file,start,end,label\nb/1.wav,1,2,jay\n{table}")
    lengths = {"in/a/1.wav": 10.0, "in/b/1.wav": 10.0, "in/a/2.wav": 10.0}
    with pytest.raises(DataError, match=message):
        read_annotations(path, recordings=lengths)


def test_ends_are_cut_by_rounding_only(tmp_path):
    path = tmp_path / "1.txt"
    path.write_text("8\t10.04\tjay\n")
    assert read_annotations(path, recordings={"in/1.wav": 10.0})["end_s"].tolist() == [10.0]


def test_label_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("file,start,end,Call Type,species\na,1,2,song,jay\n")
    assert read_annotations(path)["label"].tolist() == ["jay"]
    assert read_annotations(path, label_column="Call Type")["label"].tolist() == ["song"]
    with pytest.raises(DataError, match="no column is 'Type'; its columns are 'file', 'start', 'end', 'Call Type'"):
        read_annotations(path, label_column="Type")


def test_several_tables_and_repeated_events(tmp_path):
    """Identical events are one; rows of 2026 with several labels are several events, and empty ones none."""
    path = tmp_path / "t.csv"
    path.write_text("filename,start,end,primary_label\na,00:00:00,00:00:05,jay;024\na,0,5,jay\na,5,10,\n")
    other = tmp_path / "a.txt"
    other.write_text("1\t2\tNA\n")
    assert read_annotations([path, other])[["start_s", "label"]].to_numpy().tolist() == [
        [0, "jay"],
        [0, "024"],
        [1, "NA"],
    ]
