"""Strong labels: marked events reach the right time steps, and teach a network where a call is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE, write_csv
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bcsed import train
from bcsed.audio.headers import read_info
from bcsed.cli import main
from bcsed.config.contract import TINY_128
from bcsed.config.experiments import find_experiment
from bcsed.config.recipe import Data, Fit, Injection
from bcsed.errors import ConfigError, DataError
from bcsed.train.augment import CutMix, Excerpts, Injector, Mixup, Sumix, WaveBatch, join_marks
from bcsed.train.dataset.batches import BatchInputs
from bcsed.train.dataset.clips import ClipReader
from bcsed.train.dataset.events import Events, Piece, mark_steps, window_targets
from bcsed.train.dataset.excerpts import ExcerptSampler
from bcsed.train.losses import strong_loss
from bcsed.train.strong_labels import to_events

STEPS, K, N = 8, 3, TINY_128.clip_samples
WIDTH = TINY_128.n_frames // STEPS * TINY_128.hop_length
EDGE = TINY_128.n_fft // 2  # of the first step in a window's samples


def make_events(*lines: tuple[float, float, int]) -> Events:
    begin, end = (np.array([round(line[k] * RATE) for line in lines], np.int64) for k in (0, 1))
    return Events(begin, end, np.array([line[2] for line in lines], np.int64))


def counted(pieces: list[Piece]) -> np.ndarray:
    """The marks by the rule, counted over all samples: the slow and obvious way."""
    marks = np.full((STEPS, K), -1.0)
    for step in range(STEPS):
        samples = np.arange(EDGE + step * WIDTH, EDGE + (step + 1) * WIDTH)
        for column in range(K):
            found = []
            for piece in pieces:
                mine = samples[(samples >= piece.begin) & (samples < piece.end)] - piece.begin + piece.first
                if not len(mine):
                    continue
                if piece.events is None or column not in piece.events.column:
                    found.append(-1.0)
                    continue
                mark = 0.0
                for begin, end, k in zip(*piece.events, strict=True):
                    if k != column:
                        continue
                    turns = mine // piece.period if piece.period else np.zeros_like(mine)
                    source = mine - turns * piece.period
                    for turn in np.unique(turns):
                        n = int(((source >= begin) & (source < end) & (turns == turn)).sum())
                        if n and 2 * n >= min(WIDTH, end - begin):
                            mark = 1.0
                        elif n and mark == 0:
                            mark = -1.0
                found.append(mark)
            marks[step, column] = 1.0 if 1.0 in found else min(found)
    return marks


times = st.integers(0, 140).map(lambda tenths: tenths / 10)
lines = st.lists(st.tuples(times, st.sampled_from([0.1, 0.4, 1.0, 2.3, 9.0]), st.integers(0, K - 1)), min_size=1)


firsts = st.integers(-1280, 2560).map(lambda n: 100 * n + EDGE)


@example(lines=[(3.1, 0.1, 0)], first=2224, kind="whole")
@given(lines=lines, first=firsts, kind=st.sampled_from(["whole", "repeat", "join"]))
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_marks_are_those_of_a_count_of_samples(lines, first, kind):
    events = make_events(*((start, start + length, k) for start, length, k in lines))
    pieces = [Piece(events, first)]
    if kind == "repeat":
        # Three seconds, repeated: an event ends with the recording.
        within = [(min(start, 2.9), min(start + length, 3.0), k) for start, length, k in lines]
        pieces = [Piece(make_events(*within), first, period=3 * RATE)]
    if kind == "join":
        half, other = EDGE + 130_700, None if first < 0 else events
        pieces = [Piece(events, EDGE, 0, half), Piece(other, 0, half, N)]
    np.testing.assert_array_equal(mark_steps(pieces, STEPS, K, TINY_128), counted(pieces))


def test_an_event_always_marks_a_step_and_unmarked_classes_stay_unknown():
    for start in np.linspace(0.1, 6.9, 60):
        for length in (0.05, 0.5, 1.0, 1.1):
            marks = mark_steps([Piece(make_events((start, start + length, 1)), -EDGE)], STEPS, K, TINY_128)
            assert (marks[:, 1] == 1).any()
            assert (marks[:, [0, 2]] == -1).all()
    assert (mark_steps([Piece(None, 0)], STEPS, K, TINY_128) == -1).all()
    assert mark_steps([Piece(make_events((1, 2, 0)), 0)], 0, K, TINY_128).shape == (0, K)


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    """Clips of 20, 12 and 3 s; in the event of clip k the samples are k + 1 tenths, elsewhere 1 to 3 hundredths."""
    folder, infos, events = tmp_path_factory.mktemp("marked"), [], []
    for k, (seconds, start, end) in enumerate(((20, 13.0, 14.5), (12, 1.0, 5.5), (3, 1.2, 1.5))):
        t = np.arange(seconds * RATE) / RATE
        wave = np.where((t >= start) & (t < end), (k + 1) / 10, (k + 1) / 100)
        soundfile.write(folder / f"{k}.wav", wave.astype("float32"), RATE, subtype="FLOAT")
        infos.append(read_info(folder / f"{k}.wav"))
        events.append(make_events((start, end, k)))
    return infos, tuple(events)


def make_inputs(marked, **fields) -> BatchInputs:
    infos, events = marked
    clips = ClipReader(infos, TINY_128, fields.pop("data", Data()), 0.1)
    targets, weights = np.eye(K, dtype=np.float32), np.ones((K, K), np.float32)
    return BatchInputs(clips, targets, weights, **{"events": events, "steps": STEPS, **fields})


def share_inside(wave: np.ndarray, level: float) -> np.ndarray:
    """The share of each step's samples that have a level."""
    return (np.abs(wave[EDGE : EDGE + STEPS * WIDTH] - level) < 1e-3).reshape(STEPS, WIDTH).mean(1)


@pytest.mark.parametrize("pad", ["zeros", "repeat", "join"])
@pytest.mark.parametrize("row", range(K))
def test_a_crop_holds_an_event_and_marks_its_steps(marked, row, pad):
    inputs = make_inputs(marked, data=Data(pad=pad), partners=np.array([1.0, 2.0, 3.0]) if pad == "join" else None)
    positions = set()
    for seed in range(12):
        clip = inputs.read(row, "random", np.random.default_rng(seed))
        share = share_inside(clip.wave, (row + 1) / 10)
        assert share.any(), "the window misses the event"
        assert clip.targets[row] == 1
        if row < 2:
            assert ((share >= 0.5) == (clip.marks[:, row] == 1)).all()
        assert (clip.marks[share == 0, row] <= 0).all()
        assert (clip.marks[share == 1, row] == 1).all()
        assert (clip.marks[:, row] == 1).any()
        positions.add(share.tobytes())
    # The window is drawn around the event, which is not always in the middle.
    assert len(positions) > 1


def test_a_window_without_its_event_is_negative(marked):
    inputs = make_inputs(marked)
    # Validation reads the begin of a clip, here without the event.
    clip = inputs.read(0, "first", np.random.default_rng(0))
    assert (clip.marks[:, 0] == 0).all()
    assert clip.targets[0] == 0
    unmarked = dataclasses.replace(inputs, steps=0).read(0, "first", np.random.default_rng(0))
    assert unmarked.targets[0] == 1
    assert unmarked.marks.shape == (0, K)
    targets, weights = window_targets(np.array([[1.0, 0, -1]]), *np.zeros((2, K), np.float32), 0.8)
    assert targets.tolist() == pytest.approx([0.8, 0, 0])
    assert weights.tolist() == [1, 1, 0]


def read_batch(marked, seed: int, **fields) -> WaveBatch:
    inputs = make_inputs(marked, **fields)
    clips = [inputs.read(row, "random", np.random.default_rng([seed, row])) for row in range(2)]
    return WaveBatch(*(torch.from_numpy(np.stack(parts)) for parts in zip(*clips, strict=True)))


@example(seed=173, kind="cutmix")
@given(seed=st.integers(0, 999), kind=st.sampled_from(["sumix", "mixup", "cutmix"]))
@settings(max_examples=25, deadline=None)
def test_marks_follow_the_samples_of_a_mixture(marked, seed, kind):
    before = read_batch(marked, seed)
    mix = {"sumix": Sumix((1,)), "mixup": Mixup(1.0, "raw"), "cutmix": CutMix(1.0, "raw")}[kind]
    after = mix(before, torch.Generator().manual_seed(seed))
    again = mix(read_batch(marked, seed, steps=0), torch.Generator().manual_seed(seed))
    for name in ("waves", "weights", "embeddings"):
        assert torch.equal(getattr(after, name), getattr(again, name)), "marks change other parts of a mixture"
    if kind != "cutmix":
        pairs = [(row, other) for row in range(2) for other in range(2)]
        for row in range(2):
            options = [join(before, row, other) for _, other in pairs]
            assert any(torch.equal(after.marks[row], option) for option in options)
        return
    for row in range(2):
        wave = after.waves[row].numpy()
        for k in range(2):
            event, rest = share_inside(wave, (k + 1) / 10), share_inside(wave, (k + 1) / 100)
            other = share_inside(wave, (2 - k) / 10) + share_inside(wave, (2 - k) / 100)
            # A step beside the edge of the stretch may be unknown: the edges of steps are known to the front end only.
            for share, mark in ((event, 1), (rest, 0)):
                inner = (share == 1) & (np.roll(share, 1) == 1) & (np.roll(share, -1) == 1)
                assert (after.marks[row, inner, k] == mark).all()
                assert np.isin(after.marks[row, share == 1, k], (mark, -1)).all()
            # What is wholly of the other clip, where nobody marked the class, is not known.
            assert (after.marks[row, other == 1, k] == -1).all()


def join(batch: WaveBatch, row: int, other: int) -> torch.Tensor:
    """The rule of join_marks, step by step."""
    result = torch.empty(STEPS, K)
    for step in range(STEPS):
        for k in range(K):
            a, b = float(batch.marks[row, step, k]), float(batch.marks[other, step, k])
            if a < 0 <= b and batch.targets[row, k] == 0:
                a = 0.0
            elif b < 0 <= a and batch.targets[other, k] == 0:
                b = 0.0
            result[step, k] = 1 if 1 in (a, b) else -1 if -1 in (a, b) else 0
    return result


def test_the_sum_of_marks():
    absent, present = torch.tensor([[True]]), torch.tensor([[False]])
    sums = {(1, -1): 1, (0, 0): 0, (1, 0): 1, (-1, -1): -1}
    for (a, b), expected in sums.items():
        for first, second in ((a, b), (b, a)):
            marks = torch.tensor([[[float(first)]]]), torch.tensor([[[float(second)]]])
            assert float(join_marks(marks[0], present, marks[1], present)) == expected
    zero, unknown = torch.zeros(1, 1, 1), torch.full((1, 1, 1), -1.0)
    assert float(join_marks(zero, present, unknown, present)) == -1
    assert float(join_marks(zero, present, unknown, absent)) == 0
    assert float(join_marks(unknown, absent, unknown, absent)) == -1


def test_excerpts_of_soundscapes_carry_marks(marked):
    infos, events = marked
    rows = np.arange(4)
    values = np.zeros((4, K), np.float16)
    values[2, 0] = 1
    settings = {"frontend": TINY_128, "data": Data(), "pseudo": False, "events": [events[0]]}
    sampler = ExcerptSampler(infos[:1], 0 * rows, 5 * rows, 5 * rows + 5, values, **settings)
    for seed in range(6):
        clips = [sampler.window_around(2, np.random.default_rng(seed), STEPS)]
        for excerpt in ("whole", "pairs"):
            drawn = sampler.sample(Injection(share=1.0, excerpt=excerpt), -1, np.random.default_rng(seed), STEPS)
            clips.append(drawn)
        for clip in clips:
            share = share_inside(clip.wave, 0.1)
            assert (clip.marks[share == 1, 0] == 1).all()
            assert (clip.marks[share == 0, 0] <= 0).all()
            assert (clip.marks[:, 1:] == -1).all()
    # A soundscape that is shorter than the window is repeated, and so are its events.
    short = dataclasses.replace(infos[0], n_samples=5 * infos[0].sample_rate)
    call = make_events((0.0, 1.0, 0))
    settings |= {"events": [call], "data": Data(pad="repeat")}
    repeated = ExcerptSampler([short], 0 * rows[:1], rows[:1], rows[:1] + 5, values[2:3], **settings)
    marks = repeated.window_around(0, np.random.default_rng(0), STEPS).marks[:, 0]
    assert marks[0] == 1 and marks[5] == 1 and (marks[[1, 2, 3, 7]] == 0).all()
    batch = read_batch(marked, 0)
    excerpts = Excerpts(torch.tensor([1]), *(torch.from_numpy(part)[None] for part in clips[0]))
    replaced = Injector(Injection(mode="substitute"))(batch, excerpts, torch.Generator())
    assert torch.equal(replaced.marks[1], excerpts.marks[0])
    assert torch.equal(replaced.marks[0], batch.marks[0])
    added = Injector(Injection())(batch, excerpts, torch.Generator().manual_seed(0))
    assert (added.marks[1, :, 0] == excerpts.marks[0, :, 0]).all()
    assert torch.equal(added.marks[1, :, 1] == 1, batch.marks[1, :, 1] == 1)


def outputs(B: int = 4):
    g = torch.Generator().manual_seed(1)
    logits, attention = (torch.randn(B, STEPS, K, generator=g, requires_grad=True) for _ in range(2))
    return logits, attention, torch.randint(-1, 2, (B, STEPS, K), generator=g).float()


@pytest.mark.parametrize("loss", ["focal", "focal_torchvision", "bce", "auc"])
def test_the_strong_loss(loss):
    fit = Fit(loss=loss)
    logits, attention, marks = outputs()
    # Unknown steps and unmarked batches count nothing.
    nothing = strong_loss(logits, attention.tanh(), torch.full_like(marks, -1.0), fit)
    nothing.backward()
    assert nothing.item() == 0
    assert not logits.grad.any()
    assert not attention.grad.any()
    logits.grad = attention.grad = None
    whole = strong_loss(logits, attention.tanh(), marks, fit)
    whole.backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(attention.grad).all()
    assert not logits.grad[marks < 0].any()
    assert not attention.grad[marks < 0].any()
    # A step downwards raises positive logits and lowers negative ones; attention moves to positive steps.
    assert (logits.grad[marks == 1] < 0).all()
    assert (logits.grad[marks == 0] > 0).all()
    assert (attention.grad[marks == 1] <= 0).all()
    # Processes average the losses of equal parts of a batch.
    parts = [strong_loss(logits[k : k + 2], attention[k : k + 2].tanh(), marks[k : k + 2], fit) for k in (0, 2)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


SMALL = find_experiment("tiny").vary(
    "small", net__backbone="mobilenetv3_small_050", fit__epochs=1, fit__batch_size=6, fit__strong_weight=1.0
)
SMALL = SMALL.vary("small", data__min_class_count=2, data__n_folds=3)
HEADER = ["recording", "start_s", "end_s", "label"]


def write_events(path, *lines):
    write_csv(path, HEADER, [list(line) for line in lines])
    return path


def test_events_are_read_into_a_training(land26, tmp_path):
    """Of clips by name or stem, of soundscapes that train; events of others are not used."""
    scape = sorted((land26 / "train_soundscapes").iterdir())[0]
    table = write_events(
        tmp_path / "events.csv",
        ("XC3.ogg", 1, 2, "1139490"),
        ("XC1004", 0.5, 1.5, "cuckoo1"),
        (scape.name, 5, 7, "frog1"),
        (sorted((land26 / "train_soundscapes").iterdir())[1].name, 5, 7, "frog1"),
    )
    inputs = train.TrainInputs(events=(table,))
    experiment = SMALL.vary("small", data__soundscapes="train")
    ready = train.prepare_data(experiment, land26, fold=None, inputs=inputs)
    assert {name: ready.sources["events"][name] for name in ("clips", "soundscapes", "events")} == {
        "clips": 2,
        "soundscapes": 1,
        "events": 3,
    }
    clip = ready.names.index("1139490/XC3.ogg")
    assert ready.inputs.events[clip] == Events(np.array([RATE]), np.array([2 * RATE]), np.array([0]))
    assert sum(events is not None for events in ready.inputs.events) == 2
    assert sum(events is not None for events in ready.inputs.labelled.events) == 1
    for lines, sentence in (
        ([("XC3.ogg", 1, 2, "wren")], "'wren'"),
        ([("nowhere.ogg", 1, 2, "frog1")], "nowhere.ogg"),
        ([(scape.name, 1, 2, "frog1")], "none of the 1 marked events"),
    ):
        inputs = train.TrainInputs(events=(write_events(tmp_path / "other.csv", *lines),))
        with pytest.raises(DataError, match=sentence):
            train.prepare_data(SMALL, land26, fold=None, inputs=inputs)


def test_events_and_their_weight_go_together(year, tmp_path):
    with pytest.raises(ConfigError, match="--events"):
        train.prepare_data(SMALL, year)
    with pytest.raises(ConfigError, match=r"fit\.strong_weight"):
        inputs = train.TrainInputs(events=(write_events(tmp_path / "events.csv", ("XC3", 1, 2, "1139490")),))
        train.prepare_data(SMALL.vary("small", fit__strong_weight=0.0), year, inputs=inputs)
    with pytest.raises(DataError, match="'wren'"):
        to_events(pd.DataFrame({"recording": ["a"], "start_s": [0.0], "end_s": [1.0], "label": ["wren"]}), ("a",), RATE)
    # Marked silence is no event, unless it is a class.
    silence = pd.DataFrame({"recording": ["a"], "start_s": [0.0], "end_s": [1.0], "label": ["nocall"]})
    assert to_events(silence, ("a",), RATE) == {} and set(to_events(silence, ("nocall",), RATE)) == {"a"}


def test_a_command_trains_with_events(year, tmp_path, capsys):
    table = write_events(tmp_path / "events.csv", ("XC3", 1, 2, "1139490"), ("XC1003", 1, 2, "cuckoo1"))
    changes = [
        "net.backbone=mobilenetv3_small_050",
        *("fit.epochs=1", "fit.batch_size=6", "fit.strong_weight=1", "data.min_class_count=2"),
    ]
    run = tmp_path / "run"
    command = ["train", "tiny", "--data", str(year), "--out", str(run), "--fold", "none", "--events", str(table)]
    assert main([*command, "--set", *changes]) == 0
    assert train.checkpoints.read_description(run)["sources"]["events"]["events"] == 2
    # Other events are another training.
    write_events(tmp_path / "events.csv", ("XC3", 1, 2.5, "1139490"))
    assert main([*command, "--set", *changes, "--resume"]) == 2
    assert "events" in capsys.readouterr().err


def write_calls(folder, rng, n: int = 14):
    """Clips of 12 s of three classes: one call of about a second, at a random time, in noise."""
    lines, events = [], []
    for label, pitch in (("low", 900.0), ("mid", 2500.0), ("high", 6000.0)):
        (folder / "audio" / label).mkdir(parents=True)
        for number in range(n):
            t = np.arange(12 * RATE) / RATE
            start, length = rng.uniform(0.5, 10), rng.uniform(0.7, 1.5)
            inside = (t >= start) & (t < start + length)
            wave = 0.05 * rng.standard_normal(t.size) + 0.15 * inside * np.sin(2 * np.pi * pitch * t)
            soundfile.write(folder / "audio" / label / f"{label}{number}.wav", wave.astype("float32"), RATE)
            lines.append([f"{label}/{label}{number}.wav", label])
            events.append((f"{label}{number}", start, start + length, label))
    write_csv(folder / "labels.csv", ["filename", "label"], lines)
    return events


@pytest.mark.slow
def test_strong_labels_localise_better(tmp_path):
    """Of the time steps of unseen clips, those in the event have the higher logits: AUC with and without events."""
    from bcsed.audio.spectrogram import LogMel
    from bcsed.scores.metrics import macro_auc

    rng = np.random.default_rng(0)
    data, unseen = tmp_path / "data", tmp_path / "unseen"
    table = write_events(tmp_path / "events.csv", *write_calls(data, rng))
    test_events = write_calls(unseen, rng, 6)
    auc = {}
    for weight in (0.0, 1.0):
        experiment = SMALL.vary("small", fit__strong_weight=weight, fit__epochs=30, fit__cycle_epochs=30)
        inputs = train.TrainInputs(events=(table,) if weight else ())
        run = train.train(experiment, data, tmp_path / f"run-{weight}", fold=None, inputs=inputs)
        trained = train.load_run(run)
        network, contract = trained.network, trained.contract
        infos = [read_info(unseen / "audio" / label / f"{name}.wav") for name, *_, label in test_events]
        events = to_events(pd.DataFrame(test_events, columns=HEADER), contract.classes, RATE)
        inputs = BatchInputs(
            ClipReader(infos, TINY_128, Data()),
            *np.ones((2, len(infos), K), np.float32),
            events=tuple(events[name] for name, *_ in test_events),
            steps=network.steps,
        )
        clips = [inputs.read(row, "random", np.random.default_rng(row)) for row in range(len(infos))]
        with torch.inference_mode():
            logits, _ = network.eval()(LogMel(TINY_128)(torch.from_numpy(np.stack([clip.wave for clip in clips]))))
        marks = np.stack([clip.marks for clip in clips])
        per_class = []
        for k in range(K):
            known = marks[..., k] >= 0
            truth, scores = marks[..., k][known][:, None], logits[..., k].numpy()[known][:, None]
            per_class.append(macro_auc(truth.astype(np.float32), scores)[0])
        auc[weight] = np.mean(per_class)
    print(auc)
    assert auc[1.0] > max(0.9, auc[0.0] + 0.05)
