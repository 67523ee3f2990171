"""Train a network and keep it in a run's folder."""

from .api import train
from .checkpoints import Trained, finished, load
from .data import Prepared, prepare
from .distributed import Processes
from .schedule import rate

__all__ = ["Prepared", "Processes", "Trained", "finished", "load", "prepare", "rate", "train"]
