"""Train a network and keep it in a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import torch

from .. import labels
from ..config import Contract
from ..experiments import Experiment
from ..model import SedNet
from ..rows import replacing
from . import run as runs
from .data import Prepared, prepare
from .loop import Loop, Progress
from .run import Trained, load
from .schedule import rate


def train(
    experiment: Experiment,
    data: str | Path,
    out: str | Path,
    *,
    fold: int | None = 0,
    resume: bool = False,
    pretrained: str | Path | None = None,
    device: str | None = None,
    jobs: int = 4,
    cache_gb: float = 1.0,
    checkpoint_min: float = 10.0,
    on_error: str = "stop",
    progress: Progress | None = None,
    epoch_done: Callable[[Mapping[str, float]], None] | None = None,
) -> Path:
    """Train a network and keep it in a run's folder.

    Parameters
    ----------
    experiment : Experiment
    data : str or Path
        A competition's folder, see `bcsed.competition`.
    out : str or Path
        The run's folder.
    fold : int or None
        The fold that is held out; None learns from everything.
    resume : bool
        Go on with an interrupted run, bit for bit as if it had not been interrupted.
    pretrained : str or Path, optional
        A local file of the backbone's weights, where ``fit.pretrained`` asks for some.
    device : str, optional
        ``cuda`` where there is a GPU, else ``cpu``.
    jobs : int
        Threads that decode.
    cache_gb : float
        Memory for decoded clips.
    checkpoint_min : float
        Minutes between checkpoints; there is one after each epoch anyway.
    on_error : {'stop', 'skip'}
        What an unreadable training recording does.
    progress, epoch_done : callable, optional
        Told of each step, and of each epoch's metrics.

    Returns
    -------
    Path
        The run's folder.

    Raises
    ------
    ConfigError, DataError
        Before the first step, for everything that can be seen then; and if the loss becomes no number.
    """
    out = Path(out)
    runs.claim(out, resume=resume)
    ready = prepare(experiment, data, fold=fold, on_error=on_error, jobs=jobs)
    contract = Contract(signal=experiment.signal, net=experiment.net, classes=ready.classes)
    start = _start(experiment, pretrained)
    description = runs.describe(
        experiment,
        contract,
        fold=fold,
        data=Path(data),
        start=start,
        clips=ready.clips_sha256,
        n_clips=len(ready.recordings),
        priors=labels.class_priors(ready.targets),
    )
    state = runs.state_to_resume(out, description) if resume else None
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(experiment.fit.seed)
        weights = (pretrained or True) if experiment.fit.pretrained and state is None else False
        network = SedNet(
            experiment.signal,
            experiment.net,
            len(ready.classes),
            dropout=experiment.fit.dropout,
            pretrained=weights,
        )
        if not resume:
            # Only now: a network that cannot be had leaves no folder behind.
            runs.write_json(out / runs.RUN, description)
        if ready.skipped:
            listed = pd.DataFrame({"recording": list(ready.skipped), "reason": list(ready.skipped.values())})
            with replacing(out / runs.SKIPPED) as temporary:
                listed.to_csv(temporary, index=False)
        # Channels last: convolutions train 1.2 to 1.5 times faster, on a CPU and in half precision.
        network = network.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
        loop = Loop(experiment, contract, ready, network, place, out, jobs, cache_gb, checkpoint_min)
        loop.restore(state)
        loop.run(progress, epoch_done)
    return out


def _start(experiment: Experiment, pretrained: str | Path | None) -> str:
    if not experiment.fit.pretrained:
        return "random weights"
    return f"weights of {Path(pretrained).name}" if pretrained else "timm's weights"


__all__ = ["Prepared", "Trained", "load", "prepare", "rate", "train"]
