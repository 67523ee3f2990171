"""The same rows from one process, from many, from a cluster, and after any number of kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from conftest import RATE

from bcsed import predict
from bcsed.audio import headers
from bcsed.audio.decode import read_there
from bcsed.cli.app import main
from bcsed.errors import ConfigError, DataError
from bcsed.models.ensemble import from_bundles
from bcsed.predict import blocks
from bcsed.predict.api import RunOptions
from bcsed.predict.outputs import OutputOptions
from bcsed.predict.spec import Windowing
from bcsed.predict.workers import Workers
from bcsed.scores.table import read_table

SLIDING = Windowing(windows="sliding", stride_s=2.0)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    """Sixty recordings of 6 to 20 s, each its own."""
    folder = tmp_path_factory.mktemp("sixty") / "in"
    folder.mkdir()
    rng = np.random.default_rng(12)
    for number in range(60):
        n = int(rng.uniform(6, 20) * RATE)
        soundfile.write(folder / f"r{number:02}.wav", (0.1 * rng.standard_normal(n)).astype("float32"), RATE)
    return folder


@pytest.fixture(scope="module")
def single(tiny, sixty):
    return predict.predict([tiny], [sixty]).scores


@pytest.mark.slow
@pytest.mark.parametrize("workers", [Workers(n=2), Workers(n=2, backend="processes")], ids=["threads", "processes"])
def test_workers_come_to_the_same_rows(tiny, sixty, single, tmp_path, workers):
    done = []
    (tmp_path / "in").mkdir()
    for path in [*sorted(sixty.iterdir())[:9], tmp_path / "empty.ogg"]:
        path.touch()
        (tmp_path / "in" / path.name).symlink_to(path)
    options = {"out": tmp_path / "out", "options": RunOptions(workers=workers, shard=4)}
    result = predict.predict([tiny], [tmp_path / "in"], progress=lambda n, total: done.append((n, total)), **options)
    np.testing.assert_array_equal(result.scores, single.loc[result.scores.index])
    assert result.scores.index.str.rsplit("_", n=1).str[0].unique().tolist() == [f"r{k:02}" for k in range(9)]
    assert result.failures["status"].tolist() == ["failed"]
    assert "empty (0 bytes)" in result.failures["reason"].iloc[0]
    assert done[-1] == (10, 10)
    again = predict.predict([tiny], [tmp_path / "in"], **options)
    assert again.n_resumed == 9
    np.testing.assert_array_equal(again.scores, result.scores)


@pytest.mark.slow
def test_parts_hold_as_many_recordings_as_a_shard_and_are_named_after_them(tiny, sixty, single, tmp_path):
    few = sorted(sixty.iterdir())[:7]
    for out in ("a", "b"):
        result = predict.predict([tiny], few, out=tmp_path / out, options=RunOptions(shard=3))
        np.testing.assert_array_equal(result.scores, single.loc[result.scores.index])
    parts = [{path.name: path.read_bytes() for path in (tmp_path / out / "parts").iterdir()} for out in "ab"]
    assert len(parts[0]) == 3
    assert parts[0] == parts[1]


@pytest.mark.slow
def test_a_run_grows_with_its_recordings(tiny, sixty, single, tmp_path):
    paths = sorted(sixty.iterdir())
    predict.predict([tiny], paths[2:5], out=tmp_path / "out")
    result = predict.predict([tiny], paths[:6], out=tmp_path / "out")
    assert result.n_resumed == 3
    np.testing.assert_array_equal(result.scores, single.loc[result.scores.index])
    assert result.scores.index.str.rsplit("_", n=1).str[0].unique().tolist() == [f"r{k:02}" for k in range(6)]


def test_other_means_and_steps_are_made_of_what_is_there(tiny, sixty, tmp_path, monkeypatch):
    paths = sorted(sixty.iterdir())[:4]
    predict.predict([tiny, tiny], paths, out=tmp_path / "out")
    expected = predict.predict(from_bundles([tiny, tiny], mean="rank"), paths).scores
    monkeypatch.setattr("bcsed.predict.pipeline.compute_spectrograms", None)
    result = predict.predict(from_bundles([tiny, tiny], mean="rank"), paths, out=tmp_path / "out")
    assert result.n_resumed == 4
    np.testing.assert_array_equal(result.scores, expected)
    # Ranks of 1 to n over n, in every column.
    for column in result.scores:
        assert sorted(result.scores[column]) == pytest.approx(np.arange(1, len(result.scores) + 1) / len(result.scores))


def score_and_log(log, words):
    """Run a command that writes the name of each recording that it reads into a log."""
    original = blocks.read_there

    def read(found, *args):
        with log.open("a") as stream:
            stream.write(found.path.name + "\n")
        time.sleep(0.02)  # a fast machine would finish all of them between two kills
        return original(found, *args)

    blocks.read_there = read
    sys.exit(main(words))


@pytest.mark.slow
def test_killed_at_ten_moments_a_run_scores_no_recording_twice(tiny, sixty, single, tmp_path, forkserver):
    out, log, rng, killed = tmp_path / "out", tmp_path / "log", random.Random(5), 0
    words = ["predict", str(tiny.path), "--recordings", str(sixty), "--out", str(out), "--jobs", "1"]

    def start():
        process = forkserver.Process(target=score_and_log, args=(log, words))
        process.start()
        return process

    def finished() -> int:
        return len(list((out / "parts").glob("[!.]*.parquet"))) if out.exists() else 0

    for _ in range(10):
        process, before = start(), finished()
        # A few recordings further, then at a random moment.
        goal = min(58, before + rng.randrange(0, 7))
        while finished() < goal and process.is_alive():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed == 10
    kept = finished()
    scored_before = log.read_text().splitlines()
    log.unlink()
    process = start()
    process.join()
    assert process.exitcode == 0
    np.testing.assert_allclose(read_table(out / "submission.csv"), single, atol=1e-7)
    assert list(read_table(out / "submission.csv").index) == list(single.index)
    # What was finished is not heard again; of each kill at most the few that were on their way were.
    assert len(log.read_text().splitlines()) == 60 - kept
    assert len(scored_before) <= kept + 10 * 6
    assert not list(out.rglob(".*.part"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_that_loses_a_worker_still_comes_to_the_same_rows(tiny, sixty, single, tmp_path):
    pytest.importorskip("distributed")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    scheduler_file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", str(scheduler_file)]
    scheduler = subprocess.Popen([*dask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"], env=environment)
    processes = [scheduler]
    try:
        while not scheduler_file.exists() and scheduler.poll() is None:
            time.sleep(0.1)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(scheduler_file)]
        extra = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1"]
        for number in range(3):
            place = ["--local-directory", str(tmp_path / f"w{number}")]
            processes.append(subprocess.Popen([*worker, *extra, *place], env=environment))
        import json

        address = json.loads(scheduler_file.read_text())["address"]
        seen = []

        def halfway(done, total):
            seen.append(done)
            if done >= 20 and processes[1].poll() is None:
                os.kill(processes[1].pid, signal.SIGKILL)
                processes[1].wait()

        result = predict.predict(
            [tiny],
            [sixty],
            out=tmp_path / "out",
            options=RunOptions(workers=Workers(scheduler=address), shard=2),
            progress=halfway,
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert processes[1].returncode == -signal.SIGKILL
    assert seen[-1] == 60
    assert not result.scores.index.duplicated().any()
    assert list(result.scores.index) == list(single.index)
    np.testing.assert_array_equal(result.scores, single)
    assert len(read_table(tmp_path / "out" / "submission.csv")) == len(single)


def test_workers_that_make_no_sense_are_refused(tiny, recordings, tmp_path, capsys):
    with pytest.raises(ConfigError, match="workers write their scores into the output folder"):
        predict.predict([tiny], [recordings], options=RunOptions(workers=Workers(n=2)))
    with pytest.raises(ConfigError, match="at least 1 worker, got 0"):
        Workers(n=0)
    with pytest.raises(ConfigError, match="threads, processes; got 'mpi'"):
        Workers(backend="mpi")
    with pytest.raises(ConfigError, match="at least 1 recording, got 0"):
        RunOptions(shard=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_scheduler_that_does_not_answer_is_one_sentence(tiny, recordings, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("bcsed.predict.workers.PATIENCE_S", 1)
    workers = Workers(scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler responds there"):
        predict.predict([tiny], [recordings], out=tmp_path / "out", options=RunOptions(workers=workers))


def test_recordings_and_parts_may_lie_elsewhere(tiny, sixty, single, tmp_path):
    """fsspec's stores: here, one in memory."""
    upath = pytest.importorskip("upath")
    there = upath.UPath("memory://bcsed-scale/in")
    there.mkdir(parents=True, exist_ok=True)
    for path in sorted(sixty.iterdir())[:3]:
        (there / path.name).write_bytes(path.read_bytes())
    (there / "empty.ogg").write_bytes(b"")
    out = "memory://bcsed-scale/out"
    formats = OutputOptions(formats=("submission", "scores", "csv"))
    result = predict.predict([tiny], ["memory://bcsed-scale/in"], out=out, output=formats)
    np.testing.assert_array_equal(result.scores, single.loc[result.scores.index])
    assert len(result.scores) and result.failures["status"].tolist() == ["failed"]
    made = {path.name for path in upath.UPath(out).iterdir()}
    assert {"parts", "submission.csv", "scores.parquet", "detections.csv", "failures.csv", "manifest.json"} <= made
    again = predict.predict([tiny], ["memory://bcsed-scale/in"], out=out)
    assert again.n_resumed == 3
    np.testing.assert_array_equal(again.scores, result.scores)


def test_a_connection_that_fails_is_no_short_recording(sixty, monkeypatch):
    """The rows would otherwise be those of a truncated recording, and no later call would score the rest."""
    upath = pytest.importorskip("upath")
    there = upath.UPath("memory://bcsed-broken/in")
    there.mkdir(parents=True, exist_ok=True)
    path = min(sixty.iterdir())
    (there / path.name).write_bytes(path.read_bytes())
    size, read = path.stat().st_size, headers._Stream.read
    info = headers.read_info(there / path.name)
    failing = [True]

    class Failing:
        def __init__(self, stream):
            self.stream = stream

        def read(self, n):
            if failing[0] and self.stream.tell() > size // 2:
                raise ConnectionError("the server is gone")
            return self.stream.read(n)

    def fail(self, n):
        inner, self._stream = self._stream, Failing(self._stream)
        try:
            return read(self, n)
        finally:
            self._stream = inner

    monkeypatch.setattr(headers._Stream, "read", fail)
    with pytest.raises(DataError, match=r"decoding failed: it cannot be read .the server is gone"):
        read_there(info, info.sample_rate, 0, info.n_samples)
    failing[0] = False
    wave = read_there(info, info.sample_rate, 0, info.n_samples)[0]
    assert len(wave) == info.n_samples


def blocks_of(monkeypatch, n: int) -> None:
    monkeypatch.setattr("bcsed.predict.blocks.BLOCK_ROWS", n)


@pytest.mark.parametrize("windowing", [Windowing(), SLIDING], ids=["centred", "sliding"])
def test_a_long_recording_in_blocks_has_the_rows_of_its_parts(tiny, tmp_path, monkeypatch, windowing):
    """Rows of a whole recording equal those of pieces of it, cut at row boundaries with the context that they hear."""
    rng = np.random.default_rng(3)
    wave = (0.1 * rng.standard_normal(150 * RATE) * np.repeat(rng.uniform(0.1, 1, 150), RATE)).astype("float32")
    soundfile.write(tmp_path / "day.wav", wave, RATE, subtype="FLOAT")
    blocks_of(monkeypatch, 4)
    whole = predict.predict([tiny], [tmp_path / "day.wav"], windowing=windowing).scores.to_numpy()
    blocks_of(monkeypatch, 120)
    for first in range(0, 30, 6):
        # Two rows of context; of sliding windows' grid, which is the recording's own, whole strides.
        begin, end = max(0, first - 4), min(30, first + 6 + 4)
        soundfile.write(tmp_path / "piece.wav", wave[5 * begin * RATE : 5 * end * RATE], RATE, subtype="FLOAT")
        piece = predict.predict([tiny], [tmp_path / "piece.wav"], windowing=windowing).scores.to_numpy()
        np.testing.assert_allclose(piece[first - begin : first - begin + 6], whole[first : first + 6], atol=2e-6)


@pytest.mark.slow
def test_memory_follows_neither_number_nor_length(tiny, tmp_path):
    """Peak memory of 250 minutes within a tenth of that of 30; links to one file are as good."""
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "minute.ogg", (0.1 * rng.standard_normal(60 * RATE)).astype("float32"), RATE)
    peaks = []
    for n in (30, 250):
        folder = tmp_path / f"in{n}"
        folder.mkdir()
        for number in range(n):
            (folder / f"r{number:04}.ogg").symlink_to(tmp_path / "minute.ogg")
        code = (
            "import sys\nfrom bcsed.cli.app import main\nassert main(sys.argv[1:]) == 0\n"
            # Not ru_maxrss, which remembers the process that started this one.
            "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
        )
        words = ["predict", str(tiny.path), "--recordings", str(folder), "--out", str(tmp_path / f"out{n}")]
        told = subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True, text=True).stdout
        peaks.append(int(told.split()[-1]))
        assert len(read_table(tmp_path / f"out{n}" / "submission.csv")) == 12 * n
    assert peaks[1] < 1.1 * peaks[0]
