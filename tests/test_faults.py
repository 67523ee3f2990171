"""Planted faults: each is named rightly, or by its stage alone. See `lab` and `planted`."""

from __future__ import annotations

import re

import faults
import lab as laboratory
import numpy as np
import planted
import pytest
import torch

from bcsed.cli import main

# Patterns: errors of the faulty table alone; cause from the pair with a correct table; first stage of the trace that
# differs, and its cause. "" where no cause may be named.
EXPECTED = {
    "WindowZero": ("broadcast", "in 8 of 8.*the value is row 1 of", "rows", "the value is row 1 of"),
    "Shifted": ("", r"its rows 1 row \(5 s\) too late", "rows", "1 row .* too late"),
    "SmallImage": ("", "", "db", "a hop of 1,600 samples"),
    "Hop": ("", "", "db", "a hop of 750 samples"),
    "MelScale": ("", "", "db", "^HTK's mel scale instead of Slaney's$"),
    "Unscaled": ("saturated", "", "image", "normalisation was skipped"),
    "BatchMaximum": ("", "", "image", "the maximum in dB is over the batch, not over each window"),
    "OldCheckpoint": ("", "", "logits", ""),
    "Permuted": ("", "14 of 14 classes under another name", "rows", "14 of 14 classes"),
    "Clip": ("", "", "rows", "each row is the output of its complete window"),
    "Twice": ("", "", "samples", "resampled twice via 16,000 Hz"),
    "Padded": ("", "", "windows", "96 of 256 in window 1.*padded with silence"),
    "Half": ("nan", "", "db", "NaN.*half precision"),
    "DeltasAfterFold": ("", "", "image", "deltas were computed after the fold"),
    "Logits": ("logits", "an increasing function of bcsed.csv, the logit", "rows", "the logit"),
    "TextOrder": ("", "sorted as text", "rows", "sorted as text"),
    "NoAttention": ("", "", "rows", "the mean of the row's time steps, without the attention"),
    "Alone": ("", "", "windows", "the STFT of each clip was computed separately, with ends padded by reflection"),
    "ReadAs48": ("", "", "samples", "audio of 32,000 Hz was read as 48,000 Hz"),
    "NotResampled": ("", "", "samples", "audio of 48,000 Hz was read as 32,000 Hz"),
    "Quiet": ("", "", "samples", "multiplied by 0.5$"),
    "Inverted": ("", "", "samples", "inverted polarity"),
    "Offset": ("", "", "samples", r"a constant of \+0.01$"),
    "Dithered": ("", "", "samples", ""),
    "Wrapped": ("", "", "samples", "multiplied by 8, values beyond 1 wrap around"),
    "Clipped": ("", "", "samples", "clipped at 0.05"),
    "EightBits": ("", "", "samples", "8 bits"),
    "Trimmed": ("", "", "samples", r"48000 samples \(1.5000 s\) too early"),
    "Interpolated": ("", "", "samples", ""),
    "Emphasised": ("", "", "db", "pre-emphasis of 0.97"),
    "NotCentred": ("", "", "db", "center=False"),
    "OtherWindow": ("", "", "db", "a Hamming window"),
    "ShortWindow": ("", "", "db", "a window of 1,024 instead of 2,048 samples"),
    "Kaiser": ("", "", "db", ""),
    "Reflected": ("", "", "db", "padded by reflection"),
    "Amplitude": ("", "", "db", "amplitude instead of power"),
    "Unnormed": ("", "", "db", "^bands without a norm$"),
    "FromZero": ("", "", "db", "^bands from 0 Hz instead of 20 Hz, bands to 16000 Hz instead of 14000 Hz$"),
    "HighBandsFirst": ("", "", "db", "the mel bands are reversed"),
    "RelativeToMaximum": ("", "", "db", r"-1.01 dB, and cut off below -20.0 dB"),
    "NaturalLogarithm": ("", "", "db", "the natural logarithm"),
    "Pcen": ("", "", "db", ""),
    "LateWindows": ("", "", "windows", "11 of 12 windows start 16 frames later"),
    "HalvesSwapped": ("", "", "image", "the halves of the fold are swapped"),
    "Alternate": ("", "", "image", "alternate frames"),
    "Transposed": ("", "", "image", "transposed"),
    "ChannelsReversed": (".*", "", "image", "the channels are reversed"),
    "WideDeltas": ("", "", "image", "a width of 9 frames"),
    "Standardised": ("", "", "image", "by mean and standard deviation"),
    "Masked": ("", "", "image", ""),
    "TrainMode": ("", "", "logits", ""),
    "AveragedWeights": ("", "", "logits", ""),
    "ClassNotLoaded": (
        "constant classes",
        "1 of 14 classes, '24321'.*there, .* is CONSTANT everywhere",
        "logits",
        "24321",
    ),
    "BrainFloat": ("", "", "logits", ""),
    "ClassesReversed": ("", "14 of 14 classes under another name", "logits", "the classes are reversed"),
    "SoftmaxOfClasses": ("", "", "rows", "softmax of the attention over the classes"),
    "Maximum": ("", "", "rows", "pooled as max"),
    "WrongOverlap": ("", "", "rows", ""),
    "Early": ("", r"its rows 1 row \(5 s\) too early", "rows", "1 row .* too early"),
    "RowsReversed": ("", "another order, reversed", "rows", "another order, reversed"),
    "Smoothed": ("", "", "rows", ""),
    "OtherRecordings": ("", "8 of 8 recordings under another name", "rows", ""),
    "OneRecordingTwice": ("", "1 of 8: 'soundscape_6414335' has those of 'soundscape_6837662'", "", ""),
    "RecordingMissing": ("missing recordings", "lacks 1 of 8 recordings, 'soundscape_5669412'", "", ""),
    "OneRecordingZero": ("broadcast", "1 of 8 recordings, 'soundscape_5669412'.* is 0 everywhere", "", ""),
    "Complement": ("", r"a falling function of bcsed.csv, one minus it \(1 - p\)", "rows", "1 - p"),
    "SquareRoot": ("", "to the power 0.5 ", "rows", "to the power 0.5 "),
    "Ranks": ("", "its ranks within each class", "rows", ""),
    "SigmoidTwice": ("sigmoid twice", "the sigmoid", "rows", "the sigmoid"),
    "ClippedScores": ("", r"cut off below 0.02 and above 0.9 ", "rows", r"cut off below 0.02 \("),
    "ClassZero": ("constant classes", "1 of 14 classes, '22961'.*is 0 everywhere", "rows", "is 0 everywhere"),
    "ClassesTwice": ("", "1 of 14: '22961' has those of 'druwoo1'", "rows", "'22961' has those of 'druwoo1'"),
    "SumToOne": ("", "each row divided by its sum", "rows", "each row divided by its sum"),
    "TwoDigits": ("saturated", "rounded to 2 digits", "rows", "rounded to 2 digits"),
    "HalfPrecision": ("", "in half precision", "", ""),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return laboratory.prepare(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def correct(lab):
    return faults.diagnose_notebook(lab, laboratory.Notebook)


def test_an_implementation_with_other_libraries_has_no_fault(lab, correct):
    assert (correct.alone, correct.pair.same, correct.trace.first) == ("", True, None)
    assert correct.auc > 0.85
    np.testing.assert_allclose(laboratory.Notebook(lab).score()[0], lab.correct, atol=1e-4)


@pytest.mark.parametrize("notebook", planted.FAULTS, ids=lambda notebook: notebook.__name__)
def test_each_fault_is_named_rightly_or_by_its_stage_alone(lab, notebook):
    alone, pair, stage, cause = EXPECTED[notebook.__name__]
    result = faults.diagnose_notebook(lab, notebook)
    first = result.trace.first
    assert re.search(alone or "^$", result.alone), result.alone
    assert result.pair.explained == bool(pair), result.pair.verdict
    # To four digits; its value depends on the CPU on which the lab's network was trained.
    constant = f"{torch.sigmoid(lab.network.logits.bias[3]).item():.4g}"
    assert re.search(pair.replace("CONSTANT", re.escape(constant)), result.pair.verdict), result.pair.verdict
    assert (first.name if first is not None else "") == stage, result.trace.verdict
    assert re.search(cause or "^$", first.cause if first is not None else ""), result.trace.verdict
    # No fault passes both.
    assert first is not None or not result.pair.same


def test_the_commands(lab, tmp_path, capsys):
    table, stages = planted.Shifted(lab).score()
    table.to_csv(tmp_path / "theirs.csv", index_label="row_id")
    lab.correct.to_csv(tmp_path / "bcsed.csv", index_label="row_id")
    np.savez(tmp_path / "theirs.npz", **stages)
    assert main(["doctor", str(tmp_path / "bcsed.csv"), str(tmp_path / "theirs.csv")]) == 1
    assert "FAILED: theirs.csv has its rows 1 row (5 s) too late" in capsys.readouterr().out
    arguments = (lab.bundle, lab.recordings[laboratory.TRACED], "--out", tmp_path / "x.npz")
    assert main(["trace", *map(str, arguments), "--against", str(tmp_path / "theirs.npz")]) == 1
    assert "rows is the first stage that differs" in capsys.readouterr().out


def test_the_faults_lower_the_auc(lab, correct):
    from bcsed.scores import metrics

    for fault in (planted.WindowZero, planted.Shifted, planted.Permuted, planted.TextOrder, planted.Twice):
        table = fault(lab).score()[0]
        assert metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] < correct.auc - 0.05, fault.__name__


def test_the_markdown_table(lab, correct):
    shifted = faults.diagnose_notebook(lab, planted.Shifted)
    lines = faults.to_markdown([correct, shifted]).splitlines()
    assert lines[-2].startswith("| none: another implementation | 0.")
    assert lines[-2].endswith("|  |  |  |")
    assert lines[-1].endswith("|  | its rows 1 row (5 s) too late | `rows`: its rows 1 row (5 s) too late |")
