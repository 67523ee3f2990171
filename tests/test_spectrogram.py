from __future__ import annotations

import dataclasses

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.audio.spectrogram import LogMel, mel_bands
from bcsed.config.contract import FRONTENDS

WAVE = (np.random.default_rng(0).standard_normal(32_000 * 30) * 0.1).astype("float32")
MELS = {name: LogMel(frontend) for name, frontend in FRONTENDS.items()}
COMPLETE = {
    name: MELS[name].compute(WAVE, 0, -(-len(WAVE) // frontend.hop_length)) for name, frontend in FRONTENDS.items()
}


@pytest.mark.parametrize("name", FRONTENDS)
def test_equals_librosa(name):
    frontend = FRONTENDS[name]
    power = librosa.feature.melspectrogram(
        y=WAVE,
        sr=frontend.sample_rate,
        n_fft=frontend.n_fft,
        hop_length=frontend.hop_length,
        n_mels=frontend.n_mels,
        fmin=frontend.fmin_hz,
        fmax=frontend.fmax_hz,
        center=True,
        pad_mode="constant",
    )
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)[:, : COMPLETE[name].shape[1]]
    np.testing.assert_allclose(COMPLETE[name], expected, atol=1e-3)


@pytest.mark.parametrize("name", FRONTENDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_spectrogram_of_a_window_is_a_slice_of_the_recording(name, data):
    n_frames = COMPLETE[name].shape[1]
    first = data.draw(st.integers(0, n_frames - 1))
    last = data.draw(st.integers(first + 1, n_frames))
    assert np.array_equal(MELS[name].compute(WAVE, first, last), COMPLETE[name][:, first:last])


def test_an_excerpt_has_the_same_frames_as_the_recording():
    mel = MELS["TINY_128"]
    begin, end = mel.frontend.reach(100, 356)
    part = mel.compute(WAVE[begin:end], 100, 356, offset=begin)
    assert np.array_equal(part, COMPLETE["TINY_128"][:, 100:356])


def test_frames_beyond_the_ends_are_silent():
    picture = MELS["TINY_128"].compute(WAVE, -10, 5)
    assert (picture[:, :8] == -100).all()
    assert picture[:, 10:].min() > -100


def test_frames_do_not_depend_on_the_batch():
    mel = MELS["SHORT_256"]
    waves = torch.from_numpy(WAVE[: 3 * 200_000].reshape(3, -1))
    together = mel(waves)
    assert all(torch.equal(mel(wave[None])[0], item) for wave, item in zip(waves, together, strict=True))


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_degenerate_waves_have_defined_results(value):
    out = MELS["TINY_128"](torch.full((1, 40_000), float(value)))
    assert out.isnan().all() if np.isnan(value) else out.isfinite().all()


def test_the_probe_has_not_changed():
    """If this fails, all earlier networks would receive another input: see golden/make.py."""
    from pathlib import Path

    from bcsed.models.bundle.probe import compute_probe

    db, picture = compute_probe(FRONTENDS["TINY_128"])
    with np.load(Path(__file__).parent / "golden" / "probe_tiny.npz") as golden:
        np.testing.assert_allclose(np.maximum(db, db.max() - 80)[:, ::4], golden["db"], atol=1e-2)
        np.testing.assert_allclose(picture[:, ::2, ::4], golden["picture"], atol=1e-4)


@pytest.mark.parametrize("fmin_hz", [0, 20, 1000, 2500])
@pytest.mark.parametrize("name", FRONTENDS)
def test_mel_bands_equal_librosa(name, fmin_hz):
    frontend = dataclasses.replace(FRONTENDS[name], fmin_hz=fmin_hz)
    theirs = librosa.filters.mel(
        sr=frontend.sample_rate,
        n_fft=frontend.n_fft,
        n_mels=frontend.n_mels,
        fmin=frontend.fmin_hz,
        fmax=frontend.fmax_hz,
        htk=False,
        norm="slaney",
        dtype=np.float32,
    )
    np.testing.assert_array_equal(mel_bands(frontend), theirs)
