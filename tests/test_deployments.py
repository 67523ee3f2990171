"""Site, recorder and start of recordings: names, comments, GUANO, deployments.csv; conflicts, zones, overlaps."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

import numpy as np
import pytest
import soundfile

from bcsed.audio.metadata import read_metadata
from bcsed.data.deployments import Line, Sources, read_deployments, read_zone, resolve
from bcsed.data.recorders import parse_comment, parse_guano, parse_name, parse_offset, parse_start, read_pattern
from bcsed.errors import ConfigError, DataError

MORNING = datetime(2023, 4, 20, 7, 40)
COMMENT = (
    "Recorded at 07:40:00 20/04/2023 ({}) by AudioMoth 24F319055FDF2902 at medium gain while battery was greater than "
    "4.9V and temperature was 18.2C."
)
GUANO = "GUANO|Version: 1.0\nTimestamp: {}\nMake: Wildlife Acoustics\nSerial: S4U01234\nWA|Song Meter|Prefix: RIVER\n"


@pytest.mark.parametrize(
    ("name", "site", "recorder", "offset_h"),
    [
        ("20230420_074000.WAV", "", "", None),
        ("card 3/20230420_074000T.WAV", "", "", None),
        ("24F319055FDF2902_20230420_074000.WAV", "", "24F319055FDF2902", None),
        ("S4A01234_20230420_074000.wav", "S4A01234", "", None),
        ("PLOT_1_20230420_074000.wav", "PLOT_1", "", None),
        ("SM4_0+1_20230420_074000.wav", "SM4", "", None),
        ("SITE_20230420_074000_000.wav", "SITE", "", None),
        ("SWIFT01_20230420T074000Z.flac", "SWIFT01", "", 0),
        ("20230420T074000+1000_REC.flac", "", "", 10),
        ("edge-2023-04-20_07-40-00.wav", "edge", "", None),
        ("BC2026_Train_0001_S05_20230420_074000.ogg", "S05", "", None),
        ("H02_20230420_074000", "H02", "", None),
        ("20220101_000000_20230420_074000", "20220101_000000", "", None),
    ],
)
def test_names_of_recorders(name, site, recorder, offset_h):
    statement = parse_name(name)
    assert (statement.site, statement.recorder, statement.clock) == (site, recorder, MORNING)
    assert statement.utc_offset == (None if offset_h is None else timedelta(hours=offset_h))


def test_a_hexadecimal_name_is_a_time_in_utc():
    statement = parse_name("a/5AD7F2A0.WAV")
    assert statement.clock == datetime(2018, 4, 19, 1, 36, 32)
    assert statement.utc_offset == timedelta(0)
    assert parse_name("FFFFFFFF.WAV").clock is None


@pytest.mark.parametrize("name", ["soundscape_1154671", "XC12345.ogg", "SITE_20231345_074000", "S_20230420_254000", ""])
def test_a_name_without_a_time_says_so(name):
    statement = parse_name(name)
    assert statement.clock is None
    assert statement.problem


def test_a_pattern_of_names():
    pattern = read_pattern(r"(?P<start>\d{14})@(?P<site>\w+)@(?P<recorder>\w+)")
    statement = parse_name("x/20230420074000@bog@R7.wav", pattern)
    assert (statement.site, statement.recorder, statement.clock) == ("bog", "R7", MORNING)
    assert "does not match" in parse_name("bog_20230420_074000", pattern).problem
    with pytest.raises(ConfigError, match="not a regular expression"):
        read_pattern("(")
    with pytest.raises(ConfigError, match="needs a group"):
        read_pattern(r"\d+")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("UTC", 0),
        ("Z", 0),
        ("+02:00", 120),
        ("-0330", -210),
        ("UTC+2", 120),
        ("UTC-2:30", -150),
        ("+15", None),
        ("x", None),
    ],
)
def test_offsets(text, minutes):
    assert parse_offset(text) == (None if minutes is None else timedelta(minutes=minutes))


@pytest.mark.parametrize(("zone", "hours"), [("UTC", 0), ("UTC+2", 2), ("UTC-3", -3)])
def test_comments_of_audiomoth(zone, hours):
    statement = parse_comment(COMMENT.format(zone))
    assert (statement.clock, statement.utc_offset) == (MORNING, timedelta(hours=hours))
    assert statement.recorder == "24F319055FDF2902"
    assert parse_comment("made with love") is None


@pytest.mark.parametrize(
    "text", ["2023-04-20T07:40:00-07:00", "2023-04-20 07:40:00.25-07:00", "2023-04-20T07:40:00-0700"]
)
def test_guano(text):
    statement = parse_guano(GUANO.format(text))
    assert (statement.clock, statement.utc_offset) == (MORNING, timedelta(hours=-7))
    assert (statement.site, statement.recorder) == ("RIVER", "S4U01234")
    assert parse_guano("no such text") is None
    assert parse_guano(GUANO.format("yesterday")).problem


def riff(chunks, claimed=None):
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", claimed if claimed is not None else len(body) + 4) + b"WAVE" + body


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("claimed", [None, 0])
def test_texts_in_a_file(tmp_path, first, claimed):
    comment, guano = COMMENT.format("UTC").encode(), GUANO.format("2023-04-20T07:40:00Z").encode()
    info = b"INFO" + b"ICMT" + struct.pack("<I", len(comment) + 1) + comment + b"\0" * (1 + (len(comment) + 1) % 2)
    wave = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    data, extra = (b"data", b"\1\0" * 800), (b"guan", guano)
    path = tmp_path / "a.wav"
    path.write_bytes(riff([wave, (b"LIST", info), *((extra, data) if first else (data, extra))], claimed))
    texts = read_metadata(path)
    assert parse_guano(texts["guano"]).clock == MORNING
    assert parse_comment(texts["comment"]).recorder == "24F319055FDF2902"


def test_texts_of_other_files(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros(800), 8000)
    assert read_metadata(path) == {}
    with pytest.raises(DataError, match="there is no such file"):
        read_metadata(tmp_path / "b.wav")


def table(tmp_path, text):
    path = tmp_path / "deployments.csv"
    path.write_text(text)
    return read_deployments(path)


def found(names, sources=None, *, hours=1 / 60, skip=False):
    return resolve(names, [3600 * hours] * len(names), sources or Sources(), skip=skip)


def test_sources_in_order_of_precedence(tmp_path):
    lines = table(tmp_path, "recordings,site,start\nx.wav,mire,2023-04-20 09:00:00\n")
    texts = {"guano": GUANO.format("2023-04-20T08:00:00+02:00"), "comment": COMMENT.format("UTC+2")}
    name = "card/bog_20230420_070000.wav"
    for sources, site, hour, source in (
        (Sources(), "bog", 7, "name"),
        (Sources(metadata={name: {"comment": texts["comment"]}}), "bog", 7, "comment"),
        (Sources(metadata={name: texts}), "RIVER", 8, "GUANO"),
    ):
        row = found([name], sources).table.iloc[0]
        assert (row["site"], row["start"].hour, row["start_from"]) == (site, hour, source)
    row = found(["card/x.wav"], Sources(lines=lines, metadata={"card/x.wav": texts})).table.iloc[0]
    assert (row["site"], row["start"].hour, row["site_from"], row["recorder"]) == ("mire", 9, "deployments", "S4U01234")
    assert found(["card 7/20230420_070000.wav"]).table["site"].tolist() == ["card 7"]


def test_conflicts_are_named():
    name = "bog_20230420_054000.wav"
    result = found([name], Sources(metadata={name: {"comment": COMMENT.format("UTC+2")}}))
    (subject, note), *_ = result.notes
    assert subject == name
    assert "07:40:00+02:00 in the comment" in note
    assert "05:40:00 in the name; 2 h may be a time zone" in note
    # The clock of the name is UTC: the same moment.
    utc = found([name], Sources(metadata={name: {"comment": COMMENT.format("UTC+2")}}, zone=read_zone("UTC")))
    assert all(subject == "all" for subject, _ in utc.notes)
    site = found([name], Sources(metadata={name: {"guano": GUANO.format("2023-04-20T05:40:00")}}))
    assert "'RIVER' in the GUANO and 'bog' in the name" in site.notes[0][1]


def test_time_zones_and_daylight_saving():
    paris = Sources(zone=read_zone("Europe/Paris"))
    names = ["A_20230325_120000", "A_20230326_023000", "A_20230327_120000", "A_20231029_023000"]
    with pytest.raises(DataError, match=r"does not exist in Europe/Paris.*--clock"):
        found(names, paris)
    result = found([name for name in names if name != names[1]], paris)
    assert result.table["utc_offset"].tolist() == [1, 2, 2]
    notes = dict(result.notes)
    assert "occurs twice" in notes[names[3]]
    said = " ".join(note for subject, note in result.notes if subject == "all")
    assert "+01:00, +02:00" in said
    assert "(--clock)" in said
    assert "time zone is not known" in found(["A_20230325_120000"]).notes[0][1]


def test_a_clock_that_is_not_local_time(tmp_path):
    lines = table(tmp_path, "recordings,site,timezone,clock\ncard,A,Europe/Paris,UTC\n")
    result = found(["card/20230720_230000.wav"], Sources(lines=lines))
    assert result.table["start"][0] == datetime(2023, 7, 21, 1)
    winter = Sources(zone=read_zone("Europe/Paris"), clock=read_zone("+01:00"))
    assert found(["A_20230326_023000"], winter).table["start"][0] == datetime(2023, 3, 26, 3, 30)
    moved = found(["b/5AD7F2A0.WAV"], Sources(zone=read_zone("+02:00"))).table["start"][0]
    assert moved == datetime(2018, 4, 19, 3, 36, 32)


def test_lines_of_files_folders_patterns_and_periods(tmp_path):
    lines = table(
        tmp_path,
        "recordings,site,start,end\ncard1,A,2023-04-01,2023-04-10\ncard1/,B,2023-04-10,\n*.flac,C,,\n"
        "sub/x.wav,D,2023-04-02 03:00:00,\nnothing,E,,\n",
    )
    names = ["/m/card1/20230409_235959.wav", "/m/card1/20230410_000000.wav", "q/20230401_000000.flac", "/m/sub/x.wav"]
    result = found(names, Sources(lines=lines))
    assert result.table["site"].tolist() == ["A", "B", "C", "D"]
    assert ("line 6", "'nothing' matches no recording") in result.notes
    outside = found(["/m/card1/20230301_000000.wav"], Sources(lines=lines))
    assert outside.table["site"][0] == "card1"
    sentence = "no line of the deployments matches it; its site 'card1' is that of the folder"
    assert ("/m/card1/20230301_000000.wav", sentence) in outside.notes


def test_clocks_that_change_within_a_recording_are_named():
    paris = Sources(zone=read_zone("Europe/Paris"))
    names = ["A_20231028_200000", "B_20231028_120000", "C_20230325_230000"]
    result = resolve(names, [36_000.0] * 3, paris, skip=False)
    sentence = "the clocks of Europe/Paris change within it; all its local times have the offset of its start"
    assert [name for name, text in result.notes if text == sentence] == ["A_20231028_200000", "C_20230325_230000"]
    fixed = resolve(names, [36_000.0] * 3, Sources(zone=read_zone("+01:00")), skip=False)
    assert not any("change within it" in text for _, text in fixed.notes)


def test_two_lines_for_a_recording_are_refused(tmp_path):
    lines = table(tmp_path, "recordings,site\ncard1,A\n*.wav,B\n")
    with pytest.raises(DataError, match="lines 2 and 3 of the deployments both match it"):
        found(["card1/20230401_000000.wav"], Sources(lines=lines))


def test_overlaps_and_recordings_without_time():
    names = ["A_20230401_000000", "A_20230401_000100", "A_20230401_000130", "B_20230401_000000", "soundscape_7"]
    with pytest.raises(DataError, match=r"no date and time.*2 of 5 recordings.*--on-error skip"):
        found(names)
    result = found(names, skip=True)
    assert result.table["recording"].tolist() == [names[0], names[1], names[3]]
    assert result.table["gap_h"].fillna(-1).tolist() == [-1, 0, -1]
    assert dict(result.left_out)[names[2]] == f"it overlaps {names[1]} of the same site A by 30 s"
    with pytest.raises(DataError, match="none of the 1 recordings"):
        found(["soundscape_7"], skip=True)


def test_the_same_recorder_at_two_sites_overlaps(tmp_path):
    lines = table(tmp_path, "recordings,site,recorder\na,A,R1\nb,B,R1\n")
    names = ["a/20230401_000000", "b/20230401_000030"]
    with pytest.raises(DataError, match="same recorder R1 by 30 s"):
        found(names, Sources(lines=lines))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("recordings\na\n", "no column 'site'"),
        ("recordings,site,colour\na,A,red\n", "'colour' is not known"),
        ("recordings,site\na,\n", "line 2 has no site"),
        ("recordings,site,start\na,A,20.04.2023\n", "is not such a time"),
        ("recordings,site,start\na,A,2023-04-20T07:00:00Z\n", "without an offset"),
        ("recordings,site,start,end\na,A,2023-04-20,2023-04-20\n", "is not after its start"),
        ("recordings,site,timezone\na,A,Mars/Base\n", "time zone 'Mars/Base' is not known"),
        ("recordings,site,clock\na,A,+25:00\n", "is not known"),
        ("recordings,site\n", "empty"),
        ("recordings;site\na;A\n", "separated by ';'"),
    ],
)
def test_invalid_deployments(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        table(tmp_path, text)


def test_starts():
    assert parse_start("2023-04-20T07:40") == (MORNING, None)
    assert parse_start("2023-02-30 00:00:00") is None


def test_absolute_paths_match():
    """A folder, a pattern and a file."""
    names = ["/data/card3/20230420_074000.wav", "/data/card4/20230421_074000.wav", "/data/card5/20230422_074000.wav"]
    patterns = ["/data/card3", "/data/card4/*.wav", names[2]]
    lines = [Line(number=number, recordings=pattern, site=f"site{number}") for number, pattern in enumerate(patterns)]
    resolved = resolve(names, [60.0] * 3, Sources(lines=lines), skip=False)
    assert list(resolved.table["site"]) == ["site0", "site1", "site2"]


@pytest.mark.parametrize(
    ("text", "offset_h"),
    [
        ("2023-04-20T07:40-05", -5),
        ("2023-04-20T07:40+05", 5),
        ("2023-04-20T07:40:00-05", -5),
        ("20230420_0740-0500", -5),
    ],
)
def test_offsets_behind_minutes(text, offset_h):
    assert parse_start(text) == (datetime(2023, 4, 20, 7, 40), timedelta(hours=offset_h))


@pytest.mark.parametrize("option", ["zone", "clock"])
def test_a_clock_change_within_a_recording_is_named_for_each_zone(option):
    sources = Sources(**{option: read_zone("Europe/Paris")})
    resolved = resolve(["S1_20231029_013000.wav"], [7200.0], sources, skip=False)
    assert any("the clocks of Europe/Paris change within it" in sentence for _, sentence in resolved.notes)
