"""What headers state against what the files contain, in every container; and the reasons why files cannot be read."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bcsed.audio.decode import AudioReader, read_audio, read_there
from bcsed.audio.headers import read_info
from bcsed.errors import DataError
from bcsed.predict import predict
from bcsed.predict.blocks import row_blocks

RATE = 32_000
WAVE = (0.1 * np.random.default_rng(0).standard_normal(RATE * 4)).astype("float32")


def patched(path, mark: bytes, offset: int, form: str, value: int):
    """Overwrite a number of a file, at an offset from a mark in it."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(mark) + offset, value)
    path.write_bytes(content)
    return path


def flac_length(path, n: int):
    """Overwrite the number of samples of a FLAC file."""
    content = bytearray(path.read_bytes())
    content[21] = (content[21] & 0xF0) | (n >> 32)
    content[22:26] = struct.pack(">I", n & 0xFFFFFFFF)
    path.write_bytes(content)
    return path


LESS = {
    "riff": ("a.wav", {"subtype": "PCM_16"}, b"data", 4, "<I", 64_000),
    "riff without a size": ("a.wav", {"subtype": "PCM_24"}, b"data", 4, "<I", 0),
    "riff, stereo doubles": ("a.wav", {"subtype": "DOUBLE", "channels": 2}, b"data", 4, "<I", 160_000),
    "rifx": ("a.wav", {"subtype": "PCM_16", "endian": "BIG"}, b"data", 4, ">I", 64_000),
    "rf64": ("a.rf64", {"subtype": "PCM_24", "format": "RF64"}, b"ds64", 16, "<Q", 96_000),
    "aiff": ("a.aiff", {"subtype": "PCM_16"}, b"SSND", 4, ">I", 64_008),
    "aiff of 8 bit": ("a.aifc", {"subtype": "PCM_S8", "format": "AIFF"}, b"SSND", 4, ">I", 32_008),
    "aiff, little-endian": ("a.aiff", {"subtype": "PCM_16", "endian": "LITTLE"}, b"SSND", 4, ">I", 64_008),
    "caf": ("a.caf", {"subtype": "PCM_24"}, b"data", 4, ">Q", 96_004),
    "caf, little-endian": ("a.caf", {"subtype": "PCM_16", "endian": "LITTLE"}, b"data", 4, ">Q", 64_004),
    "au": ("a.au", {"subtype": "PCM_16"}, b".snd", 8, ">I", 64_000),
    "au, little-endian": ("a.au", {"subtype": "ULAW", "endian": "LITTLE"}, b"dns.", 8, "<I", 32_000),
}


@pytest.mark.parametrize("name", LESS)
def test_audio_behind_the_end_that_a_header_states_is_read(tmp_path, name):
    file, form, *patch = LESS[name]
    path, options = tmp_path / file, dict(form)
    wave = np.stack([WAVE] * options.pop("channels", 1), axis=1)
    soundfile.write(path, wave, RATE, **options)
    expected, notes = read_audio(read_info(path), RATE)
    assert notes == ()
    patched(path, *patch)
    info = read_info(path)
    assert "its header covers" in info.notes[0]
    assert "of 4.0 s" in info.notes[0]
    np.testing.assert_array_equal(read_audio(info, RATE)[0], expected)
    # An excerpt, and through an open decoder.
    for reader in (None, AudioReader(info)):
        np.testing.assert_array_equal(read_there(info, RATE, 70_000, 100_000, reader)[0], expected[70_000:100_000])


def test_chunks_behind_the_audio_are_not_audio(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVE, RATE)
    content = path.read_bytes()
    chunk = b"LIST" + struct.pack("<I", 60_000) + bytes(60_000)
    path.write_bytes(content + chunk)
    assert read_info(path).notes == ()
    path.write_bytes(content + bytes(4000))  # filled up to a block of the card
    assert read_info(path).n_samples == len(WAVE)


@pytest.mark.parametrize("tail", [b"", b"LIST" + struct.pack("<I", 8000) + bytes(8000)])
def test_sizes_that_wrapped_at_4_gib(tmp_path, tail):
    path, n = tmp_path / "night.wav", 2**31 + 20 * RATE
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 0)
    with path.open("wb") as file:  # sparse
        file.write(head[:-4] + struct.pack("<I", 2 * n % 2**32))
        file.write((WAVE * 32767).astype("<i2").tobytes())
        file.seek(len(head) + 2 * n)
        file.write(tail or b"\0")
        file.truncate(len(head) + 2 * n + len(tail))
    info = read_info(path)
    assert info.n_samples == n
    assert "its header covers 20.0 of 67128.9 s" in info.notes[0]
    assert read_audio(info, RATE, n - RATE, n)[0].shape == (RATE,)


@pytest.mark.parametrize("claim", [0, 2**36 - 1, 2**36 - 2, 580 * 3600 * RATE])
@pytest.mark.parametrize("cut", [False, True])
def test_a_flac_whose_length_is_unknown_or_absurd_is_counted(tmp_path, claim, cut):
    path = tmp_path / "a.flac"
    soundfile.write(path, WAVE, RATE)
    flac_length(path, claim)
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 8])
    info = read_info(path)
    assert info.n_samples == (3 * RATE if cut else 4 * RATE)
    wave, notes = read_audio(info, RATE)
    np.testing.assert_allclose(wave, WAVE[: len(wave)], atol=1e-4)
    assert f"the audio ends at {len(wave) / RATE:.1f} s" in notes[0]


def ogg_granule(path):
    """Let the last page of an ogg state an absurd end."""
    content = bytearray(path.read_bytes())
    page = content.rindex(b"OggS")
    struct.pack_into("<Q", content, page + 6, 2**61)
    struct.pack_into("<I", content, page + 22, 0)
    struct.pack_into("<I", content, page + 22, ogg_checksum(bytes(content[page:])))
    path.write_bytes(content)


def ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 1 << 31 else value << 1) & 0xFFFFFFFF
    return value


def mp3_count(path, n=2**32 - 2):
    patched(path, b"Xing", 8, ">I", n)


@pytest.mark.parametrize(("suffix", "damage"), [("ogg", ogg_granule), ("mp3", mp3_count), ("opus", ogg_granule)])
def test_an_absurd_claim_costs_neither_memory_nor_rows(tmp_path, oracle, suffix, damage):
    good, path = tmp_path / "b.wav", tmp_path / f"a.{suffix}"
    form = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, WAVE, 48_000 if form else RATE, **form)
    soundfile.write(good, WAVE, RATE)
    damage(path)
    tracemalloc.start()
    info = read_info(path)
    assert 2.5 < info.duration_s < 4.5
    assert "the audio ends at" in info.notes[-1]
    result = predict([oracle], [path, good])
    assert tracemalloc.get_traced_memory()[1] < 2**28
    tracemalloc.stop()
    assert list(result.scores.index) == ["a_5", "b_5"]


def test_blocks_are_made_one_at_a_time(tmp_path, oracle, monkeypatch):
    """A claim that is believed asks nothing of a recording that has ended."""
    soundfile.write(tmp_path / "a.flac", np.tile(WAVE, 10), RATE)
    soundfile.write(tmp_path / "b.wav", WAVE, RATE)
    flac_length(tmp_path / "a.flac", 2**35)
    monkeypatch.setattr("bcsed.audio.headers._MAX_COUNTED", 0)
    asked = []

    def counted(*args):
        for block in row_blocks(*args):
            asked.append(block)
            yield block

    monkeypatch.setattr("bcsed.predict.pipeline.row_blocks", counted)
    result = predict([oracle], [tmp_path])
    assert result.scores.index[-1] == "b_5"
    assert len(result.scores) == 8 + 1
    assert len(asked) < 30


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg"])
def test_what_is_not_read_of_a_compressed_file_is_noted(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, WAVE, RATE)
    assert read_audio(read_info(path), RATE)[1] == ()
    if name == "a.flac":
        flac_length(path, RATE)
    elif name == "a.mp3":
        mp3_count(path, 40)
    else:
        path.write_bytes(path.read_bytes() * 2)  # chained: libsndfile reads the first stream
    info = read_info(path)
    _, notes = read_audio(info, RATE)
    assert "bytes behind the end that its header states" in notes[-1]
    assert "ffmpeg" in notes[-1]
    assert not any("behind" in note for note in read_audio(info, RATE, 0, 100)[1])


def test_adpcm_behind_its_header_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE, RATE, subtype="IMA_ADPCM")
    patched(tmp_path / "a.wav", b"data", 4, "<I", 10_240)
    assert "bytes behind the audio" in read_info(tmp_path / "a.wav").notes[0]


@pytest.mark.parametrize("rate", [1, 99, 1_000_001, 2_000_000_000])
def test_absurd_sample_rates_are_refused(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", WAVE, RATE)
    patched(tmp_path / "a.wav", b"fmt ", 12, "<I", rate)
    with pytest.raises(DataError, match=f"sample rate of {rate} Hz"):
        read_info(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\0\0\0\x20ftypM4A ", "MPEG-4 file.*ffmpeg"),
        (b"\0\0\0\x1cftypmp42", "MPEG-4 file"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
        (b"wvpk", "WavPack"),
        (b"#!AMR\n", "AMR"),
        (b"\0\5\x16\7", "companion file of macOS"),
        (b"PK\3\4", "zip"),
        (b"<!DOCTYPE html>", "page of text"),
        (bytes(64), "file of zeros"),
        (b"ID3\4\0\0\0\0\0\x0a" + bytes(10) + b"OggS", "not readable as audio.*ffmpeg"),
        (b"fLaC" + bytes(40), "not readable as audio.*ffmpeg"),
    ],
)
@pytest.mark.parametrize("suffix", ["mp3", "wav"])
def test_reasons_are_true_and_show_a_way_out(tmp_path, start, reason, suffix):
    path = tmp_path / f"phone.{suffix}"
    path.write_bytes(start + np.random.default_rng(0).bytes(5000))
    with pytest.raises(DataError, match=reason) as error:
        read_info(path)
    assert not any(word in str(error.value) for word in ("System error", "psf_", "does not exist", "Internal"))


def test_descriptors_are_closed(tmp_path):
    soundfile.write(tmp_path / "a.ogg", WAVE, RATE)
    (tmp_path / "b.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        read_audio(read_info(tmp_path / "a.ogg"), RATE)
        with pytest.raises(DataError):
            read_info(tmp_path / "b.wav")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("value", [1e20, -3e38, 1e30])
def test_huge_samples_count_as_silence_with_a_note(tmp_path, value):
    wave = np.stack([WAVE, WAVE], axis=1)
    wave[100:200] = value
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    read, notes = read_audio(read_info(tmp_path / "a.wav"), RATE)
    assert notes in (
        ("100 of 128000 samples are beyond 1e+15; they count as silence",),
        ("100 of 128000 samples are not numbers; they count as silence",),  # the sum of both channels overflows
    )
    assert not read[100:200].any()
    assert read[99] == WAVE[99]


def test_loud_but_usable_samples_are_unchanged(tmp_path):
    soundfile.write(tmp_path / "a.wav", WAVE * np.float32(1e10), RATE, subtype="FLOAT")
    read, notes = read_audio(read_info(tmp_path / "a.wav"), RATE)
    assert notes == ()
    np.testing.assert_array_equal(read, WAVE * np.float32(1e10))


def test_channels_that_cancel_each_other_are_noted(tmp_path):
    for name, second in (("inverted", -WAVE), ("nearly", -0.99 * WAVE), ("left", 0 * WAVE), ("same", WAVE)):
        soundfile.write(tmp_path / f"{name}.wav", np.stack([WAVE, second], axis=1), RATE)
        notes = read_audio(read_info(tmp_path / f"{name}.wav"), RATE)[1]
        assert ["cancel" in note for note in notes] == [True] * (name in ("inverted", "nearly"))
    # Several inverted pairs, and digital silence.
    soundfile.write(tmp_path / "four.flac", np.stack([WAVE, -WAVE] * 2, axis=1), RATE)
    assert "cancel" in read_audio(read_info(tmp_path / "four.flac"), RATE)[1][0]
    soundfile.write(tmp_path / "silent.wav", np.zeros((RATE, 2)), RATE)
    assert read_audio(read_info(tmp_path / "silent.wav"), RATE)[1] == ()


@pytest.mark.parametrize(("rate", "noted"), [(8000, True), (22_050, True), (28_000, False), (RATE, False)])
def test_a_sample_rate_below_the_bands_is_noted(tmp_path, oracle, rate, noted):
    soundfile.write(tmp_path / "a.wav", WAVE, rate)
    notes = list(predict([oracle], [tmp_path]).notes["note"])
    assert [f"nothing above {rate / 2:g} Hz" in note for note in notes] == [True] * noted
