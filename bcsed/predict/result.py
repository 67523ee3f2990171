"""What a prediction came to, and what is written of it beside its rows."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from .._version import __version__
from ..config.strict import to_dict
from ..models.bundle.bundle import Bundle
from ..scores import postprocess
from ..scores.checks.api import check
from ..scores.checks.finding import ERROR, Finding
from . import outputs
from .assemble import RecordingScores, ScoreAssembler, join_scores
from .budget import Budget, process_age_s
from .outputs import OutputOptions
from .store import FolderStore

# Rows up to which a table is held in memory to be looked at.
MOST_LOOKED_AT = 50_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a prediction came to.

    Parameters
    ----------
    failures : DataFrame
        ``recording, status, reason``: status ``failed`` (not scored), ``filled`` (class priors in its rows), or
        ``unheard`` (likewise, because the time was up).
    notes : DataFrame
        ``recording, note``: scored, but something was wrong with the file.
    n_recordings, n_failed, n_resumed : int
        Asked for; those in `failures`; taken from an earlier, interrupted run.
    n_rows : int
    silent : tuple of str
        Names of recordings of digital silence, whose rows are rightly all the same.
    left_out : tuple of str
        What there was no time for, a sentence each.
    findings : tuple of Finding
        What the scores themselves show to be wrong or odd, see `bcsed.scores.checks`; of very long tables, nothing.
    spearman : DataFrame or None
        Rank correlations between the members, where they were asked for.
    seconds : float
        Wall time.
    table : Table
        Makes the rows, recording by recording.
    """

    failures: pd.DataFrame
    notes: pd.DataFrame
    n_recordings: int
    n_failed: int
    n_resumed: int
    n_rows: int
    silent: tuple[str, ...]
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]
    spearman: pd.DataFrame | None
    seconds: float
    table: ScoreAssembler = field(repr=False)

    @property
    def n_scored(self) -> int:
        """Recordings whose rows are answers."""
        return self.n_recordings - self.n_failed

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The score table, rows in the order of the recordings; all of it is then in memory."""
        return join_scores([scored.table for scored in self.table], self.table.order)


@dataclass
class ResultWriter:
    """Makes a run's result of what is scored, and writes it."""

    table: ScoreAssembler
    wanted: OutputOptions
    template: Sequence[str] | None
    bundles: Sequence[Bundle]
    n_resumed: int
    started: float

    def __call__(self, left_out: Sequence[str], budget: Budget | None) -> Result:
        """Write what is wanted, the problems and the manifest."""
        drive, store = self.table.drive, self.table.drive.store
        failures, notes, silent = [], [], []
        counted = drive.counted()
        for one in drive.recordings:
            if one.path in drive.failures:
                filled = self.wanted.on_error == "fill" or (budget is not None and self.table.fill is not None)
                failures.append((str(one.path), "filled" if filled else "failed", drive.failures[one.path]))
            elif not drive.answered(one, counted):
                failures.append((str(one.path), "unheard", f"{one.path}: the time was up before it was scored."))
            else:
                remarks, is_silent = store.told(one.key)
                notes += [(str(one.path), note) for note in remarks]
                silent += [one.name] if is_silent else []
        problems = pd.DataFrame(failures, columns=["recording", "status", "reason"])
        told = pd.DataFrame(notes, columns=["recording", "note"])
        n_rows, matrix = 0, None
        nothing = len(problems) == len(drive.recordings)
        if isinstance(store, FolderStore):
            outputs.write_problems(store.folder, problems, told)
        view = CheckBuffer(self.table.order)
        if isinstance(store, FolderStore) and self.wanted.formats and not nothing:
            n_rows = outputs.write(self.table, store.folder, self.wanted, self.template, view.add)
            if "members" in self.wanted.formats:
                matrix = outputs.write_members(self.table, store.folder, [b.name for b in self.bundles])
        elif not nothing:
            for scored in self.table:
                view.add(scored)
        result = Result(
            failures=problems,
            notes=told,
            n_recordings=len(drive.recordings),
            n_failed=len(problems),
            n_resumed=self.n_resumed,
            n_rows=n_rows,
            silent=tuple(silent),
            left_out=tuple(left_out),
            findings=view.found(silent),
            spearman=matrix,
            seconds=time.monotonic() - self.started,
            table=self.table,
        )
        if isinstance(store, FolderStore):
            store.describe(_manifest(result, self, budget))
        return result


@dataclass
class CheckBuffer:
    """Gathers the rows of a run, as long as they are not too many, to look at them."""

    order: Sequence[str]
    tables: list[pd.DataFrame] = field(default_factory=list)
    constant: list[str] = field(default_factory=list)
    n_rows: int = 0

    def add(self, scored: RecordingScores) -> None:
        """Take a recording's rows."""
        self.n_rows += len(scored.table)
        if self.n_rows > MOST_LOOKED_AT:
            self.tables.clear()
            return
        self.tables.append(scored.table)
        if scored.constant:
            self.constant.append(scored.recording.name)

    def found(self, silent: Sequence[str]) -> tuple[Finding, ...]:
        """Examine the scores, and log what makes them ill."""
        if not self.tables or self.n_rows > MOST_LOOKED_AT:
            return ()
        found = check(join_scores(self.tables, self.order), silent=[*silent, *self.constant])
        for finding in found:
            if finding.severity == ERROR:
                _log.warning("the scores: %s", finding.sentence)
        return found


def _manifest(result: Result, finish: ResultWriter, budget: Budget | None) -> dict[str, Any]:
    ensemble = result.table.drive.ensemble
    names = ("torch", "openvino", "numpy", "pandas", "soundfile", "soxr", "librosa")
    told: dict[str, Any] = {
        "models": [
            {
                "bundle": str(bundle.path),
                "experiment": bundle.provenance.get("experiment", ""),
                "fingerprint": bundle.contract.fingerprint,
                "sha256": bundle.sha256,
                "weight": weight,
            }
            for bundle, weight in zip(finish.bundles, ensemble.weights, strict=True)
        ],
        "mean": ensemble.mean,
        "post_processing": postprocess.describe(result.table.steps),
        "formats": list(finish.wanted.formats),
        "detection": {
            "threshold": finish.wanted.detection.threshold,
            "thresholds": dict(finish.wanted.detection.thresholds),
            "merge": finish.wanted.detection.merge,
            "gap_rows": finish.wanted.detection.gap_rows,
            "min_rows": finish.wanted.detection.min_rows,
        },
        "n_recordings": result.n_recordings,
        "n_failed": result.n_failed,
        "n_resumed": result.n_resumed,
        "n_rows": result.n_rows,
        "findings": [[finding.severity, finding.name, finding.sentence] for finding in result.findings],
        "seconds": round(result.seconds, 2),
        "versions": {
            "bcsed": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in names},
        },
    }
    if budget is not None:
        told["budget"] = {
            **to_dict(budget),
            "process_age_s": round(process_age_s(), 2),
            "passes": result.table.drive.passes,
            "left_out": list(result.left_out),
        }
    return told
