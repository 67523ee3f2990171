"""Ctrl-C in a terminal: the work in hand is finished, and the same command continues to the same result."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE
from test_rounds import QUICK, results_of
from test_train import same, states

from bcsed import interrupt
from bcsed.cli import app, start
from bcsed.cli.app import main
from bcsed.config.experiments import _ARMS
from bcsed.data import synthetic
from bcsed.errors import DataError
from bcsed.kaggle import datasets
from bcsed.predict.pipeline import ScoringPipeline
from bcsed.scores.table import read_table
from bcsed.train.loop import Loop
from bcsed.train.pseudolabels import read_pseudolabels

# In a terminal of its own, in which Ctrl-C is not ignored.
TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
# Each training step, recording and page is slower, and counted in a file; few recordings are in hand.
CODE = """
import os, sys, time
log = os.environ["LOG"]
if log:
    from bcsed.predict.pipeline import ScoringPipeline
    def slower(kind, name):
        original = getattr(kind, name)
        def call(*arguments):
            with open(log, "a") as stream:
                print(name, file=stream)
            time.sleep(0.5)
            return original(*arguments)
        setattr(kind, name, call)
    slower(ScoringPipeline, "_outcome")
    original = ScoringPipeline.__post_init__
    def bounded(pipeline):
        original(pipeline)
        pipeline._max_in_flight = 1
    ScoringPipeline.__post_init__ = bounded
    if sys.argv[1] in ("train", "rounds"):
        from bcsed.train.loop import Loop
        slower(Loop, "_train_step")
    if sys.argv[1] == "report":
        from bcsed.report import api
        slower(api, "_sections")
from bcsed.__main__ import run
sys.exit(run())
"""
KEPT = "finished work is kept: run the same command again"
POSTPONED = "the work in hand is finished first"


@pytest.fixture(autouse=True)
def same_on_every_machine(monkeypatch, forkserver):
    """Let Ctrl-C interrupt also where it is ignored, as by nohup, and few recordings be in hand on many processors."""
    original = ScoringPipeline.__post_init__

    def bounded(pipeline):
        original(pipeline)
        pipeline._max_in_flight = 1

    monkeypatch.setattr(ScoringPipeline, "__post_init__", bounded)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


PROGRAM = (sys.executable, "-c", CODE)


def run_forked(terminal, log, words):
    """Run `CODE` in a new session with a terminal of its own."""
    os.setsid()
    slave = os.open(terminal, os.O_RDWR)
    for number in range(3):
        os.dup2(slave, number)
    os.close(slave)
    # Those of the process that was forked may be files.
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["LOG"], sys.argv = log, ["bcsed", *words]
    exec(CODE, {})


def in_terminal(words, press, log=None, command=None):
    """Run a command in a terminal, call `press` with the process and a function that types, until it returns True.

    `command` starts a program of its own; otherwise the process is forked from one that has imported bcsed.
    Returns the exit status and all that was shown.
    """
    master, slave = pty.openpty()
    log = str(log or "")
    if command is None:
        options = {"target": run_forked, "args": (os.ttyname(slave), log, [*map(str, words)])}
        process = multiprocessing.get_context("forkserver").Process(**options)
        process.start()
        is_alive = process.is_alive
    else:
        streams = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
        command = [sys.executable, "-SEc", TERMINAL, *map(str, (*command, *words))]
        process = subprocess.Popen(command, env={**os.environ, "LOG": log}, **streams)
        is_alive = lambda: process.poll() is None  # noqa: E731
    shown, end, pressed = b"", time.monotonic() + 300, False
    while time.monotonic() < end:
        alive = is_alive()
        if select.select([master], [], [], 0.01)[0]:
            try:
                shown += os.read(master, 1 << 16)
            except OSError:  # the session has ended
                break
        elif not alive:
            break
        pressed = pressed or press(process, lambda: os.write(master, b"\x03"), shown.decode(errors="replace"))
    else:
        process.kill()
    if command is None:
        process.join()
    status = process.exitcode if command is None else process.wait()
    os.close(master)
    os.close(slave)
    return status, shown.decode(errors="replace")


def after(log, n, times=1):
    """Press Ctrl-C when a file has so many lines, once or twice."""

    def press(_, type_it, shown):
        if not log.exists() or len(log.read_text().splitlines()) < n:
            return False
        if POSTPONED not in shown:
            if not press.done:
                type_it()
            press.done = True
            return times == 1
        type_it()
        return True

    press.done = False
    return press


def assert_quiet(status, shown, expected=130):
    assert status == expected, shown
    assert "Traceback" not in shown, shown
    assert shown.count(KEPT) == 1, shown


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(4)
    for number in range(12):
        soundfile.write(folder / f"r{number:02}.wav", rng.normal(0, 0.1, 6 * RATE).astype("f4"), RATE)
    return folder


# Of an epoch.
N_STEPS = 2
TRAIN = ["train", "tiny", "--fold", "0", "--jobs", "2", "--device", "cpu", "--set", *QUICK]


@pytest.fixture(scope="module")
def whole(year, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*TRAIN, "fit.epochs=2", "--data", str(year), "--out", str(out)]) == 0
    return out


def interrupt_at(monkeypatch, kind, name, n=1):
    """Send Ctrl-C's signal to this process at the n-th call of a method; return the list of its calls."""
    original, calls = getattr(kind, name), []

    def call(*args, **kwargs):
        calls.append(name)
        if len(calls) == n:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(kind, name, call)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, N_STEPS, N_STEPS + 1])
def test_interrupted_in_any_step_a_training_resumes_to_the_same_bits(whole, year, tmp_path, monkeypatch, capfd, n):
    words = [*TRAIN, "fit.epochs=2", "--data", str(year), "--out", str(tmp_path / "run")]
    calls = interrupt_at(monkeypatch, Loop, "_train_step", n)
    assert main(words) == 130
    assert len(calls) == n
    assert (tmp_path / "run" / "metrics.png").exists() == (n >= N_STEPS)
    assert "again, with --resume." in capfd.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert len(calls) == 2 * N_STEPS
    assert same(states(whole), states(tmp_path / "run"))


@pytest.mark.parametrize("options", [(), ("--budget-min", "600"), ("--shard", "4")], ids=["plain", "budget", "shards"])
def test_an_interrupted_prediction_scores_no_recording_twice(tiny, many, tmp_path, monkeypatch, options):
    words = ["predict", str(tiny.path), "--recordings", str(many), "--out", str(tmp_path / "out"), *options]
    calls = interrupt_at(monkeypatch, ScoringPipeline, "_outcome", 2)
    assert main(words) == 130
    assert 2 <= len(calls) < 12
    assert not (tmp_path / "out" / "submission.csv").exists()
    assert main(words) == 0
    assert len(calls) == 12
    assert len(read_table(tmp_path / "out" / "submission.csv")) == 24


def test_an_interrupted_table_of_pseudolabels_scores_no_recording_twice(tiny, many, tmp_path, monkeypatch):
    words = ["pseudolabel", str(tiny.path), "--recordings", str(many), "--soft", "--out"]
    assert main([*words, str(tmp_path / "whole.parquet")]) == 0
    calls = interrupt_at(monkeypatch, ScoringPipeline, "_outcome", 2)
    assert main([*words, str(tmp_path / "a.parquet")]) == 130
    assert main([*words, str(tmp_path / "a.parquet")]) == 0
    assert len(calls) == 12
    first, second = (read_pseudolabels(tmp_path / name) for name in ("whole.parquet", "a.parquet"))
    np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.slow
def test_interrupted_labels_of_clips_continue(whole, year, tmp_path, monkeypatch):
    assert main(["export", str(whole), "--out", str(tmp_path / "bundle")]) == 0
    words = [
        "pseudolabel",
        str(tmp_path / "bundle"),
        "--clips",
        str(year),
        "--soft",
        "--out",
        str(tmp_path / "a.parquet"),
    ]
    calls = interrupt_at(monkeypatch, ScoringPipeline, "_outcome", 2)
    assert main(words) == 130
    assert main(words) == 0
    assert len(calls) == len(read_pseudolabels(tmp_path / "a.parquet").values) > 2


@pytest.mark.slow
def test_an_interrupted_study_continues(year, tmp_path, monkeypatch):
    arms = {"off": {"augment__mix": "off"}, "mixup": {"augment__mix": "mixup"}}
    monkeypatch.setitem(_ARMS, "mix", ("tiny", arms))
    words = ["study", "mix", "--data", str(year), "--fold", "0", "--base", "tiny", "--set", *QUICK, "fit.epochs=1"]
    words += ["--out"]
    # In the second training, between its steps.
    calls = interrupt_at(monkeypatch, Loop, "_train_step", 3)
    assert main([*words, str(tmp_path / "out")]) == 130
    n_calls = len(calls)
    assert n_calls == 3
    assert main([*words, str(tmp_path / "out")]) == 0
    assert len(calls) == 2 * N_STEPS
    assert main([*words, str(tmp_path / "whole")]) == 0
    runs = list((tmp_path / "whole").glob("*/last.pt"))
    assert len(runs) == 2
    for path in runs:
        assert same(states(path.parent), states(tmp_path / "out" / path.parent.name))


@pytest.mark.slow
def test_an_interrupted_demo_continues(tmp_path, monkeypatch, capsys):
    def write(folder, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return write_sample(folder, **options | {"scale": 0.05})

    write_sample, words = synthetic.write, ["demo", "--out", str(tmp_path / "demo")]
    monkeypatch.setattr(synthetic, "write", write)
    assert main(words) == 130
    assert KEPT in capsys.readouterr().err
    interrupt_at(monkeypatch, Loop, "_train_step")
    for _ in range(2):
        assert main(words) == 130
        shown = capsys.readouterr().out
        assert "bcsed sample" not in shown
        monkeypatch.setattr(Loop, "run", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    assert "--fold none --resume" in shown


ORDER = ["sample", "train", "export", "check", "predict", "evaluate"]


@pytest.mark.parametrize("command", ORDER)
def test_a_demo_is_finished_after_its_last_command(tmp_path, monkeypatch, command):
    run, names = [], {"sample": "train.csv", "export": "bundle.json", "predict": "submission.csv"}

    def perform(words):
        run.append(words[0])
        if words[0] in names:
            file = Path(words[words.index("--out") + 1] if "--out" in words else words[1]) / names[words[0]]
            file.parent.mkdir(exist_ok=True)
            file.touch()
        if run == ORDER[: ORDER.index(command) + 1]:
            os.kill(os.getpid(), signal.SIGINT)
        return 0

    parser = Namespace(parse_args=lambda words: Namespace(run=lambda _: perform(words)))
    monkeypatch.setattr(app, "make_parser", lambda: parser)
    options = Namespace(out=str(tmp_path / "demo"))
    with pytest.raises(KeyboardInterrupt), interrupt.handle_signals(lambda: ""):
        start.demo(options)
    assert run[-1] == command
    n_run = len(run)
    assert start.demo(options) == 0
    assert run[-1] == "evaluate"
    assert not {"sample", "export"} & set(run[:n_run]) & set(run[n_run:])
    with pytest.raises(DataError, match="contains a finished demo"):
        start.demo(options)


def test_a_demo_removes_a_sample_only_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(start.interrupt, "postponed", lambda: pytest.fail("a command was run"))
    (tmp_path / "sample").mkdir()
    with pytest.raises(DataError, match="contains other files; name a new folder"):
        start.demo(Namespace(out=str(tmp_path)))
    assert (tmp_path / "sample").is_dir()
    (tmp_path / "demo.txt").touch()
    with pytest.raises(pytest.fail.Exception):
        start.demo(Namespace(out=str(tmp_path)))
    assert not (tmp_path / "sample").exists()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_training_saves_its_step_and_resumes_to_the_same_bits(whole, year, tmp_path, times):
    words = [*TRAIN, "fit.epochs=2", "--data", str(year), "--out", str(tmp_path / "run")]
    log = tmp_path / "log"
    status, shown = in_terminal(words, after(log, 2, times), log)
    assert_quiet(status, shown)
    assert "again, with --resume." in shown
    assert POSTPONED in shown
    if times == 1:
        state = states(tmp_path / "run")
        assert (0, 0) < (state["epoch"], state["step"]) < (2, 0)
        # The step in hand is the last.
        assert len(log.read_text().splitlines()) == state["epoch"] * N_STEPS + state["step"]
    assert not list((tmp_path / "run").glob(".*.part"))
    assert main([*words, "--resume"]) == 0
    assert same(states(whole), states(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_process_alone(tiny, many, tmp_path, number):
    out, log = tmp_path / "out", tmp_path / "log"

    def press(process, *_):
        if log.exists() and len(log.read_text().splitlines()) > 1:
            os.kill(process.pid, number)
            return True
        return False

    status, shown = in_terminal(["predict", tiny.path, "--recordings", many, "--out", out], press, log)
    assert_quiet(status, shown, 128 + number)


@pytest.fixture(scope="module")
def all_scores(tiny, many, tmp_path_factory):
    out = tmp_path_factory.mktemp("scores") / "out"
    assert main(["predict", str(tiny.path), "--recordings", str(many), "--out", str(out)]) == 0
    return read_table(out / "submission.csv")


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(
    "options", [(), ("--budget-min", "600"), ("--workers", "2")], ids=["plain", "budget", "threads"]
)
def test_a_prediction_finishes_the_recordings_in_hand(tiny, many, all_scores, tmp_path, options, times):
    words = ["predict", str(tiny.path), "--recordings", str(many), "--out", str(tmp_path / "out"), *options]
    log = tmp_path / "log"
    status, shown = in_terminal(words, after(log, 2, times), log)
    assert_quiet(status, shown)
    n_parts = len(list((tmp_path / "out" / "parts").glob("[!.]*.parquet")))
    assert n_parts < 12
    if times == 1:
        assert n_parts >= 2
    assert main(words) == 0
    assert not list((tmp_path / "out").rglob(".*.part"))
    scores = read_table(tmp_path / "out" / "submission.csv")
    assert len(scores) == 24
    np.testing.assert_allclose(scores, all_scores.loc[scores.index], atol=1e-6)


def processes_with(log):
    """Return the processes that have the variable of a file."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            pids += [path.parent.name] if f"LOG={log}\0".encode() in path.read_bytes() else []
    return pids


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_worker_processes_outlive_the_terminals_signal(tiny, many, tmp_path, times):
    long = tmp_path / "long"
    long.mkdir()
    for copy in range(10):
        for path in many.iterdir():
            shutil.copy(path, long / f"{copy}{path.name}")
    out = tmp_path / "out"
    words = ["predict", str(tiny.path), "--recordings", str(long), "--out", str(out)]
    words += ["--workers", "2", "--backend", "processes", "--jobs", "1"]

    def press(_, type_it, shown):
        if len(list((out / "parts").glob("[!.]*.parquet"))) < 2:
            return False
        type_it()
        time.sleep(0.05)
        if times == 2:
            type_it()
        return True

    status, shown = in_terminal(words, press, tmp_path / "log", PROGRAM)
    assert_quiet(status, shown)
    end = time.monotonic() + 10
    while processes_with(tmp_path / "log") and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes_with(tmp_path / "log")
    assert 2 <= len(list((out / "parts").glob("[!.]*.parquet"))) < 120
    assert main(words) == 0
    assert len(read_table(out / "submission.csv")) == 240


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_a_pipe_changes_nothing(tiny, many, tmp_path, times):
    """The reader, such as tee, ends by the same Ctrl-C."""
    out, log, status_file = tmp_path / "out", tmp_path / "log", tmp_path / "status"
    words = ["predict", str(tiny.path), "--recordings", str(many), "--out", str(out)]
    (tmp_path / "run.sh").write_text(f'trap : INT\n("$@"; echo $? > {status_file}) | (trap - INT; exec cat)\n')
    _, shown = in_terminal(words, after(log, 2, times), log, ["bash", tmp_path / "run.sh", *PROGRAM])
    assert_quiet(int(status_file.read_text()), shown)
    assert main(words) == 0


@pytest.mark.slow
def test_rounds_interrupted_at_every_step_give_the_same_bytes(land25, tmp_path, monkeypatch):
    data, _ = land25
    plan = tmp_path / "plan.json"
    plan.write_text(
        '{"fold": 0, "rounds": [{"experiments": ["tiny"]}, '
        '{"experiments": ["tiny"], "teacher": ["previous"], "share": 0.5}]}'
    )
    words = ["rounds", str(plan), "--data", str(data), "--set", *QUICK, "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    out, log, statuses = tmp_path / "out", tmp_path / "log", []
    # First in a terminal, then in this process.
    assert_quiet(*in_terminal([*words, out], after(log, 3), log))
    steps = [(Loop, "_train_step"), (ScoringPipeline, "_outcome")]
    while not statuses or statuses[-1] == 130:
        with monkeypatch.context() as patch:
            for kind, name in steps:
                interrupt_at(patch, kind, name, 2)
            statuses.append(main([*words, str(out)]))
        assert len(statuses) < 20
    assert len(statuses) > 3
    assert statuses[-1] == 0
    assert main([*words, str(out)]) == 0
    assert results_of(out) == results_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_report_leaves_the_earlier_page(tiny, many, tmp_path):
    scores, page, log = tmp_path / "scores", tmp_path / "page.html", tmp_path / "log"
    assert main(["predict", str(tiny.path), "--recordings", str(many), "--out", str(scores)]) == 0
    words = ["report", str(scores), "--bundle", str(tiny.path), "--out", str(page)]
    page.write_text(earlier := '<meta name="generator" content="bcsed 0">')
    status, shown = in_terminal(words, after(log, 1), log)
    assert_quiet(status, shown)
    assert page.read_text() == earlier
    assert not list(tmp_path.glob(".*.part"))
    assert main(words) == 0
    assert page.stat().st_size > 10_000


@pytest.mark.parametrize("command", ["sample", "kaggle dataset"])
def test_a_command_that_cannot_continue_asks_for_a_new_folder(tmp_path, monkeypatch, capsys, command):
    def write(folder, *_, **__):
        Path(folder).mkdir(exist_ok=True)
        (Path(folder) / "part").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write", write)
    monkeypatch.setattr(datasets, "collect_wheels", write)
    out = tmp_path / "out"
    assert main([*command.split(), str(out), *(["--owner", "somebody"] if "kaggle" in command else [])]) == 130
    shown = capsys.readouterr().err
    assert f"{out} is incomplete: name another folder, or remove that one" in shown
    assert KEPT not in shown


def test_signals_are_handled_on_the_command_line_only():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interrupt.handle_signals(lambda: ""):
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt, match="15"):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(KeyboardInterrupt), interrupt.postponed():
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("as a library, nothing is postponed")
    assert not interrupt.asked()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupt.handle_signals(lambda: ""), interrupt.postponed():
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interruption_is_raised_at_the_end_of_the_outer_block(capfd):
    steps = []
    with pytest.raises(KeyboardInterrupt), interrupt.handle_signals(lambda: ""):
        with interrupt.postponed():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("in hand")
        steps.append("next")
    assert steps == ["in hand"]
    assert POSTPONED in capfd.readouterr().err


@pytest.mark.slow
def test_several_processes_stop_at_the_same_step(year, tmp_path):
    log, out = tmp_path / "log", tmp_path / "run"
    (tmp_path / "bcsed_slow.py").write_text(CODE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [*TRAIN, "fit.epochs=2", "--data", str(year), "--out", str(out)]
    command = [*torchrun, str(tmp_path / "bcsed_slow.py"), *words]
    _, shown = in_terminal([], after(log, 2), log, command)
    assert "again, with --resume." in shown
    state = states(out)
    assert (0, 0) < (state["epoch"], state["step"]) < (2, 0)
    assert subprocess.run([*command, "--resume"], env={**os.environ, "LOG": ""}, check=False).returncode == 0
    assert states(out)["epoch"] == 2
