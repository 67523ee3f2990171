from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bcsed.errors import ConfigError, DataError
from bcsed.scores import postprocess
from bcsed.scores.postprocess.stages import Power, Smooth, TopRows
from bcsed.scores.table import check_table, make_table, row_ids

CLASSES = ("1139490", "frog1", "frog2")
TAXA = {"1139490": "Aves", "frog1": "Amphibia", "frog2": "Amphibia"}
NAMES = ("siteA/0001", "siteB/0001", "H02_20230420_074000", "x")
scores = st.floats(0, 1, width=32)


def table_of(blocks: dict[str, np.ndarray], classes=CLASSES, row_s: int = 5) -> pd.DataFrame:
    ids = [row_id for name, block in blocks.items() for row_id in row_ids(name, len(block), row_s)]
    return make_table(ids, classes, np.concatenate(list(blocks.values())))


@st.composite
def tables(draw):
    n = draw(st.integers(1, 4))
    return table_of(
        {name: draw(hnp.arrays("float32", (draw(st.integers(1, 9)), 3), elements=scores)) for name in NAMES[:n]}
    )


weights = st.floats(0, 5, width=16)
kernels = st.integers(0, 3).flatmap(
    lambda half: st.tuples(*[weights] * half, st.floats(0.125, 5, width=16), *[weights] * half)
)
stages = st.one_of(
    st.builds(Smooth, kernels, st.dictionaries(st.sampled_from(["Aves", "Amphibia"]), kernels)),
    st.builds(TopRows, st.integers(1, 12), st.floats(0, 3)),
    st.builds(Power, st.floats(0.1, 5)),
)
sequences = st.lists(stages, max_size=3, unique_by=lambda stage: stage.name)


@given(tables(), sequences)
def test_rows_columns_order_and_range_stay(table, sequence):
    copy = table.copy()
    processed = postprocess.apply(table, sequence, TAXA)
    pd.testing.assert_frame_equal(table, copy)
    assert processed.index.equals(table.index) and processed.columns.equals(table.columns)
    assert (processed.dtypes == np.float32).all()
    check_table(processed)


@given(tables(), stages)
def test_recordings_are_processed_separately_bit_by_bit(table, stage):
    whole = stage(table, TAXA)
    names = table.index.str.rpartition("_").get_level_values(0)
    for name in dict.fromkeys(names):
        alone = stage(table[names == name], TAXA)
        assert alone.to_numpy().tobytes() == whole[names == name].to_numpy().tobytes()


@given(tables(), stages, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_does_not_matter(table, stage, random):
    order = random.sample(range(len(table)), len(table))
    mixed = stage(table.iloc[order], TAXA).loc[table.index]
    assert mixed.to_numpy().tobytes() == stage(table, TAXA).to_numpy().tobytes()
    turned = stage(table[list(CLASSES[::-1])], TAXA)[list(CLASSES)]
    np.testing.assert_allclose(turned, stage(table, TAXA), atol=1e-6)


@given(tables(), st.sampled_from([Smooth(), Smooth((7,)), Smooth((0, 2, 0), {"Aves": (3,)}), TopRows(3, 0), Power(1)]))
def test_stages_that_change_nothing(table, stage):
    pd.testing.assert_frame_equal(stage(table, TAXA), table)


@settings(deadline=None, max_examples=40)
@given(tables(), kernels)
def test_smoothing_equals_the_slow_mean(table, kernel):
    smooth, half = Smooth(kernel)(table), len(kernel) // 2
    for row_id in table.index:
        name, _, end = row_id.rpartition("_")
        near = {offset: f"{name}_{int(end) + 5 * offset}" for offset in range(-half, half + 1)}
        present = {offset: other for offset, other in near.items() if other in table.index}
        total = sum(kernel[half + offset] for offset in present)
        mean = sum(kernel[half + offset] * table.loc[other].astype("f8") for offset, other in present.items()) / total
        np.testing.assert_allclose(smooth.loc[row_id], mean, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(tables(), st.integers(1, 12), st.floats(0.25, 2))
def test_top_rows_equals_the_slow_product(table, k, amount):
    scaled = TopRows(k, amount)(table)
    names = table.index.str.rpartition("_").get_level_values(0)
    for name in set(names):
        for column in CLASSES:
            ours = table.loc[names == name, column].astype("f8")
            wanted = ours * ours.nlargest(k).mean() ** amount
            np.testing.assert_allclose(scaled.loc[names == name, column], wanted, atol=1e-6)


def test_by_hand():
    table = table_of({"a/1": np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]), "b": np.array([[1, 1, 0.5]])})
    stage = Smooth((1, 2, 3), {"Amphibia": (1, 1, 1)})
    # The first weight is that of the earliest row; at an end the weights of missing rows are left out.
    expected = [[3 / 5, 1 / 2, 0], [2 / 6, 1 / 3, 0], [1 / 3, 0, 0], [1, 1, 0.5]]
    np.testing.assert_allclose(stage(table, TAXA), expected, atol=1e-7)
    np.testing.assert_allclose(TopRows(2)(table).iloc[:3, 0], [0, 0.5, 0], atol=1e-7)
    np.testing.assert_allclose(Power(2)(table).iloc[3], [1, 1, 0.25], atol=1e-7)
    # The kernel of a taxon changes no class of another taxon.
    np.testing.assert_array_equal(Smooth((1,), {"Amphibia": (1, 1, 1)})(table, TAXA)["1139490"], table["1139490"])


def test_a_class_of_unknown_taxon_has_the_common_kernel():
    table = table_of({"a": np.eye(3)})
    known = {"frog1": "Amphibia"}
    processed = Smooth((1, 1, 1), {"Amphibia": (1,)})(table, known)
    np.testing.assert_array_equal(processed["frog1"], table["frog1"])
    np.testing.assert_array_equal(processed["frog2"], Smooth((1, 1, 1))(table)["frog2"])


def test_rows_are_ordered_by_number_not_by_text():
    table = table_of({"a": np.linspace(0, 1, 60).reshape(20, 3)})
    shuffled = table.sort_index()  # a_10, a_100, a_15, ...
    assert list(shuffled.index) != list(table.index)
    pd.testing.assert_frame_equal(Smooth((1, 2, 1))(shuffled).loc[table.index], Smooth((1, 2, 1))(table))


def test_an_empty_table_stays_empty():
    empty = make_table([], CLASSES, np.empty((0, 3), "float32"))
    assert postprocess.apply(empty, [TopRows(1), Smooth((1, 1, 1)), Power(2)]).shape == (0, 3)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["a_5", "a_ten"], "row 'a_ten' is not named <recording>_<end second>"),
        (["a_5", "_5"], "row '_5' is not named"),
        (["a_5", "a_10", "a_20"], "recording 'a' lacks rows: its rows end at 5, 10, 20"),
        (["a_10", "a_25"], "lacks rows"),
        (["a_5", "a_05"], "row 'a_5' occurs more than once"),
    ],
)
def test_invalid_row_ids_are_refused(ids, sentence):
    with pytest.raises(DataError, match=sentence):
        Smooth((1, 2, 1))(make_table(ids, CLASSES, np.zeros((len(ids), 3))))


def test_invalid_scores_are_refused():
    table = table_of({"a": np.full((2, 3), 1.5)})
    with pytest.raises(DataError, match=r"the score table has the value 1\.5 at row 'a_5'"):
        Power(2)(table)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Smooth((1, 2)), r"an odd number of weights, got 2 \(1,2\)"),
        (lambda: Smooth(()), "an odd number of weights, got 0"),
        (lambda: Smooth((1, 0, 1)), "the middle one is positive; got 1,0,1"),
        (lambda: Smooth((-1, 2, 1)), "weights are at least 0"),
        (lambda: Smooth((1, float("inf"), 1)), "weights are at least 0"),
        (lambda: Smooth((1,), [("Aves", (1,)), ("Aves", (2,))]), "the taxon 'Aves' has two kernels"),
        (lambda: TopRows(0), "at least 1, got 0"),
        (lambda: TopRows(1, -1), "the amount must be a number of at least 0, got -1"),
        (lambda: Power(0), "the exponent must be a number above 0, got 0"),
        (lambda: Power(float("nan")), "above 0, got nan"),
        (lambda: postprocess.check_stages([Power(1), Power(2)]), "stage 'power' occurs 2 times"),
    ],
)
def test_invalid_stages(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_kernels_of_taxa_need_taxa():
    table = table_of({"a": np.eye(3)})
    stage = Smooth((1,), {"amphibia": (1, 1, 1)})
    with pytest.raises(ConfigError, match="needs the taxon of each class: name a --taxonomy"):
        stage(table)
    with pytest.raises(ConfigError, match="no class is of the taxon 'amphibia'; the taxa are Amphibia, Aves"):
        stage(table, TAXA)


@given(sequences)
def test_described_and_parsed_again(sequence):
    texts = json.loads(json.dumps(postprocess.describe(sequence)))
    assert postprocess.parse_stages(texts) == tuple(sequence)


def test_the_command_lines_form():
    read = postprocess.parse_stages(["smooth.Amphibia=1,2,1", "top=3", "smooth=.1,.8,.1", "power=1.5"])
    assert read == (Smooth((0.1, 0.8, 0.1), {"Amphibia": (1, 2, 1)}), TopRows(3), Power(1.5))
    assert postprocess.parse_stages(["top=2,0.4"]) == (TopRows(2, 0.4),)
    assert postprocess.parse_stages(["smooth.A.b=1"]) == (Smooth((1,), {"A.b": (1,)}),)
    assert postprocess.parse_stages([]) == ()
    assert postprocess.parse_stages(postprocess.COMMON)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("smoth=1,2,1", "'smoth=1,2,1' is not a stage; write smooth=W,W,W"),
        ("smooth", "'smooth' is not a stage"),
        ("smooth.=1", "'smooth.=1' is not a stage"),
        ("top.Aves=3", "'top.Aves=3' is not a stage"),
        ("smooth=1;2;1", "'smooth=1;2;1': '1;2;1' is not a list of numbers separated by commas"),
        ("power=", "'power=': '' is not a list of numbers"),
        ("power=1,2", "'power=1,2': write one number"),
        ("top=1.5", "'top=1.5': write an integer number of rows"),
        ("top=1,2,3", "'top=1,2,3': write an integer number of rows"),
        ("smooth=1,1", "an odd number of weights, got 2"),
    ],
)
def test_invalid_texts(text, sentence):
    with pytest.raises(ConfigError, match=sentence):
        postprocess.parse_stages([text])


def test_a_repeated_stage():
    with pytest.raises(ConfigError, match="'top=2': top is given twice"):
        postprocess.parse_stages(["top=3", "top=2"])


@given(tables())
def test_percentiles_equal_scipys(table):
    ranked = postprocess.combine({"a": table}, kind="rank")
    wanted = scipy.stats.rankdata(table.to_numpy(), axis=0) / len(table)
    np.testing.assert_allclose(ranked, wanted, rtol=1e-6)
    assert (ranked > 0).to_numpy().all() and (ranked <= 1).to_numpy().all()


@settings(max_examples=50)
@given(tables(), st.sampled_from(["prob", "logit"]), st.floats(0.1, 10))
def test_the_mean_of_a_single_member_is_the_member(table, kind, weight):
    alone = postprocess.combine({"a": table}, [weight], kind)
    if kind == "prob":
        pd.testing.assert_frame_equal(alone, table)
    else:
        np.testing.assert_allclose(alone, table, atol=2e-7)


def test_means_by_hand():
    a = make_table(["x_5", "x_10"], ["p", "q"], np.array([[0.2, 0.9], [0.6, 0.1]]))
    b = make_table(["x_10", "x_5"], ["q", "r"], np.array([[0.5, 1.0], [0.3, 0.0]]))
    mean = postprocess.combine({"a": a, "b": b}, [1, 3])
    assert list(mean.columns) == ["p", "q", "r"] and list(mean.index) == ["x_5", "x_10"]
    # A member that does not processed a class does not count in its mean.
    np.testing.assert_allclose(mean, [[0.2, (0.9 + 0.9) / 4, 0], [0.6, (0.1 + 1.5) / 4, 1]], rtol=1e-6)
    logit = postprocess.combine({"a": a, "b": b}, [1, 3], "logit")
    wanted = scipy.special.expit((scipy.special.logit(0.9) + 3 * scipy.special.logit(0.3)) / 4)
    np.testing.assert_allclose(logit.loc["x_5", "q"], wanted, rtol=1e-6)
    assert 0 <= logit.loc["x_5", "r"] < 1e-6 and 1 - 1e-6 < logit.loc["x_10", "r"] <= 1
    ranks = postprocess.combine({"a": a, "b": b}, [1, 3], "rank")
    np.testing.assert_allclose(ranks["q"], [(1 + 1.5) / 4, (0.5 + 3) / 4])
    sequence = postprocess.combine({"a": a, "b": b}, classes=["r", "p"])
    assert list(sequence.columns) == ["r", "p"]
    np.testing.assert_allclose(sequence["r"], [0, 1])


@given(tables(), st.sampled_from(postprocess.MEANS))
def test_the_order_of_members_does_not_matter(table, kind):
    other = table[["frog2", "1139490"]] ** 2
    left = postprocess.combine({"a": table, "b": other}, [1, 2], kind)
    right = postprocess.combine({"b": other.iloc[::-1], "a": table}, [2, 1], kind).loc[table.index, table.columns]
    pd.testing.assert_frame_equal(left, right, rtol=1e-6)


def test_invalid_members():
    a = table_of({"a": np.eye(3)})
    with pytest.raises(ConfigError, match="at least one member"):
        postprocess.combine({})
    with pytest.raises(ConfigError, match="2 weights for 1 members"):
        postprocess.combine({"a": a}, [1, 2])
    with pytest.raises(ConfigError, match="weights must be positive numbers, got 0"):
        postprocess.combine({"a": a}, [0])
    with pytest.raises(ConfigError, match="one of prob, logit, rank; got 'mean'"):
        postprocess.combine({"a": a}, kind="mean")
    with pytest.raises(ConfigError, match=r"no member has class 'owl' \(1 such classes\)"):
        postprocess.combine({"a": a}, classes=["frog1", "owl"])
    with pytest.raises(DataError, match=r"members 'a' and 'b' do not have the same rows: 'a_15' is in one"):
        postprocess.combine({"a": a, "b": a.iloc[:2]})
    with pytest.raises(DataError, match="member 'b' has the value nan"):
        postprocess.spearman({"a": a, "b": a * np.nan})


def test_spearman_equals_scipys_mean_over_classes(rng):
    a = table_of({"a": rng.random((30, 3)).round(1)})
    b = table_of({"a": rng.random((30, 3)).round(1)})
    c = a.assign(frog1=0.5)[["frog1", "frog2"]].iloc[::-1] ** 3
    matrix = postprocess.spearman({"a": a, "b": b, "c": c})
    wanted = np.mean([scipy.stats.spearmanr(a[name], b[name]).statistic for name in CLASSES])
    assert matrix.loc["a", "b"] == pytest.approx(wanted) == matrix.loc["b", "a"]
    # frog1 is constant in c and does not count; a power changes no order.
    assert matrix.loc["a", "c"] == pytest.approx(1)
    assert (np.diag(matrix) == 1).all()
    nothing = postprocess.spearman({"a": a, "d": a[["frog1"]] * 0})
    assert np.isnan(nothing.loc["a", "d"])
