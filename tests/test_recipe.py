"""The full recipe of a training: soundscapes, label knobs, moving average, distillation, several processes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import edit_json
from test_train import SMALL, same, states

from bcsed import train
from bcsed.cli.app import main
from bcsed.config.contract import Contract
from bcsed.config.recipe import Fit
from bcsed.data.competitions import detect_competition, site_of
from bcsed.errors import ConfigError, DataError
from bcsed.models.network import SedNet
from bcsed.train import soundscapes
from bcsed.train.augment import make_augmentations
from bcsed.train.checkpoints import read_description
from bcsed.train.data import require_same_data
from bcsed.train.dataset.batches import batches
from bcsed.train.distributed import Distributed, join_processes
from bcsed.train.loop import Loop
from bcsed.train.losses import criterion
from bcsed.train.soundscapes import split_soundscapes

TAUGHT = SMALL.vary("taught", pseudo__share=0.5, augment__mix="off", fit__epochs=1)
ALONE = Distributed(0, 1, torch.device("cpu"))


@pytest.fixture
def loop_of(land25, tmp_path):
    data, table = land25

    def make(experiment):
        ready = train.prepare_data(experiment, data, fold=None, inputs=train.TrainInputs(pseudolabels=table))
        contract = Contract(frontend=experiment.frontend, net=experiment.net, classes=ready.classes)
        torch.manual_seed(0)
        network = SedNet(experiment.frontend, experiment.net, len(ready.classes))
        return Loop(experiment, contract, ready, network, ALONE, tmp_path, train.TrainOptions(jobs=1))

    return make


def augment_batch(loop):
    """Return a batch as read, and with its augmentations."""
    order, fit = loop._order(0), loop.fit
    feed = batches(loop.data.inputs, order, batch_size=fit.batch_size, crop="random", seed=0, epoch=0, jobs=1)
    batch = next(feed)
    feed.close()
    mix = make_augmentations(loop.experiment.augment, 80.0, 0)
    with torch.no_grad():
        return batch, loop._augment(batch, mix, torch.Generator().manual_seed(1))[0]


@pytest.mark.parametrize("loss", ["bce", "focal"])
@pytest.mark.parametrize("weight", [1.0, 0.6, 0.1])
@pytest.mark.slow
def test_the_weight_of_a_pseudolabel_reaches_the_gradient(loop_of, loss, weight):
    """From the table, through loader and injector: w times the gradient where only a pseudolabel is positive."""

    def gradient(w):
        loop = loop_of(TAUGHT.vary("x", data__pseudo_loss_weight=w, fit__loss=loss, data__secondary_target=None))
        batch, augmented = augment_batch(loop)
        logits = torch.linspace(-1, 1, 6 * 4 * 3).reshape(6, 4, 3).requires_grad_()
        attention = torch.zeros_like(logits)
        criterion(logits, attention, augmented.targets, augmented.weights, fit=loop.fit, kind="prob").backward()
        only = (augmented.targets > 0) & (batch.clips.targets == 0)
        return logits.grad, only, augmented

    full, only, _ = gradient(1.0)
    part, _, augmented = gradient(weight)
    assert 1 <= int(only.sum()) < only.numel() / 2
    expected = full * torch.where(only, weight, 1.0)[:, None]
    torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-8)
    assert torch.equal(augmented.weights[only].unique(), torch.tensor([weight]).unique())


def test_targets_of_human_labels_and_of_pseudolabels(loop_of):
    changes = {"data__label_target": 0.8, "data__pseudo_target": 0.9}
    batch, hard = augment_batch(loop_of(TAUGHT.vary("x", **changes)))
    only = (hard.targets > 0) & (batch.clips.targets == 0)
    assert set(hard.targets[only].tolist()) == {np.float32(0.9)}
    assert set(batch.clips.targets[batch.clips.targets > 0].tolist()) == {np.float32(0.8)}
    _, soft = augment_batch(loop_of(TAUGHT.vary("x", data__pseudo_soft=True, **changes)))
    assert ((soft.targets[only] < 0.9) & (soft.targets[only] >= 0.44)).all()


def test_pseudolabels_are_bound_by_name(land25):
    """The table's columns stand in another order than the classes."""
    data, table = land25
    ready = train.prepare_data(TAUGHT, data, fold=None, inputs=train.TrainInputs(pseudolabels=table))
    ((source, _),) = ready.inputs.injectors
    assert ready.classes == ("1139490", "cuckoo1", "frog1")
    expected = (np.arange(24) // 4 + np.arange(24) % 4) % 3
    assert np.array_equal(source.values.argmax(1), expected)


def test_files_that_are_needed_or_not(land25, year, tmp_path):
    data, table = land25
    with pytest.raises(ConfigError, match=r"50% of its batches: give them as --pseudolabels FILE"):
        train.prepare_data(TAUGHT, data)
    with pytest.raises(ConfigError, match=r"small would not read .*pl\.parquet: --set pseudo.share"):
        train.prepare_data(SMALL, data, inputs=train.TrainInputs(pseudolabels=table))
    with pytest.raises(ConfigError, match=r"give them as --teacher FILE"):
        train.prepare_data(SMALL.vary("x", fit__distil_weight=1.0), data)
    with pytest.raises(ConfigError, match=r"set fit.distil_weight above 0"):
        train.prepare_data(SMALL, data, inputs=train.TrainInputs(teacher=[table]))
    with pytest.raises(DataError, match=r"6 of 6 pseudolabelled recordings are not in .*train_soundscapes"):
        empty = tmp_path / "data"
        import shutil

        shutil.copytree(year, empty)
        (empty / "train_soundscapes").mkdir()
        shutil.copy(empty / "test_soundscapes" / "soundscape_0.ogg", empty / "train_soundscapes" / "other.ogg")
        train.prepare_data(TAUGHT, empty, inputs=train.TrainInputs(pseudolabels=table))
    for site in ("north", "south"):
        shutil.copytree(data / "train_soundscapes", empty / "train_soundscapes" / site)
    with pytest.raises(DataError, match=r"6 of 6 pseudolabelled recordings are several times in .*train_soundscapes"):
        train.prepare_data(TAUGHT, empty, inputs=train.TrainInputs(pseudolabels=table))
    with pytest.raises(ConfigError, match=r"unlabelled.share 0.25 are together more than 1"):
        SMALL.vary("x", labelled__share=0.9, fit__distil_weight=1.0)
    with pytest.raises(ConfigError, match=r"labelled.share 0.6 are together more than 1"):
        TAUGHT.vary("x", labelled__share=0.6)
    with pytest.raises(ConfigError, match="cannot be selected by class"):
        TAUGHT.vary("x", data__pseudo_source="online", pseudo__mode="substitute")
    with pytest.raises(DataError, match=r"has no labelled soundscapes, but data\.soundscapes=split"):
        train.prepare_data(SMALL.vary("x", data__soundscapes="split"), data)


def test_a_soft_table_is_not_used_as_hard_labels(land25, tmp_path):
    from bcsed.train import pseudolabels as pseudolabel

    data, table = land25
    soft = dataclasses.replace(
        pseudolabel.read_pseudolabels(table), provenance={"selection": {"kind": "soft"}, "teachers": []}
    )
    pseudolabel.write_pseudolabels(soft, tmp_path / "soft.parquet")
    with pytest.raises(DataError, match=r"would label every class as present everywhere: set data\.pseudo_soft=true"):
        train.prepare_data(TAUGHT, data, inputs=train.TrainInputs(pseudolabels=tmp_path / "soft.parquet"))


def everything(land25, tmp_path):
    """Return an experiment in which everything with a state is used, and its files."""
    data, table = land25
    listed = pd.read_csv(data / "train.csv", dtype=str)["filename"]
    vectors = np.random.default_rng(0).standard_normal((len(listed), 5))
    np.savez(tmp_path / "e.npz", clip=listed.to_numpy(str), start_s=np.zeros(len(listed)), vector=vectors)
    experiment = TAUGHT.vary(
        "everything",
        fit__epochs=2,
        fit__ema=0.9,
        fit__clip_norm=1.0,
        fit__distil_weight=0.5,
        fit__loss="auc",
        augment__mix="mixup",
        data__sampling="sqrt",
        data__max_per_class=6,
        pseudo__mode="substitute",
        pseudo__cap=0.9,
    )
    return experiment, data, train.TrainInputs(pseudolabels=table, teacher=[tmp_path / "e.npz"])


class StopError(Exception):
    pass


def stop_at(step):
    def progress(epoch, done, steps, loss):
        if epoch * steps + done == step:
            raise StopError

    return progress


@pytest.mark.slow
def test_a_resumed_training_of_everything_is_bit_for_bit_the_same(land25, tmp_path):
    experiment, data, inputs = everything(land25, tmp_path)
    complete = train.train(experiment, data, tmp_path / "whole", inputs=inputs)
    for step in (2, 4):
        out = tmp_path / f"stopped-{step}"
        with pytest.raises(StopError):
            options = train.TrainOptions(checkpoint_min=0)
            train.train(experiment, data, out, progress=stop_at(step), inputs=inputs, options=options)
        train.train(experiment, data, out, resume=True, inputs=inputs)
        assert same(states(complete), states(out))
        assert (complete / "validation-best.npz").read_bytes() == (out / "validation-best.npz").read_bytes()


def test_resuming_with_other_pseudolabels_is_refused(land25, tmp_path):
    from bcsed.train import pseudolabels as pseudolabel

    data, table = land25
    run = train.train(TAUGHT, data, tmp_path / "run", inputs=train.TrainInputs(pseudolabels=table))
    other = pseudolabel.read_pseudolabels(table)
    pseudolabel.write_pseudolabels(dataclasses.replace(other, values=other.values / 2), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"cannot be resumed: .* \(sources\.pseudolabels\.sha256: "):
        train.train(TAUGHT, data, run, inputs=train.TrainInputs(pseudolabels=tmp_path / "other.parquet"), resume=True)


@pytest.mark.slow
def test_the_moving_average_is_saved(land25, tmp_path):
    experiment, data, inputs = everything(land25, tmp_path)
    state = states(train.train(experiment, data, tmp_path / "run", inputs=inputs))
    name = "features.1.weight"
    assert not torch.equal(state["model"][name], state["raw"][f"network.{name}"])
    assert state["averaged"] == 2 * 2
    # Statistics of BatchNorm are the network's own.
    assert torch.equal(state["model"]["norm.running_mean"], state["raw"]["network.norm.running_mean"])
    best = train.load_run(tmp_path / "run", "last").network
    assert torch.equal(best.features[1].weight, state["model"][name])


def test_the_average_is_the_formula(loop_of):
    loop = loop_of(TAUGHT.vary("x", fit__ema=0.75))
    batch, _ = augment_batch(loop)
    mix = make_augmentations(loop.experiment.augment, 80.0, 0)
    weights = []
    for _ in range(3):
        loop._train_step(batch, mix)
        loop.step += 1
        weights.append(loop.network.features[1].weight.detach().clone())
    expected = weights[0]
    for weight in weights[1:]:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(loop.validated_network.features[1].weight, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_weights_of_the_last_epochs_are_averaged(land25, tmp_path):
    data, _ = land25
    experiment = SMALL.vary("x", fit__epochs=3, fit__swa_epochs=2)
    weights, name = [], "features.1.weight"

    def after(values):
        weights.append(states(tmp_path / "run")["raw"][f"network.{name}"])

    run = train.train(experiment, data, tmp_path / "run", epoch_done=after)
    state = states(run)
    assert state["averaged"] == 2
    torch.testing.assert_close(state["model"][name], (weights[1] + weights[2]) / 2)
    assert torch.equal(state["model"]["norm.running_mean"], state["raw"]["network.norm.running_mean"])
    best = torch.load(run / "best.pt", weights_only=True)
    assert best["model"].keys() == state["model"].keys()


def test_a_frozen_backbone_does_not_change(loop_of):
    loop = loop_of(TAUGHT.vary("x", fit__freeze_epochs=1, fit__epochs=2))
    batch, _ = augment_batch(loop)
    mix = make_augmentations(loop.experiment.augment, 80.0, 0)
    before = {name: value.clone() for name, value in loop.network.state_dict().items()}

    def changed():
        state = loop.network.state_dict()
        return {name.split(".")[0] for name in before if not torch.equal(before[name], state[name])}

    loop._start_epoch()
    # Labels of the network in training are computed in evaluation; the backbone stays frozen after it.
    loop._pseudolabel(batch.excerpts[0])
    assert not loop.network.backbone.training and loop.network.heads.training
    loop._train_step(batch, mix)
    assert changed() == {"norm", "features", "heads"}
    loop.epoch = 1
    loop._start_epoch()
    loop._train_step(batch, mix)
    assert "backbone" in changed()


def test_soundscapes_without_labels_follow_the_teacher(land25, tmp_path, caplog):
    """They replace clips while the teacher is followed; of their classes nothing is known."""
    data, table = land25
    clips = list(pd.read_csv(data / "train.csv", dtype=str)["filename"])
    soundscapes = sorted(path.name for path in (data / "train_soundscapes").iterdir())
    names = np.array([*clips, *soundscapes[1:], "elsewhere.ogg"])
    vectors = np.eye(len(names), dtype="float32")
    np.savez(tmp_path / "e.npz", clip=names, start_s=np.zeros(len(names)), vector=vectors)
    np.savez(tmp_path / "clips.npz", clip=names[:24], start_s=np.zeros(24), vector=vectors[:24])
    np.savez(tmp_path / "other.npz", clip=names[[*range(24), -1]], start_s=np.zeros(25), vector=vectors[:25])
    own = SMALL.vary("x", fit__distil_weight=1.0, fit__distil_epochs=1, augment__mix="off", unlabelled__share=0.5)

    def prepare(experiment, file="e.npz", **more):
        inputs = train.TrainInputs(teacher=[tmp_path / file], **more)
        return train.prepare_data(experiment, data, fold=None, inputs=inputs)

    ready = prepare(own)
    assert ready.sources["teacher"]["soundscapes"] == len(soundscapes) - 1
    contract = Contract(frontend=own.frontend, net=own.net, classes=ready.classes)
    network = SedNet(own.frontend, own.net, len(ready.classes))
    loop = Loop(own, contract, ready, network, ALONE, tmp_path, train.TrainOptions(jobs=1))
    batch, mixed = augment_batch(loop)
    (excerpts,) = batch.excerpts
    replaced = excerpts.sample_index
    assert len(replaced) == 3
    assert not mixed.weights[replaced].any() and not mixed.targets[replaced].any()
    assert (mixed.weights.sum(1) > 0).sum() == 3
    assert torch.equal(mixed.embeddings[replaced], excerpts.embeddings)
    assert set(excerpts.embeddings.argmax(1).tolist()) <= set(range(24, len(names) - 1))
    # A matched level: as loud as the clip that it replaces.
    peaks = mixed.waves.abs().amax(1)
    np.testing.assert_allclose(peaks, 1.0, atol=1e-4)
    before = loop._inputs().injectors
    loop.epoch = 1
    ((sampler, inject),) = loop._inputs().injectors
    assert (sampler, inject.share) == (before[0][0], 0.0) and before[0][1].share == 0.5
    # Clips alone, no share, pseudolabelled soundscapes, which follow the teacher themselves, and unknown names.
    assert not prepare(own, "clips.npz").inputs.injectors
    assert not prepare(own.vary("x", unlabelled__share=0.0)).inputs.injectors
    taught = prepare(own.vary("x", pseudo__share=0.5), pseudolabels=table)
    assert [inject.mode for _, inject in taught.inputs.injectors] == ["background"]
    assert not prepare(own, "other.npz").inputs.injectors
    assert "none of the 1 other files with an embedding is a soundscape to train on" in caplog.text


def test_soundscapes_of_one_name_are_those_of_their_folder(land25, tmp_path):
    """An embedding, a label or a pseudolabel of a recording is not that of another one with the same name."""
    data, _ = land25
    source = sorted((data / "train_soundscapes").iterdir())[0]
    for site in ("north", "south"):
        (tmp_path / "land" / site).mkdir(parents=True)
        shutil.copy(source, tmp_path / "land" / site)
    split = split_soundscapes(data, detect_competition(data), ("a",), SMALL.data, None)
    split = dataclasses.replace(split, folder=tmp_path / "land")
    both = {f"north/{source.name}", f"south/{source.name}"}

    def used(names, split=split):
        infos = soundscapes._read_unlabelled(split, names)
        sites = [Path(info.path).parent.name for info in infos]
        names = soundscapes._teacher_of(infos, split, SimpleNamespace(of=list))
        assert names == [f"{site}/{source.name}" for site in sites]
        return sites

    assert used(None) == used(both) == ["north", "south"]
    assert used({f"south/{source.name}"}) == ["south"]
    assert used({source.name}) == []
    assert used(None, dataclasses.replace(split, labelled=frozenset({f"north/{source.name}"}))) == ["south"]


@pytest.mark.slow
def test_distillation_ends_after_its_epochs(land25, tmp_path):
    data, _ = land25
    names = pd.read_csv(data / "train.csv", dtype=str)["filename"].to_numpy(str)
    np.savez(tmp_path / "e.npz", clip=names, start_s=np.zeros(24), vector=np.eye(3)[np.arange(24) % 3])
    experiment = SMALL.vary(
        "x", fit__distil_weight=100.0, fit__distil_epochs=1, fit__epochs=2, augment__mix="off", fit__lr_start=1e-5
    )
    inputs = train.TrainInputs(teacher=[tmp_path / "e.npz"])
    run = train.train(experiment, data, tmp_path / "run", fold=None, inputs=inputs)
    first, second = pd.read_csv(run / "metrics.csv")["loss"]
    assert first > 20 > 5 > second


def test_a_clipped_gradient_has_the_norm_at_most(loop_of, monkeypatch):
    norms = []
    loop = loop_of(TAUGHT.vary("x", fit__clip_norm=0.01))
    step = loop.optimizer.step

    def watch(*args, **options):
        norms.append(torch.cat([p.grad.flatten() for p in loop.student.parameters() if p.grad is not None]).norm())
        return step(*args, **options)

    monkeypatch.setattr(loop.optimizer, "step", watch)
    batch, _ = augment_batch(loop)
    loop._train_step(batch, make_augmentations(loop.experiment.augment, 80.0, 0))
    assert float(norms[0]) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.slow
def test_distillation_reduces_the_distance_to_the_teacher(land25, tmp_path):
    """Each class has an embedding of its own; the distance falls, and falls only where it counts."""
    data, _ = land25
    listed = pd.read_csv(data / "train.csv", dtype=str)
    class_index = pd.factorize(listed["primary_label"])[0]
    np.savez(
        tmp_path / "e.npz",
        clip=listed["filename"].to_numpy(str),
        start_s=0.0 * class_index,
        vector=np.eye(3)[class_index],
    )
    ratio = {}
    for weight in (0.001, 5.0):
        experiment = SMALL.vary("x", fit__distil_weight=weight, fit__epochs=4, fit__lr=5e-3, augment__mix="off")
        inputs = train.TrainInputs(teacher=[tmp_path / "e.npz"])
        run = train.train(experiment, data, tmp_path / str(weight), fold=None, inputs=inputs)
        table = pd.read_csv(run / "metrics.csv")["loss"] / weight
        ratio[weight] = table.iloc[-1] / table.iloc[0]
        sources = json.loads((run / "run.json").read_text())["sources"]
        assert sources["teacher"]["clips"] == 24
    assert ratio[5.0] < 0.9


@pytest.mark.slow
def test_online_labels_grow_and_have_a_floor(land25, tmp_path):
    data, _ = land25
    experiment = SMALL.vary(
        "x",
        data__pseudo_source="online",
        data__in_situ_weight=(0.0, 1.0),
        data__in_situ_floor=0.3,
        data__pseudo_loss_weight=0.5,
        augment__mix="off",
        pseudo__share=1.0,
        fit__epochs=3,
    )
    ready = train.prepare_data(experiment, data, fold=None)
    contract = Contract(frontend=experiment.frontend, net=experiment.net, classes=ready.classes)
    network = SedNet(experiment.frontend, experiment.net, 3)
    loop = Loop(experiment, contract, ready, network, ALONE, tmp_path, train.TrainOptions())
    batch, first = augment_batch(loop)
    # Nothing yet: the weight of the first epoch is 0.
    assert torch.equal(first.targets, batch.clips.targets)
    assert (first.waves != batch.clips.waves).any(1).all()
    loop.epoch = 2
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    _, last = augment_batch(loop)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    gained = last.targets > batch.clips.targets
    assert gained.any()
    new = gained & (batch.clips.targets == 0)
    assert (last.targets[new] >= 0.3).all()
    assert (last.weights[new] == 0.5).all()
    assert (last.targets <= 1).all()
    # And it trains.
    train.train(experiment.vary("x", fit__epochs=1), data, tmp_path / "run", fold=None)


def test_sites_are_held_out_completely(land26):
    split = SMALL.vary("x", data__soundscapes="split", data__n_folds=3)
    sites = set()
    for fold in range(3):
        ready = train.prepare_data(split, land26, fold=fold)
        valid = {site_of(info.path.name, ready.competition) for info in ready.soundscapes}
        learned = {site_of(info.path.name, ready.competition) for info in ready.inputs.labelled.clips.recordings}
        assert len(valid) == 1
        assert not valid & learned
        assert len(ready.row_truth) == 4
        assert len(ready.inputs.labelled) == 8
        # Each labelled row is in the epoch once, after the clips.
        n = len(ready.names)
        assert sorted(ready.train_rows[ready.train_rows >= n] - n) == list(range(8))
        sites |= valid
    assert sites == {"S01", "S02", "S03"}
    every = train.prepare_data(split, land26, fold=None)
    assert (len(every.inputs.labelled), every.soundscapes) == (12, [])
    twice = train.prepare_data(split.vary("x", data__soundscape_repeats=2), land26, fold=None)
    assert (twice.train_rows >= 24).sum() == 24
    default = train.prepare_data(SMALL, land26, fold=0)
    assert (default.inputs.labelled, len(default.soundscapes), len(default.row_truth)) == (None, 3, 12)


def test_labelled_rows_that_nothing_would_read_are_refused(land26):
    experiment = SMALL.vary("x", data__soundscapes="train", data__soundscape_repeats=0)
    with pytest.raises(ConfigError, match=r"x would not train on labelled soundscapes.*soundscape_repeats"):
        train.prepare_data(experiment, land26)
    injected = experiment.vary("x", labelled__share=0.2)
    ready = train.prepare_data(injected, land26, options=train.TrainOptions(cache_gb=1.0))
    ((sampler, _),) = ready.inputs.injectors
    assert sampler.clips.free_bytes == ready.inputs.clips.free_bytes == 2**29


def test_labels_beyond_a_recording_and_labels_that_change(land26, tmp_path, caplog):
    data = tmp_path / "data"
    shutil.copytree(land26, data)
    labels = data / "train_soundscapes_labels.csv"
    experiment = SMALL.vary("x", fit__epochs=1)
    run = train.train(experiment, data, tmp_path / "run", fold=None)
    require_same_data(read_description(run), data, train.TrainInputs(), run)
    name = labels.read_text().splitlines()[1].split(",")[0]
    labels.write_text(labels.read_text() + f"{name},00:00:20,00:00:25,frog1\n")
    ready = train.prepare_data(experiment, data, fold=None)
    assert len(ready.row_truth) == 12
    assert f"1 labelled rows begin after the end of their recording, in {name} first" in caplog.text
    with pytest.raises(DataError, match=r"was trained with other files \(soundscape_labels\)"):
        require_same_data(read_description(run), data, train.TrainInputs(), run)
    with pytest.raises(DataError, match="cannot be resumed"):
        train.train(experiment, data, run, fold=None, resume=True)
    # Earlier versions did not record these labels.
    edit_json(run / "run.json", lambda values: values["sources"].pop("soundscape_labels"))
    require_same_data(read_description(run), data, train.TrainInputs(), run)
    train.train(experiment, data, run, fold=None, resume=True)


def test_validation_recordings_are_not_pseudolabelled(land26, land25):
    _, table = land25
    split = TAUGHT.vary("x", data__soundscapes="split", data__n_folds=3)
    ready = train.prepare_data(split, land26, fold=0, inputs=train.TrainInputs(pseudolabels=table))
    held = {site_of(info.path.name, ready.competition) for info in ready.soundscapes}
    ((source, _),) = ready.inputs.injectors
    names = {info.path.name for info in source.clips.recordings}
    assert held == {"S01"}
    # Of the six, three are labelled, and the site of one more is held out.
    assert {site_of(name, ready.competition) for name in names} == {"S04"}
    ready = train.prepare_data(TAUGHT, land26, fold=0, inputs=train.TrainInputs(pseudolabels=table))
    ((source, _),) = ready.inputs.injectors
    assert {site_of(info.path.name, ready.competition) for info in source.clips.recordings} == {"S01", "S04"}


def test_training_on_labelled_soundscapes(land26, land25, tmp_path):
    _, table = land25
    experiment = TAUGHT.vary(
        "x", data__soundscapes="split", data__n_folds=3, labelled__share=0.25, labelled__mode="substitute"
    )
    inputs = train.TrainInputs(pseudolabels=table)
    run = train.train(experiment, land26, tmp_path / "run", fold=1, inputs=inputs)
    assert pd.read_csv(run / "metrics.csv")["row_classes"].tolist() == [3]
    with np.load(run / "validation-last.npz") as answers:
        assert str(answers["kind"]) == "rows"
        assert answers["truth"].shape == answers["scores"].shape == (4, 3)
        assert len(set(answers["files"])) == 1
    sources = json.loads((run / "run.json").read_text())["sources"]
    assert sources["labelled_rows"] == 8
    with pytest.raises(DataError, match=r"none are for training: set data.soundscapes=split or train"):
        train.prepare_data(experiment.vary("x", data__soundscapes="validate"), land26, inputs=inputs)


def test_labels_of_missing_recordings(land26, tmp_path, caplog):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(land26, data)
    missing = next((data / "train_soundscapes").glob("*_S02_*"))
    missing.unlink()
    split = split_soundscapes(
        data, train.prepare_data(SMALL, land26).competition, ("1139490", "cuckoo1", "frog1"), SMALL.data, 0
    )
    assert len(split.valid) == 2
    assert "1 of 3 labelled soundscapes are not on disk" in caplog.text


@pytest.mark.slow
def test_starting_from_an_earlier_run(year, tmp_path):
    first = train.train(SMALL.vary("x", fit__epochs=1), year, tmp_path / "first")
    still = SMALL.vary("x", fit__epochs=1, fit__lr=1e-6, fit__lr_start=1e-6)
    second = train.train(still, year, tmp_path / "second", inputs=train.TrainInputs(pretrained=first))
    assert "loaded from run first/best.pt: 255 tensors" in (second / "start.txt").read_text()
    start, end = (train.load_run(run, "last").network.state_dict()["features.1.weight"] for run in (first, second))
    torch.testing.assert_close(start, end, atol=1e-4, rtol=0)
    assert json.loads((second / "run.json").read_text())["start"] == "weights of first"


def join(target, args, rank, port, log):
    """Be one of two processes, as torchrun starts them."""
    ranks = {"RANK": f"{rank}", "LOCAL_RANK": f"{rank}", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ.update(ranks, MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}")
    with Path(f"{log}-{rank}").open("w") as stream, contextlib.redirect_stdout(stream):
        sys.exit(target(*args))


def run_two(forkserver, log, target, *args):
    """Run a function in two processes that train together; return what each prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        forkserver.Process(target=join, args=(target, args, rank, port, log), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return [Path(f"{log}-{rank}").read_text() for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_one_network(land25, tmp_path, forkserver):
    """Forked ones; test_kaggle.py and test_interrupt.py start them by torchrun."""
    data, table = land25
    words = ["train", "tiny", "--data", data, "--fold", 0, "--pseudolabels", table, "--jobs", 1, "--device", "cpu"]
    changes = ["net.backbone=mobilenetv3_small_050", "fit.epochs=2", "data.min_class_count=2", "data.n_folds=3"]
    words += ["--set", *changes, "pseudo.share=0.5", "fit.batch_size=4", "fit.ema=0.9", "data.pad=zeros", "--out"]
    first, second = (
        run_two(forkserver, tmp_path / "log", main, [*map(str, words), str(tmp_path / name)]) for name in ("a", "b")
    )
    # Only the first process prints.
    assert first[0].count("epoch 1/2") == second[0].count("epoch 1/2") == 1
    assert first[1] == second[1] == ""
    assert train.finished(tmp_path / "a")
    table = pd.read_csv(tmp_path / "a" / "metrics.csv")
    assert (table["clip_classes"] == 3).all()
    assert same(states(tmp_path / "a"), states(tmp_path / "b"))
    # test_kaggle.py sees two processes refuse it.
    with pytest.raises(ConfigError, match="2 processes cannot share a batch of 3 equally"):
        Distributed(0, 2, torch.device("cpu")).check(3)


def take_step(path):
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(8, 6, generator=generator), (torch.rand(8, 3, generator=generator) > 0.5).float()
    with join_processes("cpu") as processes:
        torch.manual_seed(0)
        net = torch.nn.Linear(6, 3)
        trained = torch.nn.parallel.DistributedDataParallel(net) if processes.size > 1 else net
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        low, high = processes.rank * 8 // processes.size, (processes.rank + 1) * 8 // processes.size
        logits = trained(x[low:high])[:, None]
        attention, weights = torch.zeros_like(logits), torch.ones(high - low, 3)
        loss = criterion(logits, attention, target[low:high], weights, fit=Fit(), kind="prob")
        loss.backward()
        optimizer.step()
        value = processes.mean(loss)
        if processes.first:
            torch.save({"weight": net.weight.data, "loss": value}, path)


@pytest.mark.slow
def test_one_step_of_two_processes_is_the_step_of_one(tmp_path, forkserver):
    """The mean of two half batches' gradients is the whole batch's: without BatchNorm, the same network."""
    take_step(tmp_path / "one")
    run_two(forkserver, tmp_path / "log", take_step, tmp_path / "two")
    single, double = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    torch.testing.assert_close(single["weight"], double["weight"], rtol=1e-5, atol=1e-7)
    assert single["loss"] == pytest.approx(double["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "no device 'gpu' for training; name cpu, cuda, or one GPU such as cuda:1"),
        ("mps", "no device 'mps'"),
        ("cuda:x", "no device 'cuda:x'"),
        ("cuda", "finds no GPU here"),
        ("cuda:1", "finds no GPU:1 here"),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device != "cuda"))
    with pytest.raises(ConfigError, match=message), join_processes(device):
        pass


def test_processes_without_a_gpu_of_their_own_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    # All processes of a machine refuse, also the one that has a GPU: it would wait for the others.
    for rank in ("0", "1"):
        for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=r"2 processes .* with 1 GPU, .* start 1,"), join_processes("cuda"):
            pass
