from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcsed.config.recipe import Data
from bcsed.data.label_files import truth_table
from bcsed.data.labels import (
    NEVER_HELD_OUT,
    assign_folds,
    class_counts,
    class_priors,
    make_targets,
    training_rows,
    validation_rows,
)
from bcsed.errors import ConfigError, DataError

CLASSES = ("024", "24", "grekis")
CLIPS = pd.DataFrame(
    {
        "filename": ["024/XC1.ogg", "24/XC2.ogg", "grekis/XC3.ogg"],
        "label": ["024", "24", "grekis"],
        "secondary": [("24", "grekis"), (), ("grekis",)],
        "recording": ["XC1", "XC2", "XC3"],
        "author": ["A", "", ""],
    }
)


def clips(per_class: dict[str, int], cuts: int = 1, authors: int = 0) -> pd.DataFrame:
    """Return clips of each class, `cuts` of them from one recording each."""
    rows = [
        {
            "filename": f"{label}/{label}{i // cuts:03d}_{i % cuts}.ogg",
            "label": label,
            "secondary": (),
            "recording": f"{label}{i // cuts:03d}",
            "author": f"{label}-by-{i // cuts % authors}" if authors else "",
        }
        for label, n in per_class.items()
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def max_folds(groups: pd.Series, fold_of: np.ndarray) -> int:
    """Return the largest number of folds of a group."""
    return int(pd.DataFrame({"group": groups.to_numpy(), "fold": fold_of}).groupby("group")["fold"].nunique().max())


class TestTargets:
    def test_values(self) -> None:
        targets, weights = make_targets(CLIPS, CLASSES, Data(label_target=0.8, secondary_target=0.3))
        expected = np.array([[0.8, 0.3, 0.3], [0, 0.8, 0], [0, 0, 0.8]], np.float32)
        np.testing.assert_array_equal(targets, expected)
        np.testing.assert_array_equal(weights, 1)
        assert targets.dtype == weights.dtype == np.float32

    def test_masked_secondary(self) -> None:
        targets, weights = make_targets(CLIPS, CLASSES, Data(secondary_target=None))
        np.testing.assert_array_equal(targets, np.eye(3))
        np.testing.assert_array_equal(weights, [[1, 0, 0], [1, 1, 1], [1, 1, 1]])

    def test_secondary_as_absent(self) -> None:
        targets, weights = make_targets(CLIPS, CLASSES, Data(secondary_target=0.0))
        np.testing.assert_array_equal(targets, np.eye(3))
        np.testing.assert_array_equal(weights, 1)

    def test_columns_follow_the_class_list(self) -> None:
        targets, _ = make_targets(CLIPS, CLASSES, Data())
        turned, _ = make_targets(CLIPS, CLASSES[::-1], Data())
        np.testing.assert_array_equal(turned, targets[:, ::-1])

    @pytest.mark.parametrize("classes", [("024", "24"), ("24", "grekis")])
    def test_unknown_label(self, classes: tuple[str, ...]) -> None:
        for function in (lambda: make_targets(CLIPS, classes, Data()), lambda: class_counts(CLIPS, classes)):
            with pytest.raises(DataError, match=r"the label '.*' is not among the 2 classes"):
                function()


def test_class_counts() -> None:
    counts = class_counts(CLIPS.iloc[[0, 0, 2]], CLASSES)
    assert counts.tolist() == [2, 0, 1]
    assert counts.dtype == np.int64


class TestPriors:
    def test_mean_targets_inside_the_unit_interval(self) -> None:
        targets = np.array([[1, 0, 0.3], [1, 0, 0.0], [1, 0, 0.3], [1, 0, 1.0]], np.float32)
        priors = class_priors(targets)
        np.testing.assert_allclose(priors, [1 - 1 / 8, 1 / 8, 0.4])
        assert priors.dtype == np.float32

    def test_no_clips_are_refused(self) -> None:
        with pytest.raises(DataError, match="class priors need at least one clip"):
            class_priors(np.zeros((0, 3), np.float32))


class TestFolds:
    DATA = Data(n_folds=4, min_class_count=8)

    def test_folds_have_equal_parts_of_each_class(self) -> None:
        table = clips({"a": 40, "b": 22, "c": 8})
        fold_of = assign_folds(table, self.DATA, 0)
        assert fold_of.dtype == np.int64
        share = pd.crosstab(table["label"], fold_of)
        assert list(share.columns) == [0, 1, 2, 3]
        assert (share.max(axis=1) - share.min(axis=1)).max() <= 1

    def test_rare_classes_are_never_held_out(self) -> None:
        table = clips({"a": 40, "rare": 7})
        fold_of = assign_folds(table, self.DATA, 0)
        np.testing.assert_array_equal(fold_of == NEVER_HELD_OUT, table["label"] == "rare")

    @settings(max_examples=15, deadline=None)
    @given(
        sizes=st.lists(st.integers(8, 40), min_size=2, max_size=5),
        cuts=st.integers(1, 3),
        seed=st.integers(0, 99),
        by=st.sampled_from(["recording", "author"]),
    )
    def test_a_group_is_in_one_fold(self, sizes: list[int], cuts: int, seed: int, by: str) -> None:
        table = clips({f"c{k}": n for k, n in enumerate(sizes)}, cuts, authors=7)
        # Some recordings have a second label too, and some clips have no author.
        also = table[::5].assign(label="c0", filename="again/" + table["filename"], author="")
        table = pd.concat([table, also], ignore_index=True)
        data = Data(n_folds=2, min_class_count=8, group_by=by)
        fold_of = assign_folds(table, data, seed)
        assert max_folds(table["recording"], fold_of) == 1
        if by == "author":
            assert max_folds(table["author"].where(table["author"] != ""), fold_of) == 1

    def test_authorless_clips_of_a_recording_stay_together(self) -> None:
        table = clips({"a": 40, "b": 40}, cuts=4)
        fold_of = assign_folds(table, Data(n_folds=3, min_class_count=2, group_by="author"), 0)
        assert max_folds(table["recording"], fold_of) == 1
        assert set(fold_of) == {0, 1, 2}  # but they are not one group

    def test_clips_that_share_either_key_are_one_group(self) -> None:
        table = clips({"a": 40}, cuts=4, authors=10)
        table.loc[4, "author"] = table.loc[0, "author"]  # the second recording has one clip by the first's author,
        table.loc[5, "author"] = ""  # one without author,
        table.loc[8, "recording"] = "a001"  # and one by the third's author
        fold_of = assign_folds(table, Data(n_folds=3, min_class_count=2, group_by="author"), 0)
        assert len(set(fold_of[:12])) == 1
        assert set(fold_of) == {0, 1, 2}

    def test_a_group_with_a_rare_clip_stays_in_training(self) -> None:
        table = clips({"a": 40, "rare": 3})
        table.loc[40, "recording"] = table.loc[7, "recording"]
        fold_of = assign_folds(table, self.DATA, 0)
        assert (fold_of == NEVER_HELD_OUT).nonzero()[0].tolist() == [7, 40, 41, 42]

    def test_a_class_of_one_recording_stays_in_training(self) -> None:
        table = pd.concat([clips({"a": 40}), clips({"solo": 12}, cuts=12)], ignore_index=True)
        fold_of = assign_folds(table, self.DATA, 0)
        np.testing.assert_array_equal(fold_of == NEVER_HELD_OUT, table["label"] == "solo")

    def test_row_order_does_not_matter(self) -> None:
        table = clips({"a": 30, "b": 17, "rare": 2}, cuts=2)
        order = np.random.default_rng(0).permutation(len(table))
        np.testing.assert_array_equal(
            assign_folds(table.iloc[order], self.DATA, 3), assign_folds(table, self.DATA, 3)[order]
        )

    def test_seed_decides(self) -> None:
        table = clips({"a": 40, "b": 40})
        first, again, other = (assign_folds(table, self.DATA, seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_a_class_mostly_in_training_is_split_without_a_warning(self) -> None:
        table = clips({"a": 40, "b": 8, "rare": 7})
        table.loc[40:45, "recording"] = table.loc[48:53, "recording"].to_numpy()
        fold_of = assign_folds(table, self.DATA, 0)
        assert (fold_of[table["label"] == "b"] >= 0).sum() == 2

    @pytest.mark.parametrize(
        ("per_class", "cuts", "data", "message"),
        [
            (
                {"a": 7, "b": 3},
                1,
                DATA,
                "0 groups by recording and at most 0 .* 4 folds: 2 of 2 classes have fewer than 8",
            ),
            (
                {"a": 24},
                8,
                DATA,
                "3 groups by recording and at most 24 clips of one class can be held out, too few for 4",
            ),
            (
                {"a": 3, "b": 3},
                1,
                Data(n_folds=4, min_class_count=2),
                "6 groups by recording and at most 3 clips .* lower min",
            ),
        ],
    )
    def test_too_few(self, per_class: dict[str, int], cuts: int, data: Data, message: str) -> None:
        with pytest.raises(DataError, match=message):
            assign_folds(clips(per_class, cuts), data, 0)


class TestRows:
    DATA = Data(n_folds=2, min_class_count=8)
    TABLE = clips({"a": 20, "rare": 3, "b": 9, "single": 1, "most": 7})

    def test_rare_clips_are_repeated_whole(self) -> None:
        fold_of = assign_folds(self.TABLE, self.DATA, 0)
        rows = training_rows(self.TABLE, fold_of, 1, self.DATA)
        repeats = Counter(rows.tolist())
        label = self.TABLE["label"]
        assert rows.dtype == np.int64
        assert {repeats[i] for i in label.index[label == "rare"]} == {3}
        assert {repeats[i] for i in label.index[label == "single"]} == {8}
        assert {repeats[i] for i in label.index[label == "most"]} == {2}
        common = label.isin(["a", "b"]).to_numpy()
        assert all(repeats[i] == (fold_of[i] == 0) for i in np.flatnonzero(common))
        np.testing.assert_array_equal(rows, training_rows(self.TABLE, fold_of, 1, self.DATA))

    def test_training_and_validation_rows_are_complementary(self) -> None:
        fold_of = assign_folds(self.TABLE, self.DATA, 0)
        for fold in (0, 1):
            train, valid = training_rows(self.TABLE, fold_of, fold, self.DATA), validation_rows(fold_of, fold)
            assert valid.dtype == np.int64
            assert not set(train) & set(valid)
            assert set(train) | set(valid) == set(range(len(self.TABLE)))

    def test_fold_none_trains_on_all_clips(self) -> None:
        fold_of = assign_folds(self.TABLE, self.DATA, 0)
        assert set(training_rows(self.TABLE, fold_of, None, self.DATA)) == set(range(len(self.TABLE)))

    @pytest.mark.parametrize("fold", [2, NEVER_HELD_OUT])
    def test_no_such_fold(self, fold: int) -> None:
        fold_of = assign_folds(self.TABLE, self.DATA, 0)
        with pytest.raises(ConfigError, match=re.escape(f"no clip is in fold {fold}; the folds are 0, 1.")):
            training_rows(self.TABLE, fold_of, fold, self.DATA)

    def test_folds_of_another_table(self) -> None:
        fold_of = assign_folds(self.TABLE, self.DATA, 0)
        with pytest.raises(DataError, match="the folds are of 40 clips, the table has 39"):
            training_rows(self.TABLE.iloc[1:], fold_of, 0, self.DATA)


def test_only_the_last_row_of_a_recording_may_be_shorter():
    labels = pd.DataFrame({"filename": "x.wav", "start_s": [0, 20], "end_s": [5, 25], "labels": [("a",), ()]})
    with pytest.raises(DataError, match=r"'x.wav' has a row of 5 s from 0 s on before others, where rows have 10 s"):
        truth_table(labels, ["a"], row_s=10)
    assert list(truth_table(labels[1:], ["a"], row_s=10).index) == ["x_30"]
