"""Fingerprints of recordings, which match if the audio is the same at another level, offset, sample rate or encoding.

A fingerprint has a word of 32 bits per 1/16 s. A bit is 1 if the energy of a band, relative to the next band, rose over
the last quarter of a second (Haitsma and Kalker 2002); each energy is a mean over a quarter of a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..files import file_signature
from .decode import read_audio
from .headers import AudioInfo

WORDS_PER_S = 16
Words = npt.NDArray[np.uint32]
_Index = npt.NDArray[np.int64]

_BLOCK_S = 60
# Short spectra per second, of 1/32 s each; the energies of 16 are averaged.
_SPECTRA_PER_S, _AVERAGED = 64, 16
_EDGES_HZ = np.geomspace(500.0, 10_000.0, 34)
# Energies below the highest band by more than this count as equal: they are the noise of an encoder.
_RANGE = 1e-4
# A word with nearly equal bits contains little; of each word that is left, this many other recordings are compared.
_LEAST_BITS, _NEIGHBOURS = 4, 16
_N_BITS = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)
# Lowest correlation of copies, and fewest words; a short overlap of other recordings correlates more by chance.
_SIMILAR, _LEAST_WORDS = 0.5, 6
# Lowest correlation of the waves of copies.
_CORRELATED = 0.5


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """The words of a recording (T,), and the SHA-256 of its decoded samples."""

    words: Words
    sha256: str


@dataclass(frozen=True)
class Match:
    """Two recordings of the same audio: the second starts `offset_s` after the first."""

    first: int
    second: int
    offset_s: float
    similarity: float  # the correlation of their bits over the overlap, or see `confirm`; 1 for identical samples
    exact: bool  # whether all samples are identical


def fingerprint(info: AudioInfo) -> Fingerprint:
    """Return the fingerprint of a recording, from memory if the file has not changed; DataError as `read_audio`."""
    return _fingerprint(info, file_signature(info.path))


@lru_cache(maxsize=1 << 16)
def _fingerprint(info: AudioInfo, _signature: str) -> Fingerprint:
    rate, digest, parts = info.sample_rate, hashlib.sha256(), []
    digest.update(str(rate).encode())
    size = rate // 32
    bin_hz = np.fft.rfftfreq(size, 1.0 / rate)
    bands = (np.searchsorted(_EDGES_HZ, bin_hz, side="right")[:, None] == np.arange(1, 34)).astype(np.float32)
    for start in range(0, info.n_samples, _BLOCK_S * rate):
        # The last spectra of a block reach into the next one.
        wave, _ = read_audio(info, rate, start, start + _BLOCK_S * rate + size)
        digest.update(np.ascontiguousarray(wave[: _BLOCK_S * rate]).tobytes())
        starts = np.arange(_BLOCK_S * _SPECTRA_PER_S) * rate // _SPECTRA_PER_S
        starts = starts[starts + size <= len(wave)]
        spectra = np.fft.rfft(wave[starts[:, None] + np.arange(size)] * np.hanning(size).astype(np.float32))
        parts.append((spectra.real**2 + spectra.imag**2).astype(np.float32) @ bands)
    return Fingerprint(_make_words(np.concatenate(parts)), digest.hexdigest())


def _make_words(power: npt.NDArray[np.float32]) -> Words:
    """(spectra, 33) -> (T,)."""
    total = np.concatenate([np.zeros((1, power.shape[1])), np.cumsum(power, axis=0, dtype=np.float64)])
    energy = np.maximum(total[_AVERAGED:] - total[:-_AVERAGED], 0)[:: _SPECTRA_PER_S // WORDS_PER_S]
    level = np.log10(np.maximum(energy, np.maximum(energy.max(1, keepdims=True) * _RANGE, 1e-30)))
    slope = level[:, :-1] - level[:, 1:]
    lag = WORDS_PER_S // 4
    bits = np.packbits(slope[lag:] - slope[:-lag] > 1e-6, axis=1)
    return np.ascontiguousarray(bits).view(np.uint32)[:, 0]


def find_matches(fingerprints: Sequence[Fingerprint]) -> list[Match]:
    """Return the pairs of recordings whose audio is the same over at least half of the shorter of them.

    Recordings below 0.9 s match only if all samples are identical. Of many copies of one recording some pairs are
    left out, but pairs connect all of them.
    """
    best: dict[tuple[int, int], Match] = {}
    for first, second, offset in _candidates([item.words for item in fingerprints]):
        if fingerprints[first].sha256 == fingerprints[second].sha256:
            continue  # they are compared by this sum below
        value, n_words = similarity(fingerprints[first].words, fingerprints[second].words, offset)
        earlier = best.get((first, second))
        if value >= max(_SIMILAR, 2.0 / n_words**0.5) and (earlier is None or earlier.similarity < value):
            best[first, second] = Match(first, second, offset / WORDS_PER_S, value, exact=False)
    same: dict[str, int] = {}
    for index, item in enumerate(fingerprints):
        original = same.setdefault(item.sha256, index)
        if original != index:
            best[original, index] = Match(original, index, 0.0, 1.0, exact=True)
    return [best[pair] for pair in sorted(best)]


def confirm(matches: Sequence[Match], recordings: Sequence[AudioInfo]) -> list[Match]:
    """Return the matches whose waves correlate over the overlap, with this correlation as their similarity.

    It is 0.7 to 1 for copies, also with another encoding or in noise as loud as the recording. Fingerprints alone also
    match calls that an animal repeats alike.
    """
    values = [
        1.0 if match.exact else _correlate(recordings[match.first], recordings[match.second], match.offset_s)
        for match in matches
    ]
    return [
        replace(match, similarity=value) for match, value in zip(matches, values, strict=True) if value >= _CORRELATED
    ]


def _correlate(first: AudioInfo, second: AudioInfo, offset_s: float) -> float:
    """Return the largest correlation of two waves from 500 Hz to 10 kHz, at most 1/8 s from an offset."""
    rate = min(first.sample_rate, second.sample_rate)
    starts = (round(max(0.0, offset_s) * rate), round(max(0.0, -offset_s) * rate))
    n = min(info.length(rate) - start for info, start in zip((first, second), starts, strict=True))
    n = min(n, _BLOCK_S * rate)
    size = 1 << (2 * n - 1).bit_length()
    hz = np.fft.rfftfreq(size, 1.0 / rate)
    band = (hz >= _EDGES_HZ[0]) & (hz <= _EDGES_HZ[-1])
    a, b = (
        np.fft.rfft(read_audio(info, rate, start, start + n)[0], size) * band
        for info, start in zip((first, second), starts, strict=True)
    )
    products = np.fft.irfft(a * b.conj(), size)
    norm = np.sqrt(np.fft.irfft(np.abs(a) ** 2, size)[0] * np.fft.irfft(np.abs(b) ** 2, size)[0])
    lags = np.arange(-(rate // 8), rate // 8 + 1)
    return float(np.abs(products[lags]).max() / max(norm, 1e-30)) if n > rate // 8 else 0.0


def similarity(first: Words, second: Words, offset: int) -> tuple[float, int]:
    """Return the correlation of the bits of two fingerprints, and the number of words that overlap.

    Word t of `second` is compared with word ``t + offset`` of `first`. The correlation is 0 if the overlap is less than
    half of the shorter fingerprint.
    """
    begin, end = max(0, offset), min(len(first), offset + len(second))
    if end - begin < max(_LEAST_WORDS, min(len(first), len(second)) / 2):
        return 0.0, max(1, end - begin)
    a, b = (_bits(part) for part in (first[begin:end], second[begin - offset : end - offset]))
    a, b = a - a.mean(0), b - b.mean(0)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return (float((a * b).sum() / norm) if norm > 0 else 0.0), end - begin


def _bits(words: Words) -> npt.NDArray[np.float32]:
    return np.unpackbits(words[:, None].view(np.uint8), axis=1).astype(np.float32)


def _candidates(fingerprints: Sequence[Words]) -> list[tuple[int, int, int]]:
    """Return recordings that may match, and the offset in words of the second (the larger index) in the first.

    Both have a word that is equal but for four neighbouring bits, among words of which most bits are equal.
    """
    if not fingerprints:
        return []
    words = np.concatenate(fingerprints)
    owner = np.repeat(np.arange(len(fingerprints)), [len(item) for item in fingerprints])
    time = np.concatenate([np.arange(len(item)) for item in fingerprints])
    n_bits = _count_bits(words)
    used = np.flatnonzero((n_bits >= _LEAST_BITS) & (n_bits <= 32 - _LEAST_BITS))
    pairs = [np.empty((0, 3), np.int64)]
    for shift in range(0, 32, 4):
        masked = words & ~np.uint32(15 << shift)
        order = used[np.lexsort((time[used], owner[used], masked[used]))]
        # Of a word that a recording repeats, the first: copies at one offset repeat it too.
        changed = (np.diff(masked[order]) != 0) | (np.diff(owner[order]) != 0)
        order = order[np.append(True, changed)[: len(order)]]
        for lag in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            same = masked[order[lag:]] == masked[order[:-lag]]
            first, second = order[:-lag][same], order[lag:][same]
            near = _are_near(words, owner, first, second)
            first, second = first[near], second[near]
            pairs.append(np.stack([owner[first], owner[second], time[first] - time[second]], axis=1))
    return [(int(a), int(b), int(offset)) for a, b, offset in np.unique(np.concatenate(pairs), axis=0)]


def _are_near(words: Words, owner: _Index, first: _Index, second: _Index) -> npt.NDArray[np.bool_]:
    """Return for each pair of words whether at most a quarter of the bits of these and three around them differ."""
    errors, n = np.zeros(len(first), np.int64), np.zeros(len(first), np.int64)
    for step in range(-3, 4):
        a, b = (np.clip(index + step, 0, len(words) - 1) for index in (first, second))
        inside = (owner[a] == owner[first]) & (owner[b] == owner[second])
        errors += inside * _count_bits(words[a] ^ words[b])
        n += inside
    return np.asarray(errors <= 8 * n)


def _count_bits(words: Words) -> npt.NDArray[np.uint8]:
    return np.asarray(_N_BITS[words & 0xFFFF] + _N_BITS[words >> 16])
