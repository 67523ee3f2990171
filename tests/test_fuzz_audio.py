"""Recordings with mutated bytes: read, or refused in one sentence, within seconds and bounded memory.

Each example runs in a process of its own group, because a hang or a crash of a decoder would otherwise end the test.
`BCSED_FUZZ_S=600 pytest -m slow tests/test_fuzz_audio.py` searches longer.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

RATE = 32_000
# Seconds and bytes of memory of one example: three seconds of audio.
LIMIT_S, LIMIT_BYTES, LIMIT_KB = 20.0, 4 << 30, 800_000
READER = """
import json, os, resource, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # decoders print
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import numpy as np
from bcsed.audio.decode import AudioReader, read_audio, read_there
from bcsed.audio.headers import read_info
from bcsed.errors import DataError

print("ready", file=answers, flush=True)
for line in sys.stdin:
    try:
        info = read_info(line.strip())
        wave, notes = read_audio(info, 32_000, 0, 32_000 * 240)
        assert np.isfinite(wave).all()
        # An excerpt near the end of what the header states, through an open decoder.
        end = info.length(32_000)
        reader = AudioReader(info)
        part, n, more = read_there(info, 32_000, max(0, end - 64_000), end, reader)
        reader.close()
        assert np.isfinite(part).all() and len(part) <= 64_000 and 0 <= n <= len(part)
        answer = {"samples": len(wave), "notes": [*info.notes, *notes, *more]}
    except DataError as error:
        answer = {"refused": str(error)}
    except Exception as error:
        answer = {"error": repr(error)}
    # Not ru_maxrss, which a process inherits from the one that starts it.
    peak = next(text for text in open("/proc/self/status") if text.startswith("VmHWM:")).split()[1]
    print(json.dumps({**answer, "peak_kb": int(peak)}), file=answers, flush=True)
"""


class Reader:
    """A process that reads recordings, started again after each crash."""

    def __init__(self) -> None:
        self.process = None

    def start(self) -> None:
        command, pipe = [sys.executable, "-c", READER, str(LIMIT_BYTES)], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        assert self.process.stdout.readline() == b"ready\n"

    def read(self, path: Path) -> dict[str, object]:
        if self.process is None or self.process.poll() is not None:
            self.stop()
            self.start()
        self.process.stdin.write(f"{path}\n".encode())
        began, text, output = time.monotonic(), b"", self.process.stdout.fileno()
        while not text.endswith(b"\n"):
            if not select.select([output], [], [], max(0.0, began + LIMIT_S - time.monotonic()))[0]:
                self.stop()
                return {"error": f"no answer in {LIMIT_S:g} s"}
            received = os.read(output, 1 << 16)
            if not received:
                return {"error": f"the process ended with status {self.process.wait()}"}
            text += received
        return {**json.loads(text), "seconds": time.monotonic() - began}

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()


def originals(folder: Path) -> list[bytes]:
    """Return short recordings in every container and encoding."""
    rng = np.random.default_rng(0)
    wave = (0.1 * rng.standard_normal(3 * RATE)).astype("float32")
    stereo = np.stack([wave, 0.5 * wave], axis=1)
    forms = [
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("RF64", "PCM_24")),
        *(("W64", "PCM_16"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("CAF", "PCM_16"), ("AU", "PCM_16")),
        *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    ]
    contents = []
    for form, subtype in forms:
        for samples in (wave, stereo):
            rate = {"OPUS": 48_000, "GSM610": 8000}.get(subtype, RATE)
            if subtype != "GSM610" or samples.ndim == 1:
                soundfile.write(folder / "x", samples, rate, format=form, subtype=subtype)
                contents.append((folder / "x").read_bytes())
    return contents


FORMS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
NUMBERS = (0, 1, 2, 127, 255, 256, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**36 - 1, 2**61, 2**63 - 1, 2**64 - 1)


@st.composite
def damage(draw, size: int):
    """Draw changes of a file: numbers written over its header or anywhere, cuts, repeated and inserted bytes."""
    head = st.integers(0, min(size, 200) - 1)
    position = st.one_of(head, st.integers(max(0, size - 400), size - 1), st.integers(0, size - 1))
    number = st.tuples(st.just("number"), head, st.sampled_from(FORMS), st.sampled_from(NUMBERS))
    change = st.one_of(
        number,
        st.tuples(st.just("byte"), position, st.integers(0, 255)),
        st.tuples(st.just("bit"), position, st.integers(0, 7)),
        st.tuples(st.just("cut"), position),
        st.tuples(st.just("remove"), position, st.integers(1, 64)),
        st.tuples(st.just("repeat"), position, st.integers(1, 5000)),
        st.tuples(st.just("insert"), position, st.binary(min_size=1, max_size=64)),
    )
    return draw(st.lists(change, min_size=1, max_size=4))


def damaged(content: bytes, changes) -> bytes:
    """Apply drawn changes; the checksums of OGG pages and of FLAC frames stay as they are."""
    data = bytearray(content)
    for kind, position, *values in changes:
        position = min(position, len(data))
        if kind == "number":
            form, value = values
            length = struct.calcsize(form)
            data[position : position + length] = struct.pack(form, value % 256**length)
        elif kind == "byte" and position < len(data):
            data[position] = values[0]
        elif kind == "bit" and position < len(data):
            data[position] ^= 1 << values[0]
        elif kind == "cut":
            del data[position:]
        elif kind == "remove":
            del data[position : position + values[0]]
        elif kind == "repeat":
            data[position:position] = data[position : position + values[0]]
        elif kind == "insert":
            data[position:position] = values[0]
    return bytes(data)


def ogg_checksums(data: bytes) -> bytes:
    """Correct the checksums of all pages, so that damage reaches the decoder."""
    out, position = bytearray(data), 0
    while (position := out.find(b"OggS", position)) >= 0 and position + 27 <= len(out):
        n = out[position + 26]
        end = position + 27 + n + sum(out[position + 27 : position + 27 + n])
        out[position + 22 : position + 26] = bytes(4)
        value = 0
        for byte in out[position:end]:
            value = ((value << 8) & 0xFFFFFFFF) ^ TABLE[(value >> 24) ^ byte]
        out[position + 22 : position + 26] = struct.pack("<I", value)
        position += 4
    return bytes(out)


def checksum_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 1 << 31 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


TABLE = checksum_table()


@pytest.mark.slow
def test_damaged_recordings_are_read_or_refused(tmp_path):
    contents, reader, path = originals(tmp_path), Reader(), tmp_path / "damaged"
    until = time.monotonic() + float(os.environ.get("BCSED_FUZZ_S", "120"))
    counts, first = {"read": 0, "refused": 0}, int(os.environ.get("BCSED_FUZZ_SEED", "0"))

    @settings(max_examples=200, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def examine(data):
        content = data.draw(st.sampled_from(range(len(contents))))
        changes = data.draw(damage(len(contents[content])))
        broken = damaged(contents[content], changes)
        if broken.startswith(b"OggS") and data.draw(st.booleans()):
            broken = ogg_checksums(broken)
        path.write_bytes(broken)
        answer = reader.read(path)
        if "error" in answer or answer["peak_kb"] > LIMIT_KB or answer["seconds"] > LIMIT_S / 2:
            keep = os.environ.get("BCSED_FUZZ_KEEP")
            if keep:
                Path(keep, f"{time.time():.3f}").write_bytes(broken)
        assert "error" not in answer, (answer, changes)
        assert answer["peak_kb"] < LIMIT_KB, (answer, changes)
        counts["refused" if "refused" in answer else "read"] += 1
        sentence = str(answer.get("refused", "."))
        assert "\n" not in sentence
        assert sentence.endswith(".")

    try:
        for number in itertools.count(first):
            if time.monotonic() > until:
                break
            seed(number)(examine)()
    finally:
        reader.stop()
    assert min(counts.values()) > 50, counts
    print(counts)
