"""Thresholds, precision and reliability on labelled rows."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from bcsed.cli import diagnose as trust
from bcsed.errors import ConfigError, DataError
from bcsed.scores.calibration import (
    at_thresholds,
    calibrate,
    expected_calibration_error,
    find_threshold,
    precision_recall,
    read_thresholds,
    reliability,
    write_thresholds,
)


def tables(seed: int = 0, n: int = 400, k: int = 4, bend: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibrated scores and their truth; `bend` other than 1 makes them over- or underconfident."""
    rng = np.random.default_rng(seed)
    probable = rng.random((n, k)) ** 2
    ids = pd.Index([f"r{i // 12}_{5 * (i % 12 + 1)}" for i in range(n)], name="row_id")
    names = [f"c{j}" for j in range(k)]
    truth = pd.DataFrame((rng.random((n, k)) < probable).astype(int), ids, names)
    return truth, pd.DataFrame(np.round(probable**bend, 3), ids, names)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_curve_is_scikit_learns(seed, n):
    rng = np.random.default_rng(seed)
    known, values = (rng.random(n) < 0.4).astype(int), np.round(rng.random(n), 1)
    known[0] = 1
    ours = precision_recall(known, values)
    precision, recall, thresholds = precision_recall_curve(known, values)
    np.testing.assert_allclose(ours["threshold"], thresholds[::-1])
    np.testing.assert_allclose(ours["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(ours["recall"], recall[:-1][::-1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.integers(1, 8))
def test_a_threshold_keeps_what_it_promises_and_no_lower_one_does(seed, precision, support):
    rng = np.random.default_rng(seed)
    known, values = (rng.random(50) < 0.4).astype(int), np.round(rng.random(50), 2)
    found = find_threshold(known, values, precision=precision, support=support)

    def worth(threshold):
        kept = values >= threshold
        return known[kept].mean(), known[kept].sum()

    slow = [t for t in np.unique(values) if worth(t)[0] >= precision and worth(t)[1] >= support]
    if not slow:
        assert np.isnan(found["threshold"])
        assert found["why"]
        return
    assert found["threshold"] == min(slow)
    assert found["precision"] == pytest.approx(worth(min(slow))[0])
    assert found["recall"] == pytest.approx(worth(min(slow))[1] / known.sum())
    assert found["why"] == ""


def test_a_lucky_row_is_no_threshold():
    known, values = np.array([1, 0, 0, 1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert find_threshold(known, values, precision=1.0, support=1)["threshold"] == 0.9
    found = find_threshold(known, values, precision=1.0, support=3)
    assert found["why"] == "precision reaches 0.500 at most"
    assert found["precision"] == 0.5
    assert find_threshold(known, values, precision=0.5, support=4)["why"] == "3 true rows, 4 needed"


def test_reliability_of_calibrated_and_of_bent_scores():
    truth, scores = tables(n=4000)
    assert expected_calibration_error(truth, scores) < 0.02
    assert expected_calibration_error(truth, scores**3) > 0.1
    bins = reliability(truth, scores, n_bins=7)
    assert bins["n"].sum() == truth.size
    assert (bins["low"].iloc[0], bins["high"].iloc[-1]) == (0, 1)
    inside = bins[bins["n"] > 0]
    assert ((inside["mean_score"] >= inside["low"]) & (inside["mean_score"] <= inside["high"])).all()
    total = (bins["share_true"] * bins["n"]).sum()
    assert total == pytest.approx(truth.to_numpy().sum())
    certain = pd.DataFrame(1.0, truth.index, truth.columns)
    assert reliability(truth, certain)["n"].tolist() == [0] * 9 + [truth.size]
    assert expected_calibration_error(truth, truth.astype(float)) == 0


def test_order_of_rows_and_classes_does_not_matter():
    truth, scores = tables()
    found = calibrate(truth, scores, precision=0.6)
    other = calibrate(truth, scores.iloc[::-1, ::-1], precision=0.6)
    pd.testing.assert_frame_equal(found.table, other.table)
    assert found.thresholds == other.thresholds
    assert found.ece == other.ece


def test_thresholds_do_on_the_same_rows_what_was_found():
    truth, scores = tables()
    found = calibrate(truth, scores, precision=0.7)
    assert found.thresholds
    again = at_thresholds(truth, scores, found.thresholds).set_index("class")
    for line in found.table.itertuples():
        assert again.loc[line[1], "precision"] == pytest.approx(line.precision)
        assert again.loc[line[1], "recall"] == pytest.approx(line.recall)
    one = at_thresholds(truth, scores, 0.5)
    assert len(one) == truth.shape[1]
    kept = scores["c0"] >= 0.5
    assert one["n_found"].iloc[0] == kept.sum()
    f1 = 2 * (kept & (truth["c0"] == 1)).sum() / (kept.sum() + truth["c0"].sum())
    assert one["f1"].iloc[0] == pytest.approx(f1)
    nothing = at_thresholds(truth * 0, scores, 1.0)
    assert nothing[["precision", "recall"]].isna().all(axis=None)


def test_written_and_read_again(tmp_path):
    truth, scores = tables()
    truth["c3"] = 0
    found = calibrate(truth, scores, precision=0.7)
    write_thresholds(found, tmp_path / "t.json")
    assert read_thresholds(tmp_path / "t.json", list(truth.columns)) == found.thresholds
    told = json.loads((tmp_path / "t.json").read_text())
    assert told["without"] == {"c3": "0 true rows, 5 needed"}
    (tmp_path / "plain.json").write_text('{"c0": 0.5}')
    assert read_thresholds(tmp_path / "plain.json") == {"c0": 0.5}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "must hold an object of classes and thresholds"),
        ("{", "not readable as JSON"),
        ('{"c0": 1.5}', r"the threshold of 'c0' must be in \[0, 1\], got 1.5"),
        ('{"c0": "high"}', "got 'high'"),
        ('{"c9": 0.5}', "'c9' is not among the 2 classes"),
    ],
)
def test_files_that_are_no_thresholds(tmp_path, text, sentence):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_thresholds(tmp_path / "t.json", ["c0", "c1"])
    with pytest.raises(DataError, match="there is no such file of thresholds"):
        read_thresholds(tmp_path / "none.json")


def test_refusals():
    truth, scores = tables()
    with pytest.raises(ConfigError, match=r"precision must be in \(0, 1\], got 0"):
        calibrate(truth, scores, precision=0)
    with pytest.raises(ConfigError, match="support must be at least 1 true row, got 0"):
        calibrate(truth, scores, support=0)
    with pytest.raises(ConfigError, match="n_bins must be at least 1"):
        reliability(truth, scores, n_bins=0)
    with pytest.raises(DataError, match="the scores lack 1 of 400 true rows, 'r0_5' first"):
        calibrate(truth, scores.iloc[1:])
    with pytest.raises(DataError, match="the scores lack 1 of 4 classes, 'c1' first"):
        calibrate(truth, scores.drop(columns="c1"))
    with pytest.raises(DataError, match="scores are probabilities"):
        calibrate(truth, scores + 1)
    with pytest.raises(DataError, match=r"truth must be 0 or 1, got 0\.5"):
        calibrate(truth * 0.5, scores)
    with pytest.raises(DataError, match="there is a threshold for 'x'"):
        at_thresholds(truth, scores, {"x": 0.5})


def test_the_command(tmp_path, capsys):
    truth, scores = tables()
    truth["c3"] = 0
    truth.to_csv(tmp_path / "truth.csv")
    scores.to_csv(tmp_path / "scores.csv")
    parser = argparse.ArgumentParser()
    trust.calibrate_options(parser.add_argument)
    words = f"{tmp_path}/scores.csv --truth {tmp_path}/truth.csv --precision .7 --out {tmp_path}/t.json".split()
    assert trust.calibrate(parser.parse_args(words)) == 0
    told = capsys.readouterr().out
    assert "3 of 4 classes reach a precision of 0.7 with at least 5 true rows; expected calibration error" in told
    assert "0 true rows, 5 needed" in told
    assert set(read_thresholds(tmp_path / "t.json")) == {"c0", "c1", "c2"}
