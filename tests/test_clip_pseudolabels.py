"""Pseudolabels of training clips: out of fold, added where people have not labelled."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import edit_json
from test_train import SMALL

from bcsed import predict, train
from bcsed.cli import main
from bcsed.errors import ConfigError, DataError
from bcsed.models.bundle import load
from bcsed.train.checkpoints import export_run, read_description
from bcsed.train.data import TrainInputs, prepare_data
from bcsed.train.pseudolabels import Selection, read_pseudolabels, write_pseudolabels
from bcsed.train.pseudolabels.clips import make_clip_pseudolabels

SOFT = Selection(kind="soft")
QUICK = SMALL.vary("quick", fit__epochs=1)

# A competition is trained on in two folds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teachers(year, tmp_path_factory):
    """Teachers that held out the first and the second of three folds."""
    folder = tmp_path_factory.mktemp("teachers")
    return [export_run(train.train(QUICK, year, folder / f"run{k}", fold=k), folder / f"bundle{k}") for k in range(2)]


@pytest.fixture(scope="module")
def labelled(teachers, year, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "clips.parquet"
    return out, make_clip_pseudolabels(teachers, year, out, selection=SOFT)


def held_out(data, fold):
    ready = prepare_data(QUICK, data, fold=fold)
    return [ready.names[row] for row in ready.valid_rows]


def test_each_clip_is_labelled_by_the_teacher_that_held_it_out(labelled, teachers, year):
    out, table = labelled
    names = [held_out(year, fold) for fold in range(2)]
    assert sorted(table.filename) == sorted(names[0] + names[1])
    assert set(table.filename).isdisjoint(held_out(year, 2))
    for bundle, of_fold in zip(teachers, names, strict=True):
        name = of_fold[0]
        scores = predict.predict([bundle], [year / "train_audio" / name]).scores.to_numpy().max(0)
        np.testing.assert_allclose(table.values[list(table.filename).index(name)], scores, atol=1e-3)
    again = read_pseudolabels(out)
    np.testing.assert_array_equal(again.values, table.values)
    assert again.provenance["notes"] == []
    assert again.provenance["of"] == "clips" and len(again.provenance["teachers"]) == 2


def test_the_recipe_of_an_earlier_version_is_read(teachers, year):
    from bcsed.train.pseudolabels.clips import _held_out_clips

    recipe = {name: group for name, group in teachers[0].recipe.items() if name != "noise"}
    earlier = dataclasses.replace(teachers[0], recipe=recipe)
    assert set(_held_out_clips(earlier, year, 1)[0]) == set(_held_out_clips(teachers[0], year, 1)[0])


def test_a_teacher_that_was_trained_with_further_files_is_read(teachers, year):
    """With strong labels, and on labelled soundscapes that are not in the competition's folder."""
    from bcsed.train.pseudolabels.clips import _held_out_clips

    recipe = json.loads(json.dumps(teachers[0].recipe))
    recipe["fit"]["strong_weight"], recipe["data"]["soundscapes"] = 1.0, "train"
    other = dataclasses.replace(teachers[0], recipe=recipe)
    assert set(_held_out_clips(other, year, 1)[0]) == set(_held_out_clips(teachers[0], year, 1)[0])


def test_several_teachers_of_a_clip_are_averaged(teachers, year, labelled, tmp_path):
    both = make_clip_pseudolabels([teachers[0], teachers[0]], year, tmp_path / "t.parquet", selection=SOFT)
    row_of = {name: row for row, name in enumerate(labelled[1].filename)}
    first = labelled[1].values[[row_of[name] for name in both.filename]]
    np.testing.assert_allclose(both.values, first, atol=1e-3)


def test_targets_are_added_where_people_have_not_labelled(labelled, year, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    lines = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    names = list(labelled[1].filename)
    # One clip has a secondary label, another is negative.
    lines.loc[lines["filename"] == names[0], "secondary_labels"] = "['cuckoo1', 'frog1', '1139490']"
    lines.loc[lines["filename"] == names[1], "primary_label"] = ""
    lines.to_csv(data / "train.csv", index=False)
    inputs = TrainInputs(clip_pseudolabels=labelled[0])
    settings = QUICK.vary("x", data__pseudo_target=0.5, data__pseudo_loss_weight=0.25)
    plain, ready = (prepare_data(settings, data, fold=None, inputs=each) for each in (None, inputs))
    changed = ready.inputs.targets != plain.inputs.targets
    clips = [name for name, row in zip(ready.names, changed, strict=True) if row.any()]
    assert sorted(clips) == sorted(names[2:])
    assert not (changed & ready.listed).any()
    row, name = ready.names.index(names[2]), names[2]
    values = dict(zip(labelled[1].classes, labelled[1].values[names.index(name)], strict=True))
    wanted = [0.5 * values[k] if changed[row, j] else plain.inputs.targets[row, j] for j, k in enumerate(ready.classes)]
    np.testing.assert_allclose(ready.inputs.targets[row], wanted, atol=1e-3)
    assert (ready.inputs.weights[changed] == 0.25).all() and (ready.inputs.weights[~changed] == 1).all()
    assert ready.sources["clip_pseudolabels"]["targets"] == changed.sum()


def test_a_run_records_them_and_cannot_be_resumed_with_others(labelled, year, tmp_path):
    run = train.train(QUICK, year, tmp_path / "run", inputs=TrainInputs(clip_pseudolabels=labelled[0]))
    assert read_description(run)["sources"]["clip_pseudolabels"]["clips"] == len(labelled[1].filename)
    with pytest.raises(DataError, match="another training than this call"):
        train.train(QUICK, year, run, resume=True)


def test_a_resumed_teacher_with_copies_labels_the_same_clips(teachers, year, tmp_path):
    """Clips that were dropped in training have no pseudolabel."""
    data = tmp_path / "data"
    shutil.copytree(year, data)
    lines = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    first = lines["filename"].iloc[0]
    shutil.copyfile(data / "train_audio" / first, data / "train_audio" / "frog1" / "copy.ogg")
    copy = lines.iloc[[0]].assign(filename="frog1/copy.ogg")
    pd.concat([lines, copy]).to_csv(data / "train.csv", index=False)
    with pytest.raises(DataError, match=r"trained on other clips than those of .*, so its fold 0 is not known"):
        make_clip_pseudolabels(teachers, data, tmp_path / "t.parquet")
    drop = QUICK.vary("drop", data__duplicates="drop")
    bundle = export_run(train.train(drop, data, tmp_path / "run"), tmp_path / "bundle")
    table = make_clip_pseudolabels([bundle], data, tmp_path / "t.parquet", selection=SOFT)
    assert "frog1/copy.ogg" not in table.filename


class TestRefusals:
    def test_no_fold(self, teachers, year, tmp_path):
        shutil.copytree(teachers[0].path, tmp_path / "bundle")
        edit_json(tmp_path / "bundle" / "bundle.json", lambda values: values["provenance"].update(fold=None))
        with pytest.raises(
            ConfigError, match="held out no fold, so it trained on all clips; train teachers with --fold 0"
        ):
            make_clip_pseudolabels([load(tmp_path / "bundle")], year, tmp_path / "t.parquet")

    def test_other_classes(self, teachers, year, tmp_path):
        contract = replace(teachers[1].contract, classes=("a", "b", "c"))
        with pytest.raises(ConfigError, match="have other classes; use teachers of the same classes"):
            make_clip_pseudolabels([teachers[0], replace(teachers[1], contract=contract)], year, tmp_path / "t.parquet")

    def test_tables(self, labelled, land25, tmp_path, year):
        with pytest.raises(DataError, match="labels soundscapes; give it as --pseudolabels"):
            prepare_data(QUICK, year, inputs=TrainInputs(clip_pseudolabels=land25[1]))
        table = labelled[1]
        renamed = replace(table, filename=np.array([f"x{name}" for name in table.filename], object))
        write_pseudolabels(renamed, tmp_path / "x.parquet")
        with pytest.raises(DataError, match="none of the 24 clips is in the table"):
            prepare_data(QUICK, year, inputs=TrainInputs(clip_pseudolabels=tmp_path / "x.parquet"))
        with pytest.raises(DataError, match="is already there"):
            make_clip_pseudolabels([], year, labelled[0])

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["--clips", "d", "--recordings", "r"],
            ["--clips", "d", "--weights", "1"],
            ["--clips", "d", "--ensemble-mean", "logit"],
        ],
    )
    def test_arguments(self, words, capsys):
        assert main(["pseudolabel", "bundle", "--out", "t.parquet", *words]) == 2
        assert "--clips" in capsys.readouterr().err


def test_on_the_command_line(teachers, year, tmp_path, capsys):
    paths, out = [str(bundle.path) for bundle in teachers], tmp_path / "clips.parquet"
    assert main(["pseudolabel", *paths, "--clips", str(year), "--out", str(out), "--threshold", "0.05"]) == 0
    assert "of 24 clips were held out by no teacher" in capsys.readouterr().out
    words = ["--data", str(year), "--out", str(tmp_path / "run"), "--fold", "none", "--clip-pseudolabels", str(out)]
    changes = ["net.backbone=mobilenetv3_small_050", "fit.epochs=1", "fit.batch_size=6"]
    assert main(["train", "tiny", *words, "--set", *changes]) == 0
