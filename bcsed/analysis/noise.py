"""Which classes a bundle detects in recordings without any: silence, noise, rain and wind."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from ..data.synthetic.scenes import Site, background
from ..data.synthetic.species import SAMPLE_RATE_HZ
from ..errors import BundleError, DataError
from ..models.bundle.bundle import Bundle
from ..predict.api import RunOptions, predict
from ..scores.checks.finding import ERROR, Finding
from ..scores.checks.ids import parse_row_ids

# Kinds of synthetic noise, besides silence.
NOISES = (
    Site(name="white noise", tilt_db_per_octave=0.0),
    Site(name="pink noise", tilt_db_per_octave=-3.0),
    Site(name="rain", tilt_db_per_octave=-2.0, drops_per_s=60.0),
    Site(name="wind", tilt_db_per_octave=-6.0, gusts=1.0),
)
# Root mean square of the noise, -30 dB of full scale: a noisy night in a recorder with usual gain.
_RMS = 10 ** (-30 / 20)


def score_noise(
    bundle: Bundle, recordings: Sequence[str | Path] = (), *, seconds: int = 60, seed: int = 0, jobs: int = 2
) -> pd.DataFrame:
    """Return the highest score of each class in each recording, by default of synthetic noise; index: its name.

    BundleError if the bundle has no classes; DataError if there is no recording, or one cannot be read.
    """
    if not bundle.contract.classes:
        raise BundleError(
            f"{bundle.path} has no classes, only an embedding; name a bundle with a head, such as a probe."
        )
    with tempfile.TemporaryDirectory() as folder:
        if not recordings:
            _write_noises(Path(folder), seconds, np.random.default_rng(seed))
        result = predict([bundle], recordings or [folder], options=RunOptions(jobs=jobs))
    if result.n_failed:
        raise DataError(f"{result.n_failed} recordings of noise cannot be read: {result.failures['reason'].iloc[0]}")
    ids = parse_row_ids(result.scores.index)
    names = np.array(ids.stems, object)[ids.recording]
    table: pd.DataFrame = result.scores.groupby(names, sort=False).max()
    return table


def find_detections(table: pd.DataFrame, thresholds: Mapping[str, float], threshold: float = 0.5) -> list[Finding]:
    """Return a finding for each recording of `score_noise` in which a class reaches its threshold."""
    limits = np.array([thresholds.get(str(name), threshold) for name in table.columns], np.float32)
    findings = []
    for noise, scores in table.iterrows():
        above = scores[scores.to_numpy(np.float32) >= limits].sort_values(ascending=False, kind="stable")
        if len(above):
            classes = ", ".join(f"{name} {score:.2f}" for name, score in above.head(3).items())
            more = f" and {len(above) - 3} more" if len(above) > 3 else ""
            sentence = f"{noise}: {len(above)} of {len(limits)} classes reach their threshold: {classes}{more}"
            examples = tuple(map(str, above.index[:3]))
            findings.append(
                Finding(name="noise", severity=ERROR, sentence=sentence, count=len(above), examples=examples)
            )
    return findings


def _write_noises(folder: Path, seconds: int, rng: np.random.Generator) -> None:
    n = seconds * SAMPLE_RATE_HZ
    waves = {"silence": np.zeros(n), **{site.name: _RMS * background(site, n, rng) for site in NOISES}}
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave.astype(np.float32), SAMPLE_RATE_HZ, subtype="FLOAT")
