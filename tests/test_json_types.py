"""Every value of a description, replaced by one of another type or left out, is read or refused in one sentence."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil

import pandas as pd
import pytest
import torch
from test_train import JOBS, SMALL

from bcsed import rounds, train
from bcsed.analysis.compare.runs import read_run
from bcsed.cli.evaluate import _read_prediction
from bcsed.config.contract import Contract
from bcsed.errors import BcsedError, BundleError, ConfigError, DataError
from bcsed.files import sha256
from bcsed.models.bundle import load
from bcsed.models.pretrained_sources import read_source
from bcsed.predict.store import FolderStore
from bcsed.report.pseudolabels import rounds_section
from bcsed.report.scores import read_prediction
from bcsed.scores.calibration import read_thresholds
from bcsed.train import checkpoints
from bcsed.train.pseudolabels import read_pseudolabels

VALUES = (None, True, -1, 2.5, "x", [], {}, [[1]], {"a": 1}, "\ud800", 10**30)
DELETED = object()


def mutations(values, step: int, offset: int):
    """Yield copies of a JSON value with one value replaced or deleted, every `step`-th of all."""

    def paths(value, prefix=()):
        yield prefix
        items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
        for key, item in items:
            yield from paths(item, (*prefix, key))

    changes = [(path, value) for path in list(paths(values))[1:] for value in (*VALUES, DELETED)]
    for path, value in changes[offset % step :: step]:
        changed = copy.deepcopy(values)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        if value is DELETED:
            del parent[path[-1]]
        else:
            parent[path[-1]] = value
        yield changed
    yield from ([], None, "x", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, year, tiny):
    """A run, a bundle, a prediction, a ledger and a plan."""
    folder = tmp_path_factory.mktemp("types")
    train.train(SMALL.vary("one", fit__epochs=1), year, folder / "run", options=JOBS)
    shutil.copytree(tiny.path, folder / "bundle")
    table = pd.DataFrame({"row_id": ["x_5", "x_10"], "a": [0.1, 0.9], "b": [0.2, 0.7]})
    table.to_csv(folder / "submission.csv", index=False)
    student = {"name": "tiny-s0", "experiment": "tiny", "fingerprint": "f", "sha256": "s", "auc": 0.5}
    files = {
        "manifest.json": {
            "schema": 2,
            "settings": {"row_s": 5, "windows": "centred"},
            "models": [{"bundle": "b", "weight": 1.0}],
            "mean": "prob",
            "post_processing": ["top=3"],
            "detection": {"threshold": 0.5, "thresholds": {"a": 0.5}},
        },
        "ledger.json": {
            "schema": 2,
            "rounds": [
                {
                    "round": 1,
                    "teacher": [],
                    "pseudolabels": {"rows_with_label": 3},
                    "students": [{**student, "n_classes": 3, "scored_on": None}],
                }
            ],
        },
        "plan.json": {
            "name": "two",
            "fold": None,
            "set": ["fit.epochs=1"],
            "rounds": [
                {"experiments": ["tiny"], "seeds": [0], "epochs": 2, "thresholds": ["a=0.5"], "select": "threshold"},
                {"experiments": ["tiny"], "teacher": ["previous"], "weights": [1.0], "share": 0.5, "draw": "uniform"},
            ],
        },
        "thresholds.json": {"schema": 1, "thresholds": {"a": 0.5, "b": 1}},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
    return folder


def use_run(file):
    compared = read_run(file.parent)
    assert compared.settings and compared.classes and compared.seed is not None


def use_ledger(file):
    for entry in rounds.read_ledger(file.parent):
        rounds.describe_round(entry)
    rounds_section(file.parent)


def use_prediction(file):
    _read_prediction(file.parent, for_ablation=False)
    read_prediction(file.parent)


def use_bundle(file):
    load(file.parent)
    compared = read_run(file.parent)
    assert compared.settings and compared.classes and compared.seed is not None


FILES = {
    "run/run.json": use_run,
    "bundle/bundle.json": use_bundle,
    "manifest.json": use_prediction,
    "ledger.json": use_ledger,
    "plan.json": lambda file: rounds.find_plan(str(file)),
    "thresholds.json": read_thresholds,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [pytest.param(7, marks=pytest.mark.slow), 53])
def test_a_value_of_another_type_is_refused_in_one_sentence(folder, name, share):
    use = FILES[name]
    path = folder / name
    before, refused = path.read_text(), 0
    try:
        for changed in mutations(json.loads(before), share, share // 2):
            path.write_text(json.dumps(changed))
            try:
                use(path)
            except BcsedError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 600
    finally:
        path.write_text(before)
    assert refused > 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.update(recipe=[]), r"run\.json is damaged: recipe must be an object, got \[\]"),
        (lambda v: v["recipe"]["fit"].update(epochs=True), r"recipe\.fit\.epochs must be a whole number, got true"),
        (lambda v: v.pop("sources"), "sources is missing"),
        (lambda v: v.update(fold="none"), 'fold must be a whole number or null, got "none"'),
        (lambda v: v["priors"].pop(), "priors must be 3 numbers"),
        (lambda v: v["priors"].__setitem__(0, "x"), "not readable as a description of a run"),
        (lambda v: v["contract"].update(classes=["a", 7, "b"]), "contract.classes must be a list of names"),
    ],
)
def test_what_is_wrong_is_named(folder, tmp_path, change, sentence):
    shutil.copytree(folder / "run", tmp_path / "run")
    values = json.loads((tmp_path / "run" / "run.json").read_text())
    change(values)
    (tmp_path / "run" / "run.json").write_text(json.dumps(values))
    with pytest.raises((DataError, ConfigError), match=sentence):
        checkpoints.load_run(tmp_path / "run")


@pytest.mark.parametrize(
    "state",
    [
        {},
        [],
        torch.ones(3),
        {"model": {}, "epoch": 1, "metrics": {}},
        {"model": [1], "epoch": 1, "metrics": {}},
        {"model": {"a": 3}, "epoch": 1, "metrics": {}},
        {"model": {3: torch.ones(2)}, "epoch": 1, "metrics": {}},
        {"model": {"a": torch.ones(2)}, "epoch": "1", "metrics": {}},
        {"model": {"a": torch.ones(2)}, "epoch": 1, "metrics": None},
    ],
    ids=str,
)
def test_a_checkpoint_that_is_not_of_this_run(folder, tmp_path, year, state):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    for name in ("best.pt", "last.pt"):
        torch.save(state, run / name)
    with pytest.raises((DataError, ConfigError), match=r"best\.pt"):
        checkpoints.load_run(run)
    with contextlib.suppress(ConfigError):
        read_source(run)
    experiment = SMALL.vary("one", fit__epochs=1)
    with pytest.raises(DataError, match=r"last\.pt"):
        train.train(experiment, year, run, resume=True, options=JOBS)


def test_a_checkpoint_of_other_shapes(folder, tmp_path, year):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    state = torch.load(run / "last.pt", weights_only=True)
    name = next(iter(state["model"]))
    state["model"][name] = torch.ones(1, 2, 3)
    state["raw"] = {f"network.{name}": state["model"][name]}
    for file in ("best.pt", "last.pt"):
        torch.save(state, run / file)
    with pytest.raises(DataError, match=r"best\.pt: not readable as a checkpoint of the network in run\.json"):
        checkpoints.load_run(run)
    with pytest.raises(DataError, match=r"last\.pt: not readable as a checkpoint of this training"):
        train.train(SMALL.vary("one", fit__epochs=1), year, run, resume=True, options=JOBS)


def test_a_store_of_other_types_is_refused(tmp_path):
    for values in ({"settings": 3}, {"settings": [1]}, {"settings": {}, "schema": []}, {"settings": None}):
        (tmp_path / "manifest.json").write_text(json.dumps(values))
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            FolderStore(tmp_path, {"row_s": 5})


@pytest.mark.slow
def test_pseudolabels_of_other_types_are_refused(land25, tmp_path):
    for suffix in (".parquet", ".json"):
        shutil.copy(land25[1].with_suffix(suffix), tmp_path / f"pl{suffix}")
    file = tmp_path / "pl.json"
    before, refused = file.read_text(), 0
    for changed in mutations(json.loads(before), 1, 0):
        file.write_text(json.dumps(changed))
        try:
            table = read_pseudolabels(tmp_path / "pl.parquet")
            assert table.per_class() and table.per_file() and table.soft is not None
        except BcsedError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


@pytest.mark.slow
def test_a_million_classes_are_checked_at_once(tiny):
    with pytest.raises((ConfigError, BundleError)):
        Contract(frontend=tiny.contract.frontend, net=tiny.contract.net, classes=(*map(str, range(1_000_000)), "7"))


@pytest.mark.parametrize(
    "columns",
    [
        {"a": ["x", "y"]},
        {"a": [b"\xe52", b"1"]},
        {"a": [None, 1.0]},
        {"a": [[1.0], [2.0]]},
        {"start": ["0", "5"]},
        {"end": [None, 5.0]},
        {"filename": [3, 4]},
        {"filename": [None, "x.ogg"]},
    ],
    ids=str,
)
def test_pseudolabels_with_columns_of_other_types_are_refused(tmp_path, columns):
    path = tmp_path / "pl.parquet"
    table = pd.DataFrame({"filename": ["x.ogg", "x.ogg"], "start": [0, 5], "end": [5, 10], "a": [0.1, 0.9]})
    table.assign(**columns).to_parquet(path, index=False)
    provenance = {"schema": 2, "classes": ["a"], "selection": {"kind": "soft"}, "teachers": [], "sha256": sha256(path)}
    path.with_suffix(".json").write_text(json.dumps(provenance))
    with pytest.raises(DataError, match=r"pl\.parquet"):
        read_pseudolabels(path)
