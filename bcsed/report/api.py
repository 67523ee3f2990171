"""One self-contained page of HTML about trainings, predictions, pseudolabels, or several of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis import compare
from ..analysis.compare.runs import ComparedRun
from ..errors import ConfigError
from ..files import atomic_write
from ..models import bundle as bundles
from ..models.bundle.bundle import Bundle
from ..scores.detections.taxonomy import ClassName, read_taxonomy
from ..scores.evaluation import Evaluation
from . import comparison as several
from . import pseudolabels as labelled
from . import runs, scores
from .inputs import ReportInput, recognise
from .page import Facts, Page, Section, fit
from .runs import ReportContext

LIMIT_MB = 10.0


@dataclass(frozen=True)
class ReportFile:
    """A page that was written.

    Parameters
    ----------
    path : Path
    n_bytes : int
    parts : tuple of str
        What it is about.
    left_out : str
        What there was no room for, a sentence; or ''.
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
    n_shown: int = 3,
    limit_mb: float = LIMIT_MB,
    jobs: int = 2,
    progress: Callable[[str], None] = lambda _: None,
) -> ReportFile:
    """Write a page about runs, bundles, predictions and tables of pseudolabels.

    Parameters
    ----------
    paths : sequence of str or Path
        What it is about; what each is follows from what it holds.
    out : str or Path
        The page, ``*.html``; replaced if it is there.
    truth : str or Path, optional
        Labels of soundscapes, as for `bcsed.scores.evaluation.read_truth`: predictions are judged by them, and with
        `recordings` so are runs and bundles.
    recordings : sequence of str or Path
        Files and folders: where recordings are, if not where they were.
    bundle : str or Path, optional
        The network to ask for its attention; by default a run's own, or a prediction's if it is still there.
    taxonomy : str or Path, optional
        ``taxonomy.csv``, for names and taxa; by default that of a run's data.
    n_shown : int >= 0
        Recordings to see and hear from either end, the worst and the best.
    limit_mb : float
        Megabytes that the page may have; what is heaviest is left out, and a sentence in it says so.
    jobs : int
        Threads that decode.
    progress : callable
        Told what is being looked at.

    Raises
    ------
    ConfigError
        If nothing is named, or `n_shown`, `limit_mb` or the page's name is none.
    BundleError, DataError
        If a path is nothing that can be reported, is damaged or not finished, the truth does not fit, or the page
        cannot be made small enough.
    """
    out = Path(out)
    if not paths or n_shown < 0 or limit_mb <= 0:
        raise ConfigError(f"a report is about paths; got {len(paths)}, {n_shown} recordings and {limit_mb:g} MB.")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"a report is a page, such as report.html; got {out.name!r}.")
    found = recognise(paths)
    around = ReportContext(
        recordings=tuple(recordings),
        truth=truth,
        bundle=None if bundle is None else bundles.load(Path(bundle)),
        names=_names(found, taxonomy),
        n_shown=n_shown,
        jobs=jobs,
        progress=progress,
    )
    sections = _sections(found, around)
    subject = ", ".join(dict.fromkeys(one.path.resolve().name for one in found))
    told = "; ".join(f"{one.kind} {one.path}" for one in found)
    page = Page(f"Report of {subject}", f"What was found in {told}.", sections)
    html = fit(page, round(limit_mb * 1e6))
    with atomic_write(out) as temporary:
        temporary.write_bytes(html)
    return ReportFile(out, len(html), tuple(section.title for section in sections), page.left_out)


def _sections(found: Sequence[ReportInput], around: ReportContext) -> list[Section]:
    """Return the parts of the page, the comparison first."""
    parts: list[Section] = []
    compared: list[ComparedRun] = []
    for one in found:
        around.progress(str(one.path))
        if one.kind == "run" or (one.kind == "bundle" and around.truth is not None and around.recordings):
            each = compare.read_run(one.path)
            scored = _scored(each, around)
            compared.append(dataclasses.replace(each, evaluation=scored) if scored is not None else each)
            if one.kind == "run":
                parts.append(runs.section(each, around, scored))
                continue
            parts.append(_bundle(one.path))
            parts[-1].sections += runs.answered(each, scored, around, given=True) if scored is not None else []
        elif one.kind == "bundle":
            parts.append(_bundle(one.path))
        elif one.kind == "scores":
            parts.append(scores.section(scores.read(one.path), around))
        elif one.kind == "pseudolabels":
            parts.append(labelled.section(one.path, around))
        else:
            parts.append(several.rounds(one.path))
    trained = [one for one in compared if one.evaluation is not None or len(one.history)]
    return [several.section(trained), *parts] if len(trained) > 1 else parts


def _scored(compared: ComparedRun, around: ReportContext) -> Evaluation | None:
    """Return what a run or bundle answers on the soundscapes given, if any are."""
    if around.truth is None or not around.recordings:
        return None
    return compare.evaluate_on_soundscapes(compared, around.recordings, around.truth, jobs=around.jobs)


def _bundle(path: Path) -> Section:
    sealed: Bundle = bundles.load(path)
    frontend, told = sealed.contract.frontend, sealed.provenance
    facts = [
        ("experiment", str(told.get("experiment", ""))),
        ("backbone", sealed.contract.net.backbone),
        ("classes", str(len(sealed.contract.classes))),
        ("window", f"{frontend.window_s:g} s in {sealed.steps} steps"),
        ("mel bands", f"{frontend.n_mels}, {frontend.fmin_hz:g} to {frontend.fmax_hz:g} Hz"),
        ("fingerprint", sealed.contract.fingerprint),
        ("SHA-256 of its weights", sealed.sha256),
        *(
            (f"{name} at export", f"{value:.4f}")
            for name, value in (told.get("metrics") or {}).items()
            if "auc" in name
        ),
    ]
    return Section(f"Bundle {sealed.name}", [Facts([(name, value) for name, value in facts if value])])


def _names(found: Sequence[ReportInput], taxonomy: str | Path | None) -> dict[str, ClassName]:
    """Return what classes are called: by the taxonomy given, else by the data of the runs."""
    if taxonomy is not None:
        return read_taxonomy(taxonomy)
    names: dict[str, ClassName] = {}
    for one in found:
        if one.kind == "run":
            names |= runs.names_of(one.path)
    return names
