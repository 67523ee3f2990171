"""The species of the synthetic competition and their songs.

No song imitates a real species: names are invented, and numeric labels only resemble taxon ids. As in nature, kinds of
sound differ in duration and frequency band, and individuals differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 32_000

Wave = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Individual:
    """The properties of one animal that are constant over its songs."""

    pitch: float  # factor on every frequency, about 1
    tempo: float  # factor on every rate
    extra_notes: int  # additional notes per song, -1 to 2
    slant: float  # -1 to 1: slope or brightness of the notes, depending on the song

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Individual:
        """Return a random individual."""
        return cls(
            pitch=float(np.exp(np.clip(rng.normal(0, 0.08), -0.16, 0.16))),
            tempo=float(np.exp(np.clip(rng.normal(0, 0.12), -0.25, 0.25))),
            extra_notes=int(rng.integers(-1, 3)),
            slant=float(rng.uniform(-1, 1)),
        )


# The onset (s) and the samples of each note of a song.
Notes = Iterator[tuple[float, NDArray[np.float64]]]


@dataclass(frozen=True)
class Species:
    """A class of the competition; names and ids are invented."""

    label: str  # ``primary_label``: a six-character code of a bird, digits for others
    scientific_name: str
    common_name: str
    class_name: str
    inat_taxon_id: int
    clips: int  # focal recordings at scale 1; 0 for a class that occurs in soundscapes only
    prevalence: float  # share of the soundscapes with this class, 0 to 1
    band_hz: tuple[float, float]  # band of the song; its level is relative to the noise in this band
    notes: Callable[[Individual, np.random.Generator], Notes]

    def song(self, who: Individual, rng: np.random.Generator) -> Wave:
        """Return one bout of an individual at 32 kHz, with a peak of 1, 0.5 to 8 s long."""
        notes = list(self.notes(who, rng))
        wave = np.zeros(max(_n(at) + len(note) for at, note in notes))
        for at, note in notes:
            wave[_n(at) : _n(at) + len(note)] += note
        return np.asarray(wave / np.abs(wave).max(), np.float32)


def _n(seconds: float) -> int:
    return max(1, round(seconds * SAMPLE_RATE_HZ))


def _glide(seconds: float, *hz: float) -> NDArray[np.float64]:
    """Return a smooth pitch contour (Hz) through evenly spaced points."""
    knots = np.linspace(0, 1, len(hz))
    return np.asarray(np.exp(np.interp(np.linspace(0, 1, _n(seconds)), knots, np.log(hz))))


def _tone(hz: NDArray[np.float64], harmonics: Sequence[float] = (1.0,)) -> NDArray[np.float64]:
    """Return a sum of harmonics with given amplitudes along a pitch contour."""
    phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ
    wave = np.zeros_like(phase)
    for k, amplitude in enumerate(harmonics, start=1):
        wave += amplitude * np.sin(k * phase)
    return wave


def quick_length(n: int) -> int:
    """Return a length from `n` to about 9/8 `n` with a fast Fourier transform; it is even from 16 on."""
    step = 1 << max(0, n.bit_length() - 4)
    return -(-n // step) * step


def white_spectrum(n: int, rng: np.random.Generator) -> NDArray[np.complex128]:
    """Return the Fourier transform of `n` samples of white noise, `n` even, shape (n // 2 + 1,)."""
    return rng.standard_normal(n + 2).view(np.complex128)


def _noise_band(seconds: float, low_hz: float, high_hz: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return Gaussian noise of standard deviation 1 between two frequencies, with soft edges."""
    centre, half = (low_hz + high_hz) / 2, (high_hz - low_hz) / 2
    size = quick_length(_n(seconds))
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    wave = np.fft.irfft(white_spectrum(size, rng) * np.exp(-(((hz - centre) / half) ** 4)), size)
    return np.asarray(wave[: _n(seconds)] / wave.std())


def _shaped(wave: NDArray[np.float64], attack_s: float = 0.01, release_s: float = 0.03) -> NDArray[np.float64]:
    """Return the wave with a raised-cosine attack and release, which prevents clicks."""
    n = len(wave)
    t = np.arange(n)
    rise = np.clip(t / _n(min(attack_s, 0.4 * n / SAMPLE_RATE_HZ)), 0, 1)
    fall = np.clip((n - 1 - t) / _n(min(release_s, 0.4 * n / SAMPLE_RATE_HZ)), 0, 1)
    return np.asarray(wave * np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2)


def _whistles(who: Individual, rng: np.random.Generator) -> Notes:
    length = 0.30 / who.tempo
    hz = 3300 * who.pitch
    for k in range(4 + who.extra_notes):
        top = hz * 0.90**k * rng.normal(1, 0.01)
        yield k * length * 1.35, _shaped(_tone(_glide(length, top, top * (1 + 0.03 * who.slant))))


def _trill(who: Individual, rng: np.random.Generator) -> Notes:
    step = 0.085 / who.tempo
    note = _shaped(_tone(_glide(step * 0.6, 4900 * who.pitch, 4500 * who.pitch)), 0.008, 0.015)
    for k in range(16 + 4 * who.extra_notes):
        yield k * step, note * rng.uniform(0.8, 1)


def _upsweeps(who: Individual, rng: np.random.Generator) -> Notes:
    length = 0.32 / who.tempo
    low, high = 1500 * who.pitch, 4200 * who.pitch
    bend = np.sqrt(low * high) * (1 + 0.2 * who.slant)
    for k in range(3 + who.extra_notes):
        yield k * length * 1.5, _shaped(_tone(_glide(length, low, bend, high * rng.normal(1, 0.03))))


def _downsweeps(who: Individual, rng: np.random.Generator) -> Notes:
    length = 0.13 / who.tempo
    high, low = 8200 * who.pitch, 3600 * who.pitch
    for k in range(5 + who.extra_notes):
        yield k * length * 2.0, _shaped(_tone(_glide(length, high * rng.normal(1, 0.03), low)))


def _squawk(who: Individual, rng: np.random.Generator) -> Notes:
    """Return hoarse stacks of many harmonics with an arched pitch."""
    length = 0.34 / who.tempo
    weights = [0.8 ** abs(k - 2 - 1.5 * who.slant) for k in range(8)]
    for k in range(2 + max(0, who.extra_notes)):
        f0 = 850 * who.pitch * rng.normal(1, 0.02)
        rough = 1 + 0.25 * _noise_band(length, 20, 120, rng)
        yield k * length * 1.4, _shaped(_tone(_glide(length, f0, 1.15 * f0, 0.9 * f0), weights) * rough)


def _warble(who: Individual, rng: np.random.Generator) -> Notes:
    """Return one long note with a pitch that oscillates several times per second."""
    length = 1.5 + 0.25 * who.extra_notes
    t = np.arange(_n(length)) / SAMPLE_RATE_HZ
    swing = np.sin(2 * np.pi * 5.5 * who.tempo * t + rng.uniform(0, 2 * np.pi))
    yield 0.0, _shaped(_tone(3300 * who.pitch * np.exp(0.32 * swing)), 0.05, 0.1)


def _buzz(who: Individual, rng: np.random.Generator) -> Notes:
    length = 0.6 / who.tempo
    for k in range(2 + max(0, who.extra_notes)):
        noise = _noise_band(length, 5000 * who.pitch, 8600 * who.pitch, rng)
        t = np.arange(len(noise)) / SAMPLE_RATE_HZ
        yield k * length * 1.6, _shaped(noise * (1 + np.sin(2 * np.pi * 45 * who.tempo * t)), 0.1, 0.03)


def _coo(who: Individual, rng: np.random.Generator) -> Notes:
    at = 0.0
    for k in range(3 + who.extra_notes):
        length = (0.22 if k == 0 else 0.5) / who.tempo
        f0 = 480 * who.pitch * rng.normal(1, 0.015)
        yield at, _shaped(_tone(_glide(length, 0.93 * f0, f0, 0.9 * f0), (1, 0.12)), 0.06, 0.1)
        at += length + 0.18 / who.tempo


def _drum(who: Individual, rng: np.random.Generator) -> Notes:
    """Return knocks on wood that become faster and softer."""
    at = 0.0
    for k in range(16 + 2 * who.extra_notes):
        knock = _noise_band(0.05, 700 * who.pitch, 3400 * who.pitch, rng)
        knock *= np.exp(-np.arange(len(knock)) / _n(0.010))
        yield at, _shaped(knock, 0.001, 0.01) * 0.97**k
        at += 0.085 * (1 - 0.025 * k) / who.tempo


def _croak(who: Individual, rng: np.random.Generator) -> Notes:
    step = 0.045 / who.tempo
    for croak in range(1 + max(0, who.extra_notes)):
        for k in range(14):
            pulse = _tone(_glide(step * 0.8, 1150 * who.pitch), (1, 0.5, 0.25))
            at = croak * step * 22 + k * step
            yield at, _shaped(pulse, 0.004, 0.02) * np.sin(np.pi * (k + 1) / 15) * rng.uniform(0.8, 1)


def _bell(who: Individual, rng: np.random.Generator) -> Notes:
    step = 0.36 / who.tempo
    for k in range(7 + 2 * who.extra_notes):
        f0 = 2250 * who.pitch * rng.normal(1, 0.005)
        yield k * step, _shaped(_tone(_glide(0.09, f0, 1.04 * f0), (1, 0.08)), 0.005, 0.06)


def _cicada(who: Individual, rng: np.random.Generator) -> Notes:
    length = rng.uniform(3, 7)
    noise = _noise_band(length, 5000 * who.pitch, 5900 * who.pitch, rng)
    t = np.arange(len(noise)) / SAMPLE_RATE_HZ
    flutter = 1 + 0.5 * np.sin(2 * np.pi * 80 * who.tempo * t)
    yield 0.0, _shaped(noise * flutter, 0.8, 0.5)


def _cricket(who: Individual, rng: np.random.Generator) -> Notes:
    chirp, step = 0.42 / who.tempo, 0.045 / who.tempo
    pulse = _shaped(_tone(_glide(step * 0.7, 8800 * who.pitch)), 0.005, 0.01)
    for c in range(9 + 3 * who.extra_notes):
        for p in range(3 + (who.slant > 0)):
            yield c * chirp + p * step, pulse * rng.uniform(0.7, 1)


def _grunt(who: Individual, rng: np.random.Generator) -> Notes:
    length = 0.30 / who.tempo
    for k in range(4 + who.extra_notes):
        f0 = 130 * who.pitch * rng.normal(1, 0.03)
        weights = [np.exp(-(((h * 130 - 560) / 260) ** 2)) for h in range(1, 9)]
        voice = _tone(_glide(length, 1.15 * f0, 0.85 * f0), weights)
        breath = 0.5 * _noise_band(length, 320 * who.pitch, 850 * who.pitch, rng)
        yield k * length * 1.7, _shaped(voice + breath, 0.03, 0.1)


def _whine(who: Individual, rng: np.random.Generator) -> Notes:
    """Return a high tone (unidentified insect), switched on and off a few times per second."""
    length = rng.uniform(3, 6)
    t = np.arange(_n(length)) / SAMPLE_RATE_HZ
    gate = 1 / (1 + np.exp(-12 * np.sin(2 * np.pi * 4.5 * who.tempo * t)))
    yield 0.0, _shaped(_tone(_glide(length, 7000 * who.pitch)) * gate, 0.3, 0.3)


SPECIES = (
    # label, scientific and common name, class, taxon id, clips, prevalence, band, song
    Species("1139490", "Tinnula dubia", "Tinnula dubia", "Insecta", 1139490, 10, 0.35, (4100, 7000), _cicada),
    Species("1192948", "Horologius minor", "Horologius minor", "Insecta", 1192948, 6, 0.30, (7300, 10500), _cricket),
    Species("22961", "Croaca pulsans", "Pulsing Swamp Frog", "Amphibia", 22961, 18, 0.40, (900, 4200), _croak),
    Species("24321", "Campana noctis", "Night Bell Frog", "Amphibia", 24321, 5, 0.35, (1850, 2800), _bell),
    Species("41970", "Grunnius silvae", "Forest Grunter", "Mammalia", 41970, 4, 0.30, (250, 1100), _grunt),
    Species("47158son01", "Insecta sp.", "(Insect sonotype 01)", "Insecta", 47158, 0, 0.40, (5900, 8300), _whine),
    Species("buzfin1", "Stridulus siccus", "Dry-voiced Buzzer", "Aves", 900101, 14, 0.35, (4000, 10400), _buzz),
    Species("coodov1", "Columba lenis", "Soft Coo-Dove", "Aves", 900102, 8, 0.35, (360, 640), _coo),
    Species("druwoo1", "Tympanus celer", "Quickening Drummer", "Aves", 900103, 3, 0.35, (500, 4200), _drum),
    Species("fallin1", "Cadens altus", "High Faller", "Aves", 900104, 30, 0.40, (3000, 9600), _downsweeps),
    Species("lifter1", "Ascendens comis", "Lifting Slurbird", "Aves", 900105, 34, 0.40, (1250, 5000), _upsweeps),
    Species("rattle1", "Tremulus vulgaris", "Common Triller", "Aves", 900106, 45, 0.45, (3700, 5900), _trill),
    Species("squpar1", "Raucus arboris", "Hoarse Squawker", "Aves", 900107, 26, 0.40, (680, 8900), _squawk),
    Species("warwar1", "Undula longa", "Long-winded Warbler", "Aves", 900108, 20, 0.40, (2000, 5300), _warble),
    Species("whist1", "Sibilus gradatus", "Stairway Whistler", "Aves", 900109, 60, 0.45, (1600, 4100), _whistles),
)
