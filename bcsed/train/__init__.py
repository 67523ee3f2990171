"""Train a network and keep it in a run's folder."""

from .api import train
from .checkpoints import TrainedNetwork, finished, load_run
from .data import TrainingData, TrainInputs, TrainOptions, prepare_data
from .distributed import Distributed
from .loop import learning_rate

__all__ = [
    "Distributed",
    "TrainInputs",
    "TrainOptions",
    "TrainedNetwork",
    "TrainingData",
    "finished",
    "learning_rate",
    "load_run",
    "prepare_data",
    "train",
]
