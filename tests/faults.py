"""Diagnose the planted faults.

``python tests/faults.py OUT.md`` trains the network of `lab`, scores with the correct notebook and with each of
`planted`, and writes a table with the macro ROC-AUC of each and what `bcsed doctor` and `bcsed trace` name.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lab import Lab, Notebook, prepare
from planted import FAULTS

from bcsed.analysis import doctor, trace
from bcsed.scores import metrics
from bcsed.scores.checks.finding import ERROR


@dataclass(frozen=True)
class Result:
    """The verdicts on one notebook."""

    fault: str
    auc: float
    alone: str  # errors of its table
    pair: doctor.Comparison  # of its table with that of bcsed
    trace: trace.TraceDifference

    @property
    def named(self) -> bool:
        """Whether a command names a cause, not only a part or a stage."""
        first = self.trace.first
        return bool(self.alone or self.pair.explained or (first is not None and first.cause))


def diagnose_notebook(lab: Lab, notebook: type[Notebook]) -> Result:
    """Score with a notebook, and examine its table and arrays."""
    table, stages = notebook(lab).score()
    complete = np.isfinite(table.to_numpy()).all() and set(lab.truth.index) <= set(table.index)
    auc = metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] if complete else np.nan
    findings = doctor.examine(
        table, recordings=[lab.data / "test_soundscapes"], sample_submission=lab.data / "sample_submission.csv"
    )
    errors = dict.fromkeys(finding.name for finding in findings if finding.severity == ERROR)
    return Result(
        fault=notebook.fault,
        auc=auc,
        alone=", ".join(errors),
        pair=doctor.compare(lab.correct, table, names=("bcsed.csv", f"{notebook.__name__}.csv")),
        trace=trace.compare(lab.trace, trace.from_arrays(stages, f"{notebook.__name__}.npz")),
    )


HEADER = "| planted fault | macro ROC-AUC | `doctor` on the table alone | `doctor` with a correct table | `trace` |"
PREFACE = """# Planted faults

A notebook written with librosa and NumPy scores the synthetic competition as bcsed does, to rounding. Each line plants
one fault in it (`tests/planted.py`), and states the macro ROC-AUC over 14 classes on 96 rows of held-out soundscapes,
and what the commands find; an empty cell is no error. Of {n_faults} faults, {n_named} are named, and of {n_stage} only
the stage or the part that differs: a cause is named only if it explains at least 98 % of the squared difference.
{n_small} faults lower the macro ROC-AUC by less than 0.02: the score alone does not reveal them.
`tests/test_faults.py` checks each verdict, and `python tests/faults.py tests/FAULTS.md` writes this file.

"""


def to_markdown(results: list[Result]) -> str:
    """Return a table of the correct notebook and the faults, with the part of each verdict that names the fault."""
    correct, *others = results
    n_small = sum(result.auc > correct.auc - 0.02 for result in others)
    n_named = sum(result.named for result in others)
    lines = [HEADER, "|---|---|---|---|---|"]
    for result in results:
        auc = f"{result.auc:.3f}" if np.isfinite(result.auc) else "none"
        pair = "" if result.pair.same else shorten(result.pair.verdict)
        lines.append(f"| {result.fault} | {auc} | {result.alone} | {pair} | {describe_stage(result.trace)} |")
    counts = {"n_small": n_small, "n_faults": len(others), "n_named": n_named, "n_stage": len(others) - n_named}
    return PREFACE.format(**counts) + "\n".join(lines) + "\n"


def shorten(verdict: str) -> str:
    """Remove file names, and what follows the cause."""
    correlation = re.search(r"mean Spearman [\d.]+", verdict)
    if "no shift, order or function" in verdict or "no cause explains" in verdict:
        return f"other ({correlation[0]})" if correlation else "other"
    if "nothing to compare" in verdict:
        return "nothing to compare"
    name = r"(bcsed \d[\d.]*\d|\w+\.(csv|npz))"
    text = re.sub(rf" of {name},", ":", verdict.removesuffix("."))
    text = re.sub(rf"(and )?{name},? (has |is )?", "", text)
    text = re.sub(r", by up to [^;]*|(, '[^']*')+", "", text)
    ends = (r" in \d+ of \d+ recordings, unlike", "; after correction", "; of the common", r" \(to ", ": ROC-AUC is")
    return re.split("|".join((*ends, ": '", ": row ", ": number ")), text)[0]


def describe_stage(difference: trace.TraceDifference) -> str:
    """Return the first stage that differs, and its cause."""
    first = difference.first
    if first is None:
        return ""
    return f"`{first.name}`: {shorten(first.cause)}" if first.cause else f"`{first.name}`"


def main() -> None:
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lab = prepare(Path(folder))
        trained = time.monotonic()
        results = [diagnose_notebook(lab, notebook) for notebook in (Notebook, *FAULTS)]
        text = to_markdown(results)
    print(text)
    print(f"{trained - start:.0f} s to train, {time.monotonic() - trained:.0f} s for {len(results)} notebooks")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
