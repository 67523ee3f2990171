"""Read finished runs and bundles for a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...config.diff import flatten
from ...errors import ConfigError, DataError
from ...files import read_errors
from ...models.bundle.manifest import MANIFEST, read_manifest
from ...models.ensemble import is_table
from ...scores.evaluation import Evaluation, read_evaluation
from ...scores.table_member import read_table_member
from ...train.checkpoints import BEST, METRICS, RUN, evaluation_path, read_description

# Keys of a run's description or a bundle's provenance that are not settings of the training.
_NO_SETTINGS = (
    *("schema", "bcsed", "experiment", "recipe", "contract", "fingerprint", "fold", "data", "n_clips", "priors"),
    *("labels_sha256", "checkpoint", "checkpoint_sha256", "epoch", "metrics", "exported", "torch_openvino_difference"),
    "versions",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparedRun:
    """A finished run, a bundle, or a score table."""

    path: Path  # its folder or file
    experiment: str
    recipe: Mapping[str, Mapping[str, Any]]  # settings by group
    contract: Mapping[str, Any]  # as plain values
    origin: Mapping[str, Any]  # everything else that the training depends on: initial weights, clips, further data
    fold: int | None  # held out
    checkpoint: str  # 'best' or 'last'
    history: pd.DataFrame  # one line per epoch, as in ``metrics.csv``; empty for a bundle or a table
    evaluation: Evaluation | None = None  # None without held-out data and for a bundle

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.recipe["fit"]["seed"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's classes."""
        return tuple(self.contract["classes"])

    @property
    def seconds(self) -> float:
        """Duration of all epochs in seconds; NaN for a bundle."""
        return float(self.history["seconds"].sum()) if len(self.history) else float("nan")

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that distinguish trainings, except seed and fold, as ``group.field``."""
        # Head groups follow from net.heads and the classes, and counts (integers) from the sources and the fold.
        rest = {key: value for key, value in self.contract.items() if key not in ("frontend", "net", "groups")}
        origin = {key: value for key, value in flatten(self.origin).items() if not isinstance(value, int)}
        return {key: value for key, value in flatten({**self.recipe, **rest, **origin}).items() if key != "fit.seed"}


def read_run(run: str | Path, *, checkpoint: str | None = None) -> ComparedRun:
    """Read a finished run, a bundle, or a score table of any origin.

    Parameters
    ----------
    checkpoint : {'best', 'last'}, optional
        The checkpoint whose evaluation is read; by default the best, if there is one. Ignored for a bundle.

    Raises
    ------
    ConfigError, DataError, BundleError
        If there is no such run or bundle, it is not finished, or one of its files is damaged or of another run.
    """
    run = Path(run)
    if checkpoint not in (None, "best", "last"):
        raise ConfigError(f"checkpoint must be best or last, got {checkpoint!r}.")
    if not (run / RUN).is_file():
        if (run / MANIFEST).is_file():
            return _read_bundle(run)
        if is_table(run):
            return _read_table(run)
        raise DataError(f"{run} is neither a run nor a bundle: it has no {RUN} and no {MANIFEST}.")
    description = read_description(run)
    history = _read_history(run, description["recipe"]["fit"]["epochs"])
    if checkpoint is None:
        checkpoint = "best" if (run / BEST).is_file() or evaluation_path(run, "best").is_file() else "last"
    file = evaluation_path(run, checkpoint)
    evaluation = read_evaluation(file) if file.is_file() else None
    different = sorted(set(evaluation.classes) ^ set(description["contract"]["classes"])) if evaluation else []
    if different:
        raise DataError(
            f"{file} does not belong to this run: class {different[0]!r} is in only one of them "
            f"({len(different)} such classes); train the run again."
        )
    return ComparedRun(
        path=run,
        origin={key: value for key, value in description.items() if key not in _NO_SETTINGS},
        checkpoint=checkpoint,
        history=history,
        evaluation=evaluation,
        **{key: description[key] for key in ("experiment", "recipe", "contract", "fold")},
    )


def _read_history(run: Path, n_epochs: int) -> pd.DataFrame:
    file = run / METRICS
    history: pd.DataFrame = pd.DataFrame()
    if file.is_file():
        with read_errors(file, "the metrics of a training"):
            history = pd.read_csv(file)
            history["seconds"].sum()
    if len(history) < n_epochs:
        raise DataError(
            f"{run} is not finished: {len(history)} of {n_epochs} epochs are trained; continue with "
            "`bcsed train ... --resume`."
        )
    return history


def _read_table(path: Path) -> ComparedRun:
    return ComparedRun(
        path=path,
        experiment=path.resolve().stem,
        recipe={"fit": {"seed": 0}},
        contract={"classes": list(read_table_member(path).classes)},
        origin={},
        fold=None,
        checkpoint="last",
        history=pd.DataFrame(),
    )


def _read_bundle(path: Path) -> ComparedRun:
    manifest = read_manifest(path)
    provenance, recipe = manifest["provenance"], manifest["recipe"]
    if "fit" not in recipe or "seed" not in recipe["fit"]:
        raise DataError(f"{path} does not record its training, so it cannot be compared; export it from its run.")
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
