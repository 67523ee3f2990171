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
WHOLE = {
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
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)[:, : WHOLE[name].shape[1]]
    np.testing.assert_allclose(WHOLE[name].numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("name", FRONTENDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_windows_picture_is_the_slice_of_its_recordings(name, data):
    n_frames = WHOLE[name].shape[1]
    first = data.draw(st.integers(0, n_frames - 1))
    last = data.draw(st.integers(first + 1, n_frames))
    assert torch.equal(MELS[name].compute(WAVE, first, last), WHOLE[name][:, first:last])


def test_a_part_of_the_recording_serves_as_well_as_the_whole():
    mel = MELS["TINY_128"]
    begin, end = mel.reach(100, 356)
    part = mel.compute(WAVE[begin:end], 100, 356, offset=begin)
    assert torch.equal(part, WHOLE["TINY_128"][:, 100:356])


def test_beyond_the_ends_there_is_silence():
    picture = MELS["TINY_128"].compute(WAVE, -10, 5)
    assert (picture[:, :8] == -100).all()
    assert picture[:, 10:].min() > -100


def test_a_batch_does_not_matter():
    mel = MELS["SHORT_256"]
    waves = torch.from_numpy(WAVE[: 3 * 200_000].reshape(3, -1))
    together = mel(waves)
    assert all(torch.equal(mel(wave[None])[0], item) for wave, item in zip(waves, together, strict=True))


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_degenerate_waves_have_defined_results(value):
    out = MELS["TINY_128"](torch.full((1, 40_000), float(value)))
    assert out.isnan().all() if np.isnan(value) else out.isfinite().all()


def test_the_probe_still_sounds_as_it_did():
    """Should this fail, every network trained before would hear something else: see golden/make.py."""
    from pathlib import Path

    from bcsed.models.bundle.probe import compute_probe

    db, picture = compute_probe(FRONTENDS["TINY_128"])
    with np.load(Path(__file__).parent / "golden" / "probe_tiny.npz") as golden:
        np.testing.assert_allclose(np.maximum(db, db.max() - 80)[:, ::4], golden["db"], atol=1e-2)
        np.testing.assert_allclose(picture[:, ::2, ::4], golden["picture"], atol=1e-4)


@pytest.mark.parametrize("fmin_hz", [0, 20, 1000, 2500])
@pytest.mark.parametrize("name", FRONTENDS)
def test_mel_bands_are_librosas(name, fmin_hz):
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
