from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.audio.decode import read_audio
from bcsed.audio.headers import read_info
from bcsed.audio.spectrogram import LogMel
from bcsed.config.contract import TINY_128
from bcsed.config.recipe import Data, Injection
from bcsed.errors import DataError
from bcsed.train.dataset.batches import BatchInputs, batches, epoch_order
from bcsed.train.dataset.clips import ClipReader, read_headers
from bcsed.train.dataset.excerpts import ExcerptSampler
from bcsed.train.dataset.teacher import Teacher, read_teacher

RATE = 32_000


@pytest.fixture(scope="module")
def infos(tmp_path_factory):
    """One recording longer than the window of 8 s, one shorter; every sample has its own value."""
    folder = tmp_path_factory.mktemp("clips")
    for name, seconds in (("long", 15), ("short", 2)):
        n = seconds * RATE
        soundfile.write(folder / f"{name}.wav", (np.arange(n) / n).astype("float32"), RATE, subtype="FLOAT")
    return [read_info(folder / f"{name}.wav") for name in ("long", "short")]


def window(clips: ClipReader, index: int, crop: str, seed: int = 0) -> np.ndarray:
    return clips.window(index, clips.first_frame(index, crop, np.random.default_rng(seed)))


def test_a_clips_spectrogram_is_a_slice_of_its_recordings(infos):
    clips = ClipReader(infos, TINY_128, Data())
    mel = LogMel(TINY_128)
    complete = mel.compute(read_audio(read_info(infos[0].path), RATE)[0], 0, 480)
    starts = set()
    for seed in range(20):
        wave = window(clips, 0, "random", seed)
        picture = mel(torch.from_numpy(wave)[None])[0].numpy()
        first = next(s for s in range(225) if np.array_equal(picture, complete[:, s : s + 256]))
        starts.add(first)
    assert len(starts) > 10
    assert min(starts) < 60
    assert max(starts) > 160


def test_first_and_centre(infos):
    clips = ClipReader(infos, TINY_128, Data())
    half = TINY_128.n_fft // 2
    assert (window(clips, 0, "first")[:half] == 0).all()
    middle = window(clips, 0, "centre")
    assert abs(middle[len(middle) // 2] - 0.5) < 0.01


def test_short_recordings_are_padded_as_asked(infos):
    zeros = window(ClipReader(infos, TINY_128, Data(pad="zeros")), 1, "first")
    assert (zeros[1024 + 2 * RATE :] == 0).all()
    again = window(ClipReader(infos, TINY_128, Data(pad="repeat")), 1, "first")
    np.testing.assert_array_equal(again[1024 : 1024 + 2 * RATE], again[1024 + 2 * RATE : 1024 + 4 * RATE])
    peaks = {int(np.argmax(window(ClipReader(infos, TINY_128, Data()), 1, "random", seed))) for seed in range(9)}
    assert len(peaks) > 5


def test_neither_cache_nor_threads_change_a_batch(infos):
    rows, targets = np.arange(12) % 2, np.random.default_rng(0).random((2, 3), dtype="float32")

    def epoch(cache_gb, jobs, first_step=0):
        clips = ClipReader(infos, TINY_128, Data(), cache_gb)
        feed = batches(
            BatchInputs(clips, targets, targets),
            rows,
            batch_size=4,
            crop="random",
            seed=1,
            epoch=2,
            first_step=first_step,
            jobs=jobs,
        )
        return [(batch.clips.waves, batch.clips.targets) for batch in feed]

    plain = epoch(0.0, 1)
    assert len(plain) == 3
    # Clips 0 and 2 of a batch are of one recording, cut at different positions.
    assert not torch.equal(plain[0][0][0], plain[0][0][2])
    for other in (epoch(1.0, 3), epoch(0.0, 3)):
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(plain, other, strict=True))
    late = epoch(1.0, 2, first_step=2)
    assert len(late) == 1
    assert torch.equal(late[0][0], plain[2][0])


@pytest.mark.parametrize("rate", [44_100, 48_000, RATE])
def test_the_cache_does_not_change_a_resampled_recording(tmp_path, rng, rate):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(9 * rate), rate)
    infos = [read_info(tmp_path / "a.wav")]
    cached, plain = (ClipReader(infos, TINY_128, Data(), cache_gb) for cache_gb in (1.0, 0.0))
    for _ in range(2):
        for begin in (-500, 0, 77_777):
            np.testing.assert_array_equal(*(reader.samples(0, begin, begin + 50_000) for reader in (cached, plain)))
    assert cached.free_bytes < 2**30 and plain.free_bytes == 0


def test_threads_that_read_a_recording_at_once_use_its_memory_once(infos):
    reader = ClipReader(infos, TINY_128, Data(), 1.0)
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda _: reader.samples(0, 0, 100), range(16)))
    assert 2**30 - reader.free_bytes == 4 * reader.length(0)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_a_recording_of_few_samples_is_repeated_at_once(tmp_path, n):
    soundfile.write(tmp_path / "a.wav", np.arange(1, n + 1, dtype="f4") / 16, RATE, subtype="FLOAT")
    began = time.process_time()
    wave = window(ClipReader([read_info(tmp_path / "a.wav")], TINY_128, Data(pad="repeat")), 0, "first")
    assert time.process_time() - began < 1
    assert set(wave[:n] * 16) == set(range(1, n + 1))
    np.testing.assert_array_equal(wave[:-n], wave[n:])


def test_epochs_differ_and_repeat():
    rows = np.arange(50)
    first, again, other = (epoch_order(rows, 0, epoch) for epoch in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first) == list(rows)


def test_headers_are_read_in_order(infos, tmp_path):
    (tmp_path / "bad.ogg").write_text("x")
    paths = [infos[0].path, tmp_path / "bad.ogg", infos[1].path]
    headers, failures = read_headers(paths)
    assert [item.path if item else None for item in headers] == [infos[0].path, None, infos[1].path]
    assert list(failures) == [str(tmp_path / "bad.ogg")]


def test_a_marked_window_is_around_one_of_its_marks(infos):
    marks = [(4.5, 11.0), ()]
    clips = ClipReader(infos, TINY_128, Data(), marks=marks)
    frame_s = TINY_128.hop_length / RATE
    first = {clips.first_frame(0, "marked", np.random.default_rng(seed)) for seed in range(20)}
    assert first == {round(4.5 / frame_s) - 128, 480 - 256}
    assert clips.first_frame(1, "marked", np.random.default_rng(0)) <= 0


ROWS = np.arange(60)
CLASS_INDEX = np.repeat([0, 1, 2], [40, 15, 5])


def test_sampling_balances_classes():
    def counts(**data):
        sampled = np.concatenate(
            [epoch_order(ROWS, 0, e, class_index=CLASS_INDEX, data=Data(**data)) for e in range(60)]
        )
        assert len(sampled) == 3600
        return np.bincount(CLASS_INDEX[sampled]) / len(sampled)

    assert np.array_equal(counts(), np.array([40, 15, 5]) / 60)
    np.testing.assert_allclose(counts(sampling="balanced"), [1 / 3] * 3, atol=0.04)
    root = np.sqrt([40, 15, 5])
    np.testing.assert_allclose(counts(sampling="sqrt"), root / root.sum(), atol=0.04)


def test_an_epoch_holds_no_more_of_a_class_than_allowed():
    epochs = [epoch_order(ROWS, 0, e, class_index=CLASS_INDEX, data=Data(max_per_class=10)) for e in range(12)]
    for rows in epochs:
        assert np.bincount(CLASS_INDEX[rows]).tolist() == [10, 10, 5]
        assert len(set(rows)) == 25
    # Another ten each time, so that every clip is used.
    assert len(set(np.concatenate(epochs))) > 55
    # Labelled soundscapes, numbered after the clips, are in every epoch.
    more = epoch_order(np.arange(63), 0, 1, class_index=CLASS_INDEX, data=Data(max_per_class=10, sampling="balanced"))
    assert {60, 61, 62} <= set(more)
    assert len(more) == 28


VALUES = np.zeros((12, 3), np.float16)
VALUES[0, 0], VALUES[1, 1], VALUES[5, 2], VALUES[11, 0] = 0.9, 0.25, 0.5, 0.75


@pytest.fixture(scope="module")
def land(tmp_path_factory):
    """Two soundscapes of 60 and 15 s; the samples encode the recording and the second."""
    folder = tmp_path_factory.mktemp("land")
    for name, seconds, sign in (("a", 60, 1), ("b", 15, -1)):
        wave = sign * np.repeat((np.arange(seconds) + 1) / 100, RATE)
        soundfile.write(folder / f"{name}.wav", wave.astype("float32"), RATE, subtype="FLOAT")
    return [read_info(folder / f"{name}.wav") for name in ("a", "b")]


def make_sampler(land, values=VALUES, *, pseudo=True, only=slice(None), **data):
    """Rows of 5 s: twelve of the first recording, then three of the second, with one label."""
    rows = np.arange(12)
    file = np.concatenate([0 * rows, [1, 1, 1]])[only]
    start = np.concatenate([5 * rows, [0, 5, 10]])[only]
    more = np.zeros((3, 3), np.float16)
    more[2, 1] = 1
    table = np.concatenate([values, more])[only]
    return ExcerptSampler(land, file, start, start + 5, table, frontend=TINY_128, data=Data(**data), pseudo=pseudo)


def seconds(wave):
    """Return the recording and the seconds of a wave."""
    wave = wave[np.abs(wave) > 0.005]
    return ("a" if wave[0] > 0 else "b"), set(np.unique(np.abs(wave * 100).round().astype(int)) - 1)


def test_an_excerpt_has_the_labels_of_its_rows(land):
    sampler = make_sampler(land, excerpt_rows="half")
    for seed in range(60):
        clip = sampler.sample(Injection(share=1.0), -1, np.random.default_rng(seed))
        name, covered = seconds(clip.wave)
        assert clip.wave.shape == (TINY_128.clip_samples,)
        labels = {k for k in range(3) if clip.targets[k] > 0}
        # The excerpt covers at least half of a row, 2.5 s; counting full seconds leaves a margin at the edges.
        rows = {"a": {0: 0, 1: 1, 5: 2, 11: 0}, "b": {2: 1}}[name]
        surely = {k for row, k in rows.items() if len(covered & set(range(5 * row, 5 * row + 5))) >= 4}
        perhaps = {k for row, k in rows.items() if len(covered & set(range(5 * row, 5 * row + 5))) >= 2}
        assert surely <= labels <= perhaps
        # Drawn by rows, an excerpt contains a complete labelled row.
        assert labels
        assert (clip.targets[list(labels)] == 1).all()


@pytest.mark.parametrize("pseudo", [True, False])
def test_only_complete_rows_label_an_excerpt(land, pseudo):
    """A class that is only in a row partly inside has weight 0; one outside is a certain negative."""
    sampler, doubtful = make_sampler(land, pseudo=pseudo), 0
    rows = {"a": {0: 0, 1: 1, 5: 2, 11: 0}, "b": {2: 1}}
    for seed in range(60):
        clip = sampler.sample(Injection(share=1.0), -1, np.random.default_rng(seed))
        name, covered = seconds(clip.wave)
        inside, touched = set(), set()
        for row, k in rows[name].items():
            common = covered & set(range(5 * row, 5 * row + 5))
            inside |= {k} if len(common) == 5 else set()
            touched |= {k} if common else set()
        labels = {k for k in range(3) if clip.targets[k] > 0}
        assert labels <= inside
        # Seconds at the edges are counted whole, and may be partly outside.
        for k in range(3):
            assert clip.weights[k] == (1 if k in labels or k not in touched else 0) or k in inside
        doubtful += len(touched - inside)
    assert doubtful > 5


def test_a_soft_label_is_doubtful_where_a_row_partly_inside_is_much_higher(land):
    values = np.full((12, 3), 0.02, np.float16)
    values[:, 1], values[3, 1], values[3, 0], values[::2, 2] = 0.6, 0.9, 0.9, 0.08
    clip = make_sampler(land, values, pseudo_soft=True).window_around(2, np.random.default_rng(1))
    _, covered = seconds(clip.wave)
    assert {10, 14, 15} <= covered
    assert 19 not in covered
    assert clip.weights.tolist() == [0, 1, 1]
    assert clip.targets[1] == pytest.approx(0.6, abs=1e-3)


def test_short_clips_are_joined_with_another_and_repeated(infos):
    """Both clips at one level, one after the other, with the labels of both; long clips and validation are as ever."""
    targets = np.eye(2, dtype=np.float32)
    clips = ClipReader(infos, TINY_128, Data(pad="join"))
    partners = np.array([0.0, 1.0])  # the short clip
    inputs = BatchInputs(clips, targets, np.ones((2, 2), np.float32), partners=partners, level="peak")
    joined = inputs.read(1, "random", np.random.default_rng(0))
    assert joined.wave.shape == (TINY_128.clip_samples,)
    assert joined.targets.tolist() == [0, 1]
    ramp = np.arange(2 * RATE) / (2 * RATE)
    np.testing.assert_allclose(joined.wave[: 2 * RATE], ramp / ramp.max(), atol=1e-6)
    np.testing.assert_array_equal(joined.wave[: 2 * RATE], joined.wave[2 * RATE : 4 * RATE])
    both = dataclasses.replace(inputs, partners=np.array([1.0, 1.0])).read(1, "random", np.random.default_rng(0))
    assert both.targets.tolist() == [1, 1]
    part = both.wave[2 * RATE :]
    assert np.abs(part).max() == pytest.approx(1.0)
    long = inputs.read(0, "first", np.random.default_rng(0))
    assert long.targets.tolist() == [1, 0]
    plain = dataclasses.replace(inputs, partners=None).read(1, "first", np.random.default_rng(0))
    np.testing.assert_array_equal(
        plain.wave[: 2 * RATE], window(ClipReader(infos, TINY_128, Data(pad="repeat")), 1, "first")[: 2 * RATE]
    )


def test_label_settings_of_pseudolabels(land):
    def first(**data):
        return make_sampler(land, excerpt_rows="half", **data).window_around(0, np.random.default_rng(0))

    assert first().targets[0] == 1
    assert first(pseudo_target=0.7).targets[0] == np.float32(0.7)
    assert first(pseudo_soft=True).targets[0] == np.float32(np.float16(0.9))
    half = first(pseudo_soft=True, pseudo_target=0.5, pseudo_loss_weight=0.1)
    assert half.targets[0] == np.float32(0.5) * np.float32(np.float16(0.9))
    assert half.weights.tolist() == pytest.approx([0.1, 0.1 if half.targets[1] else 1.0, 1.0])
    # Human labels use label_target only.
    human = make_sampler(land, pseudo=False, label_target=0.8, pseudo_target=0.1, pseudo_loss_weight=0.1)
    clip = human.window_around(0, np.random.default_rng(0))
    assert clip.targets[0] == np.float32(0.8) * np.float32(np.float16(0.9))
    assert clip.weights[0] == 1


def test_unlabelled_seconds_make_negatives_unknown(land):
    part = make_sampler(land, pseudo=False, only=slice(0, 1)).window_around(0, np.random.default_rng(1))
    assert part.targets[0] > 0
    assert part.weights.tolist() == [1, 0, 0]
    complete = make_sampler(land, pseudo=False, excerpt_rows="half").window_around(0, np.random.default_rng(1))
    assert complete.weights.tolist() == [1, 1, 1]
    # Also in windows that are shorter than a second, of which nothing is known.
    short = dataclasses.replace(TINY_128, n_fft=1024, hop_length=250, n_frames=64)
    rows = (np.zeros(1, int), np.zeros(1), np.full(1, 30.0), np.full((1, 3), np.nan))
    sampler = ExcerptSampler(land, *rows, frontend=short, data=Data(), pseudo=False)
    # Drawn by confidence, of which there is none: anywhere.
    assert sampler.sample(Injection(mode="background", draw="confidence"), -1, np.random.default_rng(0)) is not None
    excerpt = sampler.sample(Injection(mode="substitute"), -1, np.random.default_rng(0))
    assert excerpt is not None and excerpt.weights.tolist() == [0, 0, 0]


def test_pairs_are_two_joined_excerpts(land):
    pairs = set()
    for seed in range(30):
        clip = make_sampler(land).sample(Injection(excerpt="pairs"), -1, np.random.default_rng(seed))
        half = len(clip.wave) // 2
        pieces = [seconds(clip.wave[:half]), seconds(clip.wave[half:])]
        assert all(2 <= len(covered) <= 6 for _, covered in pieces)
        pairs.add(tuple(name for name, _ in pieces))
    assert {("a", "b"), ("a", "a")} <= pairs


def test_a_substitute_holds_the_samples_class(land):
    sampler = make_sampler(land)
    for class_index in range(3):
        for seed in range(20):
            clip = sampler.sample(Injection(mode="substitute"), class_index, np.random.default_rng(seed))
            assert clip.targets[class_index] > 0
    empty = make_sampler(land, np.zeros_like(VALUES), only=slice(0, 12))
    assert empty.sample(Injection(mode="substitute"), 1, np.random.default_rng(0)) is None
    assert empty.sample(Injection(), -1, np.random.default_rng(0)) is None


@pytest.mark.slow
def test_soundscapes_are_drawn_by_the_sum_of_their_maxima(land):
    sampler = make_sampler(land)
    np.testing.assert_allclose(sampler.maxima(), [0.9 + 0.25 + 0.5, 1.0], atol=1e-3)
    names = [
        seconds(sampler.sample(Injection(draw="confidence"), -1, np.random.default_rng(seed)).wave)[0]
        for seed in range(300)
    ]
    assert abs(names.count("a") / 300 - 1.65 / 2.65) < 0.08


@pytest.mark.slow
def test_unlabelled_recordings_are_drawn_equally(land):
    rows = np.arange(2), np.zeros(2, np.int64), np.array([60, 15]), np.ones((2, 3), np.float16)
    sampler = ExcerptSampler(land, *rows, frontend=TINY_128, data=Data(), pseudo=True)
    covered = [seconds(sampler.sample(Injection(), -1, np.random.default_rng(seed)).wave) for seed in range(200)]
    assert 70 < [name for name, _ in covered].count("a") < 130
    assert len(set().union(*(seconds_ for name, seconds_ in covered if name == "a"))) > 55


def feed(infos, land, *shares):
    targets = np.random.default_rng(0).random((2, 3), dtype="float32")
    sampler = make_sampler(land)
    injectors = tuple((sampler, Injection(share=share)) for share in shares)
    return BatchInputs(ClipReader(infos, TINY_128, Data()), targets, targets, np.array([0, 1]), sampler, injectors)


def epoch(inputs, part=(0, 1), jobs=2):
    rows = np.concatenate([np.arange(20) % 2, [2, 6, 3, 8]])
    return list(batches(inputs, rows, batch_size=8, crop="random", seed=1, epoch=2, jobs=jobs, part=part))


def test_no_sample_takes_two_excerpts(infos, land):
    for batch in epoch(feed(infos, land, 0.25, 0.5)):
        first, second = (set(excerpts.sample_index.tolist()) for excerpts in batch.excerpts)
        assert len(first) == 2
        assert len(second) == 4
        assert not first & second
    assert all(not len(excerpts.sample_index) for batch in epoch(feed(infos, land, 0.0)) for excerpts in batch.excerpts)


def test_rows_after_the_clips_are_labelled_soundscapes(infos, land):
    last = epoch(feed(infos, land))[-1]
    assert seconds(last.clips.waves[4].numpy())[0] == "a"
    assert last.clips.targets[4, 0] == 1


def test_processes_read_their_parts_of_the_same_batch(infos, land):
    inputs = feed(infos, land, 0.5)
    complete, parts = epoch(inputs), [epoch(inputs, (k, 2), jobs=1) for k in range(2)]
    for step, batch in enumerate(complete):
        mine = [part[step] for part in parts]
        for name in ("waves", "targets", "weights"):
            assert torch.equal(getattr(batch.clips, name), torch.cat([getattr(part.clips, name) for part in mine]))
        joined = {}
        for k, part in enumerate(mine):
            (excerpts,) = part.excerpts
            joined |= {
                int(index) + 4 * k: wave for index, wave in zip(excerpts.sample_index, excerpts.waves, strict=True)
            }
        (excerpts,) = batch.excerpts
        assert set(joined) == set(excerpts.sample_index.tolist())
        assert all(torch.equal(joined[int(p)], w) for p, w in zip(excerpts.sample_index, excerpts.waves, strict=True))


NAMES = ["x/1.ogg", "x/2.ogg"]


def embeddings(**changes):
    arrays = {
        "clip": np.array(["x/1.ogg", "x/1.ogg", "y/9.ogg"]),
        "start_s": np.array([5.0, 0.0, 0.0]),
        # Their mean is 0.
        "vector": np.array([[0.0, 2.0], [3.0, 0.0], [-3.0, -2.0]]),
    }
    return arrays | changes


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_embeddings_are_those_of_the_windows_inside(tmp_path, suffix):
    path, arrays = tmp_path / f"e.{suffix}", embeddings()
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        pd.DataFrame({**arrays, "vector": list(arrays["vector"])}).to_parquet(path)
    teacher = read_teacher([path], NAMES)
    assert (len(teacher.unknown), teacher.n_known) == (2, 1)
    # Windows of 5 s, as their starts are 5 s apart.
    for begin_s, end_s, expected in ((-1, 4, (1, 0)), (5, 9, (0, 1)), (2, 8, (1, 1)), (4, 7, (1, 2)), (12, 20, (0, 1))):
        expected = np.array(expected) / np.linalg.norm(expected)
        np.testing.assert_allclose(teacher.between(0, begin_s, end_s), expected, atol=1e-6)
    assert teacher.between(1, 0, 5).tolist() == [0, 0]
    assert teacher.of(["y/9.ogg"]).between(0, 0, 5).tolist() == pytest.approx(np.array([-3, -2]) / 13**0.5)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True), st.floats(-5, 25), st.floats(0.5, 12))
@settings(max_examples=50, deadline=None)
def test_embeddings_have_a_common_part_removed(starts, begin_s, length_s):
    """A vector that is added to all embeddings changes nothing."""
    windows = pd.DataFrame({"filename": "a", "start_s": np.array(starts, float)})
    vectors = np.random.default_rng(0).normal(size=(len(starts), 4)).astype(np.float32)
    moved = vectors + np.float32(3)
    first, second = (Teacher(["a"], windows, each, [3.0] * len(starts)) for each in (vectors, moved))
    expected = first.between(0, begin_s, begin_s + length_s)
    np.testing.assert_allclose(second.between(0, begin_s, begin_s + length_s), expected, atol=1e-3)
    # The windows of two are opposite.
    assert np.linalg.norm(expected) == pytest.approx(1, abs=1e-5) or (len(starts) <= 2 and not expected.any())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clip": np.array(["a", "b", "c"])}, "none of the 2 clips has an embedding; .*'x/1.ogg'.*'a'"),
        ({"vector": np.full((3, 2), np.nan)}, "must be finite numbers"),
        ({"start_s": np.zeros(2)}, "3 clips, 2 starts and 3 vectors"),
        ({"vector": np.ones((3, 2))}, "all embeddings are equal"),
    ],
)
def test_embeddings_that_cannot_be_used(tmp_path, changes, sentence):
    np.savez(tmp_path / "e.npz", **embeddings(**changes))
    with pytest.raises(DataError, match=sentence):
        read_teacher([tmp_path / "e.npz"], NAMES)


def test_tables_of_embeddings_that_do_not_fit_together(tmp_path):
    np.savez(tmp_path / "e.npz", **embeddings())
    np.savez(tmp_path / "s.npz", **embeddings(clip=np.array(["s", "s", "t"])))
    np.savez(tmp_path / "wide.npz", **embeddings(vector=np.eye(3)))
    both = read_teacher([tmp_path / "e.npz", tmp_path / "s.npz"], NAMES)
    assert both.of(["s", "t", "u"]).n_known == 2
    with pytest.raises(DataError, match=r"e\.npz and .*wide\.npz are embeddings of different networks"):
        read_teacher([tmp_path / "e.npz", tmp_path / "wide.npz"], NAMES)
    with pytest.raises(DataError, match=r"the window of 'x/1\.ogg' at 5 s is in several of"):
        read_teacher([tmp_path / "e.npz", tmp_path / "e.npz"], NAMES)


def test_files_that_are_not_embeddings(tmp_path):
    with pytest.raises(DataError, match="there is no such file of embeddings"):
        read_teacher([tmp_path / "none.npz"], NAMES)
    for name in ("e.npz", "e.parquet"):
        (tmp_path / name).write_text("no table")
        with pytest.raises(DataError, match="not readable as a table of embeddings"):
            read_teacher([tmp_path / name], NAMES)
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "o.npz", clip=objects, start_s=objects, vector=objects)
    with pytest.raises(DataError, match="not readable as a table of embeddings"):
        read_teacher([tmp_path / "o.npz"], NAMES)


def test_excerpts_have_the_embedding_of_their_part_of_the_soundscape(land):
    """Each recording has windows of 1 s whose embedding is their start."""
    names = [str(number) for number in range(len(land))]
    windows = pd.DataFrame({"filename": np.repeat(names, 60), "start_s": np.tile(np.arange(60.0), len(land))})
    vectors = np.stack([np.cos(windows["start_s"] / 20), np.sin(windows["start_s"] / 20)], 1).astype(np.float32)
    teacher = Teacher(names, windows, vectors - vectors.mean(0), [1.0] * len(windows))
    sampler = make_sampler(land)
    sampler.teacher = teacher
    rng = [np.random.default_rng(7), np.random.default_rng(7)]
    begin = sampler._draw_begin(int(sampler.file[0]), 0, TINY_128.clip_samples, rng[0])
    expected = teacher.between(int(sampler.file[0]), begin / RATE, (begin + TINY_128.clip_samples) / RATE)
    np.testing.assert_allclose(sampler.window_around(0, rng[1]).embedding, expected, atol=1e-6)


def test_a_sampler_without_rows(land):
    with pytest.raises(DataError, match="no soundscape has a row"):
        make_sampler(land, only=slice(0, 0))


def test_a_pair_has_an_embedding_only_if_both_halves_have_one(land):
    windows = pd.DataFrame({"filename": ["a.wav", "b.wav"], "start_s": [0.0, 0.0]})
    teacher = Teacher(["a.wav", "c.wav"], windows, np.eye(2, 8, dtype="f4"), [60.0, 60.0])
    sampler, lengths = make_sampler(land), set()
    sampler.teacher = teacher
    for seed in range(30):
        clip = sampler.sample(Injection(excerpt="pairs"), -1, np.random.default_rng(seed))
        lengths.add(round(float(np.linalg.norm(clip.embedding)), 3))
    assert lengths == {0.0, 1.0}


def test_an_excerpt_has_no_label_of_a_short_row_outside(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(round(20.01 * RATE)), RATE)
    values = np.array([[0, 0], [0, 1]], np.float16)
    rows = np.zeros(2, int), np.array([0.0, 20.0]), np.array([20.0, 20.01]), values
    sampler = ExcerptSampler([read_info(tmp_path / "a.wav")], *rows, frontend=TINY_128, data=Data(), pseudo=False)
    targets, _ = sampler._labels(0, 0, round(19.96 * RATE))
    assert targets.tolist() == [0, 0]
