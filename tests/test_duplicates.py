"""Copies among clips: fingerprints, groups, folds, training, doctor and report."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from conftest import RATE
from test_train import SMALL

from bcsed import train
from bcsed.audio.fingerprints import Match, confirm, find_matches, fingerprint
from bcsed.audio.headers import AudioInfo, read_info
from bcsed.cli import main
from bcsed.config.recipe import Data
from bcsed.data.labels import assign_folds
from bcsed.errors import ConfigError, DataError
from bcsed.report.api import report
from bcsed.train.data import prepare_data
from bcsed.train.duplicates import (
    apply_duplicates,
    describe_duplicates,
    find_duplicates,
    read_duplicates,
    separate_duplicates,
)


def song(seed: int, seconds: float = 6.0, rate: int = RATE) -> np.ndarray:
    """Calls of random pitch in noise that swells."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.02 * rng.standard_normal(t.size) * (1.2 + np.sin(2 * np.pi * t / rng.uniform(1, 3)))
    for _ in range(int(3 * seconds)):
        start, length, pitch = rng.uniform(0, seconds), rng.uniform(0.05, 0.4), rng.uniform(800, 7000)
        inside = (t >= start) & (t < start + length)
        wave[inside] += 0.2 * np.sin(2 * np.pi * (pitch + rng.uniform(-2000, 2000) * t[inside]) * t[inside])
    return wave.astype("float32")


def write(folder: Path, name: str, wave: np.ndarray, rate: int = RATE, **options) -> AudioInfo:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, wave, rate, **options)
    return read_info(folder / name)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write(tmp_path_factory.mktemp("songs"), "original.wav", song(0))


@pytest.mark.parametrize("how", ["quiet", "mp3", "ogg", "excerpt", "later", "resampled", "stereo", "short excerpt"])
def test_copies_match_at_their_offset(original, tmp_path, how):
    wave, rate, name, options, offset_s = song(0), RATE, "copy.wav", {}, 0.0
    if how == "quiet":
        wave = 0.05 * wave
    elif how in ("mp3", "ogg"):
        name, options = f"copy.{how}", {"compression_level": 0.9}
    elif how == "excerpt":
        wave, offset_s = wave[57_777:], 57_777 / RATE
    elif how == "short excerpt":
        wave, offset_s = wave[57_777:][: RATE * 3 // 2], 57_777 / RATE
    elif how == "later":
        wave, offset_s = np.concatenate([song(1, 2.3), wave]), -2.3
    elif how == "resampled":
        wave, rate = soxr.resample(wave, RATE, 44_100), 44_100
    else:
        wave = np.stack([wave, 0.5 * wave], 1)
    copy = write(tmp_path, name, wave, rate, **options)
    (match,) = find_matches([fingerprint(item) for item in (original, copy)])
    assert (match.first, match.second, match.exact) == (0, 1, False)
    assert match.similarity > 0.6
    assert match.offset_s == pytest.approx(offset_s, abs=0.08)
    (confirmed,) = confirm([match], [original, copy])
    assert confirmed.similarity > 0.8


def test_a_match_whose_waves_differ_is_not_confirmed(original, tmp_path):
    silence = write(tmp_path, "silence.wav", np.zeros(RATE, "float32"))
    infos = [original, write(tmp_path, "other.wav", song(1)), silence]
    matches = [Match(0, second, 0.0, 0.9, exact=False) for second in (1, 2, 0)]
    assert [match.second for match in confirm(matches, infos)] == [0]


def test_other_recordings_do_not_match(original, tmp_path):
    others = [write(tmp_path, f"{seed}.wav", song(seed, 1.0 + seed % 5)) for seed in range(1, 60)]
    silence = write(tmp_path, "silence.wav", np.zeros(RATE, "float32"))
    hum = write(tmp_path, "hum.wav", 0.1 * np.sin(np.arange(3 * RATE) * 0.3).astype("float32"))
    click = write(tmp_path, "click.wav", song(0)[:900])
    assert find_matches([fingerprint(item) for item in (original, *others, silence, hum, click)]) == []
    assert find_matches([]) == []


def test_identical_samples_match_in_another_file_format(original, tmp_path):
    samples, _ = soundfile.read(original.path, dtype="int16")
    copies = [
        write(tmp_path, "a.flac", samples),
        write(tmp_path, "b.wav", samples),
        write(tmp_path, "c.wav", samples[:9]),
    ]
    (match,) = find_matches([fingerprint(item) for item in copies])
    assert (match.first, match.second, match.exact, match.similarity) == (0, 1, True, 1.0)
    again = write(tmp_path, "d.wav", samples[:9])
    (match,) = find_matches([fingerprint(copies[2]), fingerprint(again)])
    assert match.exact


def test_a_changed_file_has_another_fingerprint(tmp_path):
    first = fingerprint(write(tmp_path, "a.wav", song(0, 2)))
    assert fingerprint(write(tmp_path, "a.wav", song(1, 2))).sha256 != first.sha256


def test_a_long_recording_is_read_in_blocks(tmp_path):
    wave = (32_767 * np.concatenate([song(seed, 25) for seed in range(3)])).astype("int16")
    long = write(tmp_path, "long.wav", wave)
    part = write(tmp_path, "part.wav", wave[RATE * 57 : RATE * 64])
    (match,) = find_matches([fingerprint(long), fingerprint(part)])
    assert match.offset_s == 57.0
    assert match.similarity > 0.99
    assert fingerprint(write(tmp_path, "long.flac", wave)).sha256 == fingerprint(long).sha256


def table_of(infos: list[AudioInfo], labels: list[str]) -> pd.DataFrame:
    names = [info.path.name for info in infos]
    return pd.DataFrame(
        {"filename": names, "label": labels, "secondary": [()] * len(names), "recording": names, "author": ""}
    )


def test_groups_and_the_clip_to_keep(original, tmp_path):
    wave = song(0)
    infos = [
        write(tmp_path, "end.wav", wave[3 * RATE :]),
        write(tmp_path, "other.wav", song(7)),
        original,
        write(tmp_path, "start.wav", 0.3 * wave[: 3 * RATE]),
    ]
    listed = find_duplicates(table_of(infos, ["b", "c", "a", ""]), infos, jobs=2)
    # The first and the last have nothing in common, but both are excerpts of the third.
    assert listed["filename"].tolist() == ["end.wav", "original.wav", "start.wav"]
    assert listed["group"].tolist() == [1, 1, 1]
    assert listed["keep"].tolist() == [False, True, False]
    assert listed["copy_of"].tolist()[::2] == ["original.wav"] * 2
    assert listed["offset_s"].tolist()[::2] == [3.0, 0.0]
    assert "3 of 4 clips are in 1 group of duplicates, 0 clips with identical" in describe_duplicates(listed, 4)
    table = table_of(infos, ["b", "c", "a", ""])
    assert apply_duplicates(table, listed, drop=False)["copies"].nunique() == 2
    kept = apply_duplicates(table, listed, drop=True)
    assert kept["filename"].tolist() == ["other.wav", "original.wav"]
    assert kept["secondary"].tolist() == [(), ("b",)]


def test_clips_of_a_validation_soundscape_are_not_kept(original, tmp_path):
    infos = [original, write(tmp_path, "half.wav", song(0)[: 3 * RATE]), write(tmp_path, "other.wav", song(7))]
    soundscape = write(tmp_path, "soundscape.wav", np.concatenate([song(8, 10), song(0), song(9, 10)]))
    listed = find_duplicates(table_of(infos, ["a"] * 3), infos, [soundscape])
    assert listed[["filename", "copy_of", "keep"]].to_numpy().tolist() == [
        ["original.wav", "soundscape.wav", False],
        ["half.wav", "soundscape.wav", False],
    ]
    assert listed["offset_s"].tolist() == [10.0, 10.0]
    assert "the audio of 1 group is in soundscapes that validate" in describe_duplicates(listed, 3)


@pytest.mark.slow
def test_many_copies_are_one_group(tmp_path):
    """More than a word is compared with: 24 copies at different levels, and as many again with the same samples."""
    wave = song(0, 2.0)
    infos = [write(tmp_path, f"{number}.wav", wave * 0.9**number) for number in range(24)] * 2
    table = table_of(infos, ["a"] * 48).assign(filename=list(map(str, range(48))))
    listed = find_duplicates(table, infos)
    assert listed["group"].eq(1).all()
    assert len(listed) == 48


def test_copies_are_in_one_fold():
    table = pd.DataFrame(
        {
            "filename": [f"{k:02}" for k in range(60)],
            "label": ["a", "b"] * 30,
            "recording": [f"r{k}" for k in range(60)],
            "author": "",
            "copies": [f"group {k // 6}" for k in range(60)],
        }
    )
    fold_of = assign_folds(table, Data(n_folds=3, min_class_count=2), 0)
    assert pd.Series(fold_of).groupby(table["copies"]).nunique().eq(1).all()
    assert set(fold_of) == {0, 1, 2}


@pytest.fixture(scope="module")
def copied(year, tmp_path_factory):
    """The small competition with a copy of a clip in another class, twice as loud as ogg."""
    data = tmp_path_factory.mktemp("copied") / "data"
    shutil.copytree(year, data)
    wave, _ = soundfile.read(data / "train_audio" / "frog1" / "XC2007.ogg", dtype="float32")
    soundfile.write(data / "train_audio" / "cuckoo1" / "XC9.ogg", 1.5 * wave, RATE)
    lines = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    copy = lines.iloc[[0]].assign(primary_label="cuckoo1", filename="cuckoo1/XC9.ogg", author="someone")
    pd.concat([lines, copy]).to_csv(data / "train.csv", index=False)
    return data


def test_training_reports_and_drops(copied, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "bcsed"):
        keep = prepare_data(SMALL, copied)
        drop = prepare_data(SMALL.vary("x", data__duplicates="drop"), copied)
        off = prepare_data(SMALL.vary("x", data__duplicates="off"), copied)
    assert "2 of 25 clips are in 1 group of duplicates" in caplog.text
    assert "the labels of 1 group differ" in caplog.text and "data.duplicates=drop drops them" in caplog.text
    assert (len(keep.names), len(drop.names), len(off.names)) == (25, 24, 25)
    rows = [keep.names.index(name) for name in ("cuckoo1/XC9.ogg", "frog1/XC2007.ogg")]
    assert len({row in keep.valid_rows for row in rows}) == 1
    assert off.duplicates.empty and len(keep.duplicates) == 2
    # Both are as long: the first of the file remains, with the label of the other as a secondary one.
    assert "cuckoo1/XC9.ogg" not in drop.names
    assert drop.inputs.targets[drop.names.index("frog1/XC2007.ogg")].tolist() == pytest.approx([0, 0.3, 1])
    assert drop.clips_sha256 != keep.clips_sha256


@pytest.mark.slow
def test_the_run_lists_them_and_so_does_its_report(copied, tmp_path):
    run = train.train(SMALL.vary("x", fit__epochs=1, data__duplicates="drop"), copied, tmp_path / "run")
    listed = read_duplicates(run)
    assert listed is not None and listed["keep"].tolist() == [True, False]
    assert listed["similarity"].min() > 0.5
    page = report([run], tmp_path / "report.html")
    text = page.path.read_text()
    assert "2 clips are copies of others" in text and "cuckoo1/XC9.ogg" in text
    (run / "duplicates.csv").write_text((run / "duplicates.csv").read_text().replace("\n1,", "\nfirst,"))
    with pytest.raises(DataError, match="not readable as a table of duplicates"):
        read_duplicates(run)


def test_all_clips_in_soundscapes(original, tmp_path):
    soundscape = write(tmp_path, "soundscape.wav", np.concatenate([song(8, 10), song(0)]))
    table = table_of([original], ["a"])
    used, infos, _ = separate_duplicates(table, [original], [soundscape], "keep", jobs=1)
    assert len(used) == len(infos) == 1
    with pytest.raises(DataError, match=r"all clips are in soundscapes that validate; set data\.duplicates=keep"):
        separate_duplicates(table, [original], [soundscape], "drop", jobs=1)


class TestDoctor:
    def test_copies(self, copied, tmp_path, capsys):
        assert main(["doctor", "--data", str(copied), "--out", str(tmp_path / "copies.csv")]) == 1
        assert "FAILED: 2 of 25 clips are in 1 group" in capsys.readouterr().out
        assert len(pd.read_csv(tmp_path / "copies.csv")) == 2

    def test_no_copies(self, year, capsys):
        assert main(["doctor", "--data", str(year)]) == 0
        assert capsys.readouterr().out == "OK: no duplicates among 24 clips.\n"

    @pytest.mark.parametrize("words", [[], ["scores.csv", "--data", "x"], ["scores.csv", "--out", "x.csv"]])
    def test_refusals(self, words, capsys):
        assert main(["doctor", *words]) == 2
        assert "--data DIR" in capsys.readouterr().err


def test_an_unknown_setting_is_refused():
    with pytest.raises(ConfigError, match="duplicates must be one of keep, drop, off"):
        Data(duplicates="remove")
