"""Train several experiments and seeds, one after the other, resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..config.diff import describe_difference
from ..config.experiments import Experiment
from ..errors import ConfigError, DataError
from .api import train
from .checkpoints import RUN, finished, read_description
from .loop import EpochDone, Progress
from .options import TrainInputs, TrainOptions


def train_grid(
    experiments: Sequence[Experiment],
    data: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    fold: int | None = 0,
    inputs: TrainInputs | None = None,
    options: TrainOptions | None = None,
    progress: Progress | None = None,
    epoch_done: EpochDone | None = None,
    begin: Callable[[Path, int, int], None] | None = None,
) -> list[Path]:
    """Train each experiment with each seed, in folders ``<experiment>-s<seed>`` of `out`; return the folders.

    Each seed overrides ``fit.seed``. Finished runs are not trained again and interrupted ones are resumed. `begin` is
    called before each unfinished training with (folder, its number from 1, number of trainings); other parameters are
    those of `train`. ConfigError or DataError if there is nothing to train, two trainings would share a folder, or a
    folder contains another training.
    """
    planned = [
        (row.vary(row.name, fit__seed=seed), Path(out) / f"{row.name}-s{seed}") for row in experiments for seed in seeds
    ]
    folders = [folder for _, folder in planned]
    if not planned:
        raise ConfigError("there is nothing to train; name experiments and seeds.")
    shared = [folder for folder in folders if folders.count(folder) > 1]
    if shared:
        raise ConfigError(f"two trainings would share the folder {shared[0]}; name each experiment and seed once.")
    for number, (experiment, folder) in enumerate(planned, 1):
        resume = (folder / RUN).is_file()
        if resume:
            earlier = read_description(folder)
            asked = {**experiment.recipe, "fold": fold}
            difference = describe_difference({**earlier["recipe"], "fold": earlier["fold"]}, asked)
            if difference:
                raise DataError(
                    f"{folder} holds another training than is asked for ({difference}); name another --out."
                )
            if finished(folder):
                continue
        if begin is not None:
            begin(folder, number, len(planned))
        train(
            experiment,
            data,
            folder,
            fold=fold,
            resume=resume,
            inputs=inputs,
            options=options,
            progress=progress,
            epoch_done=epoch_done,
        )
    return folders
