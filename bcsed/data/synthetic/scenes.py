"""Recordings of the synthetic competition: songs mixed into the background noise of a site.

A focal clip is one animal near the microphone, possibly with another in the background. The animals of a soundscape are
farther away, so that their songs are fainter, duller and reverberant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .species import SAMPLE_RATE_HZ, Individual, Species, Wave, quick_length, white_spectrum

_LEVEL_FRAME_S = 0.05  # the level of a song is that of its loudest frame of this length
_PSD_N_FFT = 4096  # of the background; the shortest clip has 16,000 samples
_CEILING = 0.95  # keeps the lossy codec's overshoot below full scale


@dataclass(frozen=True, kw_only=True)
class Site:
    """The background noise of a site, or of a recordist."""

    name: str  # site code, or name of the recordist
    tilt_db_per_octave: float  # slope of the noise: 0 is white, -3 pink, -6 brown
    hum_hz: float = 0.0  # fundamental of a hum of mains or engines; 0 for no hum
    drops_per_s: float = 0.0  # clicks of rain on leaves
    gusts: float = 0.0  # 0 to 1: variation of the noise level by wind
    water_hz: float = 0.0  # centre of the noise of running water; 0 for no water

    @classmethod
    def draw(cls, name: str, rng: np.random.Generator) -> Site:
        """Return a random site."""
        return cls(
            name=name,
            tilt_db_per_octave=float(rng.uniform(-6, -1)),
            hum_hz=float(rng.choice([0, 0, 50, 60, 83])),
            drops_per_s=float(rng.choice([0, 0, 3, 15])),
            gusts=float(rng.uniform(0, 0.7)),
            water_hz=float(rng.choice([0, 0, 700, 1500, 4000])),
        )


@dataclass(frozen=True)
class Event:
    """One song in a soundscape: its class, start and end (s)."""

    label: str
    start_s: float
    end_s: float


def background(site: Site, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return `n` samples of a site's noise at 32 kHz, with a root mean square of 1."""
    size = quick_length(n)
    spectrum = white_spectrum(size, rng) * _colour(site, size // 2 + 1, rng)
    rms = np.sqrt(2 * np.sum(spectrum.real**2 + spectrum.imag**2)) / size
    if site.hum_hz:
        for k in range(1, 6):
            amplitude = rms * rng.uniform(0.05, 0.3) / k * np.exp(2j * np.pi * rng.random())
            spectrum[round(k * site.hum_hz * size / SAMPLE_RATE_HZ)] += amplitude * size / 2
    wave = np.fft.irfft(spectrum, size)[:n] / rms
    if site.gusts:
        wave *= _wind(site.gusts, n, rng)
    if site.drops_per_s:
        wave += _rain(site.drops_per_s * rng.uniform(0.3, 1.5), n, rng)
    return np.asarray(wave / np.sqrt(np.mean(wave**2)))


def _colour(site: Site, n_bins: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the gain of the site's noise at the bins of a Fourier transform."""
    # Interpolated from a grid of 8 Hz: powers of a million bins are slow, and the gain has no fine detail.
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, 2001)
    audible = np.maximum(hz, 60.0)
    gain = (audible / 1000) ** ((site.tilt_db_per_octave + rng.normal(0, 0.5)) / 6.02)
    if site.water_hz:
        gain *= 1 + rng.uniform(0.5, 1.5) * np.exp(-(np.log2(audible / site.water_hz) ** 2) / 0.5)
    return np.interp(np.linspace(0, hz[-1], n_bins), hz, gain)


def _wind(gusts: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the gain of gusts, interpolated linearly between seconds."""
    knots = np.exp(gusts * rng.normal(0, 0.6, n // SAMPLE_RATE_HZ + 2))
    ramp = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return np.asarray((knots[:-1, None] + np.diff(knots)[:, None] * ramp).ravel()[:n])


def _rain(drops_per_s: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return clicks of a few milliseconds at random times."""
    wave = np.zeros(n)
    length = min(n, 320)
    fading = np.exp(-np.arange(length) / 60)
    for _ in range(rng.poisson(drops_per_s * n / SAMPLE_RATE_HZ)):
        at = int(rng.integers(0, n - length + 1))
        wave[at : at + length] += rng.exponential(1.0) * fading * rng.standard_normal(length)
    return wave


class _Scene:
    """A background to which songs are added with levels relative to the noise in their band."""

    def __init__(self, site: Site, n: int, rng: np.random.Generator) -> None:
        self.wave = background(site, n, rng)
        # Averaged over frames, because a Fourier transform of the full recording would double the cost.
        starts = np.linspace(0, n - _PSD_N_FFT, 64).astype(int)
        frames = self.wave[starts[:, None] + np.arange(_PSD_N_FFT)]
        self._power = 2 * (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0) / _PSD_N_FFT**2

    def add(self, song: Wave, at: int, species: Species, snr_db: float) -> None:
        """Add a song from sample `at`, which may be negative; samples outside the recording are dropped."""
        low, high = (round(hz * _PSD_N_FFT / SAMPLE_RATE_HZ) for hz in species.band_hz)
        noise_rms = float(np.sqrt(self._power[low : high + 1].sum()))
        frame = round(_LEVEL_FRAME_S * SAMPLE_RATE_HZ)
        frames = np.pad(song, (0, -len(song) % frame)).reshape(-1, frame)
        loudness = float(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1).max()))
        gain = noise_rms * 10 ** (snr_db / 20) / loudness
        first, last = max(at, 0), min(at + len(song), len(self.wave))
        self.wave[first:last] += gain * song[first - at : last - at]


def _from_afar(song: Wave, rng: np.random.Generator) -> Wave:
    """Return a song after propagation through a forest: with absorption of high frequencies and reverberation."""
    tail = round(rng.uniform(0.1, 0.4) * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(tail) * np.exp(-6 * np.arange(tail) / tail)
    echo *= 10 ** (rng.uniform(-14, -4) / 20) / np.sqrt((echo**2).sum())
    echo[0] += 1
    n = len(song) + tail
    size = quick_length(n)
    absorption_db = rng.uniform(0, 1.2) * np.fft.rfftfreq(size, 1000 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(song, size) * np.fft.rfft(echo, size) * 10 ** (-absorption_db / 20)
    return np.asarray(np.fft.irfft(spectrum, size)[:n], np.float32)


def focal_clip(
    species: Species,
    site: Site,
    *,
    duration_s: float,
    snr_db: float,
    rng: np.random.Generator,
    others: Sequence[Species] = (),
) -> Wave:
    """Return a recording of one animal at 32 kHz, with a peak of 0.1 to 0.95; the `others` are at most 6 dB fainter.

    `snr_db` is the level of the song's loudest frame relative to the noise in its band.
    """
    n = round(duration_s * SAMPLE_RATE_HZ)
    scene = _Scene(site, n, rng)
    individual = Individual.draw(rng)
    song = species.song(individual, rng)
    at = _random_start(n - len(song), rng)
    scene.add(song, at, species, snr_db)
    while True:
        at += len(song) + round(rng.uniform(0.4, 2.5) * SAMPLE_RATE_HZ)
        song = species.song(individual, rng)
        if at + len(song) > n:
            break
        scene.add(song, at, species, snr_db + rng.normal(0, 1.5))
    for other in others:
        song = other.song(Individual.draw(rng), rng)
        at = _random_start(n - len(song), rng)
        scene.add(song, at, other, snr_db - rng.uniform(0, 6))
    peak = float(10 ** (rng.uniform(-20, np.log10(_CEILING) * 20) / 20))
    return np.asarray(scene.wave * (peak / np.abs(scene.wave).max()), np.float32)


def _random_start(spare: int, rng: np.random.Generator) -> int:
    return int(rng.integers(min(spare, 0), max(spare, 0) + 1))


def soundscape(
    cast: Sequence[Species],
    site: Site,
    *,
    duration_s: float,
    rng: np.random.Generator,
    snr_db: tuple[float, float] = (-3.0, 12.0),
) -> tuple[Wave, list[Event]]:
    """Return a recording of a site at 32 kHz, longer than any song, and its songs without reverberation.

    A species has one or two individuals with 2 to 4 songs; `snr_db` is the range of their levels, see `focal_clip`. The
    noise is about -35 dB below full scale, and loud songs are clipped, as by a recorder.
    """
    n = round(duration_s * SAMPLE_RATE_HZ)
    scene = _Scene(site, n, rng)
    events = []
    for species in cast:
        animals = [(Individual.draw(rng), rng.uniform(*snr_db)) for _ in range(rng.choice([1, 1, 2]))]
        for _ in range(int(rng.integers(2, 5))):
            individual, level_db = animals[int(rng.integers(len(animals)))]
            song = species.song(individual, rng)
            at = int(rng.integers(0, n - len(song) + 1))
            scene.add(_from_afar(song, rng), at, species, level_db + rng.normal(0, 1.5))
            events.append(Event(species.label, at / SAMPLE_RATE_HZ, (at + len(song)) / SAMPLE_RATE_HZ))
    gain = 10 ** (rng.uniform(-42, -30) / 20)
    return np.asarray(np.clip(gain * scene.wave, -_CEILING, _CEILING), np.float32), events


def row_truth(
    events: Sequence[Event], labels: Sequence[str], *, n_rows: int, row_s: float, min_overlap_s: float
) -> NDArray[np.int8]:
    """Return 1 where a song of a class overlaps a row by at least `min_overlap_s`, else 0, shape (n_rows, K)."""
    truth = np.zeros((n_rows, len(labels)), dtype=np.int8)
    column = {label: k for k, label in enumerate(labels)}
    starts = row_s * np.arange(n_rows)
    for event in events:
        overlap = np.minimum(event.end_s, starts + row_s) - np.maximum(event.start_s, starts)
        truth[overlap >= min_overlap_s, column[event.label]] = 1
    return truth
