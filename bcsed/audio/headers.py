"""Open recordings, and check what their headers state against what the files contain.

The length in a header is not trusted: recorders lose power before they write it, 32-bit sizes wrap at 4 GiB, and
damage may turn it into any number. Where it cannot be right, the audio is read to its end.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import DataError
from ..files import as_path, is_remote
from ..recordings import CONVERT

# Hz; beyond are damaged headers: hydrophones for whales record at 250 Hz, for porpoises at 500 kHz.
SAMPLE_RATES = (100, 1_000_000)
# Samples per byte; if a header states more, the samples are counted. 8 kbit/s at 32 kHz is 32 samples per byte.
_MAX_PER_BYTE = 32
# The count ends here, after 19 h at 32 kHz; the rest of the claim is accepted, as it costs no memory.
_MAX_COUNTED = 1 << 31
# Bytes behind the audio that no chunk explains, at least; files are padded to the blocks of a card.
_LEAST_REST = 4096
# Bytes of a sample in the encodings that can be read without a header.
_WIDTHS = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
_WIDTHS["DOUBLE"] = 8
_WAY_OUT = f"whatever its suffix; {CONVERT}"
# Sizes in the log of libsndfile: in the header, and in the file.
_SIZE_MISMATCH = re.compile(r": (\d+) \(should be (\d+)\)")
# Offset and bytes of the marks of other formats, and what such a file is.
_OTHER_FORMATS = (
    (4, b"ftyp", f"an MPEG-4 file (M4A, AAC), {_WAY_OUT}"),
    (0, b"\x30\x26\xb2\x75", f"a Windows Media file (WMA), {_WAY_OUT}"),
    (0, b"\x1a\x45\xdf\xa3", f"a Matroska or WebM file, {_WAY_OUT}"),
    (0, b"#!AMR", f"an AMR file, {_WAY_OUT}"),
    (0, b"MAC ", f"a Monkey's Audio file (APE), {_WAY_OUT}"),
    (0, b"wvpk", f"a WavPack file, {_WAY_OUT}"),
    (0, b"wac ", f"a WAC file of Wildlife Acoustics, {_WAY_OUT}"),
    (0, b"\xff\xf1", f"an AAC file, {_WAY_OUT}"),
    (0, b"\xff\xf9", f"an AAC file, {_WAY_OUT}"),
    (0, b"\x00\x05\x16\x07", "a companion file of macOS"),
    (0, b"PK\x03\x04", "a zip file; unpack it"),
    (0, b"\x1f\x8b", "a gzip file; unpack it"),
    (0, b"<", "a page of text, perhaps of a download that failed"),
    (0, b"version https://git-lfs", "a pointer of Git LFS; get the file with git lfs pull"),
    (0, bytes(64), "a file of zeros, perhaps of a copy that failed"),
)
# Errors of libsndfile whose texts mislead.
_REASONS = {
    1: "the format is unknown",
    2: "the operating system could not read it",
    3: "the header is damaged",
    4: "the encoding of its samples is not supported",
    7: "no audio was recognised in it",
    18: "the encoding of its samples is not supported",
    24: "the sample rate or the number of channels in its header is 0",
    26: "a tag stands before the audio",
    39: "the data end too early or are damaged",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RawAudio:
    """Uncompressed audio in a file whose header states too few samples."""

    begin: int  # byte
    end: int
    sample_rate: int
    channels: int
    subtype: str  # of libsndfile
    endian: str


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """Header of a recording."""

    path: Path
    sample_rate: int  # Hz, as stored
    channels: int
    n_samples: int  # per channel, at the stored rate
    notes: tuple[str, ...] = ()  # defects of a usable file
    raw: RawAudio | None = None  # how to read the samples without the header

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sample_rate

    def length(self, sample_rate: int) -> int:
        """Return the number of samples after resampling to `sample_rate` Hz."""
        return -(-self.n_samples * sample_rate // self.sample_rate)


def read_info(path: str | Path) -> AudioInfo:
    """Read the header of a recording; DataError if it is missing, empty, not audio, or without samples."""
    import soundfile

    path = as_path(path)
    try:
        size = _check_file(path)
        with path.open("rb") as stream:
            _check_format(path, stream)
            with open_audio(path) as file:
                claimed = file.frames
                info = AudioInfo(path=path, sample_rate=file.samplerate, channels=file.channels, n_samples=claimed)
                low, high = SAMPLE_RATES
                if not low <= info.sample_rate <= high:
                    problem = f"its header states a sample rate of {info.sample_rate} Hz"
                    raise DataError(f"{path}: {problem}; rates of {low} Hz to {high // 1000} kHz can be read.")
                info = replace(info, notes=_truncation_notes(stream, file, size))
                info = _extend(info, stream, file, size)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: {explain(error)}.") from error
    if info.n_samples > _MAX_PER_BYTE * size:
        info = _count(info, claimed)
    if not info.n_samples > 0:
        raise DataError(f"{path}: the file contains a header but no samples.")
    return info


@functools.cache
def _decoder_class() -> Any:
    import soundfile

    class Decoder(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            # Otherwise each reading ends with a seek to the position that is reached, which fails at the end of damaged
            # files, and is inexact in the last page of an ogg.
            return False

    return Decoder


@contextmanager
def open_audio(path: Path, raw: RawAudio | None = None) -> Iterator[Any]:
    """Open a recording as a SoundFile that never seeks after it has read."""
    decoder = _decoder_class()
    with ExitStack() as stack:
        if raw is not None or is_remote(path):
            stream = _Stream(stack.enter_context(path.open("rb")))
            if raw is None:
                file = decoder(stream)
            else:
                form = {"samplerate": raw.sample_rate, "channels": raw.channels, "format": "RAW"}
                file = decoder(_Slice(stream, raw.begin, raw.end), subtype=raw.subtype, endian=raw.endian, **form)
            file.stream = stream
        elif sys.platform == "win32":
            file = decoder(str(path))
        else:
            # A descriptor has no name that must be encoded, and shows how far the file was read, see `unread_bytes`.
            descriptor = os.open(path, os.O_RDONLY)
            file = decoder(descriptor)
            file.descriptor = descriptor
        yield stack.enter_context(file)


class _Stream:
    """A file that keeps the first error of reading: the decoder calls it from C, where an exception would be lost."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.error: OSError | None = None
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, n: int) -> bytes:
        try:
            return self._stream.read(n)
        except Exception as error:  # of any file system
            self.error = self.error or OSError(getattr(error, "errno", None), str(error) or type(error).__name__)
            return b""


def raise_read_error(file: Any) -> None:
    """Raise the error at which the reading of a file of `open_audio` ended, if there was one."""
    stream = getattr(file, "stream", None)
    if stream is not None and stream.error is not None:
        error, stream.error = stream.error, None
        raise error


def unread_bytes(file: Any) -> int:
    """Return the bytes behind the position that the decoder of a compressed file has reached; 0 if unknown."""
    descriptor = getattr(file, "descriptor", None)
    if descriptor is None or file.format not in ("OGG", "FLAC", "MP3", "MPEG"):
        return 0
    return os.fstat(descriptor).st_size - os.lseek(descriptor, 0, os.SEEK_CUR)


def explain(error: BaseException) -> str:
    """Return the reason why a file cannot be read, and the way out; the original is logged."""
    code = getattr(error, "code", None)
    _log.debug("%r (%s)", error, code)
    if isinstance(error, OSError):
        if error.errno in (errno.EACCES, errno.EPERM):
            return "permission to read it is denied; change its rights, as with chmod -R u+rX"
        known = {errno.ENOENT: "there is no such file", errno.ELOOP: "it is a link that leads back to itself"}
        return known.get(error.errno or 0, f"it cannot be read ({error.strerror or error})")
    if isinstance(error, MemoryError):
        return "the memory does not suffice to decode it"
    reason = _REASONS.get(code or 0) or str(error).strip().rstrip(".").rsplit(": ", 1)[-1] or type(error).__name__
    return f"not readable as audio ({reason}); if another program plays it, {CONVERT}"


def _check_file(path: Path) -> int:
    """Return the size of a file; DataError if it is not a file, or empty."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: there is no such file: the link leads to {path.readlink()}.")
    status = path.stat()
    if stat.S_ISDIR(status.st_mode) and not is_remote(path):
        os.scandir(path).close()
    if not is_remote(path) and not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path}: it is neither a file nor a link to one.")
    if status.st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes).")
    return int(status.st_size)


def _check_format(path: Path, stream: BinaryIO) -> None:
    """Raise DataError if a file begins like one of another format."""
    start = stream.read(64)
    for offset, mark, name in _OTHER_FORMATS:
        if start.startswith(mark, offset):
            raise DataError(f"{path}: not readable as audio: this is {name}.")


class _Slice:
    """A part of a file, as a file."""

    def __init__(self, stream: Any, begin: int, end: int) -> None:
        self._stream, self._begin, self._size = stream, begin, end - begin
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, n: int) -> bytes:
        self._stream.seek(self._begin + self._position)
        data: bytes = self._stream.read(max(0, min(n, self._size - self._position)))
        self._position += len(data)
        return data


def _extend(info: AudioInfo, stream: BinaryIO, file: Any, size: int) -> AudioInfo:
    """Return the header of a file that contains more audio than its header states as one of all its audio."""
    block = info.channels * _WIDTHS.get(file.subtype, 0)
    data = _find_data(stream, size, info.n_samples * block)
    if data is None:
        return info
    begin, covered, end, endian = data
    if not block:
        note = f"{end - covered} bytes behind the audio that its header states ({info.duration_s:.1f} s) are not read"
        return replace(info, notes=(*info.notes, f"{note}; {CONVERT}"))
    form = {"sample_rate": info.sample_rate, "channels": info.channels, "subtype": file.subtype, "endian": endian}
    raw = RawAudio(begin=begin, end=end - (end - begin) % block, **form)
    longer = replace(info, n_samples=(raw.end - begin) // block, raw=raw)
    note = f"its header covers {info.duration_s:.1f} of {longer.duration_s:.1f} s; all audio in the file is used"
    return replace(longer, notes=(*info.notes, note))


def _find_data(stream: BinaryIO, size: int, n_bytes: int) -> tuple[int, int, int, str] | None:
    """Find the audio of a file in which it goes on behind the end that the header states.

    `n_bytes` is the size of the audio that libsndfile would read, 0 for compressed audio. Returns the first byte of the
    audio, the end of what the header states, the end of the audio, and its byte order.
    """
    stream.seek(0)
    start = stream.read(4096)
    mark = start[:4]
    if mark in (b".snd", b"dns."):
        order = ">" if mark == b".snd" else "<"
        begin, claimed = struct.unpack(f"{order}2I", start[4:12].ljust(8, b"\0"))
        end = begin + (n_bytes or claimed)
        return (begin, end, size, _ENDIAN[order]) if end < size - _LEAST_REST else None
    layout = LAYOUTS.get(mark)
    if layout is None:
        return None
    order = layout.order
    if b"sowt" in start or (mark == b"caff" and start[35:36] != b"" and start[35] & 2):
        order = "<"
    for name, begin, claimed in layout.walk(stream, layout.first, size):
        if name in (b"data", b"SSND"):
            begin += layout.skipped
            covered = begin + (n_bytes or claimed)
            # Sizes of 32 bits wrap at 4 GiB; the chunks behind the audio show where it ends.
            for end in range(covered, size, 1 << 32):
                behind = layout.walk(stream, end + end % 2, size)
                known = max((first + n for _, first, n in behind if first + n <= size), default=end)
                if size - known < _LEAST_REST:
                    return (begin, covered, end, _ENDIAN[order]) if end > covered else None
            return (begin, covered, size, _ENDIAN[order]) if covered < size - _LEAST_REST else None
    return None


_ENDIAN = {"<": "LITTLE", ">": "BIG"}


@dataclass(frozen=True)
class _Layout:
    """How a container arranges its chunks."""

    order: str  # of the bytes of a size
    id_bytes: int
    size_form: str
    first: int  # byte of the first chunk
    pad: int = 2
    own: bool = False  # a size includes the header of its chunk
    skipped: int = 0  # bytes before the audio in its chunk

    def walk(self, stream: BinaryIO, position: int, size: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, first byte and size of the chunks from a position on, as long as they look like chunks."""
        form = struct.Struct(self.order + self.size_form)
        header = self.id_bytes + form.size
        # Bounded, because a hostile file may consist of empty chunks.
        for _ in range(10_000):
            if position + header > size:
                return
            stream.seek(position)
            head = stream.read(header)
            if len(head) < header:
                return
            n = form.unpack(head[self.id_bytes :])[0] - header * self.own
            if not all(32 <= byte < 127 for byte in head[:4]) or n < 0:
                return
            yield head[:4], position + header, n
            position += header + -(-n // self.pad) * self.pad


LAYOUTS = {
    b"RIFF": _Layout("<", 4, "I", 12),
    b"RF64": _Layout("<", 4, "I", 12),
    b"RIFX": _Layout(">", 4, "I", 12),
    b"FORM": _Layout(">", 4, "I", 12, skipped=8),
    b"riff": _Layout("<", 16, "Q", 40, pad=8, own=True),
    b"caff": _Layout(">", 4, "Q", 8, pad=1, skipped=4),
}


def _count(info: AudioInfo, claimed: int) -> AudioInfo:
    """Return a header with the number of samples that can be decoded."""
    import soundfile

    n, piece = 0, max(1, min(info.sample_rate, (1 << 22) // info.channels))
    problem = ""
    try:
        with open_audio(info.path, info.raw) as file:
            while n < min(_MAX_COUNTED, info.n_samples) and (read := len(file.read(piece, dtype="float32"))):
                n += read
    except (soundfile.LibsndfileError, OSError) as error:
        problem = f" ({explain(error)})"
    n = min(n, claimed)
    if n >= min(claimed, _MAX_COUNTED):
        return info
    note = f"its header states no length; the audio ends at {n / info.sample_rate:.1f} s"
    if claimed < 1 << 60:
        hours = f"{math.floor(claimed / info.sample_rate / 360) / 10:,}"
        note = f"its header claims {hours} h; the audio ends at {n / info.sample_rate:.1f} s{problem}"
    return replace(info, n_samples=n, notes=(*info.notes, note))


def _truncation_notes(stream: BinaryIO, file: Any, size: int) -> tuple[str, ...]:
    """Return a note if a file is shorter than its header states, which is not an error for libsndfile."""
    # wav, aiff and similar: from the log of libsndfile; ogg: the stream has no last page.
    for in_header, in_file in _SIZE_MISMATCH.findall(file.extra_info):
        # Chunks are padded to even sizes, and programs that write to a pipe state the maximum size.
        if int(in_header) - int(in_file) > 8 and int(in_header) < 0x7FFF_0000:
            return (f"the file is cut off: {in_header} bytes in its header, {in_file} in the file; these are used",)
    if file.format != "OGG":
        return ()
    stream.seek(max(0, size - 66_000))  # longer than the longest page
    tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return ("the file is cut off or damaged near its end; the audio before is used",)
    n_segments = tail[page + 26]
    page_end = page + 27 + n_segments + sum(tail[page + 27 : page + 27 + n_segments])
    if not tail[page + 5] & 4 or page_end > len(tail):  # the flag of a last page
        return ("the file is cut off before the end of its stream; the audio before is used",)
    return ()
