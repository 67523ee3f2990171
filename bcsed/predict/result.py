"""The result of a prediction, and the manifest that describes it."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from .._version import __version__
from ..config.strict import to_dict
from ..files import atomic_write
from ..models.ensemble import Member, describe_members
from ..recordings import printable
from ..scores import postprocess
from ..scores.checks.api import check
from ..scores.checks.finding import ERROR, Finding
from . import outputs
from .assemble import RecordingScores, ScoreAssembler, join_scores
from .budget import Budget, process_age_s
from .outputs import OutputOptions
from .store import FolderStore

# Tables of at most so many rows are kept in memory to be checked.
MAX_CHECKED = 50_000
_LIBRARIES = ("torch", "openvino", "numpy", "pandas", "soundfile", "soxr", "librosa")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The result of a prediction; it keeps no network in memory.

    The columns of `failures` are ``recording, status, reason``, with status ``failed`` (not scored), ``filled`` (rows
    of class priors) or ``timeout`` (rows of class priors, because the budget was used up).
    """

    failures: pd.DataFrame
    notes: pd.DataFrame  # ``recording, note``: recordings that were scored despite a defect
    n_recordings: int
    n_failed: int  # of them, those in `failures`
    n_resumed: int  # taken from an earlier, interrupted run
    n_rows: int
    silent: tuple[str, ...]  # names of recordings of digital silence, whose rows are equal
    left_out: tuple[str, ...]  # sentences about what was left out for lack of time
    findings: tuple[Finding, ...]  # problems of the scores, see `bcsed.scores.checks`; empty for very long tables
    removed: Mapping[str, int]  # detections of each class that the list of species removed
    spearman: pd.DataFrame | None  # rank correlations between the members, with the format ``members``
    seconds: float  # wall time
    assembler: ScoreAssembler = field(repr=False)  # iterates over the rows, recording by recording

    @property
    def n_scored(self) -> int:
        """Number of recordings that were scored."""
        return self.n_recordings - self.n_failed

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The score table, rows in the order of the recordings; it is kept in memory."""
        return join_scores([scores.table for scores in self.assembler], self.assembler.classes)


@dataclass
class ResultWriter:
    """Makes the result of a run from its stored scores, and writes its files."""

    assembler: ScoreAssembler
    output: OutputOptions
    template: Sequence[str] | None
    members: Sequence[Member]
    budget: Budget | None
    n_resumed: int
    started: float  # by time.monotonic

    def __call__(self, left_out: Sequence[str] = ()) -> Result:
        """Write the requested files, failures, notes and the manifest."""
        run, output = self.assembler.run, self.output
        folder = run.store.folder if isinstance(run.store, FolderStore) else None
        failures, notes, silent = self._problems()
        n_failed, matrix = len(failures), None
        if folder is not None:
            for name, table in (("failures.csv", failures), ("notes.csv", notes)):
                with atomic_write(folder / name) as temporary:
                    table.to_csv(temporary, index=False)
            if "frames" in output.formats:
                outputs.drop_replaced_frames(folder)
        buffer, removed = CheckBuffer(self.assembler.classes), Counter[str]()
        if n_failed < len(run.recordings) and run.spec.are_scores:
            if folder is not None and output.formats:
                removed = outputs.write(self.assembler, folder, output, self.template, buffer.add)
                if "members" in output.formats:
                    matrix = outputs.write_members(self.assembler, folder, [member.name for member in self.members])
            else:
                for scores in self.assembler:
                    buffer.add(scores)
        result = Result(
            failures=failures,
            notes=notes,
            n_recordings=len(run.recordings),
            n_failed=n_failed,
            n_resumed=self.n_resumed,
            n_rows=buffer.n_rows,
            silent=tuple(silent),
            left_out=tuple(left_out),
            findings=buffer.findings(silent),
            removed=dict(removed.most_common()),
            spearman=matrix,
            seconds=time.monotonic() - self.started,
            assembler=self.assembler,
        )
        if isinstance(run.store, FolderStore):
            run.store.write_manifest(self._manifest(result))
        return result

    def _problems(self) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
        """Return failures, notes, and the names of silent recordings."""
        run, failures, silent = self.assembler.run, [], []
        notes = [(printable(path), printable(note)) for path, note in run.skipped]
        members = run.usable_members()
        status = "failed" if self.assembler.fill is None else "filled"
        for recording in run.recordings:
            path = printable(recording.path)
            if recording.path in run.failures:
                failures.append((path, status, run.failures[recording.path]))
            elif not run.is_scored(recording, members):
                failures.append((path, "timeout", f"{path}: the time was up before it was scored."))
            else:
                remarks, is_silent = run.store.notes_and_silence(recording.key)
                notes += [(path, note) for note in remarks]
                silent += [recording.name] if is_silent else []
        failed = pd.DataFrame(failures, columns=["recording", "status", "reason"])
        return failed, pd.DataFrame(notes, columns=["recording", "note"]), silent

    def _scored(self, result: Result) -> list[str]:
        failed = set(result.failures["recording"])
        recordings = self.assembler.run.recordings
        return [each.listed for each in recordings if printable(each.path) not in failed]

    def _manifest(self, result: Result) -> dict[str, Any]:
        averaging, detection = self.assembler.run.spec.averaging, self.output.detection
        values: dict[str, Any] = {
            "models": describe_members(self.members, averaging.weights),
            "mean": averaging.mean,
            "post_processing": postprocess.describe(self.assembler.stages),
            "formats": list(self.output.formats),
            "detection": {**vars(detection), "thresholds": dict(detection.thresholds)},
            **{name: getattr(result, name) for name in ("n_recordings", "n_failed", "n_resumed", "n_rows")},
            "recordings": self._scored(result),
            "findings": [[finding.severity, finding.name, finding.sentence] for finding in result.findings],
            "seconds": round(result.seconds, 2),
            "versions": {
                "bcsed": __version__,
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in _LIBRARIES},
            },
        }
        if self.output.species is not None:
            values["species"], values["removed_detections"] = to_dict(self.output.species), result.removed
        if self.budget is not None:
            values["budget"] = {
                **to_dict(self.budget),
                "process_age_s": round(process_age_s(), 2),
                "passes": self.assembler.run.passes,
                "left_out": list(result.left_out),
            }
        return values


@dataclass
class CheckBuffer:
    """Collects the rows of a run to check them, unless there are too many."""

    classes: Sequence[str]
    tables: list[pd.DataFrame] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    n_rows: int = 0

    def add(self, scores: RecordingScores) -> None:
        """Add a recording's rows."""
        self.n_rows += len(scores.table)
        if self.n_rows > MAX_CHECKED:
            self.tables.clear()
            return
        self.tables.append(scores.table)
        if scores.constant:
            self.constant.append(scores.recording.name)

    def findings(self, silent: Sequence[str]) -> tuple[Finding, ...]:
        """Check the scores, and log errors."""
        if not self.tables or self.n_rows > MAX_CHECKED:
            return ()
        findings = check(join_scores(self.tables, self.classes), silent=[*silent, *self.constant])
        for finding in findings:
            if finding.severity == ERROR:
                _log.warning("the scores: %s", finding.sentence)
        return findings
