from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from bcsed import audio
from bcsed.config import TINY_128, Data
from bcsed.dataset import Clips, batches, epoch_order, read_headers
from bcsed.spectrogram import LogMel

RATE = 32_000


@pytest.fixture(scope="module")
def infos(tmp_path_factory):
    """One recording longer than the window of 8 s, one shorter; every sample tells its place."""
    folder = tmp_path_factory.mktemp("clips")
    for name, seconds in (("long", 15), ("short", 2)):
        n = seconds * RATE
        soundfile.write(folder / f"{name}.wav", (np.arange(n) / n).astype("float32"), RATE, subtype="FLOAT")
    return [audio.info(folder / f"{name}.wav") for name in ("long", "short")]


def test_a_clips_picture_is_a_slice_of_its_recordings(infos):
    clips = Clips(infos, TINY_128, Data())
    mel = LogMel(TINY_128)
    whole = mel.picture(audio.load(infos[0].path, RATE), 0, 480)
    starts = set()
    for seed in range(20):
        wave = clips.wave(0, "random", np.random.default_rng(seed))
        picture = mel(torch.from_numpy(wave)[None])[0]
        first = next(s for s in range(225) if torch.equal(picture, whole[:, s : s + 256]))
        starts.add(first)
    assert len(starts) > 10
    assert min(starts) < 60
    assert max(starts) > 160


def test_first_and_centre(infos):
    clips, rng = Clips(infos, TINY_128, Data()), np.random.default_rng(0)
    half = TINY_128.n_fft // 2
    assert (clips.wave(0, "first", rng)[:half] == 0).all()
    middle = clips.wave(0, "centre", rng)
    assert abs(middle[len(middle) // 2] - 0.5) < 0.01


def test_short_recordings_are_padded_as_asked(infos):
    rng = np.random.default_rng(0)
    zeros = Clips(infos, TINY_128, Data(pad="zeros")).wave(1, "first", rng)
    assert (zeros[1024 + 2 * RATE :] == 0).all()
    again = Clips(infos, TINY_128, Data(pad="repeat")).wave(1, "first", rng)
    np.testing.assert_array_equal(again[1024 : 1024 + 2 * RATE], again[1024 + 2 * RATE : 1024 + 4 * RATE])
    places = {
        int(np.argmax(Clips(infos, TINY_128, Data()).wave(1, "random", np.random.default_rng(s)))) for s in range(9)
    }
    assert len(places) > 5


def test_neither_cache_nor_threads_change_a_batch(infos):
    rows, targets = np.arange(12) % 2, np.random.default_rng(0).random((2, 3), dtype="float32")

    def epoch(cache_gb, jobs, first_step=0):
        clips = Clips(infos, TINY_128, Data(), cache_gb)
        feed = batches(
            clips,
            rows,
            targets,
            targets,
            batch_size=4,
            crop="random",
            seed=1,
            epoch=2,
            first_step=first_step,
            jobs=jobs,
        )
        return [(batch.step, batch.waves, batch.targets) for batch in feed]

    plain = epoch(0.0, 1)
    assert [step for step, _, _ in plain] == [0, 1, 2]
    # Clips 0 and 2 of a batch are of one recording, cut at places of their own.
    assert not torch.equal(plain[0][1][0], plain[0][1][2])
    for other in (epoch(1.0, 3), epoch(0.0, 3)):
        assert all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(plain, other, strict=True))
    late = epoch(1.0, 2, first_step=2)
    assert late[0][0] == 2
    assert torch.equal(late[0][1], plain[2][1])


def test_epochs_differ_and_repeat():
    rows = np.arange(50)
    first, again, other = (epoch_order(rows, 0, epoch) for epoch in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first) == list(rows)


def test_headers_are_read_in_order(infos, tmp_path):
    (tmp_path / "bad.ogg").write_text("x")
    paths = [infos[0].path, tmp_path / "bad.ogg", infos[1].path]
    found, failures = read_headers(paths)
    assert [item.path if item else None for item in found] == [infos[0].path, None, infos[1].path]
    assert list(failures) == [str(tmp_path / "bad.ogg")]
