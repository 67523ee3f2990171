"""Recordings of the synthetic competition: callers put into the noise of a place.

A focal clip is one animal near the microphone, perhaps with another behind it. A soundscape is a minute
of a place, with whoever is there, farther away: fainter, duller and with an echo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .species import SAMPLE_RATE_HZ, Individual, Species, Wave, quick_length, white_spectrum

_LEVEL_FRAME_S = 0.05  # a song is as loud as its loudest frame of this length
_PSD_N_FFT = 4096  # of the background; the shortest clip has 16,000 samples
_CEILING = 0.95  # keeps the lossy codec's overshoot below full scale


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a place, or somebody's recorder, sounds like when nobody calls.

    Parameters
    ----------
    name : str
        Site code, or the name of the recordist.
    tilt_db_per_octave : float
        Slope of the noise, dB per octave; 0 is white, -3 pink, -6 brown.
    hum_hz : float
        Fundamental of a hum of mains or engines, Hz; 0 is none.
    drops_per_s : float
        Rain on leaves: clicks per second.
    gusts : float
        0 to 1: how far wind makes the noise rise and fall.
    water_hz : float
        Centre of the noise of running water, Hz; 0 is none.
    """

    name: str
    tilt_db_per_octave: float
    hum_hz: float = 0.0
    drops_per_s: float = 0.0
    gusts: float = 0.0
    water_hz: float = 0.0

    @classmethod
    def draw(cls, name: str, rng: np.random.Generator) -> Place:
        """Return a place of its own kind.

        Parameters
        ----------
        name : str
            What it is called.
        rng : np.random.Generator
            Where its sound comes from.
        """
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
    """One song in a soundscape: whose, and its first and last second."""

    label: str
    start_s: float
    end_s: float


def background(place: Place, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the noise of a place.

    Parameters
    ----------
    place : Place
        Its colour, hum, rain, wind and water; each recording varies them a little.
    n : int
        Samples at 32 kHz.
    rng : np.random.Generator
        The recording's own.

    Returns
    -------
    (n,) float64
        Root mean square 1.
    """
    size = quick_length(n)
    spectrum = white_spectrum(size, rng) * _colour(place, size // 2 + 1, rng)
    rms = np.sqrt(2 * np.sum(spectrum.real**2 + spectrum.imag**2)) / size
    if place.hum_hz:
        for k in range(1, 6):
            amplitude = rms * rng.uniform(0.05, 0.3) / k * np.exp(2j * np.pi * rng.random())
            spectrum[round(k * place.hum_hz * size / SAMPLE_RATE_HZ)] += amplitude * size / 2
    wave: NDArray[np.float64] = np.fft.irfft(spectrum, size)[:n] / rms
    if place.gusts:
        wave *= _wind(place.gusts, n, rng)
    if place.drops_per_s:
        wave += _rain(place.drops_per_s * rng.uniform(0.3, 1.5), n, rng)
    wave /= np.sqrt(np.mean(wave**2))
    return wave


def _colour(place: Place, n_bins: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the gain of the place's noise at the bins of a transform: ``(n_bins,)``."""
    # Powers are slow for a million bins, and a colour has no fine detail: eight hertz apart is enough.
    hz = np.linspace(0, SAMPLE_RATE_HZ / 2, 2001)
    audible = np.maximum(hz, 60.0)
    gain = (audible / 1000) ** ((place.tilt_db_per_octave + rng.normal(0, 0.5)) / 6.02)
    if place.water_hz:
        gain *= 1 + rng.uniform(0.5, 1.5) * np.exp(-(np.log2(audible / place.water_hz) ** 2) / 0.5)
    fine: NDArray[np.float64] = np.interp(np.linspace(0, hz[-1], n_bins), hz, gain)
    return fine


def _wind(gusts: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the gain of gusts, joined by straight lines from second to second: ``(n,)``."""
    knots = np.exp(gusts * rng.normal(0, 0.6, n // SAMPLE_RATE_HZ + 2))
    ramp = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    gain: NDArray[np.float64] = (knots[:-1, None] + np.diff(knots)[:, None] * ramp).ravel()[:n]
    return gain


def _rain(drops_per_s: float, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return clicks of a few milliseconds at random times: ``(n,)``."""
    wave = np.zeros(n)
    length = min(n, 320)
    fading = np.exp(-np.arange(length) / 60)
    for _ in range(rng.poisson(drops_per_s * n / SAMPLE_RATE_HZ)):
        at = int(rng.integers(0, n - length + 1))
        wave[at : at + length] += rng.exponential(1.0) * fading * rng.standard_normal(length)
    return wave


class _Scene:
    """A background to which songs are added at levels set against the noise in their own band."""

    def __init__(self, place: Place, n: int, rng: np.random.Generator) -> None:
        self.wave = background(place, n, rng)
        # An average over frames all along the recording: one transform of it all would cost as much again.
        starts = np.linspace(0, n - _PSD_N_FFT, 64).astype(int)
        frames = self.wave[starts[:, None] + np.arange(_PSD_N_FFT)]
        self._power = 2 * (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0) / _PSD_N_FFT**2

    def noise_rms(self, band_hz: tuple[float, float]) -> float:
        """Return the background's root mean square between two frequencies."""
        low, high = (round(hz * _PSD_N_FFT / SAMPLE_RATE_HZ) for hz in band_hz)
        return float(np.sqrt(self._power[low : high + 1].sum()))

    def add(self, song: Wave, at: int, caller: Species, snr_db: float) -> None:
        """Add a song from sample `at` on, which may be negative; what lies outside is not heard."""
        gain = self.noise_rms(caller.band_hz) * 10 ** (snr_db / 20) / _loudness(song)
        first, last = max(at, 0), min(at + len(song), len(self.wave))
        self.wave[first:last] += gain * song[first - at : last - at]


def _loudness(song: Wave) -> float:
    """Return the root mean square of the song's loudest frame."""
    frame = round(_LEVEL_FRAME_S * SAMPLE_RATE_HZ)
    frames = np.pad(song, (0, -len(song) % frame)).reshape(-1, frame)
    return float(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1).max()))


def _from_afar(song: Wave, rng: np.random.Generator) -> Wave:
    """Return a song as it arrives through a forest: duller, and followed by an echo."""
    tail = round(rng.uniform(0.1, 0.4) * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(tail) * np.exp(-6 * np.arange(tail) / tail)
    echo *= 10 ** (rng.uniform(-14, -4) / 20) / np.sqrt((echo**2).sum())
    echo[0] += 1
    n = len(song) + tail
    size = quick_length(n)
    absorption_db = rng.uniform(0, 1.2) * np.fft.rfftfreq(size, 1000 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(song, size) * np.fft.rfft(echo, size) * 10 ** (-absorption_db / 20)
    heard: Wave = np.fft.irfft(spectrum, size)[:n].astype(np.float32)
    return heard


def _at_peak(wave: NDArray[np.float64], peak: float) -> Wave:
    scaled: Wave = (wave * (peak / np.abs(wave).max())).astype(np.float32)
    return scaled


def focal_clip(
    caller: Species,
    place: Place,
    *,
    duration_s: float,
    snr_db: float,
    rng: np.random.Generator,
    others: Sequence[Species] = (),
) -> Wave:
    """Return a recording of one animal, which calls somewhere in it.

    Parameters
    ----------
    caller : Species
        Whose recording it is.
    place : Place
        The noise behind it.
    duration_s : float
        Its length, s. A song that is longer is cut at both ends.
    snr_db : float
        Loudest frame of the song over the noise in the song's band, dB.
    rng : np.random.Generator
        The recording's own: the individual, its songs, their times.
    others : sequence of Species
        Who else is heard, once each, up to 6 dB fainter.

    Returns
    -------
    (n,) float32
        At 32 kHz; peak 0.1 to 0.95.
    """
    n = round(duration_s * SAMPLE_RATE_HZ)
    scene = _Scene(place, n, rng)
    who = Individual.draw(rng)
    song = caller.song(who, rng)
    spare = n - len(song)
    at = int(rng.integers(min(spare, 0), max(spare, 0) + 1))
    scene.add(song, at, caller, snr_db)
    while True:
        at += len(song) + round(rng.uniform(0.4, 2.5) * SAMPLE_RATE_HZ)
        song = caller.song(who, rng)
        if at + len(song) > n:
            break
        scene.add(song, at, caller, snr_db + rng.normal(0, 1.5))
    for other in others:
        song = other.song(Individual.draw(rng), rng)
        at = int(rng.integers(min(n - len(song), 0), max(n - len(song), 0) + 1))
        scene.add(song, at, other, snr_db - rng.uniform(0, 6))
    return _at_peak(scene.wave, float(10 ** (rng.uniform(-20, np.log10(_CEILING) * 20) / 20)))


def soundscape(
    cast: Sequence[Species],
    place: Place,
    *,
    duration_s: float,
    rng: np.random.Generator,
    snr_db: tuple[float, float] = (-3.0, 12.0),
) -> tuple[Wave, list[Event]]:
    """Return a stretch of a place, and who called when.

    Parameters
    ----------
    cast : sequence of Species
        The species present; each is one individual, or sometimes two, with 2 to 4 songs in all.
    place : Place
        Its noise.
    duration_s : float
        Its length, s; longer than any song.
    rng : np.random.Generator
        The recording's own.
    snr_db : tuple of float
        Range of the loudest frame of a song over the noise in its band, dB: an individual is near or far.

    Returns
    -------
    (n,) float32
        At 32 kHz, noise about -35 dB below full scale; loud songs are clipped as a recorder does.
    list of Event
        Every song, in seconds, without its echo.
    """
    n = round(duration_s * SAMPLE_RATE_HZ)
    scene = _Scene(place, n, rng)
    events = []
    for caller in cast:
        animals = [(Individual.draw(rng), rng.uniform(*snr_db)) for _ in range(rng.choice([1, 1, 2]))]
        for _ in range(int(rng.integers(2, 5))):
            who, level_db = animals[int(rng.integers(len(animals)))]
            song = caller.song(who, rng)
            at = int(rng.integers(0, n - len(song) + 1))
            scene.add(_from_afar(song, rng), at, caller, level_db + rng.normal(0, 1.5))
            events.append(Event(caller.label, at / SAMPLE_RATE_HZ, (at + len(song)) / SAMPLE_RATE_HZ))
    gain = 10 ** (rng.uniform(-42, -30) / 20)
    wave: Wave = np.clip(gain * scene.wave, -_CEILING, _CEILING).astype(np.float32)
    return wave, events


def row_truth(
    events: Sequence[Event], labels: Sequence[str], *, n_rows: int, row_s: float, min_overlap_s: float
) -> NDArray[np.int8]:
    """Return which rows hear whom.

    Parameters
    ----------
    events : sequence of Event
        The songs of one recording.
    labels : sequence of str
        The classes, in the order of the columns.
    n_rows : int
        Rows of the recording.
    row_s : float
        Their length, s; row k is ``[k·row_s, (k+1)·row_s)``.
    min_overlap_s : float
        A song counts for a row of which it fills at least so much, s.

    Returns
    -------
    (n_rows, K) int8
        1 where a song of the class overlaps the row.
    """
    truth = np.zeros((n_rows, len(labels)), dtype=np.int8)
    column = {label: k for k, label in enumerate(labels)}
    starts = row_s * np.arange(n_rows)
    for event in events:
        overlap = np.minimum(event.end_s, starts + row_s) - np.maximum(event.start_s, starts)
        truth[overlap >= min_overlap_s, column[event.label]] = 1
    return truth
