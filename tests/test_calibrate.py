"""Thresholds, precision and reliability on labelled rows."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from bcsed.cli import main
from bcsed.errors import ConfigError, DataError
from bcsed.scores.calibration import (
    calibrate,
    expected_calibration_error,
    find_threshold,
    precision_recall,
    read_thresholds,
    reliability,
    write_thresholds,
)


def tables(seed: int = 0, n: int = 400, k: int = 4, power: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calibrated scores and their truth; `power` other than 1 makes them over- or underconfident."""
    rng = np.random.default_rng(seed)
    probable = rng.random((n, k)) ** 2
    ids = pd.Index([f"r{i // 12}_{5 * (i % 12 + 1)}" for i in range(n)], name="row_id")
    names = [f"c{j}" for j in range(k)]
    truth = pd.DataFrame((rng.random((n, k)) < probable).astype(int), ids, names)
    return truth, pd.DataFrame(np.round(probable**power, 3), ids, names)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_curve_equals_scikit_learns(seed, n):
    rng = np.random.default_rng(seed)
    labels, values = (rng.random(n) < 0.4).astype(int), np.round(rng.random(n), 1)
    labels[0] = 1
    ours = precision_recall(labels, values)
    precision, recall, thresholds = precision_recall_curve(labels, values)
    np.testing.assert_allclose(ours["threshold"], thresholds[::-1])
    np.testing.assert_allclose(ours["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(ours["recall"], recall[:-1][::-1])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.integers(1, 8))
def test_a_threshold_reaches_the_precision_and_no_lower_one_does(seed, precision, min_positives):
    rng = np.random.default_rng(seed)
    labels, values = (rng.random(50) < 0.4).astype(int), np.round(rng.random(50), 2)
    result = find_threshold(labels, values, precision=precision, min_positives=min_positives)

    def precision_and_count(threshold):
        detected = values >= threshold
        return labels[detected].mean(), labels[detected].sum()

    slow = [
        t
        for t in np.unique(values)
        # At the threshold 0 every row would be detected.
        if t > 0 and precision_and_count(t)[0] >= precision and precision_and_count(t)[1] >= min_positives
    ]
    if not slow:
        assert np.isnan(result["threshold"])
        assert result["reason"]
        return
    assert result["threshold"] == min(slow)
    assert result["precision"] == pytest.approx(precision_and_count(min(slow))[0])
    assert result["recall"] == pytest.approx(precision_and_count(min(slow))[1] / labels.sum())
    assert result["reason"] == ""


def test_too_few_positive_rows_give_no_threshold():
    labels, values = np.array([1, 0, 0, 1, 0, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert find_threshold(labels, values, precision=1.0, min_positives=1)["threshold"] == 0.9
    result = find_threshold(labels, values, precision=1.0, min_positives=3)
    assert result["reason"] == "precision reaches 0.500 at most"
    assert result["precision"] == 0.5
    assert find_threshold(labels, values, precision=0.5, min_positives=4)["reason"] == "3 positive rows, 4 needed"


def test_reliability_of_calibrated_and_of_transformed_scores():
    truth, scores = tables(n=4000)
    assert expected_calibration_error(reliability(truth, scores)) < 0.02
    assert expected_calibration_error(reliability(truth, scores**3)) > 0.1
    bins = reliability(truth, scores, n_bins=7)
    assert bins["n"].sum() == truth.size
    assert (bins["low"].iloc[0], bins["high"].iloc[-1]) == (0, 1)
    inside = bins[bins["n"] > 0]
    assert ((inside["mean_score"] >= inside["low"]) & (inside["mean_score"] <= inside["high"])).all()
    total = (bins["share_true"] * bins["n"]).sum()
    assert total == pytest.approx(truth.to_numpy().sum())
    certain = pd.DataFrame(1.0, truth.index, truth.columns)
    assert reliability(truth, certain)["n"].tolist() == [0] * 9 + [truth.size]
    assert expected_calibration_error(reliability(truth, truth.astype(float))) == 0


def test_order_of_rows_and_classes_does_not_matter():
    truth, scores = tables()
    result = calibrate(truth, scores, precision=0.6)
    other = calibrate(truth, scores.iloc[::-1, ::-1], precision=0.6)
    pd.testing.assert_frame_equal(result.table, other.table)
    assert result.thresholds == other.thresholds
    assert result.ece == other.ece


def test_the_table_states_precision_and_recall_at_the_threshold():
    truth, scores = tables()
    calibration = calibrate(truth, scores, precision=0.7)
    assert calibration.thresholds
    lines = calibration.table.set_index("class")
    for name, threshold in calibration.thresholds.items():
        detected = scores[name] >= threshold
        assert lines.loc[name, "n_detected"] == detected.sum()
        assert lines.loc[name, "precision"] == pytest.approx(truth[name][detected].mean())
        assert lines.loc[name, "recall"] == pytest.approx(truth[name][detected].sum() / truth[name].sum())


def test_written_and_read_again(tmp_path):
    truth, scores = tables()
    truth["c3"] = 0
    result = calibrate(truth, scores, precision=0.7)
    write_thresholds(result, tmp_path / "t.json")
    assert read_thresholds(tmp_path / "t.json", list(truth.columns)) == result.thresholds
    values = json.loads((tmp_path / "t.json").read_text())
    assert values["without"] == {"c3": "0 positive rows, 5 needed"}
    assert (values["schema"], values["min_positives"]) == (2, 5)


def test_earlier_and_plain_files_are_read(tmp_path):
    for text in ('{"c0": 0.5}', '{"thresholds": {"c0": 0.5}, "support": 5}'):
        (tmp_path / "t.json").write_text(text)
        assert read_thresholds(tmp_path / "t.json") == {"c0": 0.5}
    (tmp_path / "t.json").write_text('{"schema": 3, "thresholds": {"c0": 0.5}}')
    with pytest.raises(DataError, match="has schema 3"):
        read_thresholds(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "must contain a JSON object"),
        ("{", "not readable as JSON"),
        ('{"c0": 1.5}', r"the threshold of 'c0' must be in \[0, 1\], got 1.5"),
        ('{"c0": "high"}', "got 'high'"),
        ('{"c9": 0.5}', "'c9' is not one of the 2 classes"),
    ],
)
def test_invalid_files_of_thresholds(tmp_path, text, sentence):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_thresholds(tmp_path / "t.json", ["c0", "c1"])
    with pytest.raises(DataError, match="there is no such file of thresholds"):
        read_thresholds(tmp_path / "none.json")


def test_refusals():
    truth, scores = tables()
    with pytest.raises(ConfigError, match=r"precision must be in \(0, 1\], got 0"):
        calibrate(truth, scores, precision=0)
    with pytest.raises(ConfigError, match="min_positives must be at least 1 positive row, got 0"):
        calibrate(truth, scores, min_positives=0)
    with pytest.raises(ConfigError, match="n_bins must be at least 1"):
        reliability(truth, scores, n_bins=0)
    with pytest.raises(DataError, match="1 of 400 rows of the truth are not in the scores, 'r0_5' first"):
        calibrate(truth, scores.iloc[1:])
    with pytest.raises(DataError, match="1 of 4 classes of the truth are not in the scores, 'c1' first"):
        calibrate(truth, scores.drop(columns="c1"))
    with pytest.raises(DataError, match="scores must be probabilities"):
        calibrate(truth, scores + 1)
    with pytest.raises(DataError, match=r"truth must be 0 or 1, got 0\.5"):
        calibrate(truth * 0.5, scores)


def test_the_command(tmp_path, capsys):
    truth, scores = tables()
    truth["c3"] = 0
    truth.to_csv(tmp_path / "truth.csv")
    scores.to_csv(tmp_path / "scores.csv")
    words = f"{tmp_path}/scores.csv --truth {tmp_path}/truth.csv --precision .7 --out {tmp_path}/t.json".split()
    assert main(["calibrate", *words]) == 0
    text = capsys.readouterr().out
    assert "3 of 4 classes reach a precision of 0.7 with at least 5 true positives; expected calibration error" in text
    assert "0 positive rows, 5 needed" in text
    assert set(read_thresholds(tmp_path / "t.json")) == {"c0", "c1", "c2"}
