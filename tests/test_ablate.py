from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bcsed.cli import main
from bcsed.errors import ConfigError, DataError
from bcsed.scores import metrics, postprocess
from bcsed.scores.ablation import ablate, format_ablation
from bcsed.scores.postprocess.stages import Power, Smooth, TopRows
from bcsed.scores.postprocess.weights import ClassWeights
from bcsed.scores.table import make_table, row_ids

CLASSES = ["a", "b", "c"]


@pytest.fixture
def scene(rng):
    """Twelve recordings of 12 rows; calls last several rows, and the scores are noisy."""
    truth = np.zeros((12, 12, 3))
    for recording in range(12):
        truth[recording, recording % 6 : recording % 6 + 4, recording % 3] = 1
    scores = np.clip(0.3 * truth + rng.uniform(0, 0.7, truth.shape), 0, 1)
    ids = [row_id for number in range(12) for row_id in row_ids(f"site_{number}", 12, 5)]
    return make_table(ids, CLASSES, truth.reshape(-1, 3)), make_table(ids, CLASSES, scores.reshape(-1, 3))


def test_every_step_is_scored_on_and_off(scene, rng):
    truth, table = scene
    stages = [Smooth((1, 1, 1)), TopRows(3), Power(2)]
    ablation = ablate(truth, table, stages, n=200, rng=rng)
    assert list(ablation["part"]) == ["table", *["stage"] * 3, "stages", *["without stage"] * 3]
    assert list(ablation["line"]) == [
        *("as it is", "smooth=1.0,1.0,1.0", "top=3", "power=2.0", "all 3 stages"),
        *("all but smooth", "all but top", "all but power"),
    ]
    tables = [table, *(stage(table) for stage in stages), postprocess.apply(table, stages)]
    tables += [postprocess.apply(table, [stage for stage in stages if stage is not out]) for out in stages]
    for (_, line), changed in zip(ablation.iterrows(), tables, strict=True):
        auc, n_classes = metrics.macro_auc(truth, changed)
        assert line["auc"] == pytest.approx(auc) and line["n_classes"] == n_classes
        assert line["gain"] == pytest.approx(auc - ablation["auc"][0])
        assert line["gain_low"] <= line["gain"] <= line["gain_high"]
    # Calls last several rows, so smoothing gains; a power alone changes no order.
    assert ablation["gain_low"][1] > 0.02
    assert ablation["gain"][0] == ablation["gain"][3] == ablation["gain_high"][3] == 0
    assert (ablation["n_rows"] == 144).all() and (ablation["n_recordings"] == 12).all()


def test_few_steps_give_no_line_twice(scene, rng):
    assert len(ablate(*scene, n=10, rng=rng)) == 1
    assert list(ablate(*scene, [TopRows(1)], n=10, rng=rng)["part"]) == ["table", "stage"]
    assert list(ablate(*scene, [TopRows(1), Power(2)], n=10, rng=rng)["part"]) == ["table", "stage", "stage", "stages"]


def test_the_interval_is_that_of_paired_draws(scene):
    truth, table = scene
    stage = Smooth((1, 1, 1))
    line = ablate(truth, table, [stage], n=300, rng=np.random.default_rng(7)).iloc[1]
    file_of = pd.factorize(truth.index.str.rpartition("_").get_level_values(0))[0]
    drawn = metrics.bootstrap_weights(12, 300, rng=np.random.default_rng(7))
    gains = [metrics.bootstrap_macro_auc(truth, scores, file_of, drawn) for scores in (stage(table), table)]
    low, high = np.nanquantile(gains[0] - gains[1], [0.025, 0.975])
    assert (line["gain_low"], line["gain_high"]) == pytest.approx((low, high))


def test_steps_see_rows_that_have_no_label(scene, rng):
    truth, table = scene
    labelled = truth.iloc[::3][["c", "a"]]
    line = ablate(labelled, table, [Smooth((1, 1, 1))], n=10, rng=rng).iloc[1]
    smooth = Smooth((1, 1, 1))(table)
    assert line["auc"] == pytest.approx(metrics.macro_auc(labelled, smooth.loc[labelled.index, labelled.columns])[0])
    assert line["n_rows"] == 48 and line["n_classes"] == 2
    assert (
        format_ablation(ablate(truth, table, n=10, rng=rng))
        .splitlines()[-1]
        .startswith("AUC: macro ROC-AUC on 144 rows of 12")
    )


def test_members_and_means(scene, rng):
    truth, table = scene
    noise = np.random.default_rng(0)
    members = {
        "good": table,
        "noise": make_table(list(table.index), CLASSES, noise.random(table.shape)),
        "part": table[["c", "a"]].iloc[::-1] ** 2,
    }
    first = postprocess.combine(members, [2, 1, 1])
    ablation = ablate(truth, first, members=members, weights=[2, 1, 1], kind="logit", n=50, rng=rng).set_index("line")
    assert list(ablation.index) == [
        *("as it is", "good", "noise", "part", "all but good", "all but noise", "all but part"),
        *("mean of probabilities", "mean of logits", "mean of ranks"),
    ]
    for kind, line in zip(("prob", "logit", "rank"), ablation.index[-3:], strict=True):
        mean = postprocess.combine(members, [2, 1, 1], kind)
        assert ablation["auc"][line] == pytest.approx(metrics.macro_auc(truth, mean)[0])
    assert ablation["gain"]["mean of probabilities"] == 0
    # A member with two classes is compared with the first line on these.
    pair = truth[["a", "c"]]
    wanted = metrics.macro_auc(pair, table[["a", "c"]])[0] - metrics.macro_auc(pair, first[["a", "c"]])[0]
    assert ablation["n_classes"]["part"] == 2 and ablation["gain"]["part"] == pytest.approx(wanted)
    without = postprocess.combine({"good": members["good"], "noise": members["noise"]}, [2, 1], "logit")
    assert ablation["auc"]["all but part"] == pytest.approx(metrics.macro_auc(truth, without)[0])
    without = postprocess.combine({"noise": members["noise"], "part": members["part"]}, [1, 3], "logit")
    ablation = ablate(truth, first, members=members, weights=[2, 1, 3], kind="logit", n=5, rng=rng).set_index("line")
    assert ablation["auc"]["all but good"] == pytest.approx(metrics.macro_auc(truth, without)[0])
    pairs = ablate(truth, first, members={"x": table, "y": first}, n=5, rng=rng)
    assert list(pairs["part"]) == ["table", "member", "member", *["mean"] * 3]
    assert list(ablate(truth, table, members={"x": table}, n=5, rng=rng)["part"]) == ["table", "member"]


def test_a_class_that_only_one_member_counts(scene, rng):
    truth, table = scene
    members = {"x": table, "y": table**2, "z": table**3}
    others = ClassWeights(1.0, (("a", 0.0),))
    first = postprocess.combine(members, [1, others, others])
    lines = ablate(truth, first, members=members, weights=[1, others, others], n=5, rng=rng).set_index("line")
    assert lines["n_classes"]["all but x"] == lines["n_classes"]["as it is"] - 1 == lines["n_classes"]["all but y"] - 1
    only = [ClassWeights(0.0, ((name, 1.0),)) for name in "abc"]
    lines = ablate(truth, first, members=members, weights=only, n=5, rng=rng).set_index("line")
    assert lines["n_classes"]["all but z"] == 2


def test_a_member_without_a_scored_class(scene, rng):
    truth, table = scene
    members = {"all": table, "other": table.rename(columns={"a": "x", "b": "y", "c": "z"})}
    ablation = ablate(truth, table, members=members, n=5, rng=rng)
    line = ablation.set_index("line").loc["other"]
    assert line["n_classes"] == 0 and np.isnan(line["auc"]) and np.isnan(line["gain_low"])
    assert "other                  none    0" in format_ablation(ablation)


def test_one_recording_has_no_interval(scene, rng):
    truth, table = scene
    ablation = ablate(truth.iloc[:12], table, [TopRows(2)], rng=rng)
    assert ablation[["gain_low", "gain_high"]].isna().all().all() and ablation["n_recordings"][0] == 1


def test_format():
    ablation = pd.DataFrame(
        [
            ("table", "as it is", 0.8123, 3, 0.0, 0.0, 0.0, 144, 12),
            ("stage", "top=3", 0.8323, 3, 0.02, 0.01, 0.0312, 144, 12),
            ("member", "b", 0.8, 2, -0.0123, np.nan, np.nan, 144, 12),
            ("member", "c", np.nan, 0, np.nan, np.nan, np.nan, 144, 12),
        ],
        columns=["part", "line", "auc", "n_classes", "gain", "gain_low", "gain_high", "n_rows", "n_recordings"],
    )
    assert format_ablation(ablation).splitlines() == [
        "          AUC     classes  gain     95 %",
        "as it is  0.8123  3",
        "top=3     0.8323  3        +0.0200  +0.0100 to +0.0312",
        "b         0.8000  2        -0.0123",
        "c         none    0",
        "",
        "AUC: macro ROC-AUC on 144 rows of 12 recordings; gain: the paired difference to the first line, on the "
        "classes of both; 95 %: interval over recordings.",
    ]


def test_refusals(scene, rng):
    truth, table = scene
    with pytest.raises(DataError, match="1 of 144 rows of the truth are not in the scores, 'site_0_5' first"):
        ablate(truth, table.iloc[1:], rng=rng)
    with pytest.raises(DataError, match="1 of 3 classes of the truth are not in the scores, 'b' first"):
        ablate(truth, table[["a", "c"]], rng=rng)
    with pytest.raises(DataError, match="none of 3 classes has both a positive and a negative row"):
        ablate(truth * 0, table, rng=rng)
    with pytest.raises(DataError, match="recording 'site_0' lacks rows"):
        ablate(truth.iloc[12:], table.drop(index="site_0_10"), [TopRows(1)], rng=rng)
    with pytest.raises(ConfigError, match="1 weights for 2 members"):
        ablate(truth, table, members={"x": table, "y": table}, weights=[1], rng=rng)


def printed(capsys, folder, truth, scores, *arguments) -> str:
    """Return what the command prints after its first line."""
    truth.to_csv(folder / "truth.csv", index_label="row_id")
    scores.to_csv(folder / "scores.csv", index_label="row_id")
    assert main(["evaluate", str(folder / "scores.csv"), "--truth", str(folder / "truth.csv"), *arguments]) == 0
    return capsys.readouterr().out.partition("\n")[2]


def test_on_the_command_line(scene, capsys, tmp_path):
    truth, table = scene
    assert printed(capsys, tmp_path, truth.iloc[::2], table) == ""
    usual = printed(capsys, tmp_path, truth.iloc[::2], table, "--ablate")
    assert "smooth=0.2,0.6,0.2" in usual and "top=3" in usual and "all 2 stages" in usual and "72 rows" in usual
    taxonomy = tmp_path / "taxonomy.csv"
    taxonomy.write_text("primary_label,class_name\na,Aves\nb,Amphibia\nc,Amphibia\n")
    steps = ["--ablate", "smooth=1", "smooth.Amphibia=1,1,1", "--taxonomy", str(taxonomy)]
    own = printed(capsys, tmp_path, truth, table, *steps)
    changed = postprocess.apply(table, [Smooth((1,), {"Amphibia": (1, 1, 1)})], {"b": "Amphibia", "c": "Amphibia"})
    auc, _ = metrics.macro_auc(truth, changed)
    assert f"smooth=1.0 smooth.Amphibia=1.0,1.0,1.0  {auc:.4f}" in own
    words = ["evaluate", str(tmp_path / "scores.csv"), "--truth", str(tmp_path / "truth.csv")]
    for options, message in ((["--taxonomy", str(taxonomy)], "add --ablate"), (["--ablate", "middle=1"], "middle=1")):
        assert main([*words, *options]) == 2
        assert message in capsys.readouterr().err
