"""The commands that listen: check and predict."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..errors import BundleError, ConfigError
from .parse import thresholds
from .progress import Bar

if TYPE_CHECKING:
    from ..models.bundle.bundle import Bundle
    from ..predict.outputs import OutputOptions
    from ..predict.result import Result


def check(options: argparse.Namespace) -> int:
    """Verify bundles and play each its probe; or show what another precision changes."""
    from ..models.bundle.bundle import load
    from ..models.bundle.probe import check as play

    if options.precision is None and (options.recordings or options.truth):
        raise ConfigError("recordings are listened to with --precision only; give it, or leave them out.")
    if options.truth and not options.recordings:
        raise ConfigError("a truth needs --recordings.")
    ill = 0
    for path in options.bundles:
        try:
            loaded = load(path)
            found = play(loaded)
        except BundleError as error:
            print(f"ill   {error}")
            ill += 1
        else:
            print(f"good  {path}: " + ", ".join(f"{name} to {value:.1e}" for name, value in found.items()))
            if options.precision is not None:
                print(f"      {_precision(loaded, options)}")
    return 1 if ill else 0


def _precision(loaded: Bundle, options: argparse.Namespace) -> str:
    """Say what a precision changes, in the probe's answers, or in recordings' rows and their score."""
    import numpy as np

    from ..models.bundle.probe import probe_difference

    told = f"{options.precision} moves the probe's logits by up to {probe_difference(loaded, options.precision):.2g}"
    if not options.recordings:
        return told
    from ..models.ensemble import from_bundles
    from ..predict.api import RunOptions
    from ..predict.api import predict as run_prediction
    from ..scores import metrics
    from ..scores.evaluation import read_truth

    tables = [
        run_prediction(
            from_bundles([loaded], precision=precision), options.recordings, options=RunOptions(jobs=options.jobs)
        ).scores
        for precision in ("f32", options.precision)
    ]
    moved = np.abs(tables[0].to_numpy(np.float64) - tables[1].to_numpy(np.float64))
    told += f", {moved.size} scores by {moved.mean():.2g} on average and {moved.max():.2g} at most"
    if options.truth:
        truth = read_truth(options.truth, list(map(str, tables[0].columns)))
        aucs = []
        for table in tables:
            aucs.append(metrics.macro_auc(truth, table))
        (first, n_classes), (second, _) = aucs
        told += f"; macro ROC-AUC {first:.4f} to {second:.4f} ({second - first:+.4f}, {n_classes} classes)"
    return told


def predict(options: argparse.Namespace) -> int:
    """Score recordings."""
    from ..models.bundle.bundle import load
    from ..models.ensemble import from_bundles
    from ..predict.api import RunOptions
    from ..predict.api import predict as run_prediction
    from ..predict.blocks import Windowing
    from ..predict.budget import Budget
    from ..predict.workers import Workers
    from ..scores import postprocess

    names, taxa = _taxonomy(options)
    budget = None
    if options.budget_min is not None:
        budget = Budget(minutes=options.budget_min, elapsed_s=60 * options.spent_min, end_process=True)
    elif options.spent_min:
        raise ConfigError("--spent-min belongs to a budget; give --budget-min, or leave it out.")
    output = _output(options, names, taxa)
    windowing = Windowing(
        row_s=options.row_s, windows=options.windows, stride_s=options.stride_s, shifts_s=options.shifts_s
    )
    with Bar("predict") as bar:
        result = run_prediction(
            from_bundles(
                [load(path) for path in options.bundles],
                options.weights,
                mean=options.mean,
                classes=output.template_columns(),
                precision=options.precision,
                cache=options.graph_cache,
            ),
            options.recordings,
            out=options.out,
            windowing=windowing,
            stages=postprocess.parse_stages(options.post),
            output=output,
            options=RunOptions(
                jobs=options.jobs,
                workers=Workers(n=options.workers, backend=options.backend, scheduler=options.scheduler),
                shard=options.shard,
            ),
            budget=budget,
            progress=lambda done, total: bar.step("recordings", done, total, ""),
            log=bar.say,
        )
    return _tell(result, options.out)


def _tell(result: Result, out: str) -> int:
    """Say what a prediction came to, and return the exit status."""
    for problem in result.failures.head(20).itertuples():
        print(f"{problem.status:7} {problem.reason}", file=sys.stderr)
    for note in result.notes.head(20).itertuples():
        print(f"note    {note.recording}: {note.note}", file=sys.stderr)
    for finding in result.findings:
        print(f"{finding.severity:7} {finding.sentence}", file=sys.stderr)
    for sentence in result.left_out:
        print(sentence)
    if result.spearman is not None and len(result.spearman) > 1:
        print("rank correlation between members:\n" + result.spearman.to_string(float_format="%.3f"))
    print(
        f"scored {result.n_scored} of {result.n_recordings} recordings in {result.seconds:.1f} s ({result.n_resumed} "
        f"from an earlier run): {result.n_rows} rows; {result.n_failed} failed; see {out}"
    )
    return 0 if not result.n_failed else 3 if result.n_scored else 4


def _output(options: argparse.Namespace, names: Any, taxa: dict[str, str]) -> OutputOptions:
    from ..predict.outputs import OutputOptions
    from ..scores.detections.detect import DetectionSettings
    from ..scores.detections.write import FORMATS

    about = (options.threshold_of, options.thresholds, options.no_merge, options.gap_rows, options.min_rows > 1)
    if (any(about) or options.threshold is not None) and not set(options.format) & set(FORMATS):
        raise ConfigError(f"thresholds and merging are about detections; add --format {' or '.join(FORMATS)}.")
    of_class = thresholds(options.threshold_of)
    if options.thresholds is not None:
        from ..scores.calibration import read_thresholds

        of_class = {**read_thresholds(options.thresholds), **of_class}
    detection = DetectionSettings(
        threshold=0.5 if options.threshold is None else options.threshold,
        thresholds=of_class,
        merge=not options.no_merge,
        gap_rows=options.gap_rows,
        min_rows=options.min_rows,
    )
    return OutputOptions(
        formats=tuple(options.format),
        detection=detection,
        names=names,
        taxa=taxa,
        sample_submission=options.sample_submission,
        on_error=options.on_error,
    )


def _taxonomy(options: argparse.Namespace) -> tuple[Any, dict[str, str]]:
    """Return names and taxa of classes from a taxonomy, if one is given."""
    if options.taxonomy is None:
        return None, {}
    from ..scores.detections.taxonomy import read_taxonomy

    names = read_taxonomy(options.taxonomy)
    return names, {label: name.taxon for label, name in names.items()}
