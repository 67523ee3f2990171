"""Scores of runs and bundles on labelled soundscapes that no training saw."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd

from ... import predict
from ..._version import __version__
from ...audio.decode import find_recordings
from ...errors import BundleError, DataError
from ...files import sha256
from ...models import bundle
from ...models.bundle.manifest import GRAPH_WEIGHTS, MANIFEST, read_manifest
from ...models.export import export
from ...scores.checks.ids import split_row_id
from ...scores.evaluation import Evaluation, make_evaluation, read_evaluation, read_truth, write_evaluation
from ...train.checkpoints import BEST, LAST, load_run
from .runs import ComparedRun

SEALED = "compare-bundle"


def evaluate_on_soundscapes(
    compared: ComparedRun,
    recordings: Sequence[str | Path],
    truth_csv: str | Path,
    *,
    keep: str | Path | None = None,
    windowing: predict.Windowing | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a run or a bundle on labelled soundscapes, through the submission's own code.

    Parameters
    ----------
    compared : ComparedRun
        Its checkpoint is exported into ``compare-bundle``, once; a bundle is used as it is.
    recordings : sequence of str or Path
        Files and folders; only recordings that the truth names are heard. That no training saw them, not
        even as pseudolabels, is the caller's to know.
    truth_csv : str or Path
        As for `read_truth`.
    keep : str or Path, optional
        Where the bundle and the answers are kept, so that repeating costs nothing: the run's folder by
        default. A bundle is sealed, so without this nothing is kept of it.
    cut : Windowing, optional
        Rows of 5 s from centred windows by default.
    jobs : int
        Threads that decode.
    progress : callable, optional
        Called with (recordings done, recordings in all).

    Returns
    -------
    Answers
        Of kind ``rows``, one per row of the truth; kept as ``evaluation-<truth file>-<digits>.npz``, where the
        digits change with the truth, the network, the recordings, the rows and bcsed's version.

    Raises
    ------
    ConfigError, BundleError, DataError
        If the truth is none or of other classes, a row of it cannot be scored, or a file cannot be written.
    """
    windowing = windowing or predict.Windowing()
    truth_csv = Path(truth_csv)
    truth = read_truth(truth_csv, compared.classes)
    between = truth.to_numpy()[~truth.isin((0, 1)).to_numpy()]
    if len(between):
        raise DataError(f"{truth_csv}: truth must be 0 or 1, got {between[0]:g}.")
    paths = _heard(recordings, truth, truth_csv)
    is_run = not (compared.path / MANIFEST).is_file()
    folder = Path(keep) if keep is not None else compared.path if is_run else None
    file = None
    if folder is not None:
        digits = _digits(compared, paths, truth_csv, windowing)
        file = folder / f"evaluation-{truth_csv.stem}-{digits}.npz"
        if file.is_file():
            return read_evaluation(file)
    sealed = _sealed(compared, folder / SEALED) if is_run and folder is not None else bundle.load(compared.path)
    result = predict.predict(
        [sealed], paths, windowing=windowing, options=predict.RunOptions(jobs=jobs), progress=progress
    )
    answers = _paired(truth, result, truth_csv)
    if file is not None:
        write_evaluation(file, answers)
    return answers


def _heard(recordings: Sequence[str | Path], truth: pd.DataFrame, truth_csv: Path) -> list[Path]:
    """Return the recordings that the truth names; all of them must be there."""
    named = dict.fromkeys(_stems(truth.index))
    paths = [path for path in find_recordings(recordings) if path.stem in named]
    there = {path.stem for path in paths}
    gone = [stem for stem in named if stem not in there]
    if gone:
        raise DataError(
            f"{len(gone)} of {len(named)} recordings that {truth_csv} names are not among the recordings given, "
            f"{gone[0]!r} first; give their folder too, or a truth without them."
        )
    return paths


def _stems(row_ids: Iterable[object]) -> list[str]:
    return [split_row_id(row_id)[0] for row_id in row_ids]


def _digits(compared: ComparedRun, paths: Sequence[Path], truth_csv: Path, windowing: predict.Windowing) -> str:
    """Return 12 hexadecimal digits of all that the answers depend on."""
    checkpoint = _checkpoint(compared)
    weights = sha256(checkpoint) if checkpoint else str(read_manifest(compared.path)["files"].get(GRAPH_WEIGHTS))
    heard = [f"{path.name} {path.stat().st_size}" for path in sorted(paths)]
    parts = [__version__, sha256(truth_csv), weights, json.dumps(compared.contract), repr(windowing), *heard]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _checkpoint(compared: ComparedRun) -> Path | None:
    """Return a run's checkpoint, None for a bundle."""
    if (compared.path / MANIFEST).is_file():
        return None
    file = compared.path / (BEST if compared.checkpoint == "best" else LAST)
    if not file.is_file():
        raise DataError(f"{compared.path} has no checkpoint {file.name} to score soundscapes with.")
    return file


def _sealed(compared: ComparedRun, folder: Path) -> bundle.Bundle:
    """Return a bundle of the run's checkpoint, made if it is not there yet."""
    checkpoint = _checkpoint(compared)
    digest = sha256(checkpoint) if checkpoint else ""
    if folder.exists():
        try:
            found = bundle.load(folder)
            if found.provenance.get("checkpoint_sha256") == digest:
                return found
        except BundleError:
            # Damaged, or of an older schema: the run can make it anew.
            pass
        shutil.rmtree(folder)
    trained = load_run(compared.path, compared.checkpoint)
    return export(
        trained.network,
        folder,
        contract=trained.contract,
        priors=trained.priors,
        recipe=trained.recipe,
        provenance={**trained.provenance, "checkpoint_sha256": digest},
        with_weights=False,
    )


def _paired(truth: pd.DataFrame, result: predict.Result, truth_csv: Path) -> Evaluation:
    missing = truth.index.difference(result.scores.index, sort=False)
    if len(missing):
        failed = result.failures
        why = f" ({failed['reason'].iloc[0]})" if len(failed) else "; is its recording shorter, or are rows longer?"
        raise DataError(f"{len(missing)} of {len(truth)} rows of {truth_csv} have no score, {missing[0]!r} first{why}")
    return make_evaluation(truth, result.scores)
