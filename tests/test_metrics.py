from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score

from bcsed.errors import ConfigError, DataError
from bcsed.scores.evaluation import make_evaluation, read_evaluation, write_evaluation
from bcsed.scores.metrics import (
    align_tables,
    bootstrap_auc,
    bootstrap_macro_auc,
    bootstrap_weights,
    class_auc,
    lrap,
    macro_auc,
    padded_cmap,
    per_class,
    score_tables,
)


def make_arrays(seed: int, n: int = 60, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and scores in tenths, so that many scores are equal; every class occurs."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < 0.2).astype(np.float32)
    truth[0], truth[1] = 1, 0
    return truth, np.round(0.3 * truth + 0.7 * rng.random((n, k)), 1).astype(np.float32)


def tables(seed: int = 0, n: int = 60, k: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = pd.Index([f"f{i // 6}_{5 * (i % 6 + 1)}" for i in range(n)], name="row_id")
    truth, scores = make_arrays(seed, n, k)
    names = [f"c{j}" for j in range(k)]
    return pd.DataFrame(truth, rows, names), pd.DataFrame(scores, rows, names)


def files(table: pd.DataFrame) -> list[str]:
    return [name.split("_")[0] for name in table.index]


class TestAuc:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_equals_scikit_learn(self, seed: int) -> None:
        truth, scores = make_arrays(seed)
        np.testing.assert_allclose(class_auc(truth, scores), roc_auc_score(truth, scores, average=None))
        auc, n_scored = macro_auc(truth, scores)
        assert auc == pytest.approx(roc_auc_score(truth, scores, average="macro"))
        assert n_scored == 5

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000))
    def test_average_precision_equals_scikit_learn(self, seed: int) -> None:
        truth, scores = make_arrays(seed)
        truth[1:, 2] = 1
        rows = truth.any(axis=1)
        assert lrap(truth, scores) == pytest.approx(label_ranking_average_precision_score(truth[rows], scores[rows]))
        padded = (np.vstack([array, np.ones((5, 5))]) for array in (truth, scores))
        assert padded_cmap(truth, scores) == pytest.approx(average_precision_score(*padded))
        named = tables(seed)
        expected = average_precision_score(*named, average=None)
        np.testing.assert_allclose(per_class(*named)["average_precision"], expected)

    def test_classes_that_do_not_occur_are_skipped(self) -> None:
        truth, scores = make_arrays(0)
        truth[:, 2] = 0
        auc, n_scored = macro_auc(truth, scores)
        occurs = truth.sum(axis=0) > 0
        assert auc == pytest.approx(roc_auc_score(truth[:, occurs], scores[:, occurs], average="macro"))
        assert n_scored == 4
        assert np.isnan(class_auc(truth, scores)).tolist() == [False, False, True, False, False]

    def test_classes_that_always_occur_are_skipped(self) -> None:
        truth, scores = make_arrays(0)
        truth[:, 1] = 1
        assert np.isnan(class_auc(truth, scores)[1])
        assert macro_auc(truth, scores)[1] == 4

    def test_known_values(self) -> None:
        truth = [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
        scores = [[0.9, 0.1, 0.5], [0.2, 0.7, 0.5], [0.3, 0.8, 0.5]]
        auc = class_auc(np.array(truth), np.array(scores))
        np.testing.assert_array_equal(auc, [1, 0, 0.5])
        assert auc.dtype == np.float64

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000), st.permutations(range(60)))
    def test_row_order_does_not_matter(self, seed: int, order: list[int]) -> None:
        truth, scores = make_arrays(seed)
        np.testing.assert_allclose(class_auc(truth[order], scores[order]), class_auc(truth, scores))

    def test_a_monotone_function_of_a_column_does_not_matter(self) -> None:
        truth, scores = make_arrays(1)
        transformed = np.stack([np.exp(3 * scores[:, j]) - 10 * j for j in range(5)], axis=1)
        np.testing.assert_array_equal(class_auc(truth, transformed), class_auc(truth, scores))
        np.testing.assert_allclose(class_auc(truth, -scores), 1 - class_auc(truth, scores))

    def test_nothing_to_score(self) -> None:
        with pytest.raises(DataError, match="none of 3 classes has both a positive and a negative row"):
            macro_auc(np.zeros((4, 3)), np.zeros((4, 3)))


class TestRefusals:
    METRICS = (class_auc, macro_auc, padded_cmap, lrap, score_tables, per_class)

    @pytest.mark.parametrize("metric", METRICS)
    def test_scores_that_are_not_numbers(self, metric) -> None:
        truth, scores = tables()
        texts = scores.astype(object)
        scores.iloc[3, 1], texts.iloc[3, 1] = np.nan, "loud"
        with pytest.raises(DataError, match="the score of row 'f0_20', class 'c1' is not a finite number"):
            metric(truth, scores)
        with pytest.raises(DataError, match=r"truth and scores must be numbers throughout: .*'loud'"):
            metric(truth, texts)

    @pytest.mark.parametrize("metric", METRICS)
    def test_truth_other_than_0_and_1(self, metric) -> None:
        truth, scores = tables()
        truth.iloc[3, 1] = 0.25
        with pytest.raises(DataError, match=r"truth must be 0 or 1, got 0\.25"):
            metric(truth, scores)

    def test_shapes(self) -> None:
        with pytest.raises(DataError, match=r"must have one shape \(rows, classes\), got \(3, 2\) and \(2, 3\)"):
            class_auc(np.ones((3, 2)), np.ones((2, 3)))
        with pytest.raises(DataError, match="must both be tables, which have names, or both arrays"):
            class_auc(tables()[0], make_arrays(0)[1])


class TestAlign:
    def test_by_name_and_never_by_position(self) -> None:
        truth, scores = tables()
        rng = np.random.default_rng(0)
        shuffled = scores.iloc[rng.permutation(60), rng.permutation(5)]
        pd.testing.assert_frame_equal(align_tables(truth, shuffled), scores)
        assert score_tables(truth, shuffled) == score_tables(truth, scores)
        pd.testing.assert_frame_equal(per_class(truth, shuffled), per_class(truth, scores))

    def test_other_rows(self) -> None:
        truth, scores = tables()
        with pytest.raises(DataError, match="2 of 60 rows of the truth are not in the scores, 'f0_5' first"):
            align_tables(truth, scores.iloc[2:])
        with pytest.raises(DataError, match="1 rows in the scores are not in the truth, 'f9_30' first"):
            align_tables(truth.drop("f9_30"), scores)
        assert list(align_tables(truth.drop("f9_30"), scores, extra=True).index) == list(truth.index[:-1])

    def test_other_classes(self) -> None:
        truth, scores = tables()
        with pytest.raises(DataError, match="1 of 5 classes of the truth are not in the scores, 'c4' first"):
            align_tables(truth, scores.drop(columns="c4"))

    def test_duplicate_rows_and_classes(self) -> None:
        truth, scores = tables()
        with pytest.raises(DataError, match="row 'f0_5' occurs more than once in the scores"):
            align_tables(truth, pd.concat([scores, scores.iloc[:1]]))
        with pytest.raises(DataError, match="class 'c0' occurs more than once in the truth"):
            align_tables(pd.concat([truth, truth[["c0"]]], axis=1), scores)


class TestOtherMetrics:
    def test_cmap_by_hand(self) -> None:
        # One positive in third place of three: (5 + 6/8) / 6 with the five rows of padding ahead of it.
        truth, scores = np.array([[1], [0], [0]]), np.array([[0.1], [0.5], [0.6]])
        assert padded_cmap(truth, scores) == pytest.approx((5 + 6 / 8) / 6)
        assert padded_cmap(truth, scores, padding=1) == pytest.approx((1 + 2 / 4) / 2)

    def test_cmap_of_a_class_that_does_not_occur(self) -> None:
        assert padded_cmap(np.zeros((4, 1)), np.full((4, 1), 0.9)) == 1
        assert padded_cmap(np.zeros((4, 1)), np.ones((4, 1))) == pytest.approx(5 / 9)

    @pytest.mark.parametrize(("worst", "text"), [(1.5, "1.5"), (-0.1, "-0.1")])
    def test_cmap_needs_probabilities(self, worst: float, text: str) -> None:
        truth, scores = make_arrays(0)
        scores[0, 0] = worst
        with pytest.raises(DataError, match=rf"needs scores in \[0, 1\], got {text}; pass probabilities"):
            padded_cmap(truth, scores)
        with pytest.raises(ConfigError, match="padding must be at least 1, got 0"):
            padded_cmap(*make_arrays(0), padding=0)

    def test_lrap_by_hand(self) -> None:
        truth = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]])
        scores = np.array([[0.9, 0.1, 0.2], [0.9, 0.5, 0.6], [0.1, 0.2, 0.3]])
        assert lrap(truth, scores) == pytest.approx((1 + 1 / 2) / 2)  # the row without a label does not count

    def test_lrap_without_labels(self) -> None:
        with pytest.raises(DataError, match="none of 4 rows has a label"):
            lrap(np.zeros((4, 3)), np.zeros((4, 3)))

    def test_all_at_once(self) -> None:
        truth, scores = tables()
        truth["c3"] = 0
        scores_of_all = score_tables(truth, scores)
        assert (scores_of_all.macro_auc, scores_of_all.n_classes) == macro_auc(truth, scores)
        assert scores_of_all.n_classes == 4
        assert scores_of_all.cmap == padded_cmap(truth, scores)
        assert scores_of_all.lrap == lrap(truth, scores)
        assert scores_of_all.n_rows == 60

    def test_per_class(self) -> None:
        truth, scores = tables()
        truth["c3"] = 0
        table = per_class(truth, scores)
        assert list(table["class"]) == ["c0", "c1", "c2", "c3", "c4"]
        assert list(table["n_positive"]) == truth.sum().astype(int).tolist()
        assert table["auc"].mean() == pytest.approx(macro_auc(truth, scores)[0])
        assert table[["auc", "average_precision"]].isna().all(axis=1).tolist() == [False] * 3 + [True, False]


class TestBootstrap:
    def test_equals_resampling_the_rows(self) -> None:
        truth, scores = tables(3, n=36, k=3)
        truth["c1"] = (np.array(files(truth)) == "f1").astype(float)  # missing from many resamples
        truth = truth.iloc[np.random.default_rng(1).permutation(36)]  # recordings interleaved
        low, high = bootstrap_auc(truth, scores, files(truth), n=40, rng=np.random.default_rng(7))
        counts = np.random.default_rng(7).multinomial(6, np.full(6, 1 / 6), size=40)
        names, slow = pd.unique(np.array(files(truth), object)), []
        for times in counts:
            rows = np.repeat(np.arange(36), [times[names.tolist().index(name)] for name in files(truth)])
            slow.append(macro_auc(truth.to_numpy()[rows], align_tables(truth, scores).to_numpy()[rows])[0])
        assert (low, high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
        assert low < macro_auc(truth, scores)[0] < high

    def test_rows_of_scores_in_any_order(self) -> None:
        truth, scores = tables()
        expected = bootstrap_auc(truth, scores, files(truth), n=50, rng=np.random.default_rng(0))
        assert bootstrap_auc(truth, scores[::-1], files(truth), n=50, rng=np.random.default_rng(0)) == expected

    def test_duplicate_rows_do_not_change_the_interval(self) -> None:
        truth, scores = tables()
        low, high = bootstrap_auc(truth, scores, files(truth), n=200, rng=np.random.default_rng(0))
        twice = np.repeat(np.arange(60), 2)
        rows = truth.to_numpy()[twice], scores.to_numpy()[twice], np.repeat(files(truth), 2).tolist()
        assert bootstrap_auc(*rows, n=200, rng=np.random.default_rng(0)) == pytest.approx((low, high))

    def test_refusals(self) -> None:
        truth, scores = tables()
        rng = np.random.default_rng(0)
        with pytest.raises(DataError, match="got 3 recordings for 60 rows"):
            bootstrap_auc(truth, scores, ["a", "b", "c"], rng=rng)
        with pytest.raises(DataError, match="at least two recordings, got 1"):
            bootstrap_auc(truth, scores, ["a"] * 60, rng=rng)


class TestResamples:
    def test_every_resample_has_the_number_of_recordings(self) -> None:
        counts = bootstrap_weights(7, 500, rng=np.random.default_rng(0))
        assert counts.shape == (500, 7)
        assert (counts.sum(axis=1) == 7).all()
        np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.15)
        with pytest.raises(DataError, match="an interval needs at least two recordings, got 1"):
            bootstrap_weights(1, rng=np.random.default_rng(0))

    def test_equals_resampling_the_rows(self) -> None:
        """Also if `counts` has recordings without rows, in another order."""
        truth, scores = make_arrays(3, n=36, k=3)
        file_of = np.array([4, 0, 2, 5])[np.arange(36) % 4]
        counts = bootstrap_weights(6, 30, rng=np.random.default_rng(2))
        counts[0] = [0, 3, 0, 3, 0, 0]
        resampled = bootstrap_macro_auc(truth, scores, file_of, counts)
        assert np.isnan(resampled).tolist() == [True] + [False] * 29
        for auc, times in list(zip(resampled, counts, strict=True))[1:]:
            rows = np.repeat(np.arange(36), times[file_of].astype(int))
            assert auc == pytest.approx(macro_auc(truth[rows], scores[rows])[0])

    def test_each_recording_once_gives_the_macro_auc(self) -> None:
        truth, scores = tables()
        file_of = np.unique(files(truth), return_inverse=True)[1]
        resampled = bootstrap_macro_auc(truth, scores[::-1], file_of, np.ones((1, 10)))
        assert resampled[0] == pytest.approx(macro_auc(truth, scores)[0])

    def test_refusal(self) -> None:
        with pytest.raises(DataError, match="got 3 recordings for 60 rows"):
            bootstrap_macro_auc(*make_arrays(0), np.zeros(3, int), np.ones((1, 1)))


class TestEvaluation:
    def test_made_from_tables(self) -> None:
        truth, scores = tables()
        evaluation = make_evaluation(truth.iloc[6:], scores.iloc[::-1, ::-1])
        assert evaluation.ids == tuple(truth.index[6:])
        assert evaluation.files == tuple(files(truth)[6:])
        np.testing.assert_array_equal(evaluation.scores, scores.iloc[6:])
        with pytest.raises(DataError, match="1 of 60 rows of the truth are not in the table"):
            make_evaluation(truth, scores.iloc[1:], where="the table")

    def test_files_with_and_without_a_schema_number(self, tmp_path) -> None:
        path = tmp_path / "validation-best.npz"
        evaluation = make_evaluation(*tables())
        write_evaluation(path, evaluation)
        assert read_evaluation(path).fingerprint == evaluation.fingerprint
        with np.load(path) as stored:
            arrays = dict(stored)
        assert arrays.pop("schema") == 1
        np.savez(path, **arrays)
        assert read_evaluation(path).fingerprint == evaluation.fingerprint
        np.savez(path, **arrays, schema=2)
        with pytest.raises(DataError, match="has schema 2"):
            read_evaluation(path)
