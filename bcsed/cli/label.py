"""Commands about people's labels: label."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import DataError
from ..files import require_own_file, shorten_list
from . import options
from .options import Add


def label(args: Namespace) -> int:
    """Convert annotation tables (Raven, Audacity, CSV) to labels of rows, and to training clips."""
    from ..data.annotated_rows import write_rows
    from ..data.annotations import write_annotations
    from ..scores.detections import read_taxonomy
    from ..scores.labelling import label_recordings, write_clips

    out = Path(args.out)
    events = out.with_name(f"{out.stem}-events.csv")
    require_own_file(out, "filename,start,end,primary_label", "labels of rows")
    if out.is_file() and out.stat().st_size and not events.is_file():
        # A competition's own labels begin like those of this command.
        kind = f"not labels of rows of bcsed, which have {events.name} beside them"
        raise DataError(f"{out} is already there, and is {kind}; name another file, or remove it.")
    require_own_file(events, "recording,start_s,end_s,", "a table of events")
    labelled = label_recordings(
        args.tables,
        args.recordings,
        label_column=args.label_column,
        files=args.files,
        taxonomy=None if args.taxonomy is None else read_taxonomy(args.taxonomy),
        complete=not args.incomplete,
        row_s=args.row_s,
        min_overlap_s=args.min_overlap_s,
    )
    rows = labelled.rows
    write_rows(out, rows)
    write_annotations(events, labelled.events)
    for path, reason in labelled.unreadable.items():
        print(f"unreadable  {path}: {reason}", file=sys.stderr)
    n_rows = rows["labels"].explode().value_counts()
    counts = labelled.events["label"].value_counts().sort_index()
    for name, n_events in counts.items():
        print(f"{name}: {n_events} events, {n_rows.get(name, 0)} rows")
    if labelled.unknown:
        names = shorten_list((f"{name!r} ({n} events)" for name, n in labelled.unknown.items()), 20)
        print(f"left out, not in {args.taxonomy}: {names}")
    if labelled.unannotated:
        names, n = shorten_list(labelled.unannotated, 3), len(labelled.unannotated)
        print(f"{n} recordings have no annotation and no labels ({names}); list those without any event in --files")
    n_empty = int((rows["labels"].map(len) == 0).sum())
    print(
        f"{out}: {len(rows)} rows of {len(labelled.lengths)} annotated recordings, {n_empty} of them without a label; "
        f"{len(labelled.events)} events in {events}"
    )
    if args.clips is not None:
        n = write_clips(labelled, args.clips, args.clip_s)
        print(f"{args.clips}: {n} clips, with labels.csv; crop them at events with --set data.crop=marked")
    return 3 if labelled.unreadable else 0


def _label_options(parser: ArgumentParser, add: Add) -> None:
    tables = "selection tables of Raven, labels of Audacity, or CSV and TSV of recording, start, end and label"
    add("tables", nargs="+", metavar="TABLE", help=tables)
    add("--recordings", nargs="+", required=True, metavar="PATH", help="the annotated files, or their folders")
    add("--out", required=True, metavar="FILE", help="the labels of rows to write, *.csv; events go to *-events.csv")
    add("--label-column", metavar="NAME", help="column of the labels (label, annotation, species or a name)")
    add("--taxonomy", metavar="FILE", help="taxonomy.csv: convert names of species to its classes, leave out others")
    add("--files", metavar="FILE", help="text file of recordings that were annotated, one per line")
    add("--incomplete", action="store_true", help="leave out rows without events, which are negative otherwise")
    options.add_value(add, "--row-s", 5, "S", "seconds per row")
    options.add_value(add, "--min-overlap-s", 0.1, "S", "least overlap of an event with a row that it labels")
    add = parser.add_argument_group("training clips").add_argument
    add("--clips", metavar="DIR", help="also cut clips around the events into this new folder, to train on")
    options.add_value(add, "--clip-s", 10.0, "S", "seconds per clip")


COMMANDS = (
    (
        label,
        _label_options,
        "bcsed label *.selections.txt --recordings wav --out soundscape_labels.csv --taxonomy taxonomy.csv",
    ),
)
