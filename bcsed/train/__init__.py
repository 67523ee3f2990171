"""Train a network and keep it in a run's folder."""

from .api import train
from .checkpoints import Trained, finished, load_run
from .data import TrainingData, prepare_data
from .distributed import Distributed
from .schedule import learning_rate

__all__ = ["TrainingData", "Distributed", "Trained", "finished", "load_run", "prepare_data", "learning_rate", "train"]
