"""The command that turns scores of a survey into numbers: survey."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from . import options
from .options import Add
from .progress import Progress

if TYPE_CHECKING:
    from ..data.deployments import Deployments
    from ..scores.detections import SpeciesList
    from ..scores.survey import Rows, Survey


def survey(args: Namespace) -> int:
    """Compute detection history, activity, species lists and call density of sites from scores."""
    from .. import plot
    from ..config.strict import read_values
    from ..files import lock_folder
    from ..plot.style import save
    from ..scores import survey as surveys
    from ..scores.calibration import read_thresholds

    path, folder, failed = _find_scores(Path(args.scores))
    rows = surveys.read_rows(path)
    thresholds = read_values(args.class_threshold, "--class-threshold", "class=threshold")
    if args.thresholds is not None:
        thresholds = {**read_thresholds(args.thresholds, rows.classes), **thresholds}
    settings = surveys.SurveySettings(
        threshold=0.5 if args.threshold is None else args.threshold,
        thresholds=thresholds,
        precision=args.precision,
        min_reviewed=args.min_reviewed,
        occasion_days=args.occasion_days,
        day_start_h=args.day_start,
    )
    species = _read_species(args, rows.classes, folder)
    reviewed = None if args.review is None else surveys.read_reviews(args.review)
    with Progress() as progress:
        deployments = _resolve(args, rows, failed, progress)
        with progress.elapsed("counting detections"):
            result = surveys.survey(rows, deployments, settings, reviewed, species)
        facts = {
            "scores": str(path),
            "review": " ".join(args.review or ()),
            "n_unclear": 0 if reviewed is None else reviewed.n_unclear,
            **({} if species is None else {"species": species.path, "removed_detections": result.removed}),
        }
        out = Path(args.out)
        with lock_folder(out):
            tables = surveys.write_survey(result, out, {**facts, "row_s": rows.row_s})
            for by, name in (("hour", "hourly"), ("day", "daily")):
                save(plot.activity(tables[name], by).figure, out / f"{name}.png", "Activity")
    if species is not None:
        options.print_removed(species, result.removed)
    _print(result, out)
    return 0


def _read_species(args: Namespace, classes: Sequence[str], folder: Path | None) -> SpeciesList | None:
    """Return the list of the command, else the one of the prediction's folder."""
    from ..config.strict import from_dict
    from ..predict.store import MANIFEST, read_manifest
    from ..scores.detections import SpeciesList, read_species, read_taxonomy

    if args.species is not None:
        return read_species(args.species, classes, None if args.taxonomy is None else read_taxonomy(args.taxonomy))
    if args.taxonomy is not None:
        raise ConfigError("--taxonomy has the names in a list of species; add --species, or leave it out.")
    manifest = read_manifest(folder) if folder is not None and (folder / MANIFEST).is_file() else {}
    return from_dict(SpeciesList, manifest["species"], f"{folder}/{MANIFEST}") if "species" in manifest else None


def _find_scores(path: Path) -> tuple[Path, Path | None, dict[str, str]]:
    """Return a score table, the folder of its prediction, and the recordings without scores, with reasons."""
    from ..files import read_columns
    from ..predict.store import MANIFEST
    from ..scores.survey.rows import SCORE_TABLES

    folder: Path | None = path
    if path.is_dir():
        table = next((path / name for name in SCORE_TABLES if (path / name).is_file()), None)
        if table is None:
            raise DataError(f"{path} contains no score table; predict with --format scores or submission.")
    else:
        # A table that is named as a file is not read otherwise than its folder.
        table, is_predicted = path, path.name in SCORE_TABLES and (path.parent / MANIFEST).is_file()
        folder = path.parent if is_predicted else None
    if folder is None or not (folder / "failures.csv").is_file():
        return table, folder, {}
    lines = read_columns(folder / "failures.csv", dtype=str, keep_default_na=False)
    return table, folder, {row["recording"]: f"it was not scored: {row['reason']}" for row in lines.to_dict("records")}


def _resolve(args: Namespace, rows: Rows, failed: dict[str, str], progress: Progress) -> Deployments:
    """Return the deployments, from all sources."""
    import dataclasses

    from ..audio.headers import read_info
    from ..audio.metadata import read_metadata
    from ..data import deployments as data
    from ..data.recorders import read_pattern

    lines = [] if args.deployments is None else data.read_deployments(args.deployments)
    pattern = None if args.name_pattern is None else read_pattern(args.name_pattern)
    zone, skip = None if args.timezone is None else data.read_zone(args.timezone), args.on_error == "skip"
    lengths_s = dict(zip(rows.recordings, map(float, rows.last_end_s()), strict=True))
    # Where such a recording has rows, they are class priors.
    forms = {path: data.path_names(PurePosixPath(path)) for path in failed}
    named = {path: next((form for form in forms[path] if form in lengths_s), path) for path in failed}
    left_out = {named[path]: reason for path, reason in failed.items()}
    files = _find_files(args.recordings, lengths_s, left_out)
    metadata = dict[str, dict[str, str]]()
    for number, (name, path) in enumerate(files.items(), 1):
        try:
            # The last row may end behind the recording.
            lengths_s[name] = min(lengths_s[name], read_info(path).duration_s)
            metadata[name] = read_metadata(path)
        except DataError as error:
            if not skip:
                raise
            left_out[name] = str(error)
        progress.update("headers", number, len(files))
    kept = [name for name in lengths_s if name not in left_out]
    paths = {name: str(path) for name, path in files.items()}
    clock = None if args.clock is None else data.read_zone(args.clock)
    sources = data.Sources(lines=lines, metadata=metadata, paths=paths, pattern=pattern, zone=zone, clock=clock)
    result = data.resolve(kept, [lengths_s[name] for name in kept], sources, skip=skip)
    return dataclasses.replace(result, left_out=(*result.left_out, *left_out.items()))


def _find_files(recordings: list[str], names: dict[str, float], left_out: dict[str, str]) -> dict[str, Path]:
    """Return the files of the recordings in the scores; add files without rows to `left_out`."""
    from collections import Counter

    from ..files import quote_list
    from ..recordings import find_recordings, printable, recording_names

    files = find_recordings(recordings)
    # Recordings may have been moved since they were scored.
    stems = {name: printable(PurePosixPath(name.replace("\\", "/")).stem) for name in (names if files else ())}
    count = Counter(stems.values())
    moved = {stem: name for name, stem in stems.items() if count[stem] == 1}
    matched = dict[str, Path]()
    for path, unique in zip(files, recording_names(files), strict=True):
        forms = (printable(path), unique, printable(path.stem), moved.get(printable(path.stem)))
        name = next((form for form in forms if form in names), None)
        if name in matched:
            raise DataError(f"{path} and {matched[name]} are both named {name!r}; name one folder of these recordings.")
        if name is not None:
            matched[name] = path
        elif printable(path) not in left_out:
            left_out[printable(path)] = "it has no rows in the scores"
    if files and not matched:
        raise DataError(
            f"none of the {len(files)} recordings of --recordings has rows in the scores, which are of "
            f"{quote_list(names, 3)}."
        )
    return matched


def _print(result: Survey, out: Path) -> None:
    deployments = result.deployments
    n_days, hours = result.counts.shape[1], result.effort_h.sum()
    n_detected = int(result.counts.any((0, 1)).sum())
    print(
        f"{len(deployments.table)} recordings at {len(result.sites)} sites in {n_days} days, {hours:.1f} h; "
        f"{int(result.counts.sum())} detections of {n_detected} of {len(result.classes)} classes"
    )
    for subject, note in deployments.notes:
        if subject == "all":
            print(note)
    single = [f"{subject}: {note}" for subject, note in deployments.notes if subject != "all"]
    for title, items in (("notes", single), ("left out", [f"{a}: {b}" for a, b in deployments.left_out])):
        if items:
            print(f"{len(items)} {title} in {title.replace(' ', '_')}.csv; the first: {items[0]}")
    if result.density is not None:
        unknown = result.density[(result.density["site"] == "") & result.density["density"].isna()]
        if len(unknown):
            first = unknown.iloc[0]
            print(f"{len(unknown)} reviewed classes without a density; {first['class']}: {first['reason']}")
    print(f"{out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def _survey_options(parser: ArgumentParser, add: Add) -> None:
    add("scores", metavar="SCORES", help="a folder written by predict, or a score table")
    add("--out", required=True, metavar="DIR", help="folder of the tables and figures")
    add("--recordings", nargs="+", default=[], metavar="PATH", help="the recordings, for their lengths and metadata")
    text = "a folder of review and its answers (answers.json), or the table of answers that review read writes"
    add("--review", nargs="+", metavar="PATH", help=text)
    options.add_thresholds(add, "lowest score of a detection")
    add("--thresholds", metavar="FILE", help="thresholds of classes, written by calibrate")
    text = "names of the species that may be detected, a line each, or a CSV of site,species (those of predict)"
    add("--species", metavar="FILE", help=text)
    add("--taxonomy", metavar="FILE", help="names of species for --species: taxonomy.csv, or a file of labels")
    options.add_value(add, "--precision", 0.9, "P", "precision that a site's own threshold reaches on reviewed rows")
    options.add_value(add, "--min-reviewed", 20, "N", "reviewed rows of a class at a site for values of its own")
    options.add_value(add, "--occasion-days", 1, "N", "days of an occasion of the detection history")
    options.add_value(add, "--day-start", 0, "H", "local hour at which a day starts, such as 12 for nocturnal species")
    add = parser.add_argument_group("site, recorder and start of recordings").add_argument
    columns = "recordings (file, folder or pattern), site, recorder, start, end, timezone, clock"
    add("--deployments", metavar="FILE", help=f"CSV with the columns {columns}")
    add("--timezone", metavar="ZONE", help="of the results, such as Europe/Paris or +01:00 (that of the recorders)")
    add("--clock", metavar="ZONE", help="of the recorders, where the source of a time states no offset (--timezone)")
    groups = "names of recordings, with groups site, recorder and start"
    add("--name-pattern", metavar="REGEX", help=f"{groups} (those of known recorders)")
    text = "at a recording without site or start, or that overlaps another: stop, or leave it out and list it"
    add("--on-error", choices=("stop", "skip"), default="stop", help=f"{text} (%(default)s)")


COMMANDS = ((survey, _survey_options, "bcsed survey scores --deployments deployments.csv --out survey"),)
