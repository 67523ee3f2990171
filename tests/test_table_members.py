"""Score tables as members of an ensemble, weights by taxon and class, and stages of single members."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from bcsed.cli.app import main
from bcsed.errors import BundleError, ConfigError, DataError
from bcsed.models.ensemble import from_bundles, load_member, split_members
from bcsed.predict import Budget, OutputOptions, RunOptions, Windowing, Workers, predict, read_members
from bcsed.predict.store import model_weights, read_manifest
from bcsed.rounds.plan import Plan, Round
from bcsed.scores.postprocess import ClassWeights, apply, combine, parse_stages, parse_weights
from bcsed.scores.table import read_table, row_ids
from bcsed.train.pseudolabels import make_pseudolabels, read_pseudolabels

N_ROWS = {"blip": 1, "long": 12, "odd": 5, "short": 2}
IDS = [row_id for name, n in N_ROWS.items() for row_id in row_ids(name, n, 5)]


@pytest.fixture
def other(rng):
    """Scores of another notebook: other column order, rows in reverse, a class that the bundle lacks."""
    table = pd.DataFrame(rng.uniform(0.01, 0.99, (20, 3)), pd.Index(IDS, name="row_id"), ["quiet", "extra", "loud"])
    return table.iloc[::-1].astype(np.float32)


def write(table: pd.DataFrame, path, **options):
    if path.suffix == ".csv":
        table.to_csv(path, index_label="row_id", **options)
    else:
        table.rename_axis("row_id").reset_index().to_parquet(path, index=False)
    return path


def same(left, right):
    assert set(left.index) == set(right.index) and list(left.columns) == list(right.columns)
    np.testing.assert_allclose(left.to_numpy(), right.loc[left.index].to_numpy(), rtol=0, atol=1e-6)


def blend(members, recordings, weights=None, mean="prob", classes=("loud", "quiet"), **options):
    return predict(from_bundles(members, weights, mean=mean, classes=classes), recordings, **options)


@pytest.mark.parametrize("mean", ["prob", "logit", "rank"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_is_averaged_by_row_and_class(oracle, recordings, other, tmp_path, mean, suffix):
    table = load_member(write(other, tmp_path / f"theirs{suffix}"))
    assert table.name == "theirs" and table.classes == ("quiet", "extra", "loud")
    alone = predict([oracle], [recordings]).scores
    expected = combine({"a": alone, "b": other}, [2, 1], mean, ["extra", "quiet", "loud"])
    result = blend([oracle, table], [recordings], (2.0, 1.0), mean, ("extra", "quiet", "loud"))
    same(result.scores, expected)
    np.testing.assert_array_equal(result.scores.index, alone.index)


def test_a_table_in_a_folder_is_resumed_and_another_one_refused(oracle, recordings, other, tmp_path):
    path, out = write(other, tmp_path / "theirs.csv"), tmp_path / "out"
    output = OutputOptions(formats=("submission", "members"))
    first = blend([oracle, load_member(path)], [recordings], (1.0, 3.0), out=out, output=output)
    again = blend([oracle, load_member(path)], [recordings], (1.0, 3.0), out=out, output=output)
    assert (first.n_resumed, again.n_resumed) == (0, 4)
    pd.testing.assert_frame_equal(first.scores, again.scores)
    manifest = read_manifest(out)
    assert [model["weight"] for model in manifest["models"]] == [1, 3]
    assert manifest["models"][1]["sha256"] == load_member(path).sha256 == manifest["settings"]["tables"][0]
    members = read_members(out)
    assert list(members) == ["1-bundle", "2-theirs"]
    same(members["2-theirs"], other.loc[IDS])
    with pytest.raises(DataError, match="scores of another run: its tables is"):
        blend([oracle, load_member(write(other / 2, path))], [recordings], out=out)
    # A folder of predict is a table; its own stages and members are behind it.
    folder = load_member(out)
    assert folder.name == "out"
    same(folder.table, first.scores)


def test_tables_alone_need_no_recordings(oracle, recordings, other, tmp_path):
    paths = [write(other, tmp_path / "a.csv"), write(1 - other[["loud", "quiet"]], tmp_path / "b.parquet")]
    texts = [*map(str, paths), "--weights", "1", "2", "--ensemble-mean", "rank"]
    template = write(other[["loud", "quiet"]].head(1), tmp_path / "template.csv")
    texts += ["--sample-submission", str(template), "--postprocess", "top=2", "--out"]
    for _ in range(2):
        assert main(["predict", *texts, str(tmp_path / "out"), "--format", "submission", "members"]) == 0
    tables = {path.stem: load_member(path).table for path in paths}
    ids = list(dict.fromkeys(IDS[::-1]))
    expected = apply(combine(tables, [1, 2], "rank", ["loud", "quiet"]), parse_stages(["top=2"]))
    result = read_table(tmp_path / "out" / "submission.csv")
    assert sorted(result.index) == sorted(ids)
    same(result, expected.loc[result.index])
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["recordings"] == [
        "short",
        "odd",
        "long",
        "blip",
    ]
    # With recordings, detections too, as they need durations.
    texts = [*texts, str(tmp_path / "raven"), "--format", "csv", "--threshold", "0.2"]
    assert main(["predict", *texts]) == 2
    assert main(["predict", *texts, "--recordings", str(recordings)]) == 0
    found = pd.read_csv(tmp_path / "raven" / "detections.csv")
    assert len(found) and found["end_s"].max() <= 60


def test_missing_rows_are_refused_or_the_mean_of_the_others(oracle, recordings, other, tmp_path):
    path = write(other.drop(index=[*row_ids("odd", 5, 5), "long_60"]), tmp_path / "theirs.csv")
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"theirs\.csv lacks 6 of 20 rows, 'long_60' first; .*--missing-rows others"):
        blend([oracle, load_member(path)], [recordings], out=out)
    assert not out.exists()
    alone = predict([oracle], [recordings]).scores
    for mean in ("prob", "rank"):
        table = load_member(path, "others")
        result = blend([oracle, table], [recordings], mean=mean)
        same = (result.scores == alone).all(axis=1)
        if mean == "prob":
            assert set(same[same].index) == {*row_ids("odd", 5, 5), "long_60"}
        notes = result.notes.set_index("recording").loc[str(path), "note"]
        assert list(notes) == [
            "1 of its classes are not requested and not used: 'extra'",
            "lacks 6 of 20 rows, 'long_60' first; they are the mean of the other members",
        ]
    # Its smoothing would join rows that are not neighbours.
    with pytest.raises(ConfigError, match="member 2 lacks rows, so stages of its own cannot be applied"):
        blend([oracle, table], [recordings], stages=parse_stages(["2.smooth=.2,.6,.2"]), out=out)
    assert not out.exists()
    # Where no other member counts, there is no mean.
    with pytest.raises(
        DataError, match=r"theirs\.csv lacks the row '\w+', and no other member has a weight for 'quiet'"
    ):
        blend([oracle, table], [recordings], weights=[ClassWeights(1.0, (("quiet", 0.0),)), 1.0])
    with pytest.raises(ConfigError, match="members needs all rows"):
        blend([oracle, table], [recordings], output=OutputOptions(formats=("members",)))
    with pytest.raises(DataError, match=r"lacks 20 of 20 rows, .*of other recordings or of another length"):
        strangers = other.set_axis([f"x{name}" for name in other.index])
        blend([oracle, load_member(write(strangers, path), "others")], [recordings])
    # Rows of other recordings are allowed.
    more = pd.concat([other, other.set_axis(row_ids("more", 20, 5))])
    assert len(blend([oracle, load_member(write(more, path))], [recordings]).scores) == 20


def test_classes_that_a_table_lacks_are_noted(oracle, recordings, other, tmp_path):
    for columns, note in ((["quiet"], "lacks 1 of 2 classes, 'loud' first"), (["loud", "quiet"], None)):
        path = write(other[columns], tmp_path / "theirs.csv")
        notes = blend([oracle, load_member(path)], [recordings]).notes.set_index("recording")["note"]
        assert notes.get(str(path)) == (note and f"{note}; they are the mean of the other members")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table * 30 - 10, "values are outside .*logits without the sigmoid"),
        (lambda table: table.where(table > 0.1), "values are NaN"),
        (lambda table: table.assign(loud=0.5), "1 class of 3 with one value in all rows: 'loud'"),
        (lambda table: pd.concat([table, table.head(2)]), "2 duplicates of other rows"),
        (lambda table: table.drop(index="long_30"), "1 row missing before a recording's last row"),
        (lambda table: table.rename(index={"long_30": "long"}), "1 id not of the form"),
        (lambda table: table.rename_axis("id"), "no column 'row_id'"),
    ],
)
def test_a_table_with_errors_is_refused_with_the_finding(other, tmp_path, change, sentence):
    table = change(other)
    path = tmp_path / "theirs.csv"
    table.to_csv(path, index_label=table.index.name or "row_id")
    with pytest.raises(DataError, match=f"theirs.csv: .*{sentence}"):
        load_member(path)


def test_equal_rows_of_silence_and_odd_orders_are_warnings(other, tmp_path, caplog):
    other.loc[row_ids("short", 2, 5)] = 0.25
    load_member(write(other, tmp_path / "theirs.csv"))
    assert "rows not in order of time" in caplog.text and "rows are identical in 1 recording" in caplog.text


def test_what_cannot_be_combined_is_refused(oracle, recordings, other, tmp_path):
    table = load_member(write(other, tmp_path / "theirs.csv"))
    with pytest.raises(ConfigError, match=r"theirs\.csv precedes a bundle; name score tables last"):
        from_bundles([table, oracle])
    with pytest.raises(BundleError, match="member 2 has none of the 1 requested classes"):
        from_bundles([table, load_member(write(other[["extra"]], tmp_path / "b.csv"))], classes=["loud"])
    with pytest.raises(ConfigError, match="has rows and no time steps"):
        frames = OutputOptions(formats=("frames",))
        blend([oracle, table], [recordings], out=tmp_path / "o", output=frames, windowing=Windowing(windows="sliding"))
    with pytest.raises(DataError, match=r"contains neither submission\.csv nor scores\.parquet"):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "manifest.json").write_text("{}")
        load_member(tmp_path / "empty")
    with pytest.raises(BundleError, match="there is no such folder"):
        load_member(tmp_path / "nothing")


def test_a_budget_and_workers_change_nothing(oracle, recordings, other, tmp_path):
    table = load_member(write(other, tmp_path / "theirs.csv"))
    plain = blend([oracle, table], [recordings], mean="rank").scores
    timed = blend([oracle, table], [recordings], mean="rank", budget=Budget(minutes=1e4))
    pd.testing.assert_frame_equal(timed.scores, plain)
    options = RunOptions(workers=Workers(n=2), shard=1)
    shared = blend([oracle, table], [recordings], mean="rank", out=tmp_path / "out", options=options)
    pd.testing.assert_frame_equal(shared.scores, plain)


def test_an_unreadable_recording_gets_priors_not_rows_of_a_table(oracle, recordings, other, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF nothing")
    ids = row_ids("bad", 12, 5)
    table = load_member(write(pd.concat([other, other.head(12).set_axis(ids)]), tmp_path / "theirs.csv"))
    output = OutputOptions(on_error="fill")
    result = blend([oracle, table], [recordings, bad], classes=("extra", "loud"), output=output)
    assert result.n_failed == 1 and result.failures["status"].tolist() == ["filled"]
    filled = result.scores.loc[ids]
    assert (filled == filled.iloc[0]).all(axis=None)
    assert filled["extra"].iloc[0] == pytest.approx(table.table["extra"].mean(), abs=1e-6)
    # Without networks as well; there the rows are those of the others.
    alone = blend([table], [recordings, bad], classes=("extra", "loud"))
    assert alone.n_failed == 1 and len(alone.scores) == 20


def test_weights_by_taxon_and_class(oracle, recordings, other, tmp_path):
    table = load_member(write(other, tmp_path / "theirs.csv"))
    taxa = {"loud": "Aves", "extra": "Aves", "quiet": "Amphibia"}
    weights = parse_weights([1, 2], ["2.Aves=0", "2.extra=3", "1.Amphibia=.5"], [oracle.classes, table.classes], taxa)
    assert weights == (ClassWeights(1, (("quiet", 0.5),)), ClassWeights(2, (("loud", 0.0), ("extra", 3.0))))
    output = OutputOptions(formats=("submission", "members"))
    for mean in ("prob", "logit", "rank"):
        out = tmp_path / mean
        scores = blend([oracle, table], [recordings], weights, mean, ("loud", "quiet", "extra"), out=out, output=output)
        alone = predict([oracle], [recordings]).scores
        for name, shares in {"loud": (1, 0), "quiet": (0.5, 2), "extra": (0, 3)}.items():
            used = {"a": alone, "b": other}
            used = {key: used[key][[name]] for key, share in zip(used, shares, strict=True) if share}
            expected = combine(used, [share for share in shares if share], mean)
            same(scores.scores[[name]], expected)
        # The manifest gives the same mean again.
        again = combine(
            read_members(out), model_weights(read_manifest(out)["models"]), mean, ["loud", "quiet", "extra"]
        )
        same(again, scores.scores)
    budget = blend([oracle, table], [recordings], weights, classes=("loud", "extra"), budget=Budget(minutes=1e4))
    assert not budget.left_out


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["3.Aves=1"], "the members are 1 to 2"),
        (["Aves=1"], r"a class weight takes member\.taxon=weight"),
        (["2.Aves=x"], r"a class weight takes member\.taxon=weight"),
        (["2.Insecta=1"], "no member has a class or taxon 'Insecta'; the taxa are Aves"),
        (["1.a=0", "2.a=0"], r"class 'a' has the weight 0 in every member \(1 such classes\)"),
        (["2.Aves=0"], "the weight of member 2 is 0 for every class"),
        (["2.a=-1"], "weights of classes must be at least 0"),
        (["2.a=inf"], "weights of classes must be at least 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(texts, sentence):
    table = pd.DataFrame({"a": [0.1, 0.2], "b": [0.2, 0.3]}, index=["x_5", "x_10"])
    with pytest.raises(ConfigError, match=sentence):
        combine({"1": table, "2": table}, parse_weights(None, texts, [("a", "b")] * 2, {"a": "Aves", "b": "Aves"}))


def test_stages_of_single_members_are_before_the_mean(oracle, recordings, other, tmp_path):
    table = load_member(write(other, tmp_path / "theirs.csv"))
    stages = parse_stages(["2.smooth=1,2,1", "top=2", "1.power=2", "2.smooth.Aves=1,1,1", "2.power=.5"])
    taxa = {"loud": "Aves"}
    ours = apply(predict([oracle], [recordings]).scores, parse_stages(["power=2"]))
    theirs = apply(other, parse_stages(["smooth=1,2,1", "smooth.Aves=1,1,1", "power=.5"]), taxa)
    output, out = OutputOptions(taxa=taxa, formats=("submission", "members")), tmp_path / "out"
    for mean in ("prob", "rank"):
        expected = apply(combine({"a": ours, "b": theirs}, None, mean, ["loud", "quiet"]), parse_stages(["top=2"]))
        result = blend([oracle, table], [recordings], mean=mean, stages=stages, output=output, out=out)
        same(result.scores, expected)
        same(read_members(out)["1-bundle"], ours)
    written = read_manifest(out)["post_processing"]
    assert written[:2] == ["1.power=2.0", "2.smooth=1.0,2.0,1.0"] and parse_stages(written) == stages
    # A shift is a second view of the member: its stages are applied to the mean of the views.
    shifted = Windowing(shifts_s=(0.0, 1.5))
    views = predict([oracle], [recordings], windowing=shifted).scores
    result = blend([oracle], [recordings], windowing=shifted, stages=parse_stages(["1.power=2"]))
    same(result.scores, apply(views, parse_stages(["power=2"])))


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["3.top=2"], "'3.top=2': there is no member 3; the members are 1 to 1"),
        (["0.top=2"], "'0.top=2' is not a stage"),
        (["1.top=2", "1.top=3"], "top is given twice"),
    ],
)
def test_stages_of_unknown_members_are_refused(oracle, recordings, texts, sentence):
    with pytest.raises(ConfigError, match=sentence):
        predict([oracle], [recordings / "blip.wav"], stages=parse_stages(texts))


def test_a_table_alone_has_no_members(other):
    with pytest.raises(ConfigError, match=r"'2.top=2' is a stage of member 2; only predict applies it"):
        apply(other, parse_stages(["2.top=2"]))


def test_a_teacher_can_be_a_table(oracle, recordings, other, tmp_path):
    path = write(other[["loud", "quiet"]], tmp_path / "theirs.parquet")
    made = make_pseudolabels([oracle, load_member(path)], [recordings], tmp_path / "pl.parquet", weights=(1.0, 2.0))
    teachers = made.provenance["teachers"]
    assert [each["experiment"] for each in teachers] == ["", "table"] and teachers[1]["weight"] == 2
    assert main(["pseudolabel", str(path), "--recordings", str(recordings), "--out", str(tmp_path / "t.parquet")]) == 0
    alone = pd.read_parquet(tmp_path / "t.parquet").sort_values(["filename", "start"])
    expected = other.loc[IDS, "loud"]
    np.testing.assert_allclose(alone["loud"], np.where(expected >= 0.5, expected, 0), atol=1e-3)
    labels = ["--clips", str(tmp_path), "--out", str(tmp_path / "c.parquet")]
    assert main(["pseudolabel", str(path), *labels]) == 2


@pytest.mark.parametrize("mean", ["prob", "logit"])
def test_the_mean_over_teachers(oracle, recordings, other, tmp_path, mean):
    path, out = write(other[["loud", "quiet"]], tmp_path / "theirs.parquet"), tmp_path / "pl.parquet"
    words = ["--weights", "1", "3", "--ensemble-mean", mean, "--soft", "--recordings", str(recordings)]
    assert main(["pseudolabel", str(oracle.path), str(path), *words, "--out", str(out)]) == 0
    expected = blend([oracle, load_member(path)], [recordings], (1.0, 3.0), mean).scores
    table = read_pseudolabels(out)
    np.testing.assert_allclose(table.columns(tuple(expected.columns)), expected.to_numpy(), atol=5e-4)
    assert table.provenance["mean"] == mean
    with pytest.raises(ConfigError, match="pseudolabels are probabilities; a mean of ranks has none"):
        make_pseudolabels([oracle], [recordings], tmp_path / "r.parquet", mean="rank")


def test_a_teacher_of_rounds_can_be_a_table(oracle, other, tmp_path):
    from bcsed.rounds import api

    path = write(other, tmp_path / "theirs.parquet")
    each = Round(experiments=("tiny",), teacher=(str(path), str(oracle.path)), weights=(1.0, 3.0), share=0.5)
    teachers = api._teachers(Plan(name="one", rounds=(each,)), 1, tmp_path)
    assert [weight for _, weight in teachers] == [3.0, 1.0]
    assert [len(part) for part in split_members(member for member, _ in teachers)] == [1, 1]


def test_tables_are_compared_with_bundles(oracle, recordings, other, tmp_path, capsys, rng):
    truth = pd.DataFrame(rng.integers(0, 2, (20, 2)), pd.Index(IDS, name="row_id"), ["loud", "quiet"])
    truth.to_csv(tmp_path / "truth.csv")
    path = write(other[["loud", "quiet"]], tmp_path / "theirs.csv")
    arguments = ["compare", str(path), "--truth", str(tmp_path / "truth.csv"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "theirs" in capsys.readouterr().out
    both = [*arguments[:2], str(write(1 - other, tmp_path / "b.parquet")), *arguments[2:]]
    assert main(both) == 0
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    gain = table["auc"].diff().iloc[1]
    assert table["gain"].iloc[1] == pytest.approx(gain, abs=1e-4) and table["experiment"].tolist() == ["theirs", "b"]
    # A bundle is scored, which needs the recordings.
    assert main(["compare", str(oracle.path), *arguments[1:]]) == 2
    from bcsed.report.api import report

    predict(from_bundles([oracle, load_member(path)]), [recordings], out=tmp_path / "scores")
    page = report([tmp_path / "scores"], tmp_path / "page.html", truth=tmp_path / "truth.csv")
    assert "theirs.csv" in page.path.read_text()
