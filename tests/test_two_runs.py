"""Two runs into one folder at the same time are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_train import JOBS, SMALL

from bcsed import predict, rounds, train
from bcsed.errors import DataError
from bcsed.files import lock_folder

IN_USE = "is in use by another process of bcsed; wait until it ends, or name another folder"


def test_a_folder_is_held_until_the_block_or_the_process_ends(tmp_path):
    code = """
import sys
from pathlib import Path
from bcsed.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "folder")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=IN_USE), lock_folder(tmp_path / "new" / "folder"):
            pass
        other.kill()
    for _ in range(2):
        with lock_folder(tmp_path / "new" / "folder"):
            pass
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: file exists"), lock_folder(tmp_path / "file"):
        pass


def test_a_prediction_into_a_folder_in_use_is_refused(tiny, recordings, tmp_path):
    with lock_folder(tmp_path / "out"), pytest.raises(DataError, match=IN_USE):
        predict.predict([tiny], [recordings / "short.wav"], out=tmp_path / "out")
    assert predict.predict([tiny], [recordings / "short.wav"], out=tmp_path / "out").n_scored == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_into_a_folder_in_use_is_refused(year, tmp_path, resume):
    experiment = SMALL.vary("one", fit__epochs=1)
    if resume:
        with pytest.raises(KeyboardInterrupt):
            train.train(experiment, year, tmp_path / "run", options=JOBS, progress=interrupt)
    with lock_folder(tmp_path / "run"), pytest.raises(DataError, match=IN_USE):
        train.train(experiment, year, tmp_path / "run", resume=resume, options=JOBS)
    assert (tmp_path / "run" / "run.json").is_file() == resume


def interrupt(*_):
    raise KeyboardInterrupt


def test_rounds_in_a_folder_in_use_are_refused(year, tmp_path):
    with lock_folder(tmp_path / "rounds"), pytest.raises(DataError, match=IN_USE):
        rounds.run(rounds.find_plan("tiny"), year, tmp_path / "rounds")
