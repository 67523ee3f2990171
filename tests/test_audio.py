from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcsed.audio.decode import AudioReader, read_audio, read_there
from bcsed.audio.headers import read_info
from bcsed.errors import DataError
from bcsed.recordings import find_recordings

RATE = 32_000


@pytest.fixture(scope="module")
def ogg(tmp_path_factory):
    """Forty seconds of chirping noise as ogg: libvorbisfile seeks to wrong samples in its last page."""
    path = tmp_path_factory.mktemp("ogg") / "forty.ogg"
    t = np.arange(40 * RATE) / RATE
    wave = 0.3 * np.sin(2 * np.pi * (500 + 50 * t) * t) + 0.05 * np.random.default_rng(0).standard_normal(t.size)
    soundfile.write(path, wave.astype("float32"), RATE)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 40 * RATE - 1), length=st.integers(1, 12 * RATE))
def test_an_excerpt_is_a_slice_of_the_recording(ogg, start, length):
    complete = _decoded(ogg)
    excerpt = read_audio(read_info(ogg), RATE, start, start + length)[0]
    np.testing.assert_array_equal(excerpt, complete[start : start + length])


_cache: dict = {}


def _decoded(path, rate=RATE):
    return _cache.setdefault((path, rate), read_audio(read_info(path), rate)[0])


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_a_resampled_excerpt_is_a_slice_of_the_recording(ogg, rate, rng):
    complete = _decoded(ogg, rate)
    assert len(complete) == read_info(ogg).length(rate)
    for start in (*rng.integers(0, len(complete) - 1, 10), len(complete) - 500):
        stop = min(len(complete), int(start) + 30_000)
        np.testing.assert_allclose(
            read_audio(read_info(ogg), rate, int(start), stop)[0], complete[start:stop], atol=1e-5
        )


def test_stereo_at_96_khz_becomes_mono_at_32(tmp_path):
    t = np.arange(96_000 * 2) / 96_000
    left = 0.5 * np.sin(2 * np.pi * 1000 * t)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros_like(left)], 1), 96_000)
    wave = read_audio(read_info(tmp_path / "a.wav"), RATE)[0]
    assert wave.shape == (2 * RATE,)
    expected = 0.25 * np.sin(2 * np.pi * 1000 * np.arange(2 * RATE) / RATE)
    np.testing.assert_allclose(wave[500:-500], expected[500:-500], atol=1e-3)


def test_suffixes_may_be_upper_case_and_folders_are_searched(tmp_path, ogg):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.OGG", "deep/er/a.Wav", "notes.txt"):
        (tmp_path / name).write_bytes(ogg.read_bytes())
    assert [path.name for path in find_recordings([tmp_path])] == ["b.OGG", "a.Wav"]
    # A file given by its path may have any suffix, and is returned once.
    assert len(find_recordings([tmp_path, tmp_path / "notes.txt", tmp_path / "b.OGG"])) == 3


def test_truncated_oggs_have_a_note(tmp_path, ogg):
    content = ogg.read_bytes()
    assert read_info(ogg).notes == ()
    (tmp_path / "cut.ogg").write_bytes(content[: len(content) // 2])
    info = read_info(tmp_path / "cut.ogg")
    assert 5 < info.duration_s < 35
    assert "cut off" in info.notes[0]
    wave, notes = read_audio(info, RATE)
    assert "cut off" in notes[0]
    np.testing.assert_array_equal(wave[: 5 * RATE], _decoded(ogg)[: 5 * RATE])


def test_samples_that_are_not_numbers_become_silence_with_a_note(tmp_path):
    wave = np.full(RATE, 0.1, "float32")
    wave[100:200] = np.nan
    wave[300] = np.inf
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    read, notes = read_audio(read_info(tmp_path / "nan.wav"), RATE)
    assert notes == ("101 of 32000 samples are not numbers; they count as silence",)
    assert (read[100:200] == 0).all()
    assert read[99] == wave[99]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file"),
        (b"", r"the file is empty \(0 bytes\)"),
        (b"this is text, not sound\n" * 50, "not readable as audio"),
        (b"OggS" + bytes(200), "not readable as audio"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "not readable as audio"),
    ],
)
def test_unusable_files_are_refused(tmp_path, content, sentence):
    path = tmp_path / "x.ogg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as error:
        read_audio(read_info(path), RATE)
    assert str(error.value).count(str(path)) == 1


def test_a_header_without_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0, "float32"), RATE)
    with pytest.raises(DataError, match="a header but no samples"):
        read_info(tmp_path / "none.wav")


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(DataError, match="no recordings in this folder"):
        find_recordings([tmp_path])
    with pytest.raises(DataError, match="no such file or folder"):
        find_recordings([tmp_path / "x"])


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "flac", "wav"])
def test_an_open_reader_returns_the_same_samples(tmp_path, rng, suffix):
    path = tmp_path / f"long.{suffix}"
    with soundfile.SoundFile(path, "w", 32_000, 1) as file:
        # In pieces, because libvorbis may crash for minutes of audio.
        for _ in range(90):
            file.write((0.1 * rng.standard_normal(32_000)).astype("float32"))
    info = read_info(path)
    reader = AudioReader(info)
    for rate in (32_000, 16_000):
        for start, stop in ((0, 20), (15, 40), (35, 60), (2, 5), (55, 90), (89, 95)):
            expected, n, _ = read_there(info, rate, start * rate, stop * rate)
            wave, n_decoded, _ = read_there(info, rate, start * rate, stop * rate, reader)
            assert n == n_decoded
            np.testing.assert_allclose(wave, expected, atol=1e-6)
    with pytest.raises(ZeroDivisionError), reader.opened():
        1 / 0  # noqa: B018
    reader.close()
    reader.close()
