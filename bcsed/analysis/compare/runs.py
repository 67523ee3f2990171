"""A run or a bundle, with all that a comparison asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...config.diff import flatten
from ...errors import ConfigError, DataError
from ...models.bundle.manifest import MANIFEST, read_manifest
from ...scores.evaluation import Evaluation, read_evaluation
from ...train.checkpoints import BEST, METRICS, RUN, evaluation_path, read_description

# What a description holds besides the settings: where, when, how well, and what follows from the rest.
_NO_SETTINGS = (
    *("schema", "bcsed", "experiment", "recipe", "contract", "fingerprint", "fold", "data", "n_clips", "priors"),
    *("checkpoint", "checkpoint_sha256", "epoch", "metrics", "exported", "torch_openvino_difference", "versions"),
)
_SEED = "fit.seed"


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """A run or a bundle.

    Parameters
    ----------
    path : Path
        Its folder.
    experiment : str
        The experiment that was trained.
    recipe : mapping of str to mapping
        Its groups of settings.
    contract : mapping
        What the network hears, is and answers, as plain values.
    origin : mapping
        What else a training depends on: its start, its list of clips, and what else was learned from.
    fold : int or None
        What was held out.
    checkpoint : {'best', 'last'}
    history : DataFrame
        One line per epoch, as in ``metrics.csv``; empty for a bundle.
    evaluation : Evaluation, optional
        On held-out data; None where nothing was held out, and for a bundle.
    """

    path: Path
    experiment: str
    recipe: Mapping[str, Mapping[str, Any]]
    contract: Mapping[str, Any]
    origin: Mapping[str, Any]
    fold: int | None
    checkpoint: str
    history: pd.DataFrame
    evaluation: Evaluation | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def seed(self) -> int:
        """The seed that all randomness of the training follows from."""
        return int(self.recipe["fit"]["seed"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the network answers."""
        return tuple(self.contract["classes"])

    @property
    def epochs(self) -> int:
        """Epochs trained; 0 for a bundle."""
        return len(self.history)

    @property
    def seconds(self) -> float:
        """Seconds of all epochs; NaN for a bundle."""
        return float(self.history["seconds"].sum()) if len(self.history) else float("nan")

    @property
    def settings(self) -> dict[str, Any]:
        """All that makes this training another than its neighbour, but for seed and fold: ``group.field``."""
        # The groups of the heads follow from net.heads and the classes, and counts from the sources and the fold.
        rest = {key: value for key, value in self.contract.items() if key not in ("frontend", "net", "groups")}
        origin = {key: value for key, value in flatten(self.origin).items() if not isinstance(value, int)}
        flat = flatten({**self.recipe, **rest, **origin})
        return {key: value for key, value in flat.items() if key != _SEED}


def read_run(run: str | Path, *, checkpoint: str | None = None) -> ComparedRun:
    """Read a finished run, or a bundle.

    Parameters
    ----------
    run : str or Path
        The folder.
    checkpoint : {'best', 'last'}, optional
        Whose answers; best by default, where there was something to choose by. A bundle has the one it has.

    Raises
    ------
    ConfigError, DataError, BundleError
        If there is no such run or bundle, it is not finished, or a file of it is damaged or does not belong.
    """
    run = Path(run)
    if checkpoint not in (None, "best", "last"):
        raise ConfigError(f"checkpoint must be best or last, got {checkpoint!r}.")
    if not (run / RUN).is_file():
        if (run / MANIFEST).is_file():
            return _read_bundle(run)
        raise DataError(f"{run} is neither a run nor a bundle: it has no {RUN} and no {MANIFEST}.")
    told = _read_run(run / RUN)
    history = _read_history(run, told["recipe"]["fit"]["epochs"])
    has_best = (run / BEST).is_file() or evaluation_path(run, "best").is_file()
    chosen = checkpoint or ("best" if has_best else "last")
    file = evaluation_path(run, chosen)
    found = ComparedRun(
        path=run,
        experiment=told["experiment"],
        recipe=told["recipe"],
        contract=told["contract"],
        origin={key: value for key, value in told.items() if key not in _NO_SETTINGS},
        fold=told["fold"],
        checkpoint=chosen,
        history=history,
        evaluation=read_evaluation(file) if file.is_file() else None,
    )
    if found.evaluation is not None and set(found.evaluation.classes) != set(found.classes):
        strange = sorted(set(found.evaluation.classes) ^ set(found.classes))
        raise DataError(
            f"{file} does not belong to this run: class {strange[0]!r} is in one of them only "
            f"({len(strange)} such classes); train the run again."
        )
    return found


def _read_run(file: Path) -> dict[str, Any]:
    told = read_description(file.parent)
    fit, classes = told["recipe"].get("fit"), told["contract"].get("classes")
    complete = isinstance(fit, dict) and isinstance(fit.get("epochs"), int) and "seed" in fit
    if not complete or not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{file} is damaged: it lacks epochs and seed of its recipe, or names of classes.")
    return told


def _read_history(run: Path, n_epochs: int) -> pd.DataFrame:
    file = run / METRICS
    history: pd.DataFrame = pd.DataFrame()
    if file.is_file():
        try:
            history = pd.read_csv(file)
            history["seconds"].sum()
        except (ValueError, KeyError, OSError) as error:
            raise DataError(f"{file} is damaged: not readable as the metrics of a training.") from error
    if len(history) < n_epochs:
        raise DataError(
            f"{run} is not finished: {len(history)} of {n_epochs} epochs are trained; go on with "
            "`bcsed train ... --resume`."
        )
    return history


def _read_bundle(path: Path) -> ComparedRun:
    manifest = read_manifest(path)
    provenance, recipe = manifest["provenance"], manifest["recipe"]
    if "seed" not in recipe.get("fit", {}):
        raise DataError(f"{path} does not say how it was trained, so it cannot be compared; export it from its run.")
    return ComparedRun(
        path=path,
        experiment=str(provenance.get("experiment", path.resolve().name)),
        recipe=recipe,
        contract=manifest["contract"],
        origin={key: value for key, value in provenance.items() if key not in _NO_SETTINGS},
        fold=provenance.get("fold"),
        checkpoint=str(provenance.get("checkpoint", "last")),
        history=pd.DataFrame(),
    )
