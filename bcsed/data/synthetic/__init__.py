"""A small synthetic competition on disk, so that everything can be tried where the real data is not.

`write` makes a folder like the one that BirdCLEF+ hands out, with real Ogg Vorbis files: unequally many
focal clips with weak labels, unlabelled soundscapes, a test set. It also writes what no real competition
has: ``test_truth.csv`` and ``train_soundscapes_truth.csv``, who calls in which row. Every name is invented.
"""

from .competition import MIN_OVERLAP_S, N_TEST_SOUNDSCAPES, N_TRAIN_SOUNDSCAPES, TEST_TRUTH_CSV, TRAIN_TRUTH_CSV, write
from .scenes import Event, Place
from .species import SAMPLE_RATE_HZ, SPECIES, Individual, Species

__all__ = [
    "MIN_OVERLAP_S",
    "N_TEST_SOUNDSCAPES",
    "N_TRAIN_SOUNDSCAPES",
    "SAMPLE_RATE_HZ",
    "SPECIES",
    "TEST_TRUTH_CSV",
    "TRAIN_TRUTH_CSV",
    "Event",
    "Individual",
    "Place",
    "Species",
    "write",
]
