"""Every experiment of the table trains a step with its own backbone, is exported, and predicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import RATE

from bcsed import predict, train
from bcsed.config.experiments import STUDIES, experiment_names, find_experiment, study_arms
from bcsed.train.checkpoints import export_run

ARMS = tuple(arm.name for name in STUDIES for arm in study_arms(name))
# Each network, each front end and each source of labels, once. Losses and mixing have tests of their own
# (test_losses.py, test_augment.py, test_recipe.py).
NAMES: list[str] = []
seen: set[object] = set()
for field in ("net", "pseudo_source", "frontend"):
    for name in (*experiment_names(), *ARMS):
        each = find_experiment(name)
        values = {"net": each.net, "pseudo_source": each.data.pseudo_source, "frontend": each.frontend}
        if values[field] not in seen:
            seen |= set(values.values())
            NAMES.append(name)
# A single batch of two clips of two classes.
ONE_STEP = {
    "fit__pretrained": False,
    "fit__epochs": 1,
    "fit__batch_size": 2,
    "data__min_class_count": 1,
    "fit__mixed_precision": True,
}


@pytest.fixture(scope="module")
def small(land25, tmp_path_factory):
    """The small competition cut down to one batch, two taxa and two counts of clips, with its soundscapes."""
    import shutil

    data = tmp_path_factory.mktemp("small") / "data"
    shutil.copytree(land25[0], data)
    clips = pd.read_csv(data / "train.csv", dtype=str)
    clips.groupby("primary_label").head(1).iloc[[0, 2]].to_csv(data / "train.csv", index=False)
    taxa = pd.read_csv(data / "taxonomy.csv", dtype=str)
    taxa.loc[taxa["primary_label"] == "frog1", "class_name"] = "Amphibia"
    taxa.to_csv(data / "taxonomy.csv", index=False)
    return data, land25[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_trains_exports_and_predicts(name, small, tmp_path, monkeypatch):
    data, table = small
    experiment = find_experiment(name).vary(name, **ONE_STEP)
    # Two clips make one band of counts; how counts become bands has tests of its own.
    monkeypatch.setattr("bcsed.train.data.group_by_frequency", lambda counts: (0, *(1,) * (len(counts) - 1)))
    from_table = experiment.pseudo.share > 0 and experiment.data.pseudo_source == "table"
    inputs = train.TrainInputs(pseudolabels=table if from_table else None)
    run = train.train(experiment, data, tmp_path / "run", fold=None, inputs=inputs)
    sealed = export_run(run, tmp_path / "bundle")
    assert np.isfinite(sealed.provenance["metrics"]["loss"])
    assert sealed.provenance["torch_openvino_difference"] < 1e-3
    assert sealed.contract.net.backbone == find_experiment(name).net.backbone
    recordings = sorted((data / "train_soundscapes").iterdir())[:1]
    scores = predict.predict([sealed], recordings).scores
    assert scores.shape == (4, 3)
    assert np.isfinite(scores.to_numpy()).all()
    assert sealed.contract.frontend.sample_rate == RATE
