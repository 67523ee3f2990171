"""Ogg Vorbis files with bytes that depend on the audio only.

libsndfile derives the serial number of an Ogg stream from the clock. Here the caller sets it.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import soundfile
from numpy.typing import NDArray

# Ogg's CRC-32 has zlib's polynomial with the opposite bit order (RFC 3533, section 6): it is computed by zlib with the
# bits of every byte, and of the result, reversed.
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def encode(wave: NDArray[np.float32], sample_rate_hz: int, *, serial: int) -> bytes:
    """Return mono audio in [-1, 1] as Ogg Vorbis, with the stream's serial number (0 to 2**32 - 1)."""
    buffer = io.BytesIO()
    # Second by second, because the encoder is more than twice as fast with short blocks.
    with soundfile.SoundFile(buffer, "w", sample_rate_hz, 1, format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(wave), sample_rate_hz):
            file.write(wave[start : start + sample_rate_hz])
    return with_serial(buffer.getvalue(), serial)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """Return an Ogg file of one stream with another serial number and the matching checksums."""
    pages = []
    start = 0
    while start < len(ogg):
        segments_end = start + 27 + ogg[start + 26]
        end = segments_end + sum(ogg[start + 27 : segments_end])
        page = bytearray(ogg[start:end])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)  # the checksum is computed with zeros in its own field
        page[22:26] = _crc(bytes(page)).to_bytes(4, "little")
        pages.append(page)
        start = end
    return b"".join(pages)


def _crc(page: bytes) -> int:
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
