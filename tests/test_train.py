from __future__ import annotations

import dataclasses
import math
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import edit_json

from bcsed import predict, report, train
from bcsed.analysis import compare
from bcsed.config.experiments import find_experiment
from bcsed.config.recipe import Fit
from bcsed.config.versions import first_names
from bcsed.errors import ConfigError, DataError
from bcsed.models import network
from bcsed.models.bundle.probe import check
from bcsed.models.export import export

SMALL = find_experiment("tiny").vary(
    "small",
    net__backbone="mobilenetv3_small_050",
    fit__epochs=2,
    fit__batch_size=6,
    data__min_class_count=2,
    data__n_folds=3,
)
JOBS = train.TrainOptions(jobs=2)


def states(run):
    return torch.load(run / "last.pt", weights_only=True)


def same(first, second) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first if k != "seconds")
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second or (isinstance(first, float) and math.isnan(first) and math.isnan(second))


@pytest.fixture(scope="module")
def run(year, tmp_path_factory):
    return train.train(SMALL, year, tmp_path_factory.mktemp("train") / "run", options=JOBS)


def test_a_run_leaves_its_files(run):
    assert sorted(path.name for path in run.iterdir()) == [
        "best.pt",
        "contradictions.csv",
        "last.pt",
        "metrics.csv",
        "metrics.png",
        "run.json",
        "validation-best.npz",
        "validation-last.npz",
    ]
    table = pd.read_csv(run / "metrics.csv")
    assert table["epoch"].tolist() == [1, 2]
    assert {"lr", "loss", "clip_auc", "clip_classes", "clip_cmap", "clip_lrap", "best", "seconds"} <= set(table)
    assert (table["clip_classes"] == 3).all()
    assert (run / "metrics.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_from_run_to_scores(run, year, tmp_path):
    trained = train.load_run(run)
    assert trained.provenance["checkpoint"] == "best"
    bundle = export(
        trained.network,
        tmp_path / "bundle",
        contract=trained.contract,
        priors=trained.priors,
        recipe=trained.recipe,
        provenance=trained.provenance,
    )
    check(bundle)
    assert bundle.contract.classes == ("1139490", "cuckoo1", "frog1")
    assert bundle.recipe["fit"]["epochs"] == 2
    result = predict.predict(
        [bundle],
        [year / "test_soundscapes"],
        output=predict.OutputOptions(sample_submission=year / "sample_submission.csv"),
    )
    assert result.scores.shape == (12, 3)


def test_threads_and_cache_do_not_change_the_weights(run, year, tmp_path):
    other = train.train(SMALL, year, tmp_path / "other", options=train.TrainOptions(jobs=1, cache_gb=0.0))
    assert same(states(run), states(other))


@pytest.mark.slow
def test_another_seed_gives_other_weights(run, year, tmp_path):
    other = train.train(SMALL.vary("small", fit__seed=1), year, tmp_path / "other", options=JOBS)
    assert not same(states(run)["model"], states(other)["model"])


def train_small(data, out, resume):
    # Slow steps, so that the process is killed before the last one on a busy machine too.
    slow = None if resume else lambda *_: time.sleep(1)
    train.train(SMALL, data, out, resume=resume, options=train.TrainOptions(jobs=2, checkpoint_min=0), progress=slow)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["a step", "an epoch"])
def test_killed_and_resumed_is_bit_for_bit_uninterrupted(run, year, tmp_path, forkserver, after):
    out = tmp_path / "killed"
    process = forkserver.Process(target=train_small, args=(year, out, False))
    process.start()
    wanted = out / ("last.pt" if after == "a step" else "metrics.csv")
    while not wanted.exists() and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    killed_at = states(out)
    assert (killed_at["epoch"], killed_at["step"]) < (2, 0)
    resumed = forkserver.Process(target=train_small, args=(year, out, True))
    resumed.start()
    resumed.join()
    assert resumed.exitcode == 0
    assert same(states(run), states(out))
    assert not list(out.glob(".*.part"))


def test_runs_that_cannot_be_resumed(run, year, tmp_path):
    with pytest.raises(DataError, match="holds no run to resume"):
        train.train(SMALL, year, tmp_path / "none", resume=True)
    with pytest.raises(DataError, match="is already there; continue it with --resume"):
        train.train(SMALL, year, run)
    with pytest.raises(DataError, match=r"cannot be resumed: .* \(fit\.lr: 0\.001 -> 0\.002\)"):
        train.train(SMALL.vary("small", fit__lr=2e-3), year, run, resume=True)
    with pytest.raises(DataError, match=r"cannot be resumed: .* \(fold: 0 -> 1\)"):
        train.train(SMALL, year, run, fold=1, resume=True)


def test_resuming_a_finished_run_changes_nothing(run, year):
    before = states(run)
    train.train(SMALL, year, run, resume=True)
    assert same(before, states(run))


def test_damaged_checkpoints(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "best.pt").write_bytes(b"no checkpoint")
    with pytest.raises(DataError, match="not readable as a checkpoint"):
        train.load_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="must be best or last"):
        train.load_run(run, "oldest")
    (tmp_path / "run" / "best.pt").unlink()
    assert train.load_run(tmp_path / "run").provenance["checkpoint"] == "last"
    with pytest.raises(DataError, match=r"no checkpoint best\.pt yet"):
        train.load_run(tmp_path / "run", "best")


GOLDEN = Path(__file__).parent / "golden" / "run_schema1"


def to_schema_1(run: Path) -> Path:
    """Convert a run to the names of the version before schema numbers."""

    def change(values):
        del values["schema"]
        values |= {key: first_names(values[key]) for key in ("contract", "recipe")}

    edit_json(run / "run.json", change)
    for name in ("best", "last"):
        state = torch.load(run / f"{name}.pt", weights_only=True)
        for part in {"model", "raw"} & set(state):
            names = {key: key.replace(".logits.", ".what.").replace(".attention.", ".when.") for key in state[part]}
            state[part] = {names[key]: value for key, value in state[part].items()}
        torch.save(state, run / f"{name}.pt")
        (run / f"validation-{name}.npz").rename(run / f"answers-{name}.npz")
    return run


def test_a_run_of_the_first_schema_is_loaded_and_resumed(run, year, tmp_path):
    old = to_schema_1(shutil.copytree(run, tmp_path / "old"))
    assert "signal" in (old / "run.json").read_text()
    first, second = train.load_run(run), train.load_run(old)
    assert (first.contract, first.recipe) == (second.contract, second.recipe)
    assert same(first.network.state_dict(), second.network.state_dict())
    assert train.finished(old)
    train.train(SMALL, year, old, resume=True)
    with pytest.raises(DataError, match="cannot be resumed"):
        train.train(SMALL.vary("small", fit__lr=2e-3), year, old, resume=True)


def test_a_golden_run_of_the_first_schema_is_compared_and_reported(tmp_path):
    """Written by the first version: an experiment with online pseudolabels, without its weights."""
    compared = compare.read_run(GOLDEN)
    assert (compared.checkpoint, len(compared.history)) == ("best", 2)
    assert compared.recipe["data"]["pseudo_source"] == "online"
    assert compared.settings["frontend.time_folds"] == 2
    assert compared.origin["sources"] == {"online": {"recordings": 6}}
    assert compare.compare_variants([compared])["auc"].tolist() == pytest.approx([0.8])
    page = report.report([GOLDEN], tmp_path / "page.html")
    assert "mobilenetv3_small_050" in page.path.read_text()


def test_a_run_of_a_later_schema_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    edit_json(tmp_path / "run" / "run.json", lambda values: values.update(schema=3))
    with pytest.raises(DataError, match=r"run\.json: has schema 3; this version of bcsed reads 1 and 2"):
        train.load_run(tmp_path / "run")


def test_folds_hold_out_clips_and_none_holds_out_nothing(year):
    split = train.prepare_data(SMALL, year, fold=1)
    assert len(split.valid_rows) == 8
    assert not set(split.valid_rows) & set(split.train_rows)
    complete = train.prepare_data(SMALL, year, fold=None)
    assert len(set(complete.train_rows)) == 24
    assert len(complete.valid_rows) == 0
    with pytest.raises(ConfigError, match="fold must be 0 to 2, or none; got 7"):
        train.prepare_data(SMALL, year, fold=7)


def test_an_unreadable_clip_stops_or_is_skipped(year, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    (data / "train_audio" / "frog1" / "XC2003.ogg").write_text("no sound")
    with pytest.raises(DataError, match=r"1 of 24 training recordings cannot be read.*XC2003.*--on-error skip"):
        train.train(SMALL, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    quick = SMALL.vary("quick", fit__epochs=1)
    train.train(quick, data, tmp_path / "run", options=train.TrainOptions(on_error="skip"))
    assert pd.read_csv(tmp_path / "run" / "skipped.csv")["recording"].str.endswith("XC2003.ogg").tolist() == [True]


@pytest.mark.parametrize("duplicates", ["keep", "off"])
def test_a_clip_whose_audio_is_damaged_is_unreadable_too(year, tmp_path, duplicates):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    clip = data / "train_audio" / "frog1" / "XC2003.ogg"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 90_000), 32_000, format="FLAC")
    clip.write_bytes(clip.read_bytes()[:8300] + bytes(90_000))
    experiment = SMALL.vary("x", data__duplicates=duplicates)
    with pytest.raises(DataError, match=r"1 of 24 training recordings cannot be read.*XC2003.*decoding failed"):
        train.prepare_data(experiment, data)
    ready = train.prepare_data(experiment, data, options=train.TrainOptions(on_error="skip"))
    assert len(ready.names) == 23 and [Path(name).name for name in ready.skipped] == ["XC2003.ogg"]


@pytest.mark.slow
def test_labelled_soundscapes_are_validated_as_a_submission(year, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    (data / "train_soundscapes").mkdir()
    lines = ["filename,start,end,primary_label"]
    for number in range(3):
        name = f"soundscape_{number}.ogg"
        shutil.copy(data / "test_soundscapes" / name, data / "train_soundscapes" / name)
        names = [("1139490", "cuckoo1", "frog1")[(number + row) % 3] for row in range(4)]
        lines += [f"{name},00:00:{5 * r:02},00:00:{5 * r + 5:02},{x}" for r, x in enumerate(names)]
    (data / "train_soundscapes_labels.csv").write_text("\n".join(lines + lines[1:]) + "\n")
    run = train.train(SMALL.vary("quick", fit__epochs=1), data, tmp_path / "run", fold=None)
    last = pd.read_csv(run / "metrics.csv").iloc[-1]
    assert last["row_classes"] == 3
    # The same rows, scored by the exported bundle, give the same figure.
    trained = train.load_run(run)
    bundle = export(trained.network, tmp_path / "b", contract=trained.contract, priors=trained.priors)
    scores = predict.predict([bundle], [data / "train_soundscapes"]).scores
    from bcsed.scores import metrics

    truth = train.prepare_data(SMALL, data).row_truth
    assert abs(metrics.macro_auc(truth, scores.loc[truth.index])[0] - last["row_auc"]) < 1e-6


@pytest.mark.parametrize(("backbone", "mixed"), [("resnet10t", True), ("resnet10t", False), (SMALL.net.backbone, True)])
def test_a_cpu_with_instructions_for_it_trains_in_bfloat16(year, tmp_path, monkeypatch, backbone, mixed):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    types, unfold = set(), network.unfold
    monkeypatch.setattr(network, "unfold", lambda x, n: (types.add((x.requires_grad, x.dtype)), unfold(x, n))[1])
    changes = {"fit__mixed_precision": mixed, "fit__epochs": 1, "net__backbone": backbone}
    train.train(SMALL.vary("t", **changes), year, tmp_path / "run")
    # Validation is in float32, as prediction is, and so are the weights. Depthwise convolutions would be slower.
    faster = mixed and backbone == "resnet10t"
    assert types == {(True, torch.bfloat16 if faster else torch.float32), (False, torch.float32)}
    weights = train.load_run(tmp_path / "run").network.state_dict().values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}


def test_half_precision_by_device_and_network(monkeypatch):
    def half_type(device: str, groups: int):
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=groups))
        return train.loop.half_type(torch.device(device), network)

    for ability in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda ability=ability: {ability: True}, raising=False)
        assert half_type("cpu", 1) == half_type("cpu", 4) == torch.bfloat16
        assert half_type("cpu", 8) is None
        assert half_type("cuda", 8) == half_type("cuda", 1) == torch.float16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True}, raising=False)
    assert half_type("cpu", 1) is None
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert half_type("cpu", 1) is None


@pytest.mark.parametrize("before", [True, False])
def test_a_resumed_run_keeps_its_precision(year, tmp_path, monkeypatch, before):
    """Also on another CPU, or in a version that would choose another one."""

    def stop(_):
        raise KeyboardInterrupt

    experiment = SMALL.vary("t", fit__epochs=2, net__backbone="resnet10t")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": before}, raising=False)
    with pytest.raises(KeyboardInterrupt):
        train.train(experiment, year, tmp_path / "run", epoch_done=stop)
    types, unfold = set(), network.unfold
    monkeypatch.setattr(network, "unfold", lambda x, n: (types.add((x.requires_grad, x.dtype)), unfold(x, n))[1])
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not before}, raising=False)
    train.train(experiment, year, tmp_path / "run", resume=True)
    assert types == {(True, torch.bfloat16 if before else torch.float32), (False, torch.float32)}


def test_a_loss_that_is_not_finite_is_an_error(year, tmp_path, monkeypatch):
    monkeypatch.setattr(train.loop, "criterion", lambda *_, **__: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(DataError, match=r"the loss became nan in epoch 1, step 1.*mixed_precision=false"):
        train.train(SMALL, year, tmp_path / "run")
    monkeypatch.setattr(train.loop, "set_level", lambda waves, _: waves.mul_(0))
    with pytest.raises(DataError, match=r"step 1\. Try it without .* all clips of this batch are silent"):
        train.train(SMALL, year, tmp_path / "silent")


def test_the_learning_rate_warms_up_and_falls():
    fit = Fit()
    rates = np.array([train.learning_rate(fit, epoch) for epoch in np.arange(0, 24, 0.01)])
    assert rates[0] == pytest.approx(1e-4)
    assert rates.max() == pytest.approx(1e-3)
    assert (rates >= 0).all()
    peaks = [train.learning_rate(fit, epoch) for epoch in (2, 10, 18)]
    assert peaks == pytest.approx([1e-3, 5e-4, 2.5e-4])


def test_every_field_of_the_recipe_is_read():
    """A field that nothing reads is a defect: each is named in the code outside the configuration."""
    package = Path(train.__file__).parent.parent
    code = "\n".join(
        p.read_text() for p in package.rglob("*.py") if "config" not in p.parts and p.name != "experiments.py"
    )
    for group in ("frontend", "net", "data", "augment", "fit"):
        for field in dataclasses.fields(getattr(SMALL, group)):
            assert f".{field.name}" in code, f"{group}.{field.name} is read nowhere"
