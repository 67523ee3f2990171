"""A small synthetic competition, for use without the real data.

`write` creates a folder in the form of BirdCLEF+ with Ogg Vorbis files: focal clips with weak labels, unlabelled
soundscapes and a test set. It adds the truth that a real competition does not publish. All names are invented.
"""

from .competition import TEST_TRUTH_CSV, TRAIN_TRUTH_CSV, write
from .species import SPECIES

__all__ = ["SPECIES", "TEST_TRUTH_CSV", "TRAIN_TRUTH_CSV", "write"]
