"""Trainings of several experiments and seeds, one after the other, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..config.diff import describe_difference
from ..config.experiments import Experiment
from ..config.versions import upgrade_run
from ..errors import ConfigError, DataError
from .api import train
from .checkpoints import RUN, finished
from .loop import Progress
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
    epoch_done: Callable[[Mapping[str, float]], None] | None = None,
    begin: Callable[[Path, int, int], None] | None = None,
) -> list[Path]:
    """Train each experiment with each seed, in folders ``<experiment>-s<seed>``; what is finished is kept.

    Called again after an interruption, it goes on where it was.

    Parameters
    ----------
    experiments : sequence of Experiment
    data : str or Path
        The competition's folder.
    out : str or Path
        The folder of the runs' folders.
    seeds : sequence of int
        Each overrides ``fit.seed``.
    fold : int or None
        What is held out.
    inputs, options, progress, epoch_done
        See `bcsed.train.train`.
    begin : callable, optional
        Called before each training that is not finished with (folder, its number from 1, trainings in all).

    Returns
    -------
    list of Path
        The runs' folders: all seeds of the first experiment, then of the next.

    Raises
    ------
    ConfigError
        If there is nothing to train, or two trainings would share a folder.
    DataError
        If a folder holds another training; and as `train`.
    """
    planned = [
        (row.vary(row.name, fit__seed=seed), Path(out) / f"{row.name}-s{seed}") for row in experiments for seed in seeds
    ]
    folders = [folder for _, folder in planned]
    if not planned:
        raise ConfigError("there is nothing to train; name experiments and seeds.")
    doubled = [folder for folder in folders if folders.count(folder) > 1]
    if doubled:
        raise ConfigError(f"two trainings would share the folder {doubled[0]}; name each experiment and seed once.")
    for number, (experiment, folder) in enumerate(planned, 1):
        begun = (folder / RUN).is_file()
        if begun:
            _check_same(folder, experiment, fold)
        if begun and finished(folder):
            continue
        if begin is not None:
            begin(folder, number, len(planned))
        train(
            experiment,
            data,
            folder,
            fold=fold,
            resume=begun,
            inputs=inputs,
            options=options,
            progress=progress,
            epoch_done=epoch_done,
        )
    return folders


def _check_same(folder: Path, experiment: Experiment, fold: int | None) -> None:
    """Refuse a folder whose run is not the one that is asked for now."""
    file = folder / RUN
    try:
        told = upgrade_run(json.loads(file.read_text(encoding="utf-8")))
        earlier, earlier_fold = told["recipe"], told["fold"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged: not readable as the description of a run.") from error
    found = describe_difference(earlier, experiment.recipe)
    if earlier_fold != fold:
        found = f"fold: {earlier_fold} -> {fold}"
    if found:
        raise DataError(f"{folder} holds another training than is asked for ({found}); name another --out.")
