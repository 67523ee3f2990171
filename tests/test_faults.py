"""The story of experiment 167: faults planted one at a time, each named by command.

See `faults`: the same network, a notebook that scores with it rightly, and its faulty kin.
"""

from __future__ import annotations

import re

import faults
import numpy as np
import pytest

# What names each fault: in the verdict on its table alone, beside a healthy one, or in the trace.
EXPECTED = {
    "WindowZero": {
        "alone": "ill: broadcast",
        "beside": "one answer to all rows.*8 of 8.*that of row 1 in",
        "traced": "rows is",
    },
    "Shifted": {"beside": r"its rows 1 row \(5 s\) later", "traced": "rows is .*1 row .* later"},
    "SmallPicture": {"traced": "db is .*40 mel bands instead of 64.*a hop of about 1,600"},
    "Hop": {"traced": "db is .*a hop of about 750 samples instead of 1000"},
    "MelScale": {"traced": "db is .*bands hear what other bands should.*another mel scale"},
    "Unscaled": {
        "beside": "part in 40 of 96 rows.*something is done to some windows and not to others",
        "traced": "picture is .*in 5 of 12 windows.*normalisation was skipped",
    },
    "BatchMaximum": {"traced": "picture is .*the maximum in dB is the batch's, not each window's"},
    "OldCheckpoint": {"traced": "what is .*picture.*other weights, such as an older checkpoint"},
    "Permuted": {"beside": "14 of 14 classes under another's name", "traced": "rows is .*14 of 14 classes"},
    "Clip": {"traced": r"rows is .*each row is its whole window's answer \(the clip's\)"},
    "Twice": {"traced": "samples is .*resampled twice, by way of 16,000 Hz"},
    "Padded": {"traced": "windows is .*96 of 256 in window 1.*padded with silence"},
    "Half": {
        "alone": "ill: nan",
        "beside": "no row in which both hold numbers",
        "traced": "db is .*NaN.*half precision",
    },
    "SlopesAfterFold": {"traced": "picture is .*slopes were taken after the fold"},
    "Logits": {"alone": "ill: logits", "beside": "rising function, the logit", "traced": "rows is .*the logit"},
    "TextOrder": {"beside": "as if sorted as text", "traced": "rows is .*as if sorted as text"},
    "NoAttention": {"traced": "rows is .*the mean of the row's steps, without the attention"},
    "Alone": {"traced": "windows is .*each clip was transformed by itself"},
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return faults.prepare(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def healthy(lab, tmp_path_factory):
    return faults.name(lab, faults.Notebook, tmp_path_factory.mktemp("healthy"))


def test_a_pipeline_of_other_libraries_is_as_healthy(lab, healthy):
    assert (healthy.alone, healthy.beside, healthy.traced) == ("", "", "")
    assert healthy.auc > 0.85
    # Which is as it should be: it comes to the same scores.
    np.testing.assert_allclose(faults.Notebook(lab).score()[0], lab.healthy, atol=1e-4)


@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_named(lab, healthy, fault, tmp_path):
    named = faults.name(lab, fault, tmp_path)
    for where, sentence in EXPECTED[fault.__name__].items():
        assert re.search(sentence, getattr(named, where)), f"{where}: {getattr(named, where)}"
    # None passes for healthy beside a healthy table, and in the trace.
    assert named.beside
    assert named.traced


def test_what_they_cost(lab, healthy):
    """The faults that spoiled the post-mortem's scores spoil these."""
    from bcsed.scores import metrics

    for fault in (faults.WindowZero, faults.Shifted, faults.Permuted, faults.TextOrder, faults.Twice):
        table = fault(lab).score()[0]
        assert metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] < healthy.auc - 0.05, fault.__name__


def test_the_table_of_the_readme(healthy):
    text = faults.markdown([healthy])
    assert text.splitlines()[2].startswith("| nothing: another implementation | 0.")
    assert text.splitlines()[2].endswith("|  |  |  |")
    assert (
        faults.stage("rows is the first stage that differs (x): by up to 1 at y, in 3% of it; cause.")
        == "`rows`: cause"
    )
