"""Planted faults: the commands name each of them. See `faults` for the notebook and its faulty variants."""

from __future__ import annotations

import re

import faults
import numpy as np
import pytest

# Patterns of the verdict on the faulty table alone, on the pair with a correct table, and of the trace.
EXPECTED = {
    "WindowZero": {
        "alone": "errors: broadcast",
        "pair": "equal scores in all rows of a recording in 8 of 8.*the value is row 1 of",
        "trace": "rows is",
    },
    "Shifted": {"pair": r"its rows 1 row \(5 s\) too late", "trace": "rows is .*1 row .* too late"},
    "SmallImage": {"trace": "db is .*40 mel bands instead of 64.*a hop of about 1,600"},
    "Hop": {"trace": "db is .*a hop of about 750 samples instead of 1000"},
    "MelScale": {"trace": "db is .*bands contain the sound of other bands.*another mel scale"},
    "Unscaled": {
        "pair": "differ in 40 of 96 rows.*some windows are processed differently",
        "trace": "image is .*in 5 of 12 windows.*normalisation was skipped",
    },
    "BatchMaximum": {"trace": "image is .*the maximum in dB is over the batch, not over each window"},
    "OldCheckpoint": {"trace": "logits is .*image.*other weights, such as an older checkpoint"},
    "Permuted": {"pair": "14 of 14 classes under another name", "trace": "rows is .*14 of 14 classes"},
    "Clip": {"trace": "rows is .*each row is the output of its complete window"},
    "Twice": {"trace": "samples is .*resampled twice via 16,000 Hz"},
    "Padded": {"trace": "windows is .*96 of 256 in window 1.*padded with silence"},
    "Half": {
        "alone": "errors: nan",
        "pair": "no row in which all values are numbers",
        "trace": "db is .*NaN.*half precision",
    },
    "DeltasAfterFold": {"trace": "image is .*deltas were computed after the fold"},
    "Logits": {
        "alone": "errors: logits",
        "pair": "an increasing function of bcsed.csv, the logit",
        "trace": "rows is .*the logit",
    },
    "TextOrder": {"pair": "sorted as text", "trace": "rows is .*sorted as text"},
    "NoAttention": {"trace": "rows is .*the mean of the row's time steps, without the attention"},
    "Alone": {"trace": "windows is .*the STFT of each clip was computed separately"},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.prepare(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def correct(lab, tmp_path_factory):
    return faults.diagnose_notebook(lab, faults.Notebook, tmp_path_factory.mktemp("correct"))


def test_an_implementation_with_other_libraries_has_no_fault(lab, correct):
    assert (correct.alone, correct.pair, correct.trace) == ("", "", "")
    assert correct.auc > 0.85
    np.testing.assert_allclose(faults.Notebook(lab).score()[0], lab.correct, atol=1e-4)


@pytest.mark.parametrize("notebook", faults.FAULTS, ids=lambda notebook: notebook.__name__)
def test_each_fault_is_named(lab, notebook, tmp_path):
    result = faults.diagnose_notebook(lab, notebook, tmp_path)
    for command, pattern in EXPECTED[notebook.__name__].items():
        assert re.search(pattern, getattr(result, command)), f"{command}: {getattr(result, command)}"
    # No fault passes the comparison with a correct table, or the trace.
    assert result.pair
    assert result.trace


def test_the_faults_lower_the_auc(lab, correct):
    from bcsed.scores import metrics

    for fault in (faults.WindowZero, faults.Shifted, faults.Permuted, faults.TextOrder, faults.Twice):
        table = fault(lab).score()[0]
        assert metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] < correct.auc - 0.05, fault.__name__


def test_the_markdown_table(correct):
    line = faults.to_markdown([correct]).splitlines()[-1]
    assert line.startswith("| none: another implementation | 0.")
    assert line.endswith("|  |  |  |")
    verdict = "rows is the first stage that differs (x): by up to 1 at y, in 3% of it; cause."
    assert faults.describe_stage(verdict) == "`rows`: cause"
