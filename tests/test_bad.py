"""Forty kinds of bad recording among good ones: each is named with its reason, and costs the others nothing."""

from __future__ import annotations

import os
import re
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE

from bcsed import predict

NOT_AUDIO = "not readable as audio"
NO_SAMPLES = "a header but no samples"
ENDS = "ends at|cut off|cannot be decoded beyond"


def noise(seconds: float = 20.0, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(9)
    return (0.1 * rng.standard_normal((round(seconds * RATE), channels))).astype("float32")


def encoded(path: Path, suffix: str, **options) -> bytes:
    whole = path.with_name(f"whole{suffix}")
    soundfile.write(whole, noise(), RATE, **options)
    data = whole.read_bytes()
    whole.unlink()
    return data


def windowing(suffix: str, share: float, **options):
    def write(path: Path) -> None:
        data = encoded(path, suffix, **options)
        path.write_bytes(data[: int(share * len(data))])

    return write


def garbled(suffix: str, **options):
    def write(path: Path) -> None:
        data = bytearray(encoded(path, suffix, **options))
        middle = len(data) // 2
        data[middle : middle + 4000] = np.random.default_rng(1).bytes(4000)
        path.write_bytes(data)

    return write


def holding(data: bytes):
    return lambda path: path.write_bytes(data)


def samples(value: float, share: float):
    def write(path: Path) -> None:
        wave = noise()
        wave[: int(share * len(wave))] = value
        soundfile.write(path, wave, RATE, subtype="FLOAT")

    return write


def wav(
    channels: int = 1, rate: int = RATE, bits: int = 16, tag: int = 1, claimed: int | None = None, n: int = 0
) -> bytes:
    """A wav file by hand: what no honest writer writes."""
    data = np.zeros(n, "<i2").tobytes() if not n else (1000 * noise(n / RATE)[:, 0]).astype("<i2").tobytes()
    size = len(data) if claimed is None else claimed
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt \x10\0\0\0"
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("song.ogg", b"la la")


def flac_without_frames(path: Path) -> None:
    path.write_bytes(encoded(path, ".flac")[:90])


def zeros_after_header(path: Path) -> None:
    data = encoded(path, ".flac")
    path.write_bytes(data[:8300] + bytes(len(data) - 8300))


def ogg_of_another_codec(path: Path) -> None:
    path.write_bytes(encoded(path, ".ogg").replace(b"\x01vorbis", b"\x80theora"))


def chain(path: Path) -> None:
    path.write_bytes(encoded(path, ".ogg")[:-200] + b"tail")


def looped(path: Path) -> None:
    path.symlink_to(path.name)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4665a5ea" * 8 + b"\nsize 1280044\n"
# Name with suffix -> how it is written, and what is said of it.
FAILED = {
    "empty.ogg": (Path.touch, "empty .0 bytes"),
    "empty.wav": (Path.touch, "empty .0 bytes"),
    "text.ogg": (holding(b"not sound at all\n" * 50), NOT_AUDIO),
    "text.wav": (holding(b"not sound at all\n" * 50), NOT_AUDIO),
    "page.mp3": (holding(b"<!DOCTYPE html><html><body>404 Not Found</body></html>"), NOT_AUDIO),
    "table.flac": (holding(b"row_id,a,b\nx_5,.1,.2\n"), NOT_AUDIO),
    "pointer.wav": (holding(LFS), NOT_AUDIO),
    "picture.ogg": (holding(b"\x89PNG\r\n\x1a\n" + bytes(300)), NOT_AUDIO),
    "archive.flac": (zipped, NOT_AUDIO),
    "zeros.wav": (holding(bytes(200_000)), NOT_AUDIO),
    "zeros.ogg": (holding(bytes(200_000)), NOT_AUDIO),
    "random.ogg": (holding(np.random.default_rng(2).bytes(50_000)), NOT_AUDIO),
    "random.flac": (holding(np.random.default_rng(3).bytes(50_000)), NOT_AUDIO),
    "riff.wav": (holding(b"RIFF"), NOT_AUDIO),
    "oggs.ogg": (holding(b"OggS"), NOT_AUDIO),
    "begun.ogg": (windowing(".ogg", 0.0004), NOT_AUDIO),
    "header.wav": (holding(wav()), NO_SAMPLES),
    "header.flac": (flac_without_frames, f"{NO_SAMPLES}|decoding failed|{NOT_AUDIO}"),
    "silent-frames.flac": (zeros_after_header, f"{NO_SAMPLES}|decoding failed"),
    "no-channels.wav": (holding(wav(channels=0, n=9000)), NOT_AUDIO),
    "codec.wav": (holding(wav(tag=0x7777, n=9000)), NOT_AUDIO),
    "codec.ogg": (ogg_of_another_codec, NOT_AUDIO),
    "gone.ogg": (lambda path: path.symlink_to("nowhere.ogg"), "there is no such file"),
    "loop.wav": (looped, "no such file|levels of symbolic links"),
    "pipe.wav": (os.mkfifo, "neither a file nor a link"),
    "device.ogg": (lambda path: path.symlink_to("/dev/null"), "neither a file nor a link"),
}
NOTED = {
    "half.ogg": (windowing(".ogg", 0.5), "cut off"),
    "nearly.ogg": (windowing(".ogg", 0.99), "cut off"),
    "half.wav": (windowing(".wav", 0.5), ENDS),
    "half.flac": (windowing(".flac", 0.5), ENDS),
    "half.mp3": (windowing(".mp3", 0.5), ENDS),
    "tail.ogg": (chain, "cut off"),
    "garbled.flac": (garbled(".flac"), ENDS),
    "claims.wav": (
        holding(wav(n=9 * RATE, claimed=60 * 2 * RATE)),
        r"cut off: \d+ bytes in its header",
    ),
    "nan.wav": (samples(np.nan, 0.3), "not numbers"),
    "inf.wav": (samples(np.inf, 0.3), "not numbers"),
    "all-nan.wav": (samples(np.nan, 1.0), "not numbers"),
    "silence.wav": (samples(0.0, 1.0), "nothing but digital silence"),
    "silence.ogg": (lambda path: soundfile.write(path, np.zeros(9 * RATE), RATE), "nothing but digital silence"),
    "minus-inf.wav": (samples(-np.inf, 0.01), "not numbers"),
}


def test_there_are_forty():
    assert len({**FAILED, **NOTED}) == len(FAILED) + len(NOTED) == 40


@pytest.fixture(scope="module")
def good(recordings, tiny):
    return predict.predict([tiny], [recordings]).scores


@pytest.fixture(scope="module")
def mixed(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "mixed"
    shutil.copytree(recordings, folder)
    for name, (write, _) in {**FAILED, **NOTED}.items():
        write(folder / name)
    return folder


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("jobs", [0, 3])
def test_each_is_named_and_costs_the_others_nothing(tiny, good, mixed, tmp_path, jobs):
    result = predict.predict([tiny], [mixed], out=tmp_path / "out", options=predict.RunOptions(jobs=jobs))
    np.testing.assert_array_equal(result.scores.loc[good.index], good)
    assert np.isfinite(result.scores.to_numpy()).all()
    failures = {Path(path).name: reason for path, reason in result.failures[["recording", "reason"]].to_numpy()}
    assert set(failures) == set(FAILED)
    for name, (_, reason) in FAILED.items():
        assert re.search(reason, failures[name]), (name, failures[name])
        assert str(mixed / name) in failures[name]
        assert "\n" not in failures[name]
    noted: dict[str, str] = {}
    for path, note in result.notes.to_numpy():
        noted[Path(path).name] = f"{noted.get(Path(path).name, '')}; {note}"
    assert set(noted) == set(NOTED)
    for name, (_, reason) in NOTED.items():
        assert re.search(reason, noted[name]), (name, noted[name])


@pytest.mark.parametrize("place", ["first", "last", "only"])
@pytest.mark.parametrize("name", ["empty.ogg", "text.wav", "header.flac", "gone.ogg"])
def test_wherever_it_stands(tiny, good, mixed, recordings, place, name):
    paths = {"first": [mixed / name, recordings], "last": [recordings, mixed / name], "only": [mixed / name]}[place]
    result = predict.predict([tiny], paths)
    assert result.n_failed == len(result.failures) == 1
    if place != "only":
        np.testing.assert_array_equal(result.scores, good)


def test_a_file_that_is_cut_off_has_the_rows_it_has(tiny, mixed):
    """Of 20 s ten are there, and nine of the 60 that are claimed; a recording's last row may be short."""
    names = ["half.wav", "half.flac", "claims.wav", "garbled.flac"]
    result = predict.predict([tiny], [mixed / name for name in names])
    n_rows = result.scores.index.to_series().str.rsplit("_", n=1).str[0].value_counts()
    assert n_rows["half.wav"] == n_rows["claims"] == 2
    assert 2 <= n_rows["half.flac"] <= 3
    assert 1 <= n_rows["garbled"] <= 3
    assert result.n_failed == 0
