"""Write one self-contained HTML page about trainings, bundles, predictions, surveys, pseudolabels and rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis.compare.evaluate import evaluate_on_soundscapes
from ..analysis.compare.runs import ComparedRun, read_run
from ..errors import ConfigError, DataError
from ..files import atomic_write, require_own_file
from ..models.bundle import manifest
from ..models.bundle.bundle import load
from ..predict import store
from ..rounds.api import LEDGER, TABLE
from ..scores.detections.taxonomy import read_taxonomy
from ..scores.survey import MANIFEST as SURVEY
from ..train.checkpoints import RUN
from .page import Page, Section, fit
from .pseudolabels import pseudolabel_section, rounds_section
from .recordings import ReportContext
from .runs import class_names, comparison_section, run_section, scored_sections
from .scores import prediction_section, read_prediction
from .survey import survey_section

LIMIT_MB = 10.0
# The file that marks a folder, and the kind of the folder.
_MARKERS = {RUN: "run", manifest.MANIFEST: "bundle", LEDGER: "rounds", store.MANIFEST: "scores", SURVEY: "survey"}


@dataclass(frozen=True)
class ReportFile:
    """A page that was written."""

    path: Path
    n_bytes: int
    parts: tuple[str, ...]  # their titles
    left_out: str  # a sentence about what was left out because of the size limit; or ''


def report(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    truth: str | Path | None = None,
    recordings: Sequence[str | Path] = (),
    bundle: str | Path | None = None,
    taxonomy: str | Path | None = None,
    n_examples: int = 3,
    limit_mb: float = LIMIT_MB,
    jobs: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> ReportFile:
    """Write a page about runs, bundles, predictions, tables of pseudolabels and rounds.

    Parameters
    ----------
    paths, out : str or Path
        What is reported, by its content; and the page, ``*.html``. An existing report is replaced.
    truth, recordings : optional
        Labels of soundscapes, as for `bcsed.scores.evaluation.read_truth`: predictions are evaluated with them, and
        with `recordings` also runs and bundles; an annotation table also gives event-based figures of predictions.
        Files and folders with the recordings, if these were moved.
    bundle, taxonomy : optional
        The network that computes the attention, by default a run's own, or a prediction's first that is found.
        ``taxonomy.csv``, for names and taxa, by default that of a run's data.
    n_examples, limit_mb : int >= 0, float
        Recordings to show from each end, the worst and the best. Size of the page above which items are left out.
    jobs, progress : int, callable
        Threads that decode; called with the path or recording in work.

    Raises ConfigError if there are no paths, or `n_examples`, `limit_mb` or the name of the page is invalid;
    BundleError or DataError if a path cannot be reported, is damaged or not finished, the truth does not fit, or the
    page is too large.
    """
    out = Path(out)
    if not paths or n_examples < 0 or limit_mb <= 0:
        values = f"{len(paths)} paths, {n_examples} examples and {limit_mb:g} MB"
        raise ConfigError(f"a report needs at least one path, 0 or more examples and a size above 0 MB; got {values}.")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"the report must be named like report.html, got {out.name!r}.")
    require_own_file(out, 'content="bcsed ', "a report")
    inputs = recognise(paths)
    runs = [path for kind, path in inputs if kind == "run"]
    if truth is not None and not {kind for kind, _ in inputs} & {"run", "bundle", "scores"}:
        raise ConfigError(f"{truth} evaluates runs, bundles and predictions, and there is none; leave the truth out.")
    context = ReportContext(
        recordings=tuple(recordings),
        truth=truth,
        bundle=None if bundle is None else load(Path(bundle)),
        names=read_taxonomy(taxonomy) if taxonomy is not None else class_names(runs),
        n_examples=n_examples,
        jobs=jobs,
        progress=progress,
    )
    sections = _sections(inputs, context)
    subject = ", ".join(dict.fromkeys(path.resolve().name for _, path in inputs))
    summary = "; ".join(f"{kind} {path}" for kind, path in inputs)
    page = Page(f"Report of {subject}", f"Content: {summary}.", sections)
    html = fit(page, round(limit_mb * 1e6))
    with atomic_write(out) as temporary:
        temporary.write_bytes(html)
    return ReportFile(out, len(html), tuple(section.title for section in sections), page.left_out)


def _sections(inputs: Sequence[tuple[str, Path]], context: ReportContext) -> list[Section]:
    """Return the sections of the page; a comparison of runs comes first."""
    sections: list[Section] = []
    runs: list[ComparedRun] = []
    with_truth = context.truth is not None and bool(context.recordings)
    for kind, path in inputs:
        context.progress(str(path))
        if kind == "bundle":
            sections.append(_bundle_section(path))
        if kind == "run" or (kind == "bundle" and with_truth):
            run, evaluation = read_run(path), None
            if context.truth is not None and with_truth:
                evaluation = evaluate_on_soundscapes(run, context.recordings, context.truth, jobs=context.jobs)
            runs.append(dataclasses.replace(run, evaluation=evaluation or run.evaluation))
            if kind == "run":
                sections.append(run_section(run, context, evaluation))
            elif evaluation is not None:
                sections[-1].sections += scored_sections(run, evaluation, context, held_out=False)
        elif kind == "scores":
            sections.append(prediction_section(read_prediction(path), context))
        elif kind == "pseudolabels":
            sections.append(pseudolabel_section(path, context))
        elif kind == "rounds":
            sections.append(rounds_section(path))
        elif kind == "survey":
            sections.append(survey_section(path, context))
    comparable = [run for run in runs if run.evaluation is not None or len(run.history)]
    return [comparison_section(comparable), *sections] if len(comparable) > 1 else sections


def _bundle_section(path: Path) -> Section:
    bundle = load(path)
    frontend, provenance = bundle.contract.frontend, bundle.provenance
    bands = f"{frontend.n_mels}, {frontend.fmin_hz:g} to {frontend.fmax_hz:g} Hz"
    metrics = {name: value for name, value in (provenance.get("metrics") or {}).items() if "auc" in name}
    facts = {
        "experiment": str(provenance.get("experiment", "")),
        "backbone": bundle.contract.net.backbone,
        "classes": str(len(bundle.contract.classes)),
        "window": f"{frontend.window_s:g} s in {bundle.steps} time steps",
        "mel bands": "none, its input is the wave" if frontend.is_wave else bands,
        "fingerprint": bundle.contract.fingerprint,
        "SHA-256 of the weights": bundle.sha256,
        **{f"{name} at export": f"{value:.4f}" for name, value in metrics.items()},
    }
    return Section(f"Bundle {bundle.name}", [facts])


def recognise(paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
    """Return the kind of each path (see `_MARKERS`) and the path, also of the content of a folder of such folders."""
    inputs: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        known = _recognise_path(path)
        if ("rounds", path) in known:
            known += [("pseudolabels", table) for table in sorted(path.glob(f"round-*/{TABLE}"))]
        elif not known and path.is_dir():
            inside = [item for item in sorted(path.iterdir()) if item.suffix != ".csv"]
            known = [item for each in inside for item in _recognise_path(each)]
        if not known:
            reason = "it contains nothing that can be reported" if path.exists() else "there is no such path"
            raise DataError(
                f"{path}: {reason}; name a run, a bundle, a folder of predict, a score table (.csv), a table of "
                "pseudolabels (.parquet), a survey or a folder of rounds."
            )
        inputs += known
    resolved = set[Path]()
    for _, path in inputs:
        if path.resolve() in resolved:
            raise DataError(f"{path} is named more than once; name it once.")
        resolved.add(path.resolve())
    return inputs


def _recognise_path(path: Path) -> list[tuple[str, Path]]:
    """Return the kind of a path, if it has one."""
    if path.is_dir():
        return [(kind, path) for mark, kind in _MARKERS.items() if (path / mark).is_file()][:1]
    kind = {".parquet": "pseudolabels", ".csv": "scores"}.get(path.suffix)
    return [(kind, path)] if kind is not None and path.is_file() else []
