"""Write one self-contained HTML page about trainings, bundles, predictions, pseudolabels and rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis.compare.evaluate import evaluate_on_soundscapes
from ..analysis.compare.runs import ComparedRun, read_run
from ..errors import ConfigError
from ..files import atomic_write
from ..models.bundle.bundle import load
from ..scores.detections.taxonomy import ClassName, read_taxonomy
from .comparison import comparison_section, rounds_section
from .inputs import ReportContext, ReportInput, recognise
from .page import Facts, Page, Section, fit
from .pseudolabels import pseudolabel_section
from .runs import class_names, run_section, scored_sections
from .scores import prediction_section, read_prediction

LIMIT_MB = 10.0


@dataclass(frozen=True)
class ReportFile:
    """A page that was written.

    Parameters
    ----------
    path : Path
    n_bytes : int
    parts : tuple of str
        Titles of its parts.
    left_out : str
        A sentence about what was left out because of the size limit; or ''.
    """

    path: Path
    n_bytes: int
    parts: tuple[str, ...]
    left_out: str


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
    paths : sequence of str or Path
        Their content decides what is reported of each.
    out : str or Path
        The page, ``*.html``; an existing file is replaced.
    truth : str or Path, optional
        Labels of soundscapes, as for `bcsed.evaluation.read_truth`: predictions are evaluated with them, and with
        `recordings` also runs and bundles.
    recordings : sequence of str or Path
        Files and folders with the recordings, if these were moved.
    bundle : str or Path, optional
        The network that computes the attention; by default a run's own, or a prediction's first that is found.
    taxonomy : str or Path, optional
        ``taxonomy.csv``, for names and taxa; by default that of a run's data.
    n_examples : int >= 0
        Number of recordings to show from each end, the worst and the best.
    limit_mb : float
        Maximum size of the page; the largest items are left out, and a sentence in the page states it.
    jobs : int
        Threads that decode.
    progress : callable
        Called with the path or recording in work.

    Raises
    ------
    ConfigError
        If there are no paths, or `n_examples`, `limit_mb` or the name of the page is invalid.
    BundleError, DataError
        If a path cannot be reported, is damaged or not finished, the truth does not fit, or the page cannot be made
        small enough.
    """
    out = Path(out)
    if not paths or n_examples < 0 or limit_mb <= 0:
        raise ConfigError(
            "a report needs at least one path, 0 or more examples and a size above 0 MB; got "
            f"{len(paths)} paths, {n_examples} examples and {limit_mb:g} MB."
        )
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"the report must be named like report.html, got {out.name!r}.")
    inputs = recognise(paths)
    context = ReportContext(
        recordings=tuple(recordings),
        truth=truth,
        bundle=None if bundle is None else load(Path(bundle)),
        names=_class_names(inputs, taxonomy),
        n_examples=n_examples,
        jobs=jobs,
        progress=progress,
    )
    sections = _sections(inputs, context)
    subject = ", ".join(dict.fromkeys(item.path.resolve().name for item in inputs))
    summary = "; ".join(f"{item.kind} {item.path}" for item in inputs)
    page = Page(f"Report of {subject}", f"Content: {summary}.", sections)
    html = fit(page, round(limit_mb * 1e6))
    with atomic_write(out) as temporary:
        temporary.write_bytes(html)
    return ReportFile(out, len(html), tuple(section.title for section in sections), page.left_out)


def _sections(inputs: Sequence[ReportInput], context: ReportContext) -> list[Section]:
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
            runs.append(run if evaluation is None else dataclasses.replace(run, evaluation=evaluation))
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
    comparable = [run for run in runs if run.evaluation is not None or len(run.history)]
    return [comparison_section(comparable), *sections] if len(comparable) > 1 else sections


def _bundle_section(path: Path) -> Section:
    bundle = load(path)
    frontend, provenance = bundle.contract.frontend, bundle.provenance
    metrics = {name: value for name, value in (provenance.get("metrics") or {}).items() if "auc" in name}
    facts = [
        ("experiment", str(provenance.get("experiment", ""))),
        ("backbone", bundle.contract.net.backbone),
        ("classes", str(len(bundle.contract.classes))),
        ("window", f"{frontend.window_s:g} s in {bundle.steps} time steps"),
        ("mel bands", f"{frontend.n_mels}, {frontend.fmin_hz:g} to {frontend.fmax_hz:g} Hz"),
        ("fingerprint", bundle.contract.fingerprint),
        ("SHA-256 of the weights", bundle.sha256),
        *((f"{name} at export", f"{value:.4f}") for name, value in metrics.items()),
    ]
    return Section(f"Bundle {bundle.name}", [Facts(facts)])


def _class_names(inputs: Sequence[ReportInput], taxonomy: str | Path | None) -> dict[str, ClassName]:
    """Return names of classes from the given taxonomy, else from the data of the runs."""
    if taxonomy is not None:
        return read_taxonomy(taxonomy)
    names: dict[str, ClassName] = {}
    for kind, path in inputs:
        names |= class_names(path) if kind == "run" else {}
    return names
