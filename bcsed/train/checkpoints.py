"""The folder of a run: its description, the metrics of each epoch, and its checkpoints.

``run.json`` describes the training, ``last.pt`` contains everything that is needed to resume, ``best.pt`` the weights
of the best epoch, ``metrics.csv`` and ``metrics.png`` the metrics of all epochs, ``validation-*.npz`` the scores on
held-out data of the last and the best epoch, ``start.txt`` which weights were taken over from elsewhere, and
``duplicates.csv`` the clips whose audio occurs more than once. ``contradictions.csv`` lists the held-out clips with the
scores of the best epoch, those first that contradict their label most.
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

from ..config.contract import Contract
from ..config.diff import describe_difference
from ..config.strict import from_dict
from ..config.versions import upgrade_run
from ..errors import ConfigError, DataError
from ..files import check_fields, check_schema, is_occupied, read_errors, read_json
from ..models.bundle.bundle import Bundle
from ..models.export import export
from ..models.network import SedNet

RUN, LAST, BEST, METRICS = "run.json", "last.pt", "best.pt", "metrics.csv"
PLOT, SKIPPED, START, DUPLICATES = "metrics.png", "skipped.csv", "start.txt", "duplicates.csv"
VALIDATION, CONTRADICTIONS = "validation-{}.npz", "contradictions.csv"
SCHEMA = 2
_FIELDS = {
    **dict.fromkeys(("recipe", "recipe.fit", "contract"), dict),
    **dict.fromkeys(("recipe.fit.epochs", "recipe.fit.seed"), int),
    "experiment": str,
    "contract.classes": list,
    "fold": int | None,
}
# Key of the SHA-256 of the competition's own labels of soundscapes, among the sources.
OWN_LABELS = "soundscape_labels"
# What only an export needs.
_ORIGIN_FIELDS = {"start": str, "clips_sha256": str, "n_clips": int, "sources": dict, "priors": list}
_CHECKPOINT_FIELDS = {"model": dict, "epoch": int, "metrics": dict}


@dataclass(frozen=True)
class TrainedNetwork:
    """A network of a run, ready to be exported."""

    network: SedNet  # in evaluation mode, on the CPU
    contract: Contract
    priors: npt.NDArray[np.float32]  # (K,)
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]


def read_description(run: Path) -> dict[str, Any]:
    """Read ``run.json`` of schema 1 or 2 under today's names; DataError if it is missing or damaged."""
    file = run / RUN
    values = read_json(file, fields=_FIELDS)
    check_schema(values, file, (1, SCHEMA))
    check_fields(values, {**_ORIGIN_FIELDS, "recipe.data": dict}, file, optional=True)
    if not all(isinstance(name, str) for name in values["contract"]["classes"]):
        raise DataError(f"{file} is damaged: contract.classes must be a list of names.")
    values = upgrade_run(values)
    sources = values.get("sources")
    if isinstance(sources, dict) and "in_situ" in sources:
        sources["online"] = sources.pop("in_situ")
    return values


def evaluation_path(run: Path, checkpoint: str) -> Path:
    """Return the file of a checkpoint's scores on held-out data; runs of schema 1 have ``answers-*.npz``."""
    path = run / VALIDATION.format(checkpoint)
    earlier = run / f"answers-{checkpoint}.npz"
    return earlier if earlier.is_file() and not path.is_file() else path


def require_new_run(out: Path, *, resume: bool) -> None:
    """Refuse (DataError) a folder in which a run cannot start or, with `resume`, cannot be resumed."""
    if resume and not (out / RUN).is_file():
        raise DataError(f"{out} holds no run to resume ({RUN} is missing).")
    if not resume and is_occupied(out):
        raise DataError(f"{out} is already there; continue it with --resume, or name a new folder.")


def state_to_resume(out: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the last checkpoint, if it exists already; DataError if the run is another training."""
    earlier, now = read_description(out), json.loads(json.dumps(description))
    if OWN_LABELS not in earlier.get("sources", {}):
        now["sources"].pop(OWN_LABELS, None)  # earlier versions did not record it
    difference = describe_difference(_training_of(earlier), _training_of(now))
    if difference:
        raise DataError(f"{out} cannot be resumed: it is another training than this call ({difference}).")
    return load_state(out / LAST) if (out / LAST).is_file() else None


def _training_of(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a description that must be the same for a run to be resumed."""
    keys = ("fold", "start", "clips_sha256", "sources")
    contract = {key: description["contract"].get(key) for key in ("classes", "groups")}
    return {**description["recipe"], **contract, **{key: description.get(key) for key in keys}}


def load_state(file: Path) -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values only, never code; DataError if it is damaged."""
    with read_errors(file, "a checkpoint of bcsed"):
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    check_fields(state, _CHECKPOINT_FIELDS, file)
    return state


def finished(out: str | Path) -> bool:
    """Return True if a folder holds a run with all its epochs."""
    out = Path(out)
    if not (out / RUN).is_file() or not (out / LAST).is_file():
        return False
    return bool(load_state(out / LAST)["epoch"] >= read_description(out)["recipe"]["fit"]["epochs"])


def load_run(run: str | Path, checkpoint: str | None = None) -> TrainedNetwork:
    """Return the network of a run.

    `checkpoint` is 'best' or 'last'; by default best, or last if nothing was held out. ConfigError or DataError if
    there is no such run or checkpoint, or it is damaged.
    """
    run = Path(run)
    if not (run / RUN).is_file():
        raise DataError(f"{run} is no run of bcsed: it has no {RUN}.")
    if checkpoint not in (None, "best", "last"):
        raise ConfigError(f"checkpoint must be best or last, got {checkpoint!r}.")
    checkpoint = checkpoint or ("best" if (run / BEST).is_file() else "last")
    file = run / (BEST if checkpoint == "best" else LAST)
    if not file.is_file():
        raise DataError(f"{run} has no checkpoint {file.name} yet; train it first.")
    description, state = read_description(run), load_state(file)
    check_fields(description, _ORIGIN_FIELDS, run / RUN)
    contract = from_dict(Contract, description["contract"], f"{run / RUN}: contract")
    with read_errors(run / RUN, "a description of a run"):
        priors = np.asarray(description["priors"], np.float32)
    if priors.shape != (len(contract.classes),):
        raise DataError(f"{run / RUN} is damaged: priors must be {len(contract.classes)} numbers.")
    network = SedNet(contract.frontend, contract.net, len(contract.classes), groups=contract.groups)
    with read_errors(file, f"a checkpoint of the network in {RUN}"):
        network.load_state_dict(state["model"])
    recorded = ("experiment", "fold", "start", "clips_sha256", "n_clips", "sources")
    provenance = {key: description[key] for key in recorded}
    provenance |= {"checkpoint": checkpoint, "epoch": state["epoch"], "metrics": state["metrics"]}
    return TrainedNetwork(network.eval(), contract, priors, description["recipe"], provenance)


def export_run(
    run: str | Path,
    out: str | Path,
    checkpoint: str | None = None,
    *,
    with_weights: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Convert the network of a run and seal it in a bundle, in a new or empty folder.

    `checkpoint`: see `load_run`. `with_weights` includes the weights that further training needs; `provenance` is
    recorded in addition to the run's own. Raises as `load_run` and `bcsed.models.export.export`.
    """
    trained = load_run(run, checkpoint)
    return export(
        trained.network,
        out,
        contract=trained.contract,
        priors=trained.priors,
        recipe=trained.recipe,
        provenance={**trained.provenance, **(provenance or {})},
        with_weights=with_weights,
    )
