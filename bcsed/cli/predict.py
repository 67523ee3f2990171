"""Commands that compute with bundles and search for faults: predict, check, doctor, trace."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.strict import read_values
from ..errors import BundleError, ConfigError
from ..files import atomic_write, require_own_file
from . import options
from .options import Add
from .progress import Progress

if TYPE_CHECKING:
    from ..models.bundle import Bundle
    from ..predict import OutputOptions, Result


def predict(args: Namespace) -> int:
    """Score recordings with a bundle or an ensemble of bundles and score tables."""
    from ..models.ensemble import split_members
    from ..predict import Budget, RunOptions, Workers, api, from_bundles
    from ..scores.detections import read_species
    from ..scores.postprocess import parse_stages

    budget = None
    if args.budget_min is not None:
        budget = Budget(minutes=args.budget_min, elapsed_s=60 * args.elapsed_min, end_process=True)
    elif args.elapsed_min:
        raise ConfigError("--elapsed-min belongs to a budget; add --budget-min, or leave --elapsed-min out.")
    output = _read_output_options(args)
    with Progress() as progress:
        members, weights = options.read_members(args)
        bundles, _ = split_members(members)
        if not args.recordings and bundles:
            raise ConfigError("bundles score recordings: name these as --recordings PATH.")
        windows = (args.windows, args.stride_s, args.pool, args.tta_shifts_s)
        if not bundles and windows != ("centred", None, "bundle", [0.0]):
            raise ConfigError(
                "score tables have no windows; leave out --windows, --stride-s, --pool and --tta-shifts-s."
            )
        models = from_bundles(
            members,
            weights,
            mean=args.ensemble_mean,
            classes=output.template_columns(),
            precision=args.precision,
            cache=args.graph_cache,
        )
        if args.species is not None:
            species = read_species(args.species, models.classes, output.names, deployments=args.deployments)
            output = replace(output, species=species)
        workers = Workers(n=args.workers, backend=args.backend, scheduler=args.scheduler)
        result = api.predict(
            models,
            args.recordings or (),
            out=args.out,
            windowing=options.read_windowing(args, shifts_s=args.tta_shifts_s),
            stages=parse_stages(args.postprocess),
            output=output,
            options=RunOptions(jobs=args.jobs, workers=workers, shard=args.shard),
            budget=budget,
            progress=progress.counter("recordings"),
            log=progress.log,
        )
    if output.species is not None:
        options.print_removed(output.species, result.removed)
    return _print_result(result, args.out)


def _read_output_options(args: Namespace) -> OutputOptions:
    from ..predict.outputs import OutputOptions
    from ..scores.detections import FORMATS, DetectionSettings, read_taxonomy

    settings = (args.class_threshold, args.thresholds, args.no_merge, args.gap_rows, args.min_rows > 1)
    if (any(settings) or args.threshold is not None) and not set(args.format) & set(FORMATS):
        raise ConfigError(f"thresholds and merging apply to detections; add --format {' or '.join(FORMATS)}.")
    if args.species is not None and not set(args.format) & set(FORMATS):
        raise ConfigError(f"--species limits detections, not scores; add --format {' or '.join(FORMATS)}.")
    if args.deployments is not None and args.species is None:
        raise ConfigError("--deployments states the sites of a list of species; add --species, or leave it out.")
    names = None if args.taxonomy is None else read_taxonomy(args.taxonomy)
    thresholds = _read_class_thresholds(args)
    return OutputOptions(
        formats=tuple(args.format),
        detection=DetectionSettings(
            threshold=0.5 if args.threshold is None else args.threshold,
            thresholds=thresholds,
            merge=not args.no_merge,
            gap_rows=args.gap_rows,
            min_rows=args.min_rows,
        ),
        names=names,
        taxa={label: name.taxon for label, name in (names or {}).items()},
        sample_submission=args.sample_submission,
        on_error=args.on_error,
    )


def _read_class_thresholds(args: Namespace) -> dict[str, float]:
    """Return the thresholds of single classes, in a file and on the command line."""
    from ..scores.calibration import read_thresholds

    thresholds = read_values(args.class_threshold, "--class-threshold", "class=threshold")
    return thresholds if args.thresholds is None else {**read_thresholds(args.thresholds), **thresholds}


def print_failures(result: Result) -> None:
    """Print the reasons of the first recordings that could not be scored."""
    for problem in result.failures.head(20).itertuples():
        print(f"{problem.status:7} {problem.reason}", file=sys.stderr)


def _print_result(result: Result, out: str) -> int:
    """Print the outcome of a prediction and return the exit status."""
    print_failures(result)
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


def check(args: Namespace) -> int:
    """Verify the files of bundles and compute their probes again, or --noise; exit 1 if one failed."""
    from ..models.bundle import load, probe

    if args.noise is None and (args.threshold is not None or args.class_threshold or args.thresholds is not None):
        raise ConfigError("thresholds are those of detections in noise; add --noise, or leave them out.")
    n_failed = 0
    with Progress() as progress:
        for number, path in enumerate(args.bundles):
            progress.update("bundles", number, len(args.bundles))
            try:
                bundle = load(path)
                differences = probe.check(bundle)
            except BundleError as error:
                progress.log(f"FAILED  {error}")
                n_failed += 1
                continue
            largest = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
            progress.log(f"OK      {path}: largest differences {largest}")
            if "licence" in bundle.provenance:
                progress.log(f"        licence: {bundle.provenance['licence']}")
            if args.precision is not None:
                difference = probe.probe_difference(bundle, args.precision)
                progress.log(f"        {args.precision} changes the logits of the probe by up to {difference:.2g}")
            if args.noise is not None:
                n_failed += _check_noise(bundle, args, progress)
    return 1 if n_failed else 0


def _check_noise(bundle: Bundle, args: Namespace, progress: Progress) -> bool:
    """Print the highest scores in noise, and return whether a class reaches its threshold."""
    from ..analysis.noise import find_detections, score_noise
    from ..scores.detections import DetectionSettings

    threshold, thresholds = 0.5 if args.threshold is None else args.threshold, _read_class_thresholds(args)
    DetectionSettings(threshold=threshold, thresholds=thresholds)  # refuses other values
    unknown = sorted(set(thresholds).difference(bundle.contract.classes))
    if unknown:
        raise ConfigError(f"a threshold is set for {unknown[0]!r}, which is not a class of {bundle.path}.")
    table = score_noise(bundle, args.noise)
    for noise, scores in table.head(20).iterrows():
        progress.log(f"        {noise}: {_list_values(scores.sort_values(ascending=False, kind='stable').head(3))}")
    if len(table) > 20:
        progress.log(f"        and {len(table) - 20} more recordings")
    findings = find_detections(table, thresholds, threshold)
    for finding in findings:
        progress.log(f"{finding.severity:7} {finding.sentence}")
    verdict = "FAILED  classes are detected in" if findings else "OK      no class is detected in"
    progress.log(f"{verdict} {len(findings) or len(table)} of {len(table)} recordings of noise")
    return bool(findings)


def doctor(args: Namespace) -> int:
    """Find faults in a score table, differences of two tables, or duplicates in data; exit 1 if there are any."""
    from ..analysis.doctor.api import diagnose

    if (args.scores is None) == (args.data is None):
        raise ConfigError("name a score table to examine, or a competition's folder as --data DIR.")
    if args.data is not None:
        return _examine_data(args)
    if args.out is not None:
        raise ConfigError("--out is the table of duplicates of --data DIR; leave it out.")
    with Progress() as progress, progress.elapsed("reading"):
        diagnosis = diagnose(
            args.scores,
            args.other,
            recordings=args.recordings or (),
            sample_submission=args.sample_submission,
            tolerance=args.tolerance,
        )
    for finding in diagnosis.findings:
        print(f"{finding.severity:7} {finding.name + ':':20} {finding.sentence}")
    comparison = diagnosis.comparison
    if comparison is not None and not comparison.same and len(comparison.largest):
        spearman = comparison.spearman.sort_values()
        print(f"Spearman, lowest:         {_list_values(spearman)}; mean {spearman.mean():.3f}")
        if comparison.shifts:
            shifts = ", ".join(f"{shift:+d}: {value:.3f}" for shift, value in comparison.shifts.items())
            print(f"Spearman, rows moved by:  {shifts}")
        print(f"largest differences:      {_list_values(comparison.largest)}")
    print(f"{'FAILED' if diagnosis.failed else 'OK'}: {diagnosis.verdict}")
    return 1 if diagnosis.failed else 0


def _examine_data(args: Namespace) -> int:
    """Print the duplicates among the clips of a competition's folder."""
    from ..train.duplicates import describe_duplicates, examine_clips

    if args.out is not None:
        require_own_file(Path(args.out), "group,filename,label", "a table of duplicates")
    with Progress() as progress, progress.elapsed("comparing clips"):
        duplicates, n_clips, failures = examine_clips(args.data)
    for reason in failures.values():
        print(f"{'error':7} {'unreadable:':20} {reason}")
    if len(duplicates):
        print(duplicates.to_string(index=False, float_format="%.3g"))
        if args.out is not None:
            with atomic_write(args.out) as temporary:
                duplicates.to_csv(temporary, index=False, float_format="%.4g")
    failed = bool(len(duplicates) or failures)
    print(f"{'FAILED' if failed else 'OK'}: {describe_duplicates(duplicates, n_clips)}.")
    return 1 if failed else 0


def _list_values(values: Any) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in values.head(5).items())


def trace(args: Namespace) -> int:
    """Save every stage between a recording and its rows; with --against, exit 1 if a stage differs."""
    from ..analysis import trace as tracing
    from ..models.bundle import load

    against = None if args.against is None else tracing.read(args.against)
    tolerances = read_values(args.tolerance, "--tolerance", "stage=value, such as db=0.1")
    result = tracing.trace(
        load(args.bundle),
        args.recording,
        windowing=options.read_windowing(args),
        first_row=args.first_row,
        n_rows=args.n_rows,
    )
    tracing.write(result, args.out)
    print(result.table().to_string(index=False, float_format="%.4g"))
    if against is None:
        print(f"written to {args.out}")
        return 0
    comparison = tracing.compare(result, against, tolerances)
    for stage in comparison.stages:
        print(f"{stage.status:8} {stage.name:8} {stage.sentence if stage.status != 'absent' else ''}".rstrip())
    print(comparison.verdict)
    return 0 if comparison.first is None else 1


def _predict_options(parser: ArgumentParser, add: Add) -> None:
    means = ("prob", "logit", "rank")
    options.add_bundles(add, "one bundle, or several for an ensemble", "; not needed for tables alone", means)
    add("--out", required=True, metavar="OUT", help="folder of the results; continued if interrupted")
    stages = "smooth=.1,.8,.1 smooth.Aves=... top=3 power=1.5; of member 2 alone, before the mean: 2.smooth=..."
    add("--postprocess", nargs="+", default=[], metavar="STAGE", help=stages)
    add("--precision", choices=("f32", "bf16"), default="f32", help="of the networks (%(default)s)")
    unreadable = "leave out unreadable recordings, or fill their rows with class priors (%(default)s)"
    add("--on-error", choices=("report", "fill"), default="report", help=unreadable)
    options.add_windowing(parser)
    shifts = "test-time augmentation: average windows shifted by these seconds, e.g. 0 1.5 -1.5"
    add("--tta-shifts-s", nargs="+", type=float, default=[0.0], metavar="S", help=shifts)
    add = parser.add_argument_group("output").add_argument
    formats = ("submission", "scores", "raven", "audacity", "csv", "parquet", "members", "frames")
    text = (
        "submission, scores (wide Parquet), members (scores of each), frames (probabilities of time steps); "
        "detections: raven, audacity, csv, parquet"
    )
    add("--format", nargs="+", default=["submission"], metavar="NAME", choices=formats, help=text)
    add("--sample-submission", metavar="FILE", help="template whose columns are written")
    options.add_thresholds(add, "lowest score of a detection")
    add("--thresholds", metavar="FILE", help="thresholds of classes, written by calibrate")
    text = "names of the species that may be detected, a line each; or a CSV of site,species"
    add("--species", metavar="FILE", help=text)
    add("--deployments", metavar="FILE", help="sites for --species: a CSV of recordings (file, folder, pattern),site")
    add("--no-merge", action="store_true", help="do not merge consecutive rows into one detection")
    options.add_value(add, "--gap-rows", 0, "N", "merge detections across N rows")
    options.add_value(add, "--min-rows", 1, "N", "minimum rows of a detection")
    add = parser.add_argument_group("time and parallel work").add_argument
    add("--budget-min", type=float, metavar="MIN", help="write all rows within these minutes")
    options.add_value(add, "--elapsed-min", 0.0, "MIN", "minutes of the budget already used")
    options.add_jobs(add)
    options.add_workers(add)
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster, e.g. tcp://host:8786")
    add("--shard", type=int, metavar="N", help="recordings per output part and worker task")
    add("--graph-cache", metavar="DIR", help="keep compiled networks here, for a faster start")


def _check_options(_: ArgumentParser, add: Add) -> None:
    add("bundles", nargs="+", metavar="BUNDLE", help="bundles to verify")
    add("--precision", choices=("bf16",), help="also compute the probe in this precision")
    text = "also find classes that are detected in synthetic silence, noise, rain and wind, or in these recordings"
    add("--noise", nargs="*", metavar="PATH", help=text)
    options.add_thresholds(add, "with --noise: lowest score of a detection")
    add("--thresholds", metavar="FILE", help="thresholds of classes, written by calibrate")


def _doctor_options(_: ArgumentParser, add: Add) -> None:
    add("scores", nargs="?", metavar="SCORES", help="a score table: CSV like submission.csv, or Parquet")
    add("other", nargs="?", metavar="OTHER", help="scores of the same rows by another pipeline")
    add("--recordings", nargs="+", metavar="PATH", help="the recordings of the rows")
    add("--sample-submission", metavar="FILE", help="template of the competition")
    options.add_value(add, "--tolerance", 1e-4, "P", "ignore smaller differences")
    add("--data", metavar="DIR", help="instead of scores, search the clips of a competition's folder for duplicates")
    add("--out", metavar="FILE", help="with --data: write the duplicates, *.csv")


def _trace_options(parser: ArgumentParser, add: Add) -> None:
    add("bundle", metavar="BUNDLE", help="the bundle to trace")
    add("recording", metavar="RECORDING", help="the recording to score")
    add("--out", required=True, metavar="FILE", help="the trace to write, *.npz")
    add("--against", metavar="FILE", help="another trace, or an npz of arrays named as the stages")
    options.add_list(add, "--tolerance", "STAGE=VALUE", "allowed difference of a stage, e.g. db=0.1")
    options.add_value(add, "--first-row", 0, "N", "first row, from 0")
    options.add_value(add, "--n-rows", 24, "N", "maximum number of rows")
    options.add_windowing(parser)


COMMANDS = (
    (predict, _predict_options, "bcsed predict bundle --recordings DIR --out scores --format submission raven"),
    (check, _check_options, "bcsed check bundle"),
)
DIAGNOSE = (
    (doctor, _doctor_options, "bcsed doctor scores/submission.csv other.csv --recordings DIR/test_soundscapes"),
    (trace, _trace_options, "bcsed trace bundle recording.ogg --out ours.npz --against theirs.npz"),
)
