"""A small synthetic competition, for use without the real data.

`write` creates a folder in the form of BirdCLEF+ with real Ogg Vorbis files: unequal numbers of focal clips with weak
labels, unlabelled soundscapes and a test set. It adds the truth that a real competition does not publish:
``test_truth.csv`` and ``train_soundscapes_truth.csv``. All names are invented.
"""

from .competition import TEST_TRUTH_CSV, TRAIN_TRUTH_CSV, write
from .species import SPECIES

__all__ = ["SPECIES", "TEST_TRUTH_CSV", "TRAIN_TRUTH_CSV", "write"]
