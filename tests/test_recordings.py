"""The search for recordings in folders: links, rights, names, suffixes, hidden files; the same in every command."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from bcsed.analysis import doctor, trace
from bcsed.audio.headers import read_info
from bcsed.config.contract import TINY_128
from bcsed.config.recipe import Data
from bcsed.data.competitions import FOLDERS, Competition, read_class_list
from bcsed.data.label_files import read_train
from bcsed.errors import DataError
from bcsed.kaggle.submission import select_recordings
from bcsed.predict import OutputOptions, Windowing, predict
from bcsed.recordings import file_names, find_recordings, printable, recording_names, search_recordings
from bcsed.train.dataset.clips import ClipReader
from bcsed.train.pseudolabels import make_pseudolabels, read_pseudolabels

RATE = 32_000
WAVE = (0.1 * np.random.default_rng(0).standard_normal(RATE * 6)).astype("float32")


def write(path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), WAVE, RATE, **{"format": "WAV", **options})
    return path


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_recordings([folder])]


def test_links_are_followed_and_loops_end(tmp_path):
    data, store = tmp_path / "data", tmp_path / "store"
    write(data / "a" / "one.wav")
    write(store / "deep" / "two.wav")
    (data / "b").symlink_to(store)  # a folder elsewhere
    (store / "again").symlink_to(data)  # and back
    (data / "a" / "loop").symlink_to(data)
    (data / "z").symlink_to(data / "a")  # a second name of a folder that is searched
    (data / "three.wav").symlink_to(store / "deep" / "two.wav")
    (data / "self").symlink_to(data / "self")
    assert names(data) == ["a/one.wav", "b/deep/two.wav", "self", "three.wav"]
    # A folder that is itself a link, and the linked folder alone.
    (tmp_path / "link").symlink_to(store / "deep")
    assert names(tmp_path / "link") == ["two.wav"]


def test_many_folders_that_link_to_each_other_are_entered_once(tmp_path):
    for k in range(12):
        write(tmp_path / f"f{k}" / f"{k}.wav")
        for other in range(12):
            (tmp_path / f"f{k}" / f"to{other}").symlink_to(tmp_path / f"f{other}")
    assert len(find_recordings([tmp_path])) == 12


def test_links_that_lead_nowhere_are_failures(tmp_path, oracle):
    write(tmp_path / "data" / "a.wav")
    for name in ("gone.wav", "site", "notes.txt"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "nowhere" / name)
    result = predict([oracle], [tmp_path / "data"])
    assert [Path(name).name for name in result.failures["recording"]] == ["gone.wav", "site"]
    assert all("no such file" in reason and "nowhere" in reason for reason in result.failures["reason"])


def test_hidden_names_and_other_formats_are_counted(tmp_path, oracle):
    write(tmp_path / "a.WAV")
    for name in ("._a.WAV", ".Trashes/501/old.wav", "__MACOSX/a.wav", ".hidden/deep/b.flac"):
        write(tmp_path / name)
    for name in ("b.m4a", "deep/c.WMA", "d.m4a", "CONFIG.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    files, notes = search_recordings([tmp_path])
    assert [path.name for path in files] == ["a.WAV"]
    sentences = "; ".join(note for _, note in notes)
    assert "skipped 4 hidden files or folders" in sentences
    assert "(2 .m4a, 1 .wma)" in sentences
    assert "ffmpeg" in sentences
    result = predict([oracle], [tmp_path])
    assert list(result.notes["recording"]) == [str(tmp_path)] * 2
    assert not len(result.failures)
    # A folder in which nothing is left, and a hidden file or folder that is named by the user.
    with pytest.raises(DataError, match=r"no recordings.*skipped files of formats.*1 \.wma"):
        find_recordings([tmp_path / "deep"])
    assert len(find_recordings([tmp_path / "._a.WAV", tmp_path / ".hidden"])) == 2


@pytest.mark.parametrize("suffix", ["au", "caf", "w64", "aifc", "oga", "opus", "rf64", "wave", "snd"])
def test_one_list_of_suffixes_serves_prediction_and_training(tmp_path, suffix):
    form = {"au": "AU", "snd": "AU", "caf": "CAF", "w64": "W64", "aifc": "AIFF", "rf64": "RF64"}.get(suffix, "WAV")
    write(tmp_path / "audio" / "frog" / f"a.{suffix}", format=form)
    write(tmp_path / "audio" / "owl" / "b.WAV")
    assert read_class_list(tmp_path, FOLDERS) == ("frog", "owl")
    assert len(find_recordings([tmp_path])) == 2


def test_class_folders_are_searched_as_all_others(tmp_path, caplog):
    audio = tmp_path / "audio"
    write(audio / "frog" / "a.wav")
    write(audio / "frog" / "._a.wav")
    write(audio / "frog" / "day" / "b.wav")
    write(audio / ".Trashes" / "frog" / "c.wav")
    write(audio / "__MACOSX" / "frog" / "d.wav")
    write(tmp_path / "store" / "e.wav")
    (audio / "owl").symlink_to(tmp_path / "store")
    (audio / "empty").mkdir()
    (audio / "toad").mkdir()
    (audio / "toad" / "f.m4a").write_bytes(b"x")
    table = read_train(tmp_path, FOLDERS, read_class_list(tmp_path, FOLDERS))
    assert list(zip(table["filename"], table["label"], strict=True)) == [
        ("frog/a.wav", "frog"),
        ("frog/day/b.wav", "frog"),
        ("owl/e.wav", "owl"),
    ]
    text = caplog.text
    assert text.count("audio/empty: the class has no recording") == 1
    assert "audio/toad: skipped files of formats that are not supported (1 .m4a)" in text
    assert "audio: skipped 2 hidden" in text
    assert "audio/frog: skipped 1 hidden" in text


def test_kaggle_skips_hidden_companions(tmp_path):
    write(tmp_path / "test_soundscapes" / "a.wav")
    write(tmp_path / "test_soundscapes" / "._a.wav")
    competition = Competition(name="x", marks=("x",))
    assert [path.name for path in select_recordings(tmp_path, competition, 5, lambda _: None)[0]] == ["a.wav"]


@pytest.fixture
def unprivileged():
    """Return a prefix of a command without root's right to read everything."""
    dropped = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--"]
    return dropped if os.geteuid() == 0 else []


SEARCH = """
import sys
from pathlib import Path
from bcsed.audio.headers import read_info
from bcsed.errors import DataError
from bcsed.recordings import find_recordings
for path in find_recordings(sys.argv[1:]):
    try:
        read_info(path)
        print("read", path)
    except DataError as error:
        print(error)
"""


def test_what_may_not_be_read_is_a_failure_with_its_reason(tmp_path, unprivileged):
    for name in ("ok.wav", "file.wav", "closed/a.wav", "listed/b.wav", "inside/closed/c.wav"):
        write(tmp_path / name)
    closed = {"file.wav": 0, "closed": 0, "listed": 0o444, "inside/closed": 0o111}
    for name, mode in closed.items():
        (tmp_path / name).chmod(mode)
    try:
        for arguments in ([tmp_path], [tmp_path / "closed"], [tmp_path / "listed" / "b.wav"]):
            command = [*unprivileged, sys.executable, "-c", SEARCH, *arguments]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            denied = [line for line in lines if "permission to read it is denied" in line and "chmod" in line]
            assert len(denied) == (4 if arguments == [tmp_path] else 1)
            assert len(lines) == len(denied) + (arguments == [tmp_path])
    finally:
        for name in closed:
            (tmp_path / name).chmod(stat.S_IRWXU)


NAMES = [b"caf\xe9.wav", b"\xff\xfe.wav", b"caf\xe9\xe9/a.wav"]


@pytest.fixture
def latin(tmp_path):
    """A folder of recordings whose names are not UTF-8."""
    for name in NAMES:
        write(tmp_path / "data" / os.fsdecode(name))
    return tmp_path / "data"


def test_names_that_are_not_utf8_are_scored_and_written(latin, tmp_path, oracle):
    formats = ("submission", "scores", "raven", "audacity", "csv", "parquet", "frames", "members")
    (latin / os.fsdecode(b"bad\xe9.wav")).write_bytes(b"no audio")
    out = tmp_path / "out"
    options = {"output": OutputOptions(formats=formats), "windowing": Windowing(windows="sliding")}
    result = predict([oracle], [latin], out=out, **options)
    assert result.n_scored == 3
    assert result.n_failed == 1
    rows = pd.read_csv(out / "submission.csv", index_col=0)
    assert sorted({name.rsplit("_", 1)[0] for name in rows.index}) == ["\\udcff\\udcfe", "a", "caf\\udce9"]
    assert "bad\\udce9.wav" in (out / "failures.csv").read_text(encoding="utf-8")
    assert predict([oracle], [latin], out=out, **options).n_resumed == 3


def test_other_commands_read_names_that_are_not_utf8(latin, tmp_path, oracle):
    out = tmp_path / "p.parquet"
    make_pseudolabels([oracle], [latin], out)
    assert sorted(set(read_pseudolabels(out).filename)) == ["\\udcff\\udcfe.wav", "a.wav", "caf\\udce9.wav"]
    predict([oracle], [latin], out=tmp_path / "scores")
    assert not doctor.diagnose(tmp_path / "scores" / "submission.csv", recordings=[latin]).failed
    traced = trace.trace(oracle, latin / os.fsdecode(NAMES[0]))
    trace.write(traced, tmp_path / "t.npz")
    assert trace.read(tmp_path / "t.npz").facts["recording"] == "caf\\udce9.wav"
    with pytest.raises(DataError) as error:
        read_info(latin / os.fsdecode(b"none\xe9.wav"))
    str(error.value).encode("utf-8")


def test_training_names_the_file_whose_name_is_not_utf8(tmp_path):
    write(tmp_path / "audio" / "frog" / "a.wav")
    write(tmp_path / "audio" / "owl" / os.fsdecode(b"\xe9.wav"))
    with pytest.raises(DataError, match=r"udce9.*convmv"):
        read_train(tmp_path, FOLDERS, ("frog", "owl"))


def test_names_stay_unique_and_printable():
    paths = [Path(os.fsdecode(name)) for name in (b"a/\xe9.wav", b"b/\xe9.wav", b"\xea.wav")]
    assert recording_names(paths) == ["a/\\udce9", "b/\\udce9", "\\udcea"]
    assert printable("c\u00e9") == "c\u00e9"


@pytest.mark.parametrize("cache_gb", [0.0, 1.0])
def test_training_counts_recordings_of_low_rates_and_names_cancelling_channels(tmp_path, caplog, cache_gb):
    for name, rate in (("a.wav", 16_000), ("b.flac", 22_050), ("c.ogg", 8000), ("d.wav", 28_000)):
        soundfile.write(tmp_path / name, WAVE[: 4 * rate], rate)
    soundfile.write(tmp_path / "e.wav", np.stack((WAVE, -WAVE), 1), RATE)
    infos = [read_info(path) for path in sorted(tmp_path.iterdir())]
    with caplog.at_level(logging.WARNING):
        reader = ClipReader(infos, TINY_128, Data(), cache_gb)
        for index in (*range(5), 4):
            reader.window(index, 0)
    assert len(caplog.records) == 2
    assert "3 of 5 recordings contain nothing above half of their sample rate of 8,000 to 22,050 Hz" in caplog.text
    assert "e.wav: its channels cancel each other" in caplog.text
    caplog.clear()
    ClipReader(infos[3:], TINY_128, Data(), cache_gb)
    assert not caplog.records


@pytest.mark.parametrize("value", [np.nan, 1e30, -1e38])
def test_training_names_clips_with_samples_that_cannot_be_used(tmp_path, caplog, value):
    wave = WAVE.copy()
    wave[:100] = value
    soundfile.write(tmp_path / "loud.wav", wave, RATE, subtype="FLOAT")
    write(tmp_path / "fine.wav")
    infos = [read_info(tmp_path / "loud.wav"), read_info(tmp_path / "fine.wav")]
    for cache_gb in (0.0, 1.0):
        caplog.clear()
        reader = ClipReader(infos, TINY_128, Data(), cache_gb)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                waves = [reader.window(index, 0) for index in (0, 1)]
        assert np.isfinite(waves[0]).all()
        assert len(caplog.records) == 1
        assert "loud.wav: 100 of" in caplog.text


def test_names_are_unique_also_where_one_file_was_converted():
    """By bcsed's own advice, `ffmpeg -i a.wav a.wav.flac`."""
    for names in (["a.wav", "a.mp3", "a.wav.flac"], ["a.wav", "a.wav.wav"], ["x/a.wav", "y/a.wav", "a.wav.flac"]):
        paths = [Path(name) for name in names]
        assert len(set(recording_names(paths))) == len(names)
        files = file_names(paths)
        assert len(set(files.values())) == len(names)
        assert all(name.endswith(path.suffix) for path, name in files.items())
    assert list(file_names([Path("a.wav.wav"), Path("a.wav")]).values()) == ["a.wav.wav", "a.wav"]
