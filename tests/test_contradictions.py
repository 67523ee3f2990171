"""Held-out clips whose scores contradict their label: the ranking, the run's list and the report."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_train import SMALL

from bcsed import train
from bcsed.report.api import report
from bcsed.scores.evaluation import Evaluation, read_evaluation
from bcsed.train.validate import rank_contradictions


def test_the_largest_margin_is_first():
    scores = np.array([[0.9, 0.2, 0.1], [0.1, 0.95, 0.8], [0.3, 0.1, 0.2], [0.4, 0.3, 0.5]], np.float32)
    labels = [0, 0, -1, 0]
    listed = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)
    evaluation = Evaluation(
        kind="clips",
        ids=("right", "wrong", "negative", "all"),
        files=("right", "wrong", "negative", "all"),
        classes=("a", "b", "c"),
        truth=(np.arange(3) == np.array(labels)[:, None]).astype(np.uint8),
        scores=scores,
    )
    # The rows of the training data are in another order.
    names = ["other", "all", "negative", "wrong", "right"]
    row_of = dict(zip(evaluation.ids, range(4), strict=True))
    of_row = {row: labels[row_of[name]] for row, name in enumerate(names) if name in row_of}
    data = SimpleNamespace(
        names=names,
        listed=np.stack([listed[row_of[name]] if name in row_of else listed[0] for name in names]),
        inputs=SimpleNamespace(class_of=of_row.__getitem__),
    )
    table = rank_contradictions(evaluation, data).set_index("filename")
    assert table.index.tolist() == ["wrong", "negative", "right", "all"]
    # Not b, which is a secondary label of the clip.
    assert table.loc["wrong", ["label", "other"]].tolist() == ["a", "c"]
    assert table.loc["wrong", ["score", "other_score", "margin"]].tolist() == pytest.approx([0.1, 0.8, 0.7])
    assert table.loc["negative", ["label", "other"]].tolist() == ["", "a"]
    assert np.isnan(table.loc["negative", "score"]) and table.loc["negative", "margin"] == pytest.approx(0.3)
    assert table.loc["all", "other"] == "" and np.isnan(table.loc["all", "margin"])


@pytest.mark.slow
def test_a_wrong_label_is_first_in_run_and_report(year, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    lines = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    run = train.train(SMALL, data, tmp_path / "run")
    table = pd.read_csv(run / "contradictions.csv", dtype={"label": str, "other": str}, keep_default_na=False)
    evaluation = read_evaluation(run / "validation-best.npz")
    assert set(table["filename"]) == set(evaluation.ids)
    label = dict(zip(lines["filename"], lines["primary_label"], strict=True))
    assert table["label"].tolist() == [label[name] for name in table["filename"]]
    assert (table["margin"].diff().dropna() <= 0).all()
    scores = pd.DataFrame(evaluation.scores, evaluation.ids, evaluation.classes)
    first = table.iloc[0]
    assert first["other_score"] == pytest.approx(scores.loc[first["filename"], first["other"]], abs=1e-4)
    text = report([run], tmp_path / "report.html").path.read_text()
    assert "Clips that contradict their label" in text
    assert f"of {len(table)} held-out clips" in text
    (run / "contradictions.csv").write_text("filename\n1\n")
    assert "The list of the clips cannot be read" in report([run], tmp_path / "again.html").path.read_text()


@pytest.mark.slow
def test_runs_with_soundscapes_list_clips_too(land26, tmp_path):
    run = train.train(SMALL.vary("x", fit__epochs=1), land26, tmp_path / "run")
    assert read_evaluation(run / "validation-best.npz").kind == "rows"
    assert len(pd.read_csv(run / "contradictions.csv")) > 1
