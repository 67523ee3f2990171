"""Evaluate runs and bundles on labelled soundscapes that were not used in training."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from ...errors import BundleError, DataError
from ...files import sha256
from ...models.bundle.bundle import Bundle, load
from ...models.bundle.manifest import GRAPH_WEIGHTS, MANIFEST, read_manifest
from ...models.ensemble import is_table
from ...predict.api import RunOptions, predict
from ...predict.spec import Windowing
from ...recordings import find_recordings, printable
from ...scores.checks.ids import parse_row_ids
from ...scores.evaluation import Evaluation, make_evaluation, read_evaluation, read_truth, write_evaluation
from ...scores.labelling import row_ids_of
from ...scores.table_member import read_table_member
from ...train.checkpoints import BEST, LAST, export_run
from .runs import ComparedRun

BUNDLE = "compare-bundle"
# Raise it when the same inputs give other scores: stored evaluations are then computed again.
_VERSION = 3


def evaluate_on_soundscapes(
    compared: ComparedRun,
    recordings: Sequence[str | Path],
    truth_csv: str | Path,
    *,
    keep: str | Path | None = None,
    windowing: Windowing | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a run, a bundle or a score table on labelled soundscapes, with the code of a submission.

    Of a table, the labelled rows are evaluated, without the recordings. The checkpoint of a run is exported to
    ``compare-bundle`` once. Of the `recordings` (files and folders) only those with truth are scored; the caller
    ensures that no training used them, not even as pseudolabels. For `truth_csv` see
    `bcsed.scores.evaluation.read_truth`, for `windowing`, `jobs` and `progress` `bcsed.predict.predict`. The bundle and
    the evaluation are stored for the next call in `keep`, by default the run's folder; nothing is added to a bundle, so
    without `keep` its evaluation is not stored.

    The evaluation is of kind ``rows``, one per row of the truth; stored as ``evaluation-<truth file>-<digits>.npz``,
    where the digits depend on truth, network, recordings and rows. Raises ConfigError, BundleError or DataError if the
    truth is invalid or has other classes, a row of it cannot be scored, or a file cannot be written.
    """
    windowing, truth_csv = windowing or Windowing(), Path(truth_csv)
    table = read_table_member(compared.path).table if is_table(compared.path) else None
    ids = row_ids_of(recordings, windowing.row_s) if table is None else table.index
    truth = read_truth(truth_csv, compared.classes, ids, None if table is not None else windowing.row_s)
    between = truth.to_numpy()[~truth.isin((0, 1)).to_numpy()]
    if len(between):
        raise DataError(f"{truth_csv}: truth must be 0 or 1, got {between[0]:g}.")
    if table is not None:
        return make_evaluation(truth, table, where=str(compared.path))
    paths = _recordings_of(truth, recordings, truth_csv)
    checkpoint = _checkpoint(compared)
    folder = Path(keep) if keep is not None else compared.path if checkpoint is not None else None
    file = None
    if folder is not None:
        digits = _digits(compared, checkpoint, paths, truth_csv, windowing)
        file = folder / f"evaluation-{truth_csv.stem}-{digits}.npz"
        if file.is_file():
            return read_evaluation(file)
    if checkpoint is not None and folder is not None:
        bundle = _exported(compared, checkpoint, folder / BUNDLE)
    else:
        bundle = load(compared.path)
    result = predict([bundle], paths, windowing=windowing, options=RunOptions(jobs=jobs), progress=progress)
    missing = truth.index.difference(result.scores.index, sort=False)
    if len(missing):
        failed = result.failures
        reason = f" ({failed['reason'].iloc[0]})" if len(failed) else "; is its recording shorter, or are rows longer?"
        raise DataError(
            f"{len(missing)} of {len(truth)} rows of {truth_csv} have no score, {missing[0]!r} first{reason}"
        )
    evaluation = make_evaluation(truth, result.scores)
    if file is not None:
        write_evaluation(file, evaluation)
    return evaluation


def _recordings_of(truth: pd.DataFrame, recordings: Sequence[str | Path], truth_csv: Path) -> list[Path]:
    """Return the recordings that the truth names; refuse missing ones."""
    stems = parse_row_ids(truth.index).stems
    paths = [path for path in find_recordings(recordings) if printable(path.stem) in stems]
    available = {printable(path.stem) for path in paths}
    missing = [stem for stem in stems if stem not in available]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(stems)} recordings that {truth_csv} names are not among the given recordings, "
            f"{missing[0]!r} first; add their folder, or remove them from the truth."
        )
    return paths


def _digits(
    compared: ComparedRun, checkpoint: Path | None, paths: Sequence[Path], truth_csv: Path, windowing: Windowing
) -> str:
    """Return 12 hexadecimal digits of everything that the scores depend on."""
    weights = sha256(checkpoint) if checkpoint else str(read_manifest(compared.path)["files"].get(GRAPH_WEIGHTS))
    files = [f"{printable(path.name)} {sha256(path)}" for path in sorted(paths)]
    parts = [str(_VERSION), sha256(truth_csv), weights, json.dumps(compared.contract), repr(windowing), *files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _checkpoint(compared: ComparedRun) -> Path | None:
    """Return the checkpoint of a run, None for a bundle."""
    if (compared.path / MANIFEST).is_file():
        return None
    file = compared.path / (BEST if compared.checkpoint == "best" else LAST)
    if not file.is_file():
        raise DataError(f"{compared.path} has no checkpoint {file.name}, so soundscapes cannot be scored with it.")
    return file


def _exported(compared: ComparedRun, checkpoint: Path, folder: Path) -> Bundle:
    """Return the bundle of a checkpoint; export it unless that was done before."""
    digest = sha256(checkpoint)
    if folder.exists():
        with suppress(BundleError):  # if it is damaged, it can be exported again from the run
            bundle = load(folder)
            if bundle.provenance.get("checkpoint_sha256") == digest:
                return bundle
        shutil.rmtree(folder)
    provenance = {"checkpoint_sha256": digest}
    return export_run(compared.path, folder, compared.checkpoint, with_weights=False, provenance=provenance)
