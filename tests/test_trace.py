"""Every stage as an array, and the first that differs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import soundfile
import soxr
from conftest import RATE
from scipy.ndimage import zoom
from scipy.signal import get_window, resample, resample_poly

from bcsed.analysis import trace
from bcsed.audio.spectrogram import mel_bands
from bcsed.cli import main
from bcsed.config.contract import TINY_128
from bcsed.errors import ConfigError, DataError
from bcsed.predict.api import RunOptions, predict
from bcsed.predict.blocks import pool_rows
from bcsed.predict.spec import Windowing

IN_THREAD = RunOptions(jobs=0)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A recording with a new tone every half second, in all bands."""
    rng = np.random.default_rng(4)
    n = 31 * RATE
    t = np.arange(n) / RATE
    wave = 0.01 * rng.standard_normal(n)
    for begin in np.arange(0, 31, 0.5):
        at = (t >= begin) & (t < begin + rng.uniform(0.1, 0.5))
        wave[at] += rng.uniform(0.02, 0.3) * np.sin(2 * np.pi * rng.uniform(100, 13_500) * t[at])
    path = tmp_path_factory.mktemp("sound") / "sound.wav"
    soundfile.write(path, wave.astype("float32"), RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def ours(tiny, sound):
    return trace.trace(tiny, sound)


@pytest.fixture(scope="module")
def varied(ours):
    """The same trace with different outputs at each time step."""
    rng, facts = np.random.default_rng(6), ours.facts
    logits = rng.normal(0, 2, ours.arrays["logits"].shape).astype(np.float32)
    attention = rng.uniform(-1, 1, logits.shape).astype(np.float32)
    plan = Windowing().plan(facts["n_samples"], TINY_128, facts["steps"], tuple(facts["block"]))
    rows = pool_rows(logits, attention, plan, "prob")
    return trace.Trace(arrays={**ours.arrays, "logits": logits, "attention": attention, "rows": rows}, facts=facts)


def compare_with(ours, **arrays):
    """Compare with a pipeline in which some stages differ."""
    return trace.compare(ours, trace.from_arrays({**ours.arrays, **arrays}, "theirs"))


def command(*words: object) -> int:
    return main(["trace", *map(str, words)])


class TestStages:
    def test_they_equal_a_prediction(self, tiny, sound, ours):
        assert list(ours.arrays) == list(trace.STAGES)
        scores = predict([tiny], [sound], options=IN_THREAD).scores
        np.testing.assert_array_equal(ours.arrays["rows"], scores.to_numpy())
        assert ours.facts["ids"] == list(scores.index)
        shapes = {stage: values.shape for stage, values in ours.arrays.items()}
        assert shapes["samples"] == (31 * RATE,)
        assert shapes["windows"] == (7, 64, 256)
        assert shapes["image"] == (7, 3, 128, 128)
        assert shapes["logits"] == shapes["attention"] == (7, tiny.steps, 3)

    @pytest.mark.parametrize(
        "windowing", [Windowing(), Windowing(windows="sliding", stride_s=3), Windowing(row_s=3)], ids=str
    )
    def test_a_part_of_a_recording_has_the_same_rows(self, tiny, sound, windowing):
        scores = predict([tiny], [sound], options=IN_THREAD, windowing=windowing).scores
        part = trace.trace(tiny, sound, windowing=windowing, first_row=3, n_rows=2)
        np.testing.assert_allclose(part.arrays["rows"], scores.to_numpy()[3:5], atol=1e-6)
        assert part.facts["ids"] == list(scores.index[3:5])

    def test_all_kinds_of_recordings(self, tiny, recordings):
        for path in recordings.iterdir():
            traced = trace.trace(tiny, path)
            np.testing.assert_allclose(
                traced.arrays["rows"], predict([tiny], [path], options=IN_THREAD).scores, atol=1e-6
            )
            assert trace.compare(traced, traced).first is None

    def test_the_line_of_each_stage(self, ours):
        table = ours.table().set_index("stage")
        assert table.loc["image", "shape"] == "7x3x128x128"
        assert table.loc["rows", "max"] == pytest.approx(ours.arrays["rows"].max())
        assert table["sha256"].nunique() == 7
        assert (table["not finite"] == 0).all()
        empty = trace.from_arrays({"rows": np.full((2, 2), np.nan)}).table()
        assert empty["not finite"].tolist() == [4]

    def test_rows_that_do_not_exist(self, tiny, sound):
        with pytest.raises(ConfigError, match=r"sound.wav has rows 0 to 6; got first_row=7, n_rows=24"):
            trace.trace(tiny, sound, first_row=7)


class TestFiles:
    def test_written_and_read_again(self, ours, tmp_path):
        trace.write(ours, tmp_path / "t.npz")
        again = trace.read(tmp_path / "t.npz")
        assert again.facts == ours.facts
        for stage, values in ours.arrays.items():
            np.testing.assert_array_equal(again.arrays[stage], values)
        assert trace.compare(ours, again).verdict.endswith(
            "agree in samples, db, windows, image, logits, attention, rows."
        )

    def test_any_npz_of_stages_is_a_trace(self, ours, tmp_path):
        np.savez(tmp_path / "t.npz", rows=ours.arrays["rows"], samples=ours.arrays["samples"])
        result = trace.compare(ours, trace.read(tmp_path / "t.npz"))
        assert result.verdict == f"t.npz and {ours.name} agree in samples, rows."
        assert [stage.status for stage in result.stages] == ["same", *["absent"] * 5, "same"]

    def test_traces_of_schema_1_are_read(self, ours, tmp_path):
        facts = {key: value for key, value in ours.facts.items() if key not in ("frontend", "windowing")}
        signal = {key: value for key, value in ours.facts["frontend"].items() if key != "time_folds"}
        signal["folds"] = ours.facts["frontend"]["time_folds"]
        facts |= {"signal": signal, "rows": ours.facts["windowing"]}
        first_names = {"image": "picture", "logits": "what", "attention": "when"}
        arrays = {first_names.get(stage, stage): values for stage, values in ours.arrays.items()}
        np.savez(tmp_path / "t.npz", facts=np.array(json.dumps(facts)), **arrays)
        again = trace.read(tmp_path / "t.npz")
        assert (list(again.arrays), again.facts) == (list(ours.arrays), ours.facts)
        np.savez(tmp_path / "t.npz", facts=np.array('{"name": "x", "schema": 3}'), rows=np.zeros((1, 1)))
        with pytest.raises(DataError, match="has schema 3"):
            trace.read(tmp_path / "t.npz")

    def test_no_pickle_is_opened(self, tmp_path):
        np.savez(tmp_path / "t.npz", rows=np.array([{"a": 1}], object))
        with pytest.raises(DataError, match="not readable as npz without pickles"):
            trace.read(tmp_path / "t.npz")

    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"mel": np.zeros((2, 2))}, "is not a trace: there is no stage 'mel'; the stages are samples, db"),
            ({"rows": np.zeros(3)}, r"'rows' must have 2 axes and not be empty; got the shape \(3,\)"),
            ({"rows": np.zeros((0, 3))}, "not be empty"),
            ({"rows": np.array([["a"]])}, "must contain numbers, got <U1"),
            ({"facts": np.array("{"), "rows": np.zeros((1, 1))}, "not readable as npz"),
            ({"facts": np.array("{}"), "rows": np.zeros((1, 1))}, "is not a trace: 'name'"),
            ({}, "no stage is given"),
        ],
        ids=str,
    )
    def test_invalid_traces(self, tmp_path, arrays, sentence):
        np.savez(tmp_path / "t.npz", **arrays)
        with pytest.raises(DataError, match=sentence):
            trace.read(tmp_path / "t.npz")

    def test_no_file_and_no_npz(self, tmp_path):
        with pytest.raises(DataError, match="there is no such trace"):
            trace.read(tmp_path / "t.npz")
        (tmp_path / "t.npz").write_text("x")
        with pytest.raises(DataError, match="not readable as npz"):
            trace.read(tmp_path / "t.npz")

    def test_leading_axes_of_length_1_are_removed(self, ours):
        assert compare_with(ours, rows=ours.arrays["rows"][None], db=ours.arrays["db"][None, None]).first is None


def noise(x, scale=1.0):
    return (x + scale * np.random.default_rng(0).standard_normal(x.shape)).astype(np.float32)


class TestCauses:
    """Each cause is planted in one stage."""

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            (lambda x: x * 32768, "multiplied by 32768, 16-bit integers"),
            (lambda x: -x, "multiplied by -1, inverted polarity"),
            (lambda x: x / np.abs(x).max(), "scaled to its peak"),
            (lambda x: np.concatenate((np.zeros(400), x[:-400])), r"is 400 samples \(0\.0125 s\) too late"),
            (lambda x: np.concatenate((x[900:], np.zeros(900))), r"is 900 samples \(0\.0281 s\) too early"),
            (lambda x: x[: len(x) * 3 // 4], "744000 samples instead of 992000: it ends 248000 samples too early"),
            (lambda x: x[16_000:-16_000], r"960000 samples .*: the wave is 16000 samples \(0\.5000 s\) too early"),
            (lambda x: soxr.resample(x, RATE, 24_000), "audio of 24,000 Hz was read as 32,000 Hz"),
            (lambda x: soxr.resample(x, RATE, 44_100)[: len(x)], "audio of 44,100 Hz was read as 32,000 Hz"),
            (lambda x: resample(x, len(x) * 3 // 4), r"audio of 24,000 Hz was read as 32,000 Hz.* \(explains 99"),
            (lambda x: resample_poly(x, 3, 2)[: len(x)], r"audio of 48,000 Hz was read as 32,000 Hz.* \(explains 99"),
            (lambda x: soxr.resample(x, 44_100, 48_000), "audio of 48,000 Hz was read as 44,100 Hz"),
            (lambda x: soxr.resample(soxr.resample(x, RATE, 22_050), 22_050, RATE), "resampled twice via 22,050 Hz"),
            (lambda x: np.where(np.arange(len(x)) > 3 * RATE, x, 0), "digital silence .* from 0.00 s on: padded$"),
            (lambda x: np.where(np.arange(len(x)) // RATE % 5 == 2, 0, x), "digital silence .* from 2.00 s on$"),
            (lambda x: 0 * x, "all values are 0$"),
            (lambda x: x + 0.02, r"a constant of \+0\.02"),
            (lambda x: np.clip(x, -0.1, 0.1), "clipped at 0.1"),
            (lambda x: x[::-1], "reversed in time"),
            (lambda x: np.round(x * 128) / 128, "8 bits"),
            (lambda x: np.where(np.arange(len(x)) < 25 * RATE, x, 0), "digital silence .* from 25.00 s on: padded"),
            (lambda x: np.where(np.arange(len(x)) == 5, np.nan, x), "1 of 992000 values are NaN"),
            (lambda x: noise(x, 0.1), "^$"),
        ],
    )
    @pytest.mark.slow
    def test_of_samples(self, ours, change, cause):
        result = compare_with(ours, samples=change(ours.arrays["samples"].astype(np.float64)))
        assert result.first.name == "samples"
        if cause == "^$":
            assert result.first.cause == ""
        assert re.search(cause if cause != "^$" else "", result.first.sentence), result.first.sentence

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            (lambda x: x + 3, r"\+3.00 dB everywhere"),
            (lambda x: np.maximum(x, x.max() - 40), "cut off below a floor"),
            (lambda x: x / 80 + 1, "0.0125 times the dB and"),
            (lambda x: x[::2], "32 mel bands instead of 64"),
            (lambda x: np.repeat(x, 2, 1), "1984 frames instead of 992"),
            (
                lambda x: np.pad(x, ((0, 0), (0, 1)), mode="edge"),
                "993 frames instead of 992: the common frames",
            ),
            (lambda x: np.pad(x, ((0, 0), (0, 1)), mode="edge") - 7, r"instead of 992: -7.00 dB everywhere"),
            (lambda x: x[:, :700], "700 frames instead of 992: the common frames are the same"),
            (lambda x: np.roll(x, 5, 1), r"is 5 frames \(0\.16 s\) too late"),
            (lambda x: x[np.minimum(np.arange(64) + 3, 63)], "63 of 64 mel bands are copies of others: number 1 is 4"),
            (lambda x: x[::-1], "the mel bands are reversed"),
            (lambda x: np.maximum(x - x.max(), -30), "another reference, and top_db"),
            (lambda x: x * np.log(10) / 10, "the natural logarithm"),
            (lambda x: x + np.linspace(0, 9, 64)[:, None], r"each band has another gain, from \+0.0 to \+9.0 dB"),
            (lambda x: noise(x, 0.2), "in 80% of it$"),
            (lambda x: noise(x, 5), "in 99% of it$"),
            (lambda x: np.where(np.arange(64)[:, None] > 50, -99, x), r"nothing is left above [\d,]+ Hz"),
            (lambda x: np.where(np.arange(x.shape[1]) < 200, x, -100), "padded with silence"),
            (lambda x: np.where(np.arange(x.shape[1]) % 10, x, -100), r"10% of the frames .* from 0\.00 s on$"),
            (lambda x: 0 * x - 80, "all values are -80$"),
            (lambda x: np.where(x > x.mean(), np.inf, x), "are infinite: an overflow"),
        ],
    )
    @pytest.mark.slow
    def test_of_db(self, ours, change, cause):
        result = compare_with(ours, db=change(ours.arrays["db"]))
        assert result.first.name == "db"
        assert re.search(cause, result.first.sentence), result.first.sentence

    def test_of_windows(self, ours):
        windows = ours.arrays["windows"]
        floored = compare_with(ours, windows=np.maximum(windows, windows.max() - 40))
        assert "in all windows: below a maximum over the batch" in floored.first.cause
        alone = windows.copy()
        alone[..., [0, -1]] += 3
        outer = compare_with(ours, windows=alone).first
        assert outer.sentence.endswith("; only the outermost frames differ")
        assert outer.cause == ""
        assert compare_with(ours, windows=windows[:3]).first.sentence.endswith("; 3 windows instead of 7")
        for changed, cause in (
            (windows[::-1], "the windows are reversed"),
            (windows[[1, 0, *range(2, 7)]], "2 of 7 windows are in another order: number 1 is 2"),
            (windows[..., ::-1], "the frames are reversed"),
            (noise(windows, 3), ""),
        ):
            assert compare_with(ours, windows=changed).first.cause == cause

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            (
                lambda x: zoom(x[..., ::2, ::2], (1, 1, 2, 2), order=1),
                "stretched from a smaller image of 64x64",
            ),
            (lambda x: x[..., ::2, ::2], "64 rows instead of 128, 64 columns.*needs another image shape"),
            (lambda x: (x - [[[0.485]], [[0.456]], [[0.406]]]) / [[[0.229]], [[0.224]], [[0.225]]], "ImageNet"),
            (lambda x: np.repeat(x[:, :1], 3, 1), "three equal channels instead of deltas"),
            (lambda x: 255 * x, "scaled to 0 to 255"),
            (lambda x: np.flip(x, 2), "is upside down"),
            (lambda x: np.roll(x, 64, 2), "the halves of the fold are swapped"),
            (lambda x: np.where(np.arange(7)[:, None, None, None] < 2, noise(x), x), "in 2 of 7 windows"),
        ],
    )
    def test_of_images(self, ours, change, cause):
        result = compare_with(ours, image=change(ours.arrays["image"]))
        assert result.first.name == "image"
        assert re.search(cause, result.first.sentence), result.first.sentence

    @pytest.mark.parametrize(
        ("change", "cause"),
        [
            (lambda x: x[..., [1, 0, 2]], "2 of 3 classes are in another order: number 1 is 2"),
            (lambda x: x[..., ::-1], "the classes are reversed"),
            (lambda x: x[:, ::-1], "the time steps are reversed"),
            (lambda x: x / 1.5, "the logits are multiplied by 0.6667"),
            (lambda x: x * [1, 0, 1], "1 of 3 classes have one value everywhere: class 'b'"),
            (lambda x: np.repeat(x[:1], 7, 0), "all windows are equal to the first"),
            (lambda x: 1 / (1 + np.exp(-x)), "probabilities instead of logits"),
            (lambda x: x[:, ::2], "4 time steps instead of 8"),
            (noise, r"the outputs from the same image differ \(correlation 0.9\d\d\)"),
            (lambda x: np.where(x > np.median(x), np.inf, x), "values are infinite"),
        ],
    )
    def test_of_outputs(self, varied, change, cause):
        result = compare_with(varied, logits=change(varied.arrays["logits"]))
        assert result.first.name == "logits"
        assert re.search(cause, result.first.sentence), result.first.sentence

    def test_of_rows(self, varied):
        logits, attention, rows = (varied.arrays[stage] for stage in ("logits", "attention", "rows"))
        sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
        share = np.exp(attention) / np.exp(attention).sum(1, keepdims=True)
        for changed, cause in (
            ((share * sigmoid).sum(1), "each row is the output of its complete window"),
            (1 / (1 + np.exp(-(share * logits).sum(1))), "pooled as logit"),
            (sigmoid.max(1), "its maximum"),
            (sigmoid.mean(1), "without the attention"),
            (np.repeat(rows[:1], 7, 0), "equal scores in all rows"),
            (np.roll(rows, 1, 0), r"rows 1 row \(5 s\) too late"),
            (rows[:5], "5 rows of 3 classes instead of 7 of 3"),
            (np.log(rows / (1 - rows)), "the logit"),
        ):
            result = compare_with(varied, rows=changed)
            assert result.first.name == "rows"
            assert re.search(cause, result.first.sentence), result.first.sentence

    @pytest.mark.parametrize(
        ("stage", "change", "named"),
        [
            ("samples", lambda x: -x, "inverted polarity"),
            ("db", lambda x: x[::-1], "the mel bands are reversed"),
            ("windows", lambda x: x[::-1], "the windows are reversed"),
            ("image", lambda x: np.flip(x, 2), "upside down"),
            ("logits", lambda x: x[..., ::-1], "the classes are reversed"),
            ("rows", lambda x: np.roll(x, 1, 0), "1 row .* too late"),
        ],
    )
    @pytest.mark.slow
    def test_a_cause_that_leaves_a_part_is_not_named(self, varied, change, stage, named):
        x = varied.arrays[stage].astype(np.float64)
        changed = change(x)
        assert re.search(named, compare_with(varied, **{stage: changed}).first.cause)
        # A fifth of the squared difference has no cause.
        rest = np.random.default_rng(1).normal(size=x.shape) * np.sqrt(0.2 * np.square(changed - x).mean())
        assert compare_with(varied, **{stage: changed + rest}).first.cause == ""

    def test_one_channel_of_a_recording(self, tiny, tmp_path):
        rng = np.random.default_rng(5)
        stereo = (0.1 * rng.standard_normal((6 * RATE, 2))).astype(np.float32)
        soundfile.write(tmp_path / "stereo.wav", stereo, RATE, subtype="FLOAT")
        ours = trace.trace(tiny, tmp_path / "stereo.wav")
        for wave, cause in (
            (stereo[:, 0], "channel 1 of 2 instead of the mean of the channels"),
            (stereo[:, 1], "channel 2 of 2 instead of the mean of the channels"),
            (stereo.sum(1), "the wave is multiplied by 2"),
            (stereo[:, 0] - stereo[:, 1], ""),
        ):
            assert compare_with(ours, samples=wave).first.cause == cause
        (tmp_path / "stereo.wav").unlink()
        assert compare_with(ours, samples=stereo[:, 0]).first.cause == ""

    def test_one_channel_of_a_recording_of_another_rate(self, tiny, tmp_path):
        stereo = (0.1 * np.random.default_rng(5).standard_normal((6 * 44_100, 2))).astype(np.float32)
        soundfile.write(tmp_path / "stereo.flac", stereo, 44_100, subtype="PCM_16")
        ours = trace.trace(tiny, tmp_path / "stereo.flac")
        second = soxr.resample(stereo[:, 1], 44_100, RATE)
        cause = compare_with(ours, samples=second).first.cause
        assert cause.startswith("channel 2 of 2 instead of the mean of the channels")
        # A file that was damaged since has no channels to compare with.
        data = (tmp_path / "stereo.flac").read_bytes()
        (tmp_path / "stereo.flac").write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
        assert compare_with(ours, samples=second).first.cause == ""


@pytest.mark.parametrize(("name", "first_row"), [("odd", 2), ("short", 0), ("blip", 0)])
@pytest.mark.slow
def test_parts_and_short_recordings(tiny, recordings, name, first_row):
    ours = trace.trace(tiny, recordings / f"{name}.wav", first_row=first_row, n_rows=2)
    first, n = ours.facts["first_frame"], ours.arrays["db"].shape[1]
    wave = np.pad(ours.arrays["samples"], (4096, 400_000))
    starts = 4096 - ours.facts["first_sample"] + TINY_128.hop_length * (first + np.arange(n)) - TINY_128.n_fft // 2
    frames = np.stack([wave[start : start + TINY_128.n_fft] for start in starts])
    power = np.abs(np.fft.rfft(frames * get_window("hamming", TINY_128.n_fft))) ** 2
    db = 10 * np.log10(np.maximum(mel_bands(TINY_128) @ power.T, 1e-10))
    assert compare_with(ours, db=db).first.cause == "a Hamming window instead of a Hann window"
    for stage in trace.STAGES if name == "blip" else ():
        result = compare_with(ours, **{stage: noise(ours.arrays[stage], 5)})
        assert (result.first.name, result.first.cause) == (stage, "")


class TestCompare:
    def test_only_the_first_is_explained(self, ours):
        result = compare_with(ours, db=ours.arrays["db"] + 3, rows=np.roll(ours.arrays["rows"], 1, 0))
        assert (result.first.name, result.first.cause[:8]) == ("db", "+3.00 dB")
        assert result.stages[-1].status == "differs"
        assert result.stages[-1].cause == ""
        assert "(the same before: samples)" in result.verdict

    def test_the_position_is_named(self, ours):
        for stage, index, text in (
            ("samples", 3 * RATE, "at 3.000 s"),
            ("db", (10, 320), r"at 10.00 s, 619 Hz"),
            ("windows", (2, 10, 16), r"at \d+\.\d\d s, 619 Hz \(window 3, which starts at"),
            ("image", (2, 1, 74, 16), r"619 Hz, channel 1 \(window 3"),
            ("logits", (2, 3, 1), r"class 'b' \(window 3"),
            ("rows", (2, 1), "at row 'sound_15', class 'b'"),
        ):
            changed = ours.arrays[stage].copy()
            changed[index] += 5
            result = compare_with(ours, **{stage: changed})
            assert result.first.name == stage
            assert re.search(text, result.first.sentence), result.first.sentence
            assert result.first.largest == pytest.approx(5, rel=1e-3)
            assert result.first.share == pytest.approx(1 / changed.size)

    def test_a_pixel_of_the_fold_has_a_time(self, ours):
        """A pixel of the lower half of the image is later in the window."""
        changed = ours.arrays["image"].copy()
        changed[0, 0, 64 + 10, 32] += 5
        assert "at 5.00 s, 619 Hz" in compare_with(ours, image=changed).first.sentence
        assert (128 + 32) * TINY_128.hop_length / RATE == 5.0

    def test_a_bundle_with_other_weights(self, ours, oracle, sound):
        other = trace.trace(oracle, sound)
        assert trace.compare(ours, other).first.name == "logits"
        changed = trace.Trace(
            arrays={**ours.arrays, "logits": noise(ours.arrays["logits"])}, facts={**ours.facts, "sha256": "another"}
        )
        assert trace.compare(ours, changed).first.sentence.endswith("; the weights differ")

    def test_tolerances(self, ours):
        other = trace.from_arrays({"db": ours.arrays["db"] + 0.3})
        assert trace.compare(ours, other).first.name == "db"
        assert trace.compare(ours, other, {"db": 0.5}).first is None
        with pytest.raises(ConfigError, match=r"a tolerance is at least 0 and of one of samples, .*; got mel=1"):
            trace.compare(ours, other, {"mel": 1})

    def test_equal_infinities_are_no_difference(self):
        first = trace.from_arrays({"rows": np.array([[np.nan, np.inf, 0.0]])})
        assert trace.compare(first, first).first is None
        other = trace.from_arrays({"rows": np.array([[np.nan, -np.inf, 0.0]])})
        assert trace.compare(first, other).first.largest == np.inf

    def test_two_other_pipelines(self, ours):
        """Without the facts of bcsed, the arrays still differ."""
        for stage in trace.STAGES:
            x = ours.arrays[stage]
            result = trace.compare(trace.from_arrays({stage: x}), trace.from_arrays({stage: noise(x, 5)}))
            assert result.first.name == stage

    def test_refusals(self, tiny, ours, recordings):
        with pytest.raises(DataError, match="no stage in both"):
            trace.compare(trace.from_arrays({"db": [[1.0]]}), trace.from_arrays({"rows": [[1.0]]}))
        with pytest.raises(DataError, match=r"of two recordings, sound.wav and odd.wav"):
            trace.compare(ours, trace.trace(tiny, recordings / "odd.wav"))


def test_the_command(tiny, sound, tmp_path, capsys):
    assert command(tiny.path, sound, "--out", tmp_path / "a.npz") == 0
    text = capsys.readouterr().out
    assert "7x64x256" in text
    assert text.splitlines()[-1] == f"written to {tmp_path / 'a.npz'}"
    assert command(tiny.path, sound, "--out", tmp_path / "b.npz", "--against", tmp_path / "a.npz") == 0
    traced = trace.read(tmp_path / "a.npz")
    np.savez(tmp_path / "c.npz", db=traced.arrays["db"] + 1, rows=traced.arrays["rows"])
    assert command(tiny.path, sound, "--out", tmp_path / "b.npz", "--against", tmp_path / "c.npz") == 1
    text = capsys.readouterr().out
    assert "same     rows" in text
    assert text.splitlines()[-1].startswith("db is the first stage that differs: by up to 1 (allowed 0.05)")
    assert (
        command(tiny.path, sound, "--out", tmp_path / "b.npz", "--against", tmp_path / "c.npz", "--tolerance", "db=2")
        == 0
    )
    assert command(tiny.path, sound, "--out", tmp_path / "b.npz", "--tolerance", "db") == 2
    assert "--tolerance takes stage=value, such as db=0.1, got 'db'" in capsys.readouterr().err
    part = (tiny.path, sound, "--out", tmp_path / "p.npz", "--first-row", 2, "--n-rows", 1, "--windows", "sliding")
    assert command(*part) == 0
    assert trace.read(tmp_path / "p.npz").arrays["rows"].shape == (1, 3)
