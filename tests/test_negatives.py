"""Clips without a label: read in every layout, trained as negatives, in no count of a class."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE
from test_competition import CLASSES, write, write_clips
from test_labels import clips
from test_train import SMALL

from bcsed import train
from bcsed.cli import main
from bcsed.config.experiments import Experiment, find_experiment
from bcsed.config.recipe import Data
from bcsed.config.strict import from_dict
from bcsed.config.versions import upgrade
from bcsed.data.competitions import BIRDCLEF_2025, BIRDCLEF_2026, FOLDERS, Competition, read_class_list
from bcsed.data.label_files import add_noise, read_soundscape_labels, read_train
from bcsed.data.labels import NEVER_HELD_OUT, assign_folds, class_counts, make_targets, training_rows
from bcsed.errors import ConfigError, DataError
from bcsed.report.api import report
from bcsed.scores.evaluation import read_evaluation
from bcsed.train.augment import Injector
from bcsed.train.data import TrainInputs, prepare_data
from bcsed.train.dataset.batches import batches, epoch_order


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


def test_names_of_negatives_and_the_folder_of_noise(tmp_path: Path, caplog) -> None:
    data = write_clips(tmp_path, "owl/a.wav", "noise/b.wav", "Owl/c.wav", "background/deep/d.wav")
    assert read_class_list(data, FOLDERS) == ("Owl", "owl")
    write(data, "noise/rain.wav", "not audio")
    write(data, "noise/night/rain.wav", "not audio")
    table = read_train(data, FOLDERS, ("Owl", "owl"))
    assert dict(zip(table["filename"], table["label"], strict=True)) == {
        "Owl/c.wav": "Owl",
        "owl/a.wav": "owl",
        **dict.fromkeys(("background/deep/d.wav", "noise/b.wav", "noise/night/rain.wav", "noise/rain.wav"), ""),
    }
    assert all(Path(path).is_file() for path in table["path"])
    assert table["recording"].is_unique
    assert "2 clips labelled background, noise are negatives" in caplog.text
    # A name in the class list is a class.
    write(data, "classes.txt", "noise", "owl", "Owl", "background")
    assert list(read_train(data, FOLDERS, read_class_list(data, FOLDERS))["label"]).count("noise") == 1
    write(data, "noise/b.wav", "not audio")
    with pytest.raises(DataError, match=r"'noise/b.wav' is the name of a clip too"):
        read_train(data, FOLDERS, read_class_list(data, FOLDERS))


def test_noise_that_cannot_be_used(tmp_path: Path) -> None:
    data = write_clips(tmp_path / "data", "owl/a.wav")
    table = read_train(data, FOLDERS, ("owl",))
    with pytest.raises(DataError, match="there is no such file or folder"):
        add_noise(table, tmp_path / "absent")
    write(data, "noise/notes.txt", "text")
    with pytest.raises(DataError, match="no recordings in this folder"):
        read_train(data, FOLDERS, ("owl",))
    (data / "noise" / "notes.txt").rename(data / "noise" / "n.wav")
    assert list(read_train(data, FOLDERS, ("owl",))["filename"]) == ["owl/a.wav", "noise/n.wav"]


def test_rows_of_soundscapes_without_a_label(tmp_path: Path) -> None:
    rows = ("a.ogg,0,5,024", "a.ogg,5,10,", "a.ogg,10,15,nocall", "a.ogg,15,20,noise", "a.ogg,10,15,nocall")
    path = tmp_path / "labels.csv"
    write(tmp_path, "labels.csv", "filename,start,end,primary_label", *rows)
    assert list(read_soundscape_labels(path, CLASSES)["labels"]) == [("024",), (), (), ()]
    assert read_soundscape_labels(path, (*CLASSES, "noise"))["labels"].iloc[3] == ("noise",)
    write(tmp_path, "labels.csv", "filename,start,end,primary_label", "a.ogg,0,5,024;nocall")
    with pytest.raises(DataError, match=r"'024;nocall', of a class and of none"):
        read_soundscape_labels(path, CLASSES)
    write(tmp_path, "labels.csv", "filename,start,end,primary_label", "a.ogg,0,5,quiet")
    with pytest.raises(DataError, match="not among the"):
        read_soundscape_labels(path, CLASSES)


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
    # Rare classes are repeated, and negatives up to their share.
    rows = training_rows(clips({"a": 24, "b": 2, "": 3}), np.full(29, NEVER_HELD_OUT), None, data)
    assert np.bincount(rows).tolist() == [1] * 24 + [2] * 2 + [1] * 3
    half = Data(n_folds=3, min_class_count=4, negative_share=0.5)
    rows = training_rows(clips({"a": 24, "b": 2, "": 3}), np.full(29, NEVER_HELD_OUT), None, half)
    assert np.bincount(rows).tolist() == [1] * 24 + [2] * 2 + [10, 9, 9]
    assert len(training_rows(clips({"a": 4}), np.full(4, NEVER_HELD_OUT), None, half)) == 4
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=r"negative_share must be in \[0, 1\)"):
            Data(negative_share=share)


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


def test_noise_is_a_background_and_a_negative(negatives, tmp_path, rng):
    for name, seconds in (("long", 30), ("short", 2)):
        (tmp_path / "hum").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "hum" / f"{name}.wav", 0.1 * rng.standard_normal(seconds * RATE), RATE)
    inputs = TrainInputs(noise=tmp_path / "hum")
    ready, before = prepare_data(SMALL, negatives, inputs=inputs), prepare_data(SMALL, negatives)
    assert ready.names[28:] == ["hum/long.wav", "hum/short.wav"]
    assert not ready.inputs.targets[24:].any() and (ready.inputs.weights[24:] == 1).all()
    assert {28, 29} <= set(ready.train_rows) and not {28, 29} & set(ready.valid_rows)
    assert (ready.clips_sha256, ready.labels_sha256) == (before.clips_sha256, before.labels_sha256)
    assert "noise" in ready.sources and "noise" not in before.sources
    # A negative of a held-out recording is no background.
    (sampler, inject), held = ready.inputs.injectors[0], set(ready.valid_rows)
    assert len(sampler.clips.recordings) == 6 - len({26, 27} & held)
    assert inject.share == 0.25 and np.bincount(sampler.file)[-2:].tolist() == [4, 1]
    for seed in range(20):
        clip = sampler.sample(inject, -1, np.random.default_rng(seed))
        assert not clip.targets.any() and (clip.weights == 1).all() and np.abs(clip.wave).max() > 0
    assert not prepare_data(SMALL.vary("x", noise__share=0.0), negatives, inputs=inputs).inputs.injectors


def test_a_background_changes_no_label_and_may_follow_another_excerpt(negatives):
    experiment = SMALL.vary("x", noise__share=1.0)
    ready = prepare_data(experiment, negatives, fold=None)
    sampler, inject = ready.inputs.injectors[0]
    both = replace(ready.inputs, injectors=((sampler, replace(inject, share=0.5)), (sampler, inject)))
    (batch,) = batches(both, np.arange(4), batch_size=4, crop="first", seed=0, epoch=0)
    assert [len(each.sample_index) for each in batch.excerpts] == [2, 4]
    generator = torch.Generator().manual_seed(0)
    mixed = Injector(inject)(batch.clips, batch.excerpts[1], generator)
    assert torch.equal(mixed.targets, batch.clips.targets) and torch.equal(mixed.weights, batch.clips.weights)
    noise = (mixed.waves - batch.clips.waves).square().mean(1).sqrt() / batch.clips.waves.square().mean(1).sqrt()
    assert (noise > 0.15).all() and (noise < 0.85).all()


def test_mistakes_about_noise(negatives, tmp_path, capsys):
    words = ["train", "tiny", "--data", str(negatives), "--out", str(tmp_path / "run"), "--pretrained", "none"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.wav").write_bytes(b"RIFF")
    for folder, sentence in (("absent", "no such file"), ("empty", "no recordings"), ("damaged", "cannot be read")):
        assert main([*words, "--noise", str(tmp_path / folder)]) == 2
        assert sentence in capsys.readouterr().err
    for change in ("noise.share=2", "noise.mode=loud", "data.negative_share=1", "noise.gain=[0,1]"):
        assert main([*words, "--set", change]) == 2
        assert "must" in (text := capsys.readouterr().err) or "loud" in text
    assert not (tmp_path / "run").exists()


def test_older_recipes_have_no_backgrounds():
    recipe = find_experiment("tiny").recipe
    older = {name: dict(group) for name, group in recipe.items() if name != "noise"}
    del older["data"]["negative_share"]
    upgraded = upgrade(older)
    assert upgraded["noise"]["share"] == 0 and upgraded["data"]["negative_share"] == 0
    from_dict(Experiment, {"name": "x", **upgraded, "private_lb": "", "public_lb": "", "note": ""})


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


def test_one_class_and_negatives_have_no_validation_but_are_trained(tmp_path, rng, caplog) -> None:
    for name in [*(f"owl/{k}.wav" for k in range(9)), *(f"noise/{k}.wav" for k in range(3))]:
        (tmp_path / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "audio" / name, 0.1 * rng.standard_normal(6 * RATE), RATE)
    run = train.train(SMALL, tmp_path, tmp_path / "run", options=train.TrainOptions(jobs=2))
    table = pd.read_csv(run / "metrics.csv")
    assert len(table) == SMALL.fit.epochs and "clip_auc" not in table and "clip_lrap" in table
    assert "no class has held-out clips both with and without it" in caplog.text
    assert train.load_run(run).provenance["checkpoint"] == "last"
    assert report([run], tmp_path / "report.html").path.is_file()
