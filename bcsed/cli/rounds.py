"""Commands that learn from soundscapes, and say what it was worth: pseudolabel, rounds, compare."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.experiments import STUDIES, find_experiment, parse_changes, study_arms
from ..errors import ConfigError
from .parse import changes, selection, training_inputs, training_options
from .progress import Bar, epoch_line

if TYPE_CHECKING:
    from ..config.experiments import Experiment


def pseudolabel(options: argparse.Namespace) -> int:
    """Let teachers label soundscapes."""
    from ..models.bundle.bundle import load
    from ..predict.blocks import Windowing
    from ..train.pseudolabels.api import make_pseudolabels

    chosen = selection(options)
    windowing = Windowing(row_s=options.row_s, windows=options.windows, stride_s=options.stride_s)
    with Bar("pseudolabel") as bar:
        table = make_pseudolabels(
            [load(path) for path in options.bundles],
            options.recordings,
            options.out,
            selection=chosen,
            weights=options.weights,
            windowing=windowing,
            jobs=options.jobs,
            progress=lambda done, total: bar.step("recordings", done, total, ""),
        )
    counts = sorted(table.per_class().values())
    files = list(table.per_file().values())
    told, failed = table.provenance, table.provenance["n_failed"]
    print(
        f"{options.out}: {len(table.values)} rows of {len(files)} recordings, "
        f"{sum(file > 0 for file in files)} with a label; rows per class {counts[0]} to {counts[-1]}, median "
        f"{counts[len(counts) // 2]}, {sum(count == 0 for count in counts)} of {len(counts)} classes with none; "
        f"{failed} of {told['n_recordings']} recordings could not be read, {len(told['silent'])} are silent. "
        f"Counts are in {Path(options.out).with_suffix('.json').name} and .png"
    )
    return 3 if failed else 0


def rounds(options: argparse.Namespace) -> int:
    """Run rounds of a noisy student: train, seal, label, train again."""
    from .. import rounds as noisy

    plan = noisy.find_plan(options.plan, options.set)
    with Bar("rounds") as bar:
        ledger = noisy.run(
            plan,
            options.data,
            options.out,
            recordings=options.recordings,
            truth=options.truth,
            options=training_options(options),
            log=bar.say,
            progress=lambda label, done, total: bar.step(label, done, total, ""),
        )
    for entry in ledger:
        bar.say(noisy.describe_round(entry))
    bar.say(f"the ledger is in {Path(options.out) / noisy.LEDGER}")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Say which of several runs is better, and how sure that is."""
    from ..analysis import compare as comparing

    if (options.recordings is None) != (options.truth is None):
        raise ConfigError("--recordings and --truth go together: what to score on, and its labels.")
    with Bar("compare") as bar:
        runs = _question(options, bar) if options.data is not None else [Path(path) for path in options.what]
        compared = []
        for run in runs:
            found = comparing.read_run(run)
            if options.recordings is not None:
                # A bundle is sealed: what it answered is kept beside the table.
                is_bundle = (run / "bundle.json").is_file()
                answers = comparing.evaluate_on_soundscapes(
                    found,
                    options.recordings,
                    options.truth,
                    keep=Path(options.out) / found.name if is_bundle and options.out is not None else None,
                    jobs=options.jobs,
                    progress=_told(bar, found.name),
                )
                found = dataclasses.replace(found, evaluation=answers)
            compared.append(found)
    table = comparing.compare_variants(compared, by_name=options.by_name)
    print(comparing.format_table(table))
    if options.out is not None:
        print(f"written to {comparing.write_table(table, options.out, compared, by_name=options.by_name)}")
    return 0


def _told(bar: Bar, name: str) -> Callable[[int, int], None]:
    return lambda done, total: bar.step(name, done, total, "")


def _question(options: argparse.Namespace, bar: Bar) -> list[Path]:
    """Train what a named question needs, and return its runs."""
    from .. import rounds as noisy
    from ..train.grid import train_grid

    if len(options.what) != 1 or options.out is None:
        raise ConfigError("with --data, compare takes the name of one question, and --out for its runs.")
    name = options.what[0]
    if name in noisy.QUESTIONS:
        return _plans(noisy.QUESTIONS[name], options, bar)
    arms = _arms(name, options)
    return train_grid(
        arms,
        options.data,
        options.out,
        seeds=options.seeds,
        fold=options.fold,
        begin=lambda folder, number, total: bar.say(f"{folder.name}: training {number} of {total}"),
        epoch_done=lambda values: bar.say(epoch_line(values, arms[0].fit.epochs)),
        progress=lambda epoch, step, steps, loss: bar.step(f"epoch {epoch + 1}", step, steps, f"loss {loss:.4g}"),
        inputs=training_inputs(options),
        options=training_options(options),
    )


def _arms(name: str, options: argparse.Namespace) -> Sequence[Experiment]:
    from .. import rounds as noisy

    if name not in STUDIES:
        known = ", ".join((*STUDIES, *noisy.QUESTIONS))
        raise ConfigError(f"there is no question {name!r}; there are {known}.")
    base = None if options.base is None else find_experiment(options.base)
    told = parse_changes(changes(options))
    return [arm.vary(arm.name, **told) for arm in study_arms(name, base)]


def _plans(names: Sequence[str], options: argparse.Namespace, bar: Bar) -> list[Path]:
    """Run the plans of a question, and return the runs of their last rounds."""
    from .. import rounds as noisy

    runs: list[Path] = []
    for name in names:
        plan = noisy.find_plan(name, changes(options), base=options.base, seeds=options.seeds, fold=options.fold)
        out = Path(options.out) / name
        noisy.run(
            plan,
            options.data,
            out,
            options=training_options(options),
            log=bar.say,
            progress=lambda label, done, total: bar.step(label, done, total, ""),
        )
        runs += noisy.student_runs(plan, out)[-1]
    return runs
