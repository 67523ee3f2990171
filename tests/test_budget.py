"""A run ends within its time, with every row, and says what it left out."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import RATE
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed import predict
from bcsed.cli.app import main
from bcsed.errors import ConfigError
from bcsed.models.backends import OpenVinoBackend
from bcsed.models.ensemble import Ensemble, from_bundles
from bcsed.models.export import export
from bcsed.predict import budget
from bcsed.predict.assemble import ScoreAssembler
from bcsed.predict.budget import Budget, CostModel, RefinementPlanner, process_age_s
from bcsed.predict.run import PredictionRun
from bcsed.predict.spec import Windowing, make_spec
from bcsed.predict.store import MemoryStore, Recording, StoredScores, describe_recordings
from bcsed.scores.table import read_table, row_ids

SLIDING = Windowing(windows="sliding", stride_s=1.0)
SLOW_S = 0.04


@pytest.fixture(scope="module")
def trio(tiny, network, tmp_path_factory):
    """Three members that differ, of one signal."""
    made = [tiny]
    for bias in (0.5, -0.5):
        shifted = copy.deepcopy(network)
        shifted.heads[0].logits[-1].bias.data += bias
        folder = tmp_path_factory.mktemp("trio") / "bundle"
        made.append(export(shifted, folder, contract=tiny.contract, priors=np.full(3, 0.2, "float32")))
    return made


@pytest.fixture(scope="module")
def minutes(tmp_path_factory):
    """Sixteen recordings of 24 s."""
    folder = tmp_path_factory.mktemp("minutes")
    rng = np.random.default_rng(6)
    for number in range(16):
        wave = (0.1 * rng.standard_normal(24 * RATE)).astype("float32")
        soundfile.write(folder / f"r{number:02}.wav", wave, RATE)
    return folder


class Slow:
    """Makes every window take some time more, as a slower machine would."""

    def __init__(self, monkeypatch, seconds: float) -> None:
        self.seconds, self.n = seconds, 0
        original = OpenVinoBackend.submit

        def submit(listener, window, done):
            self.n += 1
            time.sleep(self.seconds)
            return original(listener, window, done)

        monkeypatch.setattr(OpenVinoBackend, "submit", submit)


def from_now(seconds: float, **options) -> Budget:
    return Budget(minutes=seconds / 60, clock_start_s=process_age_s(), **options)


@pytest.fixture(scope="module")
def whole_s(trio, minutes):
    """Seconds for all scores of all members, where every window takes `SLOW_S` longer: of a quarter, times four."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        Slow(monkeypatch, SLOW_S)
        return 4 * predict.predict(trio, sorted(minutes.iterdir())[:4], windowing=SLIDING).seconds


@pytest.mark.slow
@pytest.mark.parametrize("slowdown", [1, 3])
def test_two_fifths_of_the_time_are_enough_for_every_row(trio, minutes, whole_s, tmp_path, monkeypatch, slowdown):
    Slow(monkeypatch, SLOW_S * slowdown)
    # The reserve is for the windows that are submitted already, up to 2 s here, and for writing.
    allowed = from_now(0.4 * whole_s, reserve_s=0.08 * whole_s)
    began, said = time.monotonic(), []
    result = predict.predict(trio, [minutes], windowing=SLIDING, budget=allowed, out=tmp_path / "out", log=said.append)
    assert time.monotonic() - began < 0.4 * whole_s
    assert allowed.left() + allowed.reserve > 0
    assert list(result.scores.index) == [row for number in range(16) for row in row_ids(f"r{number:02}", 5, 5)]
    assert np.isfinite(result.scores.to_numpy()).all()
    assert result.n_failed == 0
    assert result.left_out
    assert all("member" in sentence for sentence in result.left_out)
    assert "s are left for" in said[0]
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["budget"]
    assert told["left_out"] == list(result.left_out)
    assert told["passes"][0]["complete"]
    assert len(read_table(tmp_path / "out" / "submission.csv")) == 80


@pytest.mark.slow
def test_with_time_enough_everything_is_had_and_the_answer_is_the_same(trio, minutes):
    whole = predict.predict(from_bundles(trio, [1, 2, 3]), [minutes], windowing=SLIDING)
    result = predict.predict(from_bundles(trio, [1, 2, 3]), [minutes], windowing=SLIDING, budget=from_now(600))
    assert result.left_out == ()
    np.testing.assert_array_equal(result.scores, whole.scores)


@pytest.mark.slow
def test_a_member_that_did_not_answer_every_recording_does_not_count(trio, minutes):
    """Rows stay comparable; a closer look by a member that counts is used where it was had."""
    members = from_bundles(trio)
    named = describe_recordings(sorted(minutes.iterdir())[:3])
    spec = make_spec(members, Windowing(shifts_s=(0.0, 1.0)))
    wanted, cheapest = spec.views, spec.cheapest
    store = MemoryStore()

    def answer(recording: int, view, value: float) -> None:
        store.put([(named[recording].key, StoredScores({view.name: np.full((5, 3), value, np.float32)}))])

    drive = PredictionRun(spec, named, store)
    for recording in range(3):
        answer(recording, cheapest[0], 0.1)
        answer(recording, cheapest[2], 0.3)
    answer(0, wanted[0], 0.2)
    answer(0, wanted[1], 0.4)
    answer(1, wanted[1], 0.6)
    # The second member has answered two of three.
    answer(0, wanted[2], 0.9)
    answer(1, wanted[2], 0.9)
    assert drive.complete_members() == [0, 2]
    table = [scored.table.iloc[0, 0] for scored in ScoreAssembler(drive, members.classes)]
    np.testing.assert_allclose(table, [(0.3 + 0.3) / 2, (0.6 + 0.3) / 2, (0.1 + 0.3) / 2], rtol=1e-6)
    answer(2, cheapest[1], 0.6)
    assert drive.complete_members() == [0, 1, 2]
    table = [scored.table.iloc[0, 0] for scored in ScoreAssembler(drive, members.classes)]
    np.testing.assert_allclose(table, [1.5 / 3, 1.8 / 3, 1.0 / 3], rtol=1e-6)


def test_what_there_was_no_time_for_is_filled_and_listed(tiny, minutes, tmp_path, monkeypatch):
    n_done = 0

    def count(done, total):
        nonlocal n_done
        n_done = done

    monkeypatch.setattr(Budget, "left", lambda _: 1000.0 if n_done < 3 else -1.0)
    out = tmp_path / "out"
    result = predict.predict([tiny], [minutes], budget=from_now(60), out=out, progress=count)
    unheard = result.failures[result.failures["status"] == "timeout"]
    # Up to two more were with the network.
    assert 11 <= len(unheard) <= 13
    assert "the time was up" in unheard["reason"].iloc[0]
    assert result.n_failed == len(unheard)
    assert len(result.scores) == 80
    assert np.allclose(result.scores.iloc[-5:], 0.2)
    assert not np.allclose(result.scores.iloc[:5], 0.2)
    assert len(read_table(out / "submission.csv")) == 80
    monkeypatch.undo()
    again = predict.predict([tiny], [minutes], budget=from_now(60), out=out)
    assert again.n_failed == 0
    assert again.n_resumed == 16 - len(unheard)


def test_with_no_time_at_all_nothing_is_written_as_if_it_were_scored(tiny, minutes, tmp_path, capsys):
    words = ["predict", str(tiny.path), "--recordings", str(minutes), "--out", str(tmp_path / "out")]
    assert main([*words, "--budget-min", "0.001"]) == 4
    assert not (tmp_path / "out" / "submission.csv").exists()
    assert "timeout" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_goes_on_with_a_budget_repeats_nothing(trio, minutes, tmp_path, monkeypatch):
    whole = predict.predict(trio, [minutes], windowing=SLIDING, out=tmp_path / "out")
    slow = Slow(monkeypatch, 0.0)
    again = predict.predict(trio, [minutes], windowing=SLIDING, out=tmp_path / "out", budget=from_now(60))
    assert again.n_resumed == 16
    # Only the members are timed.
    assert slow.n <= 3 * 6
    np.testing.assert_array_equal(again.scores, whole.scores)


HANGS = """
import sys, time
from bcsed.models.backends import OpenVinoBackend
from bcsed.cli.app import main
original = OpenVinoBackend.submit
n = 0
def submit(listener, window, done):
    global n
    n += 1
    if n > 6 + 17:
        time.sleep(1000)
    return original(listener, window, done)
OpenVinoBackend.submit = submit
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_with_every_row(tiny, minutes, tmp_path):
    words = [
        "predict",
        str(tiny.path),
        "--recordings",
        str(minutes),
        "--out",
        str(tmp_path / "out"),
        "--budget-min",
        "0.4",
    ]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGS, *words], capture_output=True, text=True, timeout=200)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < 60 * 0.4 + 5
    assert "the run hung beyond its budget" in done.stderr
    table = read_table(tmp_path / "out" / "submission.csv")
    assert len(table) == 80
    assert not np.allclose(table.iloc[0], table.iloc[-1])


@given(
    costs=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=4),
    picture=st.floats(0, 0.01),
    left=st.floats(1, 1000),
    shifts=st.sampled_from([(0.0,), (0.0, 1.0, -1.0)]),
    slower=st.floats(0.5, 4),
)
@settings(deadline=None, max_examples=60)
def test_the_plan_ends_and_never_begins_a_member_that_does_not_fit(tiny, costs, picture, left, shifts, slower):
    class Silent:
        contract, steps = tiny.contract, tiny.steps

    n = len(costs)
    members = Ensemble(tuple(Silent() for _ in range(n)), (1.0,) * n)
    spec = make_spec(members, Windowing(shifts_s=shifts))
    model, wanted = CostModel(spec, costs, picture), spec.views
    plan = RefinementPlanner(spec, model)
    first = plan.first()
    assert model.estimate([first], 60) == min(model.estimate([view], 60) for view in spec.cheapest)
    had, heard, n_passes = {first: True}, {first.member}, 0
    while views := plan.next(had, heard, 600.0, left):
        took = slower * model.estimate(views, 600.0)
        new = {view.member for view in views} - heard
        assert not new or model.estimate(views, 600.0) < left
        assert not set(views) & set(had)
        complete = took <= left
        left -= min(took, left)
        had.update(dict.fromkeys(views, complete))
        heard |= new if complete else set()
        n_passes += 1
        assert n_passes <= 3 * len(wanted) + n
    if left > 0 and not plan.left_out(had, heard):
        assert all(had.get(view) for view in wanted)


def test_members_come_before_closer_looks_and_shifts(tiny):
    class Silent:
        contract, steps = tiny.contract, tiny.steps

    members = Ensemble((Silent(), Silent()), (1.0, 1.0))
    spec = make_spec(members, Windowing(shifts_s=(0.0, 1.5)))
    plan = RefinementPlanner(spec, CostModel(spec, [0.01, 0.01], 0.001))
    order, had, heard = [], {spec.cheapest[0]: True}, {0}
    # Never enough for all the rest at once.
    while views := plan.next(had, heard, 600.0, 1.9):
        order += [view.name for view in views]
        had.update(dict.fromkeys(views, True))
        heard |= {view.member for view in views}
    assert order[0].startswith("1-")
    assert order.index("0-centred") < order.index("0-centred+1.5")


def test_impossible_budgets_are_refused(tiny, recordings, tmp_path, capsys):
    for options, sentence in (
        ({"minutes": 0}, "a positive number of minutes, got 0"),
        ({"minutes": float("nan")}, "a positive number of minutes"),
        ({"minutes": 1, "elapsed_s": -1}, "elapsed time must be at least 0"),
        ({"minutes": 1, "reserve_s": 60}, "below the budget"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Budget(**options)
    words = ["predict", str(tiny.path), "--recordings", str(recordings), "--out", str(tmp_path / "out")]
    assert main([*words, "--elapsed-min", "3"]) == 2
    assert "belongs to a budget" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="a budget needs a single process"):
        options = predict.RunOptions(workers=predict.Workers(n=2))
        predict.predict([tiny], [recordings], out=tmp_path / "o", budget=from_now(9), options=options)


@pytest.mark.slow
def test_time_counts_from_the_start_of_the_process():
    code = "import time; time.sleep(.5)\nfrom bcsed.predict import process_age_s as age; print(age())"
    began = time.monotonic()
    told = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0.5 < told <= time.monotonic() - began + 0.1
    assert Budget(minutes=1, elapsed_s=10, clock_start_s=process_age_s(), reserve_s=0).left() == pytest.approx(
        50, abs=0.5
    )
    assert budget.Budget(minutes=90).reserve == 120


def test_a_first_recording_that_cannot_be_decoded(tiny, minutes, tmp_path):
    soundfile.write(tmp_path / "a.flac", soundfile.read(minutes / "r01.wav")[0], RATE)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[:8300] + bytes(len(data) - 8300))
    soundfile.write(tmp_path / "b.wav", soundfile.read(minutes / "r00.wav")[0], RATE)
    output = predict.OutputOptions(on_error="fill")
    result = predict.predict([tiny], [tmp_path], budget=Budget(minutes=5), output=output)
    assert len(result.scores) == 10 and len(result.failures) == 1


def test_a_resumed_pass_is_timed_without_the_recordings_of_the_earlier_run():
    """Of 100 recordings, 95 are stored; the estimate of the rest is exact."""
    values = StoredScores({"0-centred": np.zeros((1, 1), "float32")})
    recordings = [Recording(Path(f"{k}.wav"), str(k), str(k)) for k in range(100)]
    view = budget.View(member=0, windowing=Windowing(row_s=5))
    store = MemoryStore()
    store.put([(each.key, values) for each in recordings[:95]])
    run = PredictionRun(SimpleNamespace(), recordings, store, durations_s={each.path: 1.0 for each in recordings})
    costs = SimpleNamespace(estimate=lambda _, seconds: 0.02 * seconds, seen=[])
    costs.update = lambda *seconds: costs.seen.append(seconds)

    def score(ensemble, views, recordings, stop, on_done):
        for each in recordings[95:]:
            store.put([(each.key, values)])
            on_done(each)
            assert not stop()

    run.run = score
    run._timed_pass(None, Budget(minutes=5, clock_start_s=process_age_s()), costs, {}, [view], recordings)
    assert costs.seen[0][0] == pytest.approx(0.1)


def test_a_watchdog_that_fires_already_ends_the_process_before_another_thread_writes(monkeypatch):
    """The late pass returns while the watchdog writes."""
    events = []

    def write():
        events.append("write")
        time.sleep(0.5)
        return True

    monkeypatch.setattr(budget.os, "_exit", lambda _: events.append("end"))
    with budget.watchdog(from_now(0.2, reserve_s=0.1, end_process=True), write):
        while not events:
            time.sleep(0.01)
    assert events == ["write", "end"]
