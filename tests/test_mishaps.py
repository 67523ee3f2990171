"""What happens around a run: recordings that change, long names, a format that fails, a budget, many workers."""

from __future__ import annotations

import errno
import os

import numpy as np
import pandas as pd
import pytest
import soundfile

from bcsed.audio.decode import read_there
from bcsed.errors import DataError
from bcsed.predict import Budget, OutputOptions, RunOptions, Workers, budget, predict, workers
from bcsed.scores.detections import DetectionSettings, raven_audacity

RATE = 32_000
WAVE = (0.1 * np.random.default_rng(0).standard_normal(RATE * 20)).astype("float32")


@pytest.fixture
def data(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "data").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "data" / f"{name}.wav", WAVE, RATE)
    return tmp_path / "data"


def grow(path):
    with path.open("ab") as file:
        file.write(bytes(20_000))


def shrink(path):
    os.truncate(path, 100_000)


def rewrite(path):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def remove(path):
    path.unlink()


@pytest.mark.parametrize("change", [grow, shrink, rewrite, remove])
@pytest.mark.parametrize("jobs", [0, 2])
@pytest.mark.parametrize("name", ["a", "c"])
def test_a_recording_that_changes_while_it_is_read_is_a_failure(data, oracle, monkeypatch, change, jobs, name):
    path = data / f"{name}.wav"

    def read(info, *args):
        result = read_there(info, *args)
        if info.path == path:
            change(path)
        return result

    monkeypatch.setattr("bcsed.predict.blocks.read_there", read)
    result = predict([oracle], [data], options=RunOptions(jobs=jobs))
    assert result.n_scored == 2
    (reason,) = result.failures["reason"]
    assert ("no such file" if change is remove else "changed during the run") in reason
    assert str(path) in reason


@pytest.mark.parametrize("limit", [None, Budget(minutes=1e4)])
def test_a_recording_that_changes_before_it_is_read_is_a_failure(data, oracle, monkeypatch, limit):
    def read(info, *args):
        if info.path.stem == "a" and (data / "c.wav").stat().st_size > 200_000:
            shrink(data / "c.wav")
        return read_there(info, *args)

    monkeypatch.setattr("bcsed.predict.blocks.read_there", read)
    result = predict([oracle], [data], options=RunOptions(jobs=0), budget=limit)
    assert result.n_scored == 2
    assert "changed during the run" in result.failures["reason"].iloc[0]


LONG = ["x" * 240, "é" * 120, "y" * 251, "z" * 240 + "1", "z" * 240 + "2"]


def test_long_names_have_files_of_every_format(tmp_path, oracle):
    for name in LONG:
        (tmp_path / "data").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "data" / f"{name}.wav", WAVE, RATE)
    formats = ("raven", "audacity", "csv", "parquet", "submission", "scores", "members")
    output = OutputOptions(formats=formats, detection=DetectionSettings(threshold=0.01))
    result = predict([oracle], [tmp_path / "data"], out=tmp_path / "out", output=output)
    assert result.n_scored == len(LONG)
    tables = sorted(path.name for path in (tmp_path / "out" / "raven").iterdir())
    assert len(tables) == len(LONG) + 1
    assert len(list((tmp_path / "out" / "audacity").iterdir())) == len(LONG)
    rows = pd.read_csv(tmp_path / "out" / "submission.csv")["row_id"]
    assert {name.rsplit("_", 1)[0] for name in rows} == set(LONG)


@pytest.mark.parametrize("broken", ["raven", "csv", "submission", "scores"])
def test_a_format_that_fails_does_not_keep_others_from_being_written(data, tmp_path, oracle, broken):
    files = {
        "submission": "submission.csv",
        "scores": "scores.parquet",
        "raven": "raven/bcsed.selections.txt",
        "csv": "detections.csv",
        "parquet": "detections.parquet",
    }
    out = tmp_path / "out"
    predict([oracle], [data], out=out, output=OutputOptions(formats=()))
    (out / files[broken]).mkdir(parents=True)  # a folder of this name: the file cannot replace it
    output = OutputOptions(formats=(broken, *(name for name in files if name != broken)))
    with pytest.raises(DataError, match=r"could not be written.*All other files are written") as error:
        predict([oracle], [data], out=out, output=output)
    assert files[broken] in str(error.value)
    assert all((out / file).is_file() for name, file in files.items() if name != broken)
    assert not list(out.rglob("*.part"))


def test_a_full_disk_in_the_middle_of_a_format_is_that_formats_failure(data, tmp_path, oracle, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(raven_audacity, "_format_lines", full)
    output = OutputOptions(formats=("audacity", "submission"))
    with pytest.raises(DataError, match="No space left"):
        predict([oracle], [data], out=tmp_path / "out", output=output)
    assert len(pd.read_csv(tmp_path / "out" / "submission.csv")) == 12


@pytest.mark.parametrize(("n", "shard", "expected"), [(500, None, 3), (8, 2, 2), (2, None, 2), (8, 10, 1)])
def test_there_are_at_most_as_many_workers_as_shards(data, tmp_path, oracle, monkeypatch, n, shard, expected):
    original, used = workers._backend, []
    monkeypatch.setattr(workers, "_backend", lambda asked: used.append(asked.n) or original(asked))
    options = RunOptions(workers=Workers(n=n), shard=shard)
    assert predict([oracle], [data], out=tmp_path / "out", options=options).n_scored == 3
    # Nothing is left: no worker beside this one.
    assert predict([oracle], [data], out=tmp_path / "out", options=options).n_resumed == 3
    assert used == [expected, 1]


def test_a_long_recording_does_not_take_the_time_of_the_others(data, oracle, monkeypatch):
    soundfile.write(data / "0.wav", np.tile(WAVE, 60), RATE)  # the first by name
    read = []
    monkeypatch.setattr(
        "bcsed.predict.blocks.read_there", lambda info, *args: read.append(info.path.stem) or read_there(info, *args)
    )
    # No time is left in the middle of the long recording, of which a block was also read to measure the costs.
    monkeypatch.setattr(Budget, "left", lambda _: 1e6 if read.count("0") < 3 else -1.0)
    result = predict([oracle], [data], options=RunOptions(jobs=0), budget=Budget(minutes=1e4))
    assert result.n_scored == 3
    assert list(result.failures["recording"]) == [str(data / "0.wav")]


@pytest.mark.parametrize(("scored", "sentence"), [(True, "are written"), (False, "no recording was scored")])
def test_a_run_that_hangs_says_what_is_written(monkeypatch, capsys, scored, sentence):
    ended = []
    monkeypatch.setattr(budget.os, "_exit", ended.append)
    budget._end_process(lambda: scored)
    assert sentence in capsys.readouterr().err
    assert ended == [3 if scored else 4]
