"""Clips without a label: read in every layout, trained as negatives, in no count of a class."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE
from test_competition import CLASSES, write, write_clips
from test_labels import clips
from test_train import SMALL

from bcsed import train
from bcsed.config.recipe import Data
from bcsed.data.competitions import BIRDCLEF_2025, BIRDCLEF_2026, FOLDERS, Competition, read_class_list
from bcsed.data.label_files import read_train
from bcsed.data.labels import NEVER_HELD_OUT, assign_folds, class_counts, make_targets, training_rows
from bcsed.errors import DataError
from bcsed.report.api import report
from bcsed.scores.evaluation import read_evaluation
from bcsed.train.data import prepare_data
from bcsed.train.dataset.batches import epoch_order


@pytest.mark.parametrize("competition", [BIRDCLEF_2025, BIRDCLEF_2026])
def test_train_csv(tmp_path: Path, competition: Competition) -> None:
    rows = ("024,a/1.ogg,[]", ",b/2.ogg,[]", "nocall,b/3.ogg,['24']", " ,b/4.ogg,['']")
    write(tmp_path, "train.csv", "primary_label,filename,secondary_labels", *rows)
    table = read_train(tmp_path, competition, CLASSES)
    assert list(table["label"]) == ["024", "", "", ""]
    assert list(table["secondary"]) == [(), (), ("24",), ()]
    # A competition may have a class of that name.
    assert list(read_train(tmp_path, competition, (*CLASSES, "nocall"))["label"]) == ["024", "", "nocall", ""]


def test_label_file_and_folders(tmp_path: Path) -> None:
    data = write_clips(tmp_path, "owl/a.wav", "nocall/b.wav")
    assert read_class_list(data, FOLDERS) == ("owl",)
    assert list(read_train(data, FOLDERS, ("owl",))["label"]) == ["", "owl"]
    write(data, "labels.csv", "filename,label", "owl/a.wav,owl", "nocall/b.wav,")
    assert read_class_list(data, FOLDERS) == ("owl",)
    assert list(read_train(data, FOLDERS, ("owl",))["label"]) == ["owl", ""]


def test_only_negatives_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", "primary_label,filename", ",1.ogg", "nocall,2.ogg")
    with pytest.raises(DataError, match="none of the 2 clips has a label"):
        read_train(tmp_path, BIRDCLEF_2025, CLASSES)


def test_targets_are_zero_and_counts_are_of_labels() -> None:
    table = clips({"a": 2, "": 3, "b": 1})
    targets, weights = make_targets(table, ("a", "b"), Data())
    assert targets.tolist() == [[1, 0]] * 2 + [[0, 0]] * 3 + [[0, 1]]
    assert (weights == 1).all()
    assert class_counts(table, ("a", "b")).tolist() == [2, 1]


def test_folds_are_those_without_negatives() -> None:
    table, data = clips({"a": 24, "b": 12, "": 30}, cuts=2), Data(n_folds=3, min_class_count=4)
    labelled = table[table["label"] != ""]
    # Two negatives are from recordings with a label.
    table.loc[table.index[-2:], "recording"] = table["recording"].iloc[0]
    fold_of = assign_folds(table, data, 0)
    np.testing.assert_array_equal(fold_of[: len(labelled)], assign_folds(labelled, data, 0))
    assert set(fold_of[36:-2]) == {NEVER_HELD_OUT}
    assert set(fold_of[-2:]) == {fold_of[0]}
    # Rare classes are repeated, negatives are not.
    rows = training_rows(clips({"a": 24, "b": 2, "": 3}), np.full(29, NEVER_HELD_OUT), None, data)
    assert np.bincount(rows).tolist() == [1] * 24 + [2] * 2 + [1] * 3


def test_sampling_takes_negatives_as_a_class() -> None:
    class_index = np.array([0] * 80 + [1] * 10 + [-1] * 10)
    order = epoch_order(np.arange(100), 0, 0, class_index=class_index, data=Data(sampling="balanced"))
    assert 15 < (class_index[order] == -1).sum() < 55


@pytest.fixture(scope="module")
def negatives(year, tmp_path_factory):
    """The small competition with four negatives, of which the last two are from a labelled recording."""
    data = tmp_path_factory.mktemp("negatives") / "data"
    shutil.copytree(year, data)
    rng, lines = np.random.default_rng(3), pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    (data / "train_audio" / "none").mkdir()
    for name in ("XC50", "XC51", "XC1000_1", "XC1000_2"):
        soundfile.write(data / "train_audio" / "none" / f"{name}.ogg", 0.1 * rng.standard_normal(3 * RATE), RATE)
        row = lines.iloc[[0]].assign(primary_label="", filename=f"none/{name}.ogg", author=name)
        lines = pd.concat([lines, row])
    lines.to_csv(data / "train.csv", index=False)
    return data


@pytest.mark.slow
def test_training_and_report(negatives, tmp_path):
    ready = prepare_data(SMALL, negatives)
    fold = next(k for k in range(3) if "none/XC1000_1.ogg" in held_out(negatives, k))
    assert len(ready.names) == 28
    assert not ready.inputs.targets[24:].any()
    run = train.train(SMALL.vary("x", fit__epochs=1), negatives, tmp_path / "run", fold=fold)
    evaluation = read_evaluation(run / "validation-best.npz")
    rows = [name.startswith("none/") for name in evaluation.ids]
    assert sum(rows) == 2
    assert not evaluation.truth[rows].any() and (evaluation.truth.sum(1)[~np.array(rows)] == 1).all()
    assert train.checkpoints.read_description(run)["n_negatives"] == 4
    text = report([run], tmp_path / "report.html").path.read_text()
    assert "28, 4 of them without a label" in text


def held_out(data: Path, fold: int) -> list[str]:
    ready = prepare_data(SMALL, data, fold=fold)
    return [ready.names[row] for row in ready.valid_rows]


def test_predicted_order_of_joined_clips(negatives):
    """Short clips are also joined with negatives, as with one more class."""
    ready = prepare_data(SMALL.vary("x", data__pad="join"), negatives, fold=None)
    chances = np.diff(ready.inputs.partners, prepend=0)
    assert chances[24:].sum() == pytest.approx(chances[:8].sum())
