"""Ogg Vorbis files whose bytes depend on nothing but the audio.

libsndfile draws the serial number of an Ogg stream from the clock, so that two encodings of the same
audio differ in every page. Here the number is the caller's, and the checksums of the pages follow.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import soundfile
from numpy.typing import NDArray

from ...errors import DataError

# Ogg's CRC-32 has zlib's polynomial but reads bits from the other end (RFC 3533, section 6): with the bits
# of every byte, and of the result, reversed, zlib's own routine computes it.
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def encode(wave: NDArray[np.float32], sample_rate_hz: int, *, serial: int) -> bytes:
    """Return an Ogg Vorbis file, the same one for the same audio and the same libsndfile.

    Parameters
    ----------
    wave : (n,) float32
        Mono, -1 to 1.
    sample_rate_hz : int
        Its sample rate, Hz.
    serial : int
        Serial number of the stream, 0 to 2**32 - 1.
    """
    buffer = io.BytesIO()
    # Second by second: the encoder is more than twice as fast as when it is handed a minute at once.
    with soundfile.SoundFile(buffer, "w", sample_rate_hz, 1, format="OGG", subtype="VORBIS") as file:
        for start in range(0, len(wave), sample_rate_hz):
            file.write(wave[start : start + sample_rate_hz])
    return with_serial(buffer.getvalue(), serial)


def with_serial(ogg: bytes, serial: int) -> bytes:
    """Return an Ogg file with another serial number in its pages, and the checksums to match.

    Parameters
    ----------
    ogg : bytes
        A file of one logical stream.
    serial : int
        The new number, 0 to 2**32 - 1.

    Raises
    ------
    DataError
        If the bytes are not a run of whole Ogg pages.
    """
    pages = []
    at = 0
    while at < len(ogg):
        n_segments = ogg[at + 26] if len(ogg) >= at + 27 else 0
        lacing = ogg[at + 27 : at + 27 + n_segments]
        end = at + 27 + n_segments + sum(lacing)
        if ogg[at : at + 4] != b"OggS" or end > len(ogg):
            raise DataError(f"byte {at} of {len(ogg)} does not begin a whole Ogg page: the file is damaged")
        page = bytearray(ogg[at:end])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)  # the checksum is taken with itself as zero
        page[22:26] = _crc(bytes(page)).to_bytes(4, "little")
        pages.append(page)
        at = end
    return b"".join(pages)


def _crc(page: bytes) -> int:
    reflected = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
