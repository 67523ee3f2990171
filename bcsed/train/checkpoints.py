"""A training's folder: what was asked, the metrics of each epoch, and its checkpoints.

``run.json`` says what is trained on what; ``last.pt`` holds everything that is needed to go on;
``best.pt`` the weights of the best epoch, kept explicitly; ``metrics.csv`` and ``metrics.png`` the course;
``answers-last.npz`` and ``answers-best.npz`` what was answered on held-out data; ``start.txt`` which weights
were taken over from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._version import __version__
from ..config.contract import Contract
from ..config.experiments import Experiment
from ..config.strict import from_dict, to_dict
from ..config.versions import upgrade_run
from ..errors import ConfigError, DataError
from ..files import atomic_write, is_occupied, read_errors
from ..models.network import SedNet

RUN, LAST, BEST, METRICS, PLOT, SKIPPED, START = (
    "run.json",
    "last.pt",
    "best.pt",
    "metrics.csv",
    "metrics.png",
    "skipped.csv",
    "start.txt",
)
ANSWERS = "answers-{}.npz"


@dataclass(frozen=True)
class Trained:
    """A network of a run, ready to be exported.

    Parameters
    ----------
    network : SedNet
        In evaluation mode, on the CPU.
    contract : Contract
    priors : ndarray of float32, shape (K,)
    recipe, provenance : mapping
    """

    network: SedNet
    contract: Contract
    priors: npt.NDArray[np.float32]
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]


def describe_run(
    experiment: Experiment,
    contract: Contract,
    *,
    fold: int | None,
    data: Path,
    start: str,
    clips: str,
    n_clips: int,
    priors: npt.NDArray[np.float32],
    sources: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what ``run.json`` holds; `sources` tells of pseudolabels, soundscapes and a teacher."""
    return {
        "bcsed": __version__,
        "experiment": experiment.name,
        "recipe": experiment.recipe,
        "contract": to_dict(contract),
        "fingerprint": contract.fingerprint,
        "fold": fold,
        "start": start,
        "data": str(data),
        "clips_sha256": clips,
        "n_clips": n_clips,
        "sources": dict(sources),
        "priors": [round(float(value), 8) for value in priors],
    }


def require_new_run(out: Path, *, resume: bool) -> None:
    """Refuse a folder in which a training cannot begin or, with `resume`, cannot go on.

    Raises
    ------
    DataError
        If something is there already and `resume` is off, or no run is there and it is on.
    """
    if resume and not (out / RUN).is_file():
        raise DataError(f"{out} holds no run to resume ({RUN} is missing).")
    if not resume and is_occupied(out):
        raise DataError(f"{out} is already there; continue it with --resume, or name a new folder.")


def state_to_resume(out: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the state to go on from, None if the run was killed before its first checkpoint.

    Raises
    ------
    DataError
        If the run in the folder was another training.
    """
    earlier = upgrade_run(_read_json(out / RUN))
    for key in ("recipe", "contract", "fold", "start", "clips_sha256", "sources"):
        if earlier.get(key) != json.loads(json.dumps(description[key])):
            raise DataError(
                f"{out} cannot be resumed: its {key.replace('clips_sha256', 'list of clips')} differs "
                f"from what was asked now{_which(earlier.get(key), description[key])}."
            )
    return load_state(out / LAST) if (out / LAST).is_file() else None


def save_state(file: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic_write(file) as temporary:
        torch.save(dict(state), temporary)


def load_state(file: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values only, nothing that could run.

    Raises
    ------
    DataError
        If it is damaged.
    """
    with read_errors(file, "a checkpoint of bcsed"):
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def finished(out: str | Path) -> bool:
    """Tell whether a run in a folder is there and has all its epochs."""
    out = Path(out)
    if not (out / RUN).is_file() or not (out / LAST).is_file():
        return False
    state = load_state(out / LAST)
    return bool(state["epoch"] >= _read_json(out / RUN)["recipe"]["fit"]["epochs"])


def load_run(run: str | Path, checkpoint: str | None = None) -> Trained:
    """Return the network of a run.

    Parameters
    ----------
    run : str or Path
        The folder.
    checkpoint : {'best', 'last'}, optional
        Best by default, where there was something to choose by; else last.

    Raises
    ------
    ConfigError, DataError
        If there is no such run or checkpoint.
    """
    run = Path(run)
    if not (run / RUN).is_file():
        raise DataError(f"{run} is no run of bcsed: it has no {RUN}.")
    if checkpoint not in (None, "best", "last"):
        raise ConfigError(f"checkpoint must be best or last, got {checkpoint!r}.")
    chosen = checkpoint or ("best" if (run / BEST).is_file() else "last")
    file = run / (BEST if chosen == "best" else LAST)
    if not file.is_file():
        raise DataError(f"{run} has no checkpoint {file.name} yet; train it first.")
    told, state = upgrade_run(_read_json(run / RUN)), load_state(file)
    contract = from_dict(Contract, told["contract"], f"{run / RUN}: contract")
    network = SedNet(contract.frontend, contract.net, len(contract.classes), groups=contract.groups)
    network.load_state_dict(state["model"])
    provenance = {
        "experiment": told["experiment"],
        "checkpoint": chosen,
        "epoch": state["epoch"],
        "fold": told["fold"],
        "start": told["start"],
        "clips_sha256": told["clips_sha256"],
        "n_clips": told["n_clips"],
        "sources": told["sources"],
        "metrics": state["metrics"],
    }
    priors = np.asarray(told["priors"], np.float32)
    return Trained(network.eval(), contract, priors, told["recipe"], provenance)


def write_json(file: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(file) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is damaged: not readable as JSON.") from error
    if not isinstance(values, dict):
        raise DataError(f"{file} is damaged: it must hold an object with named fields.")
    return values


def _which(earlier: Any, now: Any) -> str:
    """Name the field that differs, where there are fields."""
    if not isinstance(earlier, dict) or not isinstance(now, dict):
        return f" ({earlier!r} then, {now!r} now)" if not isinstance(earlier, str) else ""
    for key in now:
        left, right = earlier.get(key), json.loads(json.dumps(now[key]))
        if left != right:
            inner = _which(left, right)
            return f": {key}{inner}"
    return ""
