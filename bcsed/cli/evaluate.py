"""Commands that compare scores with the truth: evaluate, compare, calibrate, report."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from . import options
from .options import Add
from .progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from ..scores.postprocess import Stage


def evaluate(args: Namespace) -> int:
    """Evaluate scores, or a bundle on labelled recordings: macro ROC-AUC, cmAP and LRAP; or events: F1 and PSDS."""
    from ..scores import metrics
    from ..scores.checks.ids import split_row_id
    from ..scores.evaluation import read_truth
    from ..scores.postprocess import COMMON, parse_stages
    from ..scores.table import check_table, read_table

    if not args.events and (args.threshold, args.collar_s) != (None, None):
        raise ConfigError("--threshold and --collar-s are of events; add --events FILE, or leave them out.")
    if args.taxonomy is not None and args.ablate is None:
        raise ConfigError("--taxonomy is used by the stages of --ablate; add --ablate, or leave --taxonomy out.")
    path, ensemble = Path(args.scores), dict[str, Any]()
    # Read before anything is printed: an invalid stage is refused first.
    stages = parse_stages(args.ablate or COMMON)
    if args.events:
        _print_events(args, path)
    if args.truth is None:
        if not args.events:
            raise ConfigError("name the labels of rows as --truth FILE, or annotation tables as --events FILE.")
        return 0
    if (path / "bundle.json").is_file():
        scores = _score_bundle(path, args)
    elif args.recordings or args.precision:
        raise ConfigError(f"--recordings and --precision need a bundle, and {path} is not one; leave them out.")
    elif path.is_dir():
        scores, ensemble = _read_prediction(path, for_ablation=args.ablate is not None)
    else:
        scores = read_table(path)
    check_table(scores, where=str(args.scores))
    truth = read_truth(args.truth, list(map(str, scores.columns)), scores.index)
    evaluated = metrics.align_tables(truth, scores, extra=True, where=str(args.scores))
    values = metrics.score_tables(truth, evaluated)
    recordings = [split_row_id(row_id)[0] for row_id in truth.index]
    print(
        f"macro ROC-AUC {values.macro_auc:.4f} over {values.n_classes} of {truth.shape[1]} classes, {values.n_rows} "
        f"rows{describe_interval(truth, evaluated, recordings)}; cmAP {values.cmap:.4f}, LRAP {values.lrap:.4f}"
    )
    _print_unlabelled(truth, scores, args.truth)
    if args.per_class:
        print(metrics.per_class(truth, evaluated).to_string(index=False, float_format="%.4f"))
    if args.ablate is not None:
        _print_ablation(args, stages, truth, scores, **ensemble)
    return 0


def _print_events(args: Namespace, path: Path) -> None:
    """Evaluate the rows of a score table or of a folder of predict, or time steps, against annotation tables."""
    from ..predict.outputs import FRAMES
    from ..scores.events import evaluate_events, read_frames, rows_of_table
    from ..scores.table import SCORES, SUBMISSION, check_table, read_table, table_file

    if (path / "bundle.json").is_file():
        raise ConfigError(f"--events evaluates scores, and {path} is a bundle: predict with it, and name the scores.")
    if path.is_dir() and not any((path / name).is_file() for name in (SUBMISSION, SCORES)):
        scores, rows = read_frames(path / FRAMES if (path / FRAMES).is_dir() else path), "time steps"
    else:
        table = read_table(table_file(path))
        check_table(table, where=str(path))
        scores, rows = rows_of_table(table), "rows"
    threshold = 0.5 if args.threshold is None else args.threshold
    values = evaluate_events(scores, args.events, threshold=threshold, collar_s=args.collar_s)
    f1 = [
        f"{kind} F1 {values.macro(f'{kind}_f1'):.4f} (at best thresholds {values.macro(f'best_{kind}_f1'):.4f})"
        for kind in ("collar", "intersection")
    ]
    print(
        f"{' and '.join(f1)} at threshold {threshold:g}; PSDS1 {values.psds['psds1']:.4f}, PSDS2 "
        f"{values.psds['psds2']:.4f}; {values.per_class['events'].sum()} events of {len(values.per_class)} of "
        f"{values.n_classes} classes, {len(scores)} {rows} of {values.n_recordings} recordings, collar "
        f"{values.collar_s:g} s"
    )
    if args.per_class:
        print(values.per_class.to_string(index=False, float_format="%.4f"))


def _print_unlabelled(truth: Any, scores: Any, path: str) -> None:
    """Print the classes of the scores that the truth does not have."""
    from ..files import shorten_list

    if missing := [name for name in map(str, scores.columns) if name not in truth.columns]:
        print(f"{len(missing)} of {scores.shape[1]} classes of the scores are not in {path}: {shorten_list(missing)}")


def describe_interval(truth: Any, scores: Any, recordings: Sequence[str]) -> str:
    """Return the interval of the macro ROC-AUC over recordings in parentheses, '' of a single recording."""
    import numpy as np

    from ..scores import metrics

    if len(set(recordings)) < 2:
        return ""
    low, high = metrics.bootstrap_auc(truth, scores, recordings, rng=np.random.default_rng(0))
    return f" (95 % over recordings: {low:.3f} to {high:.3f})"


def _score_bundle(path: Path, args: Namespace) -> pd.DataFrame:
    """Score labelled recordings with a bundle; print what another precision changes."""
    import numpy as np

    from ..models.bundle import load
    from ..predict import RunOptions, Windowing, from_bundles, predict
    from ..scores import metrics
    from ..scores.evaluation import read_truth
    from ..scores.labelling import row_ids_of

    if not args.recordings:
        raise ConfigError(f"{path} is a bundle; add the recordings to evaluate it on with --recordings.")
    bundle = load(path)
    truth = read_truth(args.truth, bundle.contract.classes, row_ids_of(args.recordings, Windowing().row_s))
    with Progress() as progress:
        tables = [
            predict(
                from_bundles([bundle], precision=precision),
                args.recordings,
                options=RunOptions(jobs=args.jobs),
                progress=progress.counter(f"recordings, {precision}"),
            ).scores
            for precision in dict.fromkeys(("f32", args.precision or "f32"))
        ]
    if args.precision:
        changes = np.abs(tables[0].to_numpy(np.float64) - tables[1].to_numpy(np.float64))
        full, reduced = (metrics.macro_auc(truth, metrics.align_tables(truth, x, extra=True))[0] for x in tables)
        print(
            f"{args.precision} changes {changes.size} scores by {changes.mean():.2g} on average and by up to "
            f"{changes.max():.2g}, and macro ROC-AUC by {reduced - full:+.4f} from {full:.4f}"
        )
    return tables[-1]


def _read_prediction(folder: Path, *, for_ablation: bool) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a folder of predict: scores (not post-processed for an ablation); members, weights and kind of mean."""
    from ..predict.outputs import MEMBERS, read_members
    from ..predict.store import model_weights, read_manifest
    from ..scores.postprocess import combine
    from ..scores.table import read_table, table_file

    manifest = read_manifest(folder)
    stages, kind = manifest["post_processing"], manifest["mean"]
    weights = model_weights(manifest["models"])
    written = (folder / MEMBERS).is_dir() and "members" in manifest["formats"]
    members = read_members(folder) if written else None
    ensemble = {"members": members, "weights": weights, "kind": kind}
    if not for_ablation or not stages:
        return read_table(table_file(folder)), ensemble
    if members is None:
        raise DataError(
            f"the scores in {folder} were already post-processed by {' '.join(stages)}; predict with --format members, "
            "or without --postprocess, to ablate stages."
        )
    return combine(members, weights, kind=kind), ensemble


def _print_ablation(
    args: Namespace, stages: Sequence[Stage], truth: pd.DataFrame, scores: pd.DataFrame, **ensemble: Any
) -> None:
    """Print the gain of each stage, member and kind of mean."""
    import numpy as np

    from ..scores.ablation import ablate, format_ablation
    from ..scores.detections import read_taxonomy
    from ..scores.postprocess import spearman

    names = {} if args.taxonomy is None else read_taxonomy(args.taxonomy)
    taxa = {label: name.taxon for label, name in names.items()} or None
    with Progress() as progress, progress.elapsed("resampling recordings"):
        table = ablate(truth, scores, stages, taxa=taxa, rng=np.random.default_rng(0), **ensemble)
    print(f"\n{format_ablation(table)}")
    members = ensemble.get("members")
    if members is not None and len(members) > 1:
        correlation = spearman(members).to_string(float_format="%.3f", na_rep="none")
        print(f"\nrank correlation between members (Spearman, mean over classes):\n{correlation}")


def compare(args: Namespace) -> int:
    """Compare runs, bundles and score tables, with intervals and paired gains."""
    from ..analysis import compare as comparison
    from ..models.ensemble import is_table

    only_tables = args.truth is not None and all(is_table(Path(path)) for path in args.runs)
    if not only_tables:
        options.check_soundscapes(args)
    compared = []
    with Progress() as progress:
        for path in map(Path, args.runs):
            run = comparison.read_run(path)
            if args.truth is not None:
                # A bundle is read-only: its evaluation is kept in the folder of the comparison.
                keep = Path(args.out) / run.name if (path / "bundle.json").is_file() and args.out else None
                evaluation = comparison.evaluate_on_soundscapes(
                    run,
                    args.recordings or (),
                    args.truth,
                    keep=keep,
                    jobs=args.jobs,
                    progress=progress.counter(run.name),
                )
                run = dataclasses.replace(run, evaluation=evaluation)
            compared.append(run)
        table = comparison.compare_variants(compared, by_name=args.by_name)
        progress.log(comparison.format_table(table))
        if args.out is not None:
            path = comparison.write_table(table, args.out, compared, by_name=args.by_name)
            progress.log(f"written to {path}")
    return 0


def calibrate(args: Namespace) -> int:
    """Find the threshold of each class that reaches a precision, and the calibration error."""
    from ..scores import calibration
    from ..scores.evaluation import read_truth
    from ..scores.table import check_table, read_table, table_file

    scores = read_table(table_file(Path(args.scores)))
    check_table(scores, where=str(args.scores))
    truth = read_truth(args.truth, list(map(str, scores.columns)), scores.index)
    _print_unlabelled(truth, scores, args.truth)
    result = calibration.calibrate(truth, scores, precision=args.precision, min_positives=args.min_positives)
    print(result.table.to_string(index=False, float_format="%.3f"))
    print(result.reliability.to_string(index=False, float_format="%.3f"))
    if args.out is not None:
        calibration.write_thresholds(result, args.out)
    print(
        f"{len(result.thresholds)} of {len(result.table)} classes reach a precision of {args.precision:g} with at "
        f"least {args.min_positives} true positives; expected calibration error {result.ece:.3f}"
        + (f"; thresholds in {args.out}" if args.out is not None else "")
    )
    return 0


def report(args: Namespace) -> int:
    """Write an HTML page about runs, bundles, predictions, pseudolabels, rounds or surveys."""
    from ..report.api import report as write_report

    with Progress() as progress:
        page = write_report(
            args.paths,
            args.out,
            truth=args.truth,
            recordings=args.recordings or (),
            bundle=args.bundle,
            taxonomy=args.taxonomy,
            n_examples=args.examples,
            limit_mb=args.limit_mb,
            jobs=args.jobs,
            progress=lambda name: progress.update(f"reading {name}", 0, 1),
        )
    print(f"{page.path}: {page.n_bytes / 1e6:.1f} MB; {', '.join(page.parts)}")
    if page.left_out:
        print(page.left_out)
    return 0


def _evaluate_options(parser: ArgumentParser, add: Add) -> None:
    add("scores", metavar="SCORES", help="a score table, a folder written by predict, or a bundle")
    add("--truth", metavar="FILE", help=options.TRUTH)
    add("--per-class", action="store_true", help="print one line per class")
    stages = (
        "evaluate with and without each stage of post-processing: smooth=W,W,W, smooth.TAXON=W,W,W, top=K, "
        "top=K,AMOUNT, power=E (default: smooth=0.2,0.6,0.2 top=3), and each member of a folder that has members"
    )
    add("--ablate", nargs="*", metavar="STAGE", help=stages)
    add("--taxonomy", metavar="FILE", help="taxonomy.csv, for stages of single taxa")
    add = parser.add_argument_group("evaluation of events").add_argument
    text = "annotation tables: collar-based and intersection-based F1 and PSDS, also of SCORES/frames (time steps)"
    options.add_list(add, "--events", "FILE", text)
    add("--threshold", type=float, metavar="P", help="scores of at least this are detections (0.5)")
    add("--collar-s", type=float, metavar="S", help="maximum difference of onsets (the length of a row)")
    add = parser.add_argument_group("evaluation of a bundle").add_argument
    add("--recordings", nargs="+", metavar="PATH", help="labelled recordings to score with the bundle")
    add("--precision", choices=("bf16",), help="evaluate this precision and compare it with f32")
    options.add_jobs(add)


def _compare_options(_: ArgumentParser, add: Add) -> None:
    add("runs", nargs="+", metavar="RUN", help="runs, bundles, and score tables (*.csv, *.parquet, folders of predict)")
    add("--out", metavar="DIR", help="folder of compare.csv, compare.md and compare.png")
    add("--by-name", action="store_true", help="one line per name of an experiment")
    options.add_soundscapes(add, "labelled soundscapes on which all of them are evaluated")
    options.add_jobs(add, 4)


def _calibrate_options(_: ArgumentParser, add: Add) -> None:
    add("scores", metavar="SCORES", help="a score table such as submission.csv, or a folder of predict")
    add("--truth", required=True, metavar="FILE", help="labels, as for evaluate")
    options.add_value(add, "--precision", 0.9, "P", "precision to reach")
    options.add_value(add, "--min-positives", 5, "N", "minimum true positives of a threshold")
    add("--out", metavar="FILE", help="write the thresholds, *.json")


def _report_options(_: ArgumentParser, add: Add) -> None:
    paths = (
        "runs, bundles, folders of predict, score tables, tables of pseudolabels, rounds, surveys; or a folder of these"
    )
    add("paths", nargs="+", metavar="PATH", help=paths)
    add("--out", default="report.html", metavar="FILE", help="the page to write (%(default)s)")
    options.add_soundscapes(add, "folders of the recordings; with --truth, runs are evaluated on them")
    add("--bundle", metavar="BUNDLE", help="network whose attention is plotted (that of the run)")
    add("--taxonomy", metavar="FILE", help="taxonomy.csv, for names and taxa (that of the run's data)")
    options.add_value(add, "--examples", 3, "N", "show the N best and the N worst recordings")
    options.add_value(add, "--limit-mb", 10.0, "MB", "maximum size of the page")
    options.add_jobs(add)


COMMANDS = (
    (evaluate, _evaluate_options, "bcsed evaluate scores/submission.csv --truth labels.csv --per-class"),
    (compare, _compare_options, "bcsed compare run run2 --recordings soundscapes --truth labels.csv"),
    (calibrate, _calibrate_options, "bcsed calibrate scores/submission.csv --truth labels.csv --precision 0.9"),
    (report, _report_options, "bcsed report run scores --truth labels.csv --out report.html"),
)
