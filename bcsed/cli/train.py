"""Commands that train networks: train, export, pseudolabel, rounds, study."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from itertools import chain
from pathlib import Path

from ..config.experiments import STUDIES, find_experiment, parse_changes, study_arms
from ..config.strict import read_values
from ..errors import ConfigError, DataError
from . import options
from .evaluate import compare
from .options import Add
from .progress import Progress


def train(args: Namespace) -> int:
    """Train a network as an experiment describes."""
    from ..kaggle.session import format_epoch
    from ..train.api import train as run_training

    experiment = options.read_experiment(args)
    with Progress() as progress:
        out = run_training(
            experiment,
            args.data,
            args.out,
            fold=args.fold,
            resume=args.resume,
            inputs=options.read_train_inputs(args),
            options=options.read_train_options(args),
            progress=progress.epoch_step,
            epoch_done=lambda values: progress.log(format_epoch(values, experiment.fit.epochs)),
        )
    progress.log(f"{out} contains metrics.csv, metrics.png, last.pt and, if data were held out, best.pt")
    return 0


def export(args: Namespace) -> int:
    """Convert the network of a run to OpenVINO and write a bundle."""
    from ..train.checkpoints import export_run

    with Progress() as progress, progress.elapsed("exporting"):
        bundle = export_run(args.run_folder, args.out, args.checkpoint, with_weights=not args.no_weights)
    print(
        f"wrote {bundle.path} from the {bundle.provenance['checkpoint']} checkpoint of {args.run_folder}: "
        f"{len(bundle.contract.classes)} classes, fingerprint {bundle.contract.fingerprint}; the logits of torch and "
        f"OpenVINO differ by at most {bundle.provenance['torch_openvino_difference']:.1e}"
    )
    return 0


def pseudolabel(args: Namespace) -> int:
    """Label soundscapes, or training clips out of fold, with the probabilities of bundles, the teachers."""
    from ..train.pseudolabels import Selection, make_pseudolabels
    from ..train.pseudolabels.clips import make_clip_pseudolabels

    if (args.recordings is None) == (args.clips is None):
        raise ConfigError(
            "name the soundscapes to label as --recordings PATH, or a competition's folder as --clips DIR."
        )
    if args.clips is not None and (args.weights is not None or args.class_weight or args.ensemble_mean != "prob"):
        raise ConfigError("--clips averages the teachers that held a clip out: leave out weights and --ensemble-mean.")
    if args.clips is not None and args.frames:
        raise ConfigError("--frames labels the time steps of soundscapes; clips have one row each.")

    if args.frames and args.row_s != 5:
        raise ConfigError("--frames labels time steps, which have no rows: leave out --row-s.")
    if args.taxonomy is not None and not args.class_weight:
        raise ConfigError("--taxonomy names the taxa of --class-weight, which is missing.")

    thresholds = read_values(args.class_threshold, "--class-threshold", "class=threshold")
    by_threshold = args.threshold is not None or bool(thresholds)
    if args.soft and (args.top_n or by_threshold):
        raise ConfigError("--soft keeps all probabilities: leave out --threshold, --class-threshold and --top-n.")
    kind = "soft" if args.soft else "top" if args.top_n and not by_threshold else "threshold"
    if args.min_score is not None and kind != "top":
        raise ConfigError("--min-score is the lowest score that --top-n keeps: leave it out, or name only --top-n.")
    selection = Selection(
        kind=kind,
        threshold=0.5 if args.threshold is None else args.threshold,
        thresholds=thresholds,
        floor=0.1 if args.min_score is None else args.min_score,
        top_n=args.top_n,
        power=args.power,
        balance=args.balance,
    )
    (teachers, weights), shared = options.read_members(args), {"selection": selection, "jobs": args.jobs}
    with Progress() as progress:
        shared |= {"windowing": options.read_windowing(args), "progress": progress.counter("recordings")}
        if args.clips is not None:
            table = make_clip_pseudolabels(teachers, args.clips, args.out, **shared)
        else:
            shared |= {"weights": weights, "mean": args.ensemble_mean, "frames": args.frames}
            table = make_pseudolabels(teachers, args.recordings, args.out, **shared)
    for reason in list(table.provenance["failed"].values())[:20]:
        print(f"failed  {reason}", file=sys.stderr)
    for note in table.provenance["notes"]:
        print(f"note    {note}", file=sys.stderr)
    counts = sorted(table.per_class().values())
    files = list(table.per_file().values())
    n_failed, n_labelled = (table.provenance[name] for name in ("n_failed", "n_recordings"))
    n_clips = table.provenance.get("n_clips", n_labelled)
    print(
        f"{args.out}: {len(table.values)} rows of {len(files)} recordings, "
        f"{sum(count > 0 for count in files)} with a label; rows per class {counts[0]} to {counts[-1]}, median "
        f"{counts[len(counts) // 2]}, {counts.count(0)} of {len(counts)} classes without a label; "
        f"{n_failed} of {n_labelled} recordings could not be read, "
        f"{len(table.provenance['silent'])} are silent"
        + (f"; {n_clips - n_labelled} of {n_clips} clips were held out by no teacher" if args.clips is not None else "")
        + ". "
        f"The counts are in {Path(args.out).with_suffix('.json').name} and .png"
    )
    return 3 if n_failed else 0


def rounds(args: Namespace) -> int:
    """Train in rounds (noisy student): train, export, pseudolabel, train again."""
    from .. import rounds as noisy_student

    plan = noisy_student.find_plan(args.plan, args.set, probe=args.probe, embeddings=args.teacher)
    plan = noisy_student.add_files(plan, labels=args.labels, events=args.events, noise=args.noise)
    with Progress() as progress:
        ledger = noisy_student.run(
            plan,
            args.data,
            args.out,
            options=options.read_train_options(args),
            recordings=args.recordings,
            truth=args.truth,
            log=progress.log,
            progress=progress.update,
        )
        for entry in ledger:
            progress.log(noisy_student.describe_round(entry))
        progress.log(f"the ledger is in {Path(args.out) / noisy_student.LEDGER}")
    return 0


def study(args: Namespace) -> int:
    """Train the arms of a question and compare them."""
    from .. import rounds as noisy_student
    from ..kaggle.session import format_epoch
    from ..train.api import train_grid

    name, changes, machine = args.question, options.read_changes(args), options.read_train_options(args)
    known = (*STUDIES, *noisy_student.QUESTIONS)
    if name not in known:
        raise ConfigError(f"there is no question {name!r}; there are {', '.join(known)}.")
    if args.oracle is not None and name != "rounds":
        raise ConfigError(f"--oracle belongs to `bcsed study rounds`; {name} does not use soundscapes' true labels.")
    options.check_soundscapes(args)
    _check_study(args)
    with Progress() as progress:
        runs: list[Path] = []
        if name in STUDIES:
            base = None if args.base is None else find_experiment(args.base)
            arms = [arm.vary(arm.name, **parse_changes(changes)) for arm in study_arms(name, base)]
            runs = train_grid(
                arms,
                args.data,
                args.out,
                seeds=args.seeds,
                fold=args.fold,
                begin=lambda folder, number, total: progress.log(f"{folder.name}: training {number} of {total}"),
                epoch_done=lambda values: progress.log(format_epoch(values, arms[0].fit.epochs)),
                progress=progress.epoch_step,
                inputs=options.read_train_inputs(args),
                options=machine,
            )
        for preset in noisy_student.QUESTIONS.get(name, ()):
            out = Path(args.out) / preset
            settings = {"base": args.base, "seeds": args.seeds, "fold": args.fold, "embeddings": args.teacher}
            plan = noisy_student.find_plan(preset, changes, **settings)
            plan = noisy_student.add_files(plan, labels=args.labels, events=args.events, noise=args.noise)
            if name == "rounds":
                plan = noisy_student.rounds_study(plan, args.seeds, args.oracle)
            noisy_student.run(plan, args.data, out, options=machine, log=progress.log, progress=progress.update)
            students = noisy_student.student_runs(plan, out)
            runs += students[-1] if name != "rounds" else chain(*students)
    return compare(Namespace(**vars(args) | {"runs": runs}))


def _check_study(args: Namespace) -> None:
    """Refuse a folder with other work, and files that plans would not use, before anything is trained."""
    out = Path(args.out)
    for item in out.iterdir() if out.is_dir() else ():
        ours = any((item / name).is_file() for name in ("run.json", "plan.json", "bundle.json"))
        if not (ours or item.name.startswith((".", "compare.", "curves."))):
            raise DataError(f"{out} contains other files, such as {item.name}; name a new folder for the study.")
    unused = {
        "--pseudolabels": args.pseudolabels,
        "--clip-pseudolabels": args.clip_pseudolabels,
        "--pretrained": None if args.pretrained == "none" else args.pretrained,
        "--key-map": args.key_map,
        "--allow-mismatch": args.allow_mismatch or None,
    }
    for option, value in unused.items():
        if value is not None and args.question not in STUDIES:
            raise ConfigError(f"`bcsed study {args.question}` would not use {option}: its plans make their own labels.")


def _train_options(parser: ArgumentParser, add: Add) -> None:
    add("experiment", metavar="EXPERIMENT", help="a name listed by `bcsed experiments`")
    add("--out", required=True, metavar="RUN", help="a new folder")
    add("--resume", action="store_true", help="continue an interrupted run")
    options.add_training(parser)


def _export_options(_: ArgumentParser, add: Add) -> None:
    add("run_folder", metavar="RUN", help="a folder written by train")
    add("--out", required=True, metavar="BUNDLE", help="a new folder")
    add("--checkpoint", choices=("best", "last"), help="best if data were held out, else last")
    add("--no-weights", action="store_true", help="omit the weights that only training needs")


def _pseudolabel_options(parser: ArgumentParser, add: Add) -> None:
    options.add_bundles(add, "the teachers", ", to label", ("prob", "logit"))
    text = "instead of recordings, label the clips of a competition's folder: each by the teachers that held it out"
    add("--clips", metavar="DIR", help=text)
    add("--out", required=True, metavar="FILE", help="the table to write, *.parquet")
    options.add_jobs(add)
    add = parser.add_argument_group("selection of labels").add_argument
    options.add_thresholds(add, "keep probabilities of at least this")
    options.add_value(add, "--top-n", 0, "N", "keep the N highest rows of each class")
    add("--min-score", type=float, metavar="P", help="with --top-n, the lowest score to keep (0.1)")
    add("--soft", action="store_true", help="keep all probabilities")
    options.add_value(add, "--power", 1.0, "E", "exponent of the probabilities; above 1 sharpens")
    options.add_value(add, "--balance", 0.0, "B", "scale the odds of each class; at 1 all have the same sum of labels")
    add("--frames", action="store_true", help="label time steps instead of rows; with --windows sliding")
    options.add_windowing(parser)


def _rounds_options(_: ArgumentParser, add: Add) -> None:
    presets = "write-up, write-up-ensemble, noisy-student, teacher-small, teacher-ensemble, rounds, borrowed, tiny"
    add("plan", metavar="PLAN", help=f"a JSON file, or a preset: {presets}")
    add("--data", required=True, metavar="DIR", help="folder of the competition")
    add("--out", required=True, metavar="DIR", help="folder of the rounds; continued if interrupted")
    options.add_list(add, "--set", "GROUP.FIELD=VALUE", "change fields of every student, e.g. fit.epochs=3")
    add("--probe", metavar="BUNDLE", help="the teacher 'probe' of a plan, e.g. of borrowed")
    options.add_list(add, "--teacher", "FILE", "embeddings of clips and soundscapes, to distil (fit.distil_weight)")
    options.add_labels(add)
    options.add_soundscapes(add, "labelled soundscapes on which each round is evaluated")
    options.add_train_options(add)


def _study_options(parser: ArgumentParser, add: Add) -> None:
    questions = (
        "repeat (front ends), labels (hard, soft, weighted pseudolabels), heads (shared, or by group), "
        "mix (no mixing, SUMIX, mixup, CutMix), teacher (one network, or an ensemble), "
        "rounds (supervised, pseudolabels, and with --oracle true labels)"
    )
    add("question", metavar="QUESTION", help=questions)
    add("--out", required=True, metavar="DIR", help="folder of the runs and of the comparison")
    add("--base", metavar="EXPERIMENT", help="the experiment that all arms are based on")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="train each arm with each seed (0)")
    add("--by-name", action="store_true", help="one line per name of an experiment")
    add("--oracle", metavar="FILE", help="for rounds: true labels of the soundscapes, the ceiling of any teacher")
    options.add_soundscapes(add, "labelled soundscapes on which all runs are evaluated")
    options.add_training(parser)


COMMANDS = (
    (train, _train_options, "bcsed train exp-39 --data DIR --out run --set net.backbone=regnety_008"),
    (export, _export_options, "bcsed export run --out bundle"),
    (pseudolabel, _pseudolabel_options, "bcsed pseudolabel bundle --recordings DIR --out pseudolabels.parquet"),
    (rounds, _rounds_options, "bcsed rounds noisy-student --data DIR --out rounds"),
    (study, _study_options, "bcsed study mix --data DIR --out study --seeds 0 1 2"),
)
