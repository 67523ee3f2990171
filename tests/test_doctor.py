"""Findings of one score table, and the difference of two."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bcsed.analysis import doctor
from bcsed.analysis.doctor.api import shorten_paths
from bcsed.cli import main
from bcsed.errors import DataError
from bcsed.scores.checks.api import check
from bcsed.scores.checks.finding import Finding

N, ROWS, K = 20, 12, 14
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(-2, 1.5, (N, ROWS, K)) + RNG.normal(0, 1, (N, 1, K))


def table(logits: np.ndarray = LOGITS, *, sigmoid: bool = True) -> pd.DataFrame:
    values = logits.reshape(-1, logits.shape[-1])
    ids = [f"site_{n:02}_{5 * (row + 1)}" for n in range(len(logits)) for row in range(logits.shape[1])]
    index = pd.Index(ids, name="row_id", dtype=object)
    values = 1 / (1 + np.exp(-values)) if sigmoid else values
    return pd.DataFrame(values, index, [f"c{k:02}" for k in range(values.shape[1])])


def findings_of(scores: pd.DataFrame, **options) -> dict[str, Finding]:
    return {finding.name: finding for finding in check(scores, **options)}


def run_doctor(*words: object) -> int:
    return main(["doctor", *map(str, words)])


class TestOneTable:
    def test_a_valid_table_has_no_findings(self):
        assert check(table()) == ()
        durations = {f"site_{n:02}": Fraction(60) for n in range(N)}
        assert check(table(), classes=list(table().columns), durations_s=durations) == ()

    def test_window_zero_for_all(self):
        finding = findings_of(table(np.repeat(LOGITS[:, :1], ROWS, 1)))["broadcast"]
        assert (finding.severity, finding.count, finding.examples[0]) == ("error", N, "site_00")
        assert "identical in 20 recordings of 20" in finding.sentence
        changed = LOGITS.copy()
        changed[7] = changed[7, :1]
        finding = findings_of(table(changed))["broadcast"]
        assert (finding.count, finding.examples) == (1, ("site_07",))

    def test_digital_silence_is_a_warning(self):
        changed = LOGITS.copy()
        changed[7] = changed[7, :1]
        result = findings_of(table(changed), silent=["site_07"])
        assert set(result) == {"silence"}
        assert (result["silence"].severity, result["silence"].examples) == ("warning", ("site_07",))

    def test_a_constant_table(self):
        result = findings_of(table(LOGITS * 0))
        assert result["constant"].severity == "error"
        assert "all 240 rows are identical" in result["constant"].sentence
        one_recording = table(np.repeat(LOGITS[:1, :1], ROWS, 1))
        assert "broadcast" in findings_of(one_recording)

    def test_constant_classes(self):
        scores = table()
        scores["c03"] = 0.25
        assert "1 class of 14 with one value in all rows: 'c03'" in findings_of(scores)["constant classes"].sentence
        scores["c03"] = np.nan
        finding = findings_of(scores)["nan"]
        assert (finding.count, finding.examples) == (240, ("site_00_5", "c03"))
        assert "(1 classes in all rows)" in finding.sentence
        scores.iloc[3, 5] = np.inf
        assert findings_of(scores)["infinite"].examples == ("site_00_20", "c05")
        assert "not numeric" in findings_of(table().astype(object).assign(c02="loud"))

    def test_values_that_are_not_probabilities(self):
        assert "probably logits" in findings_of(table(sigmoid=False))["logits"].sentence
        assert "probably percent" in findings_of(100 * table())["scale"].sentence
        assert "sigmoid was applied twice" in findings_of(1 / (1 + np.exp(-table())))["sigmoid twice"].sentence
        softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
        assert findings_of(table(softmax, sigmoid=False))["softmax"].severity == "warning"

    def test_saturated_values(self):
        scores = table()
        scores.iloc[:3, 1] = 1.0
        assert findings_of(scores)["saturated"].severity == "warning"
        finding = findings_of((scores > 0.5) * 1.0)["saturated"]
        assert (finding.severity, finding.count) == ("error", 3360)
        coarse = table(RNG.normal(size=(100, 12, 14)), sigmoid=True)
        assert "only 101 distinct" in findings_of(coarse.round(2))["coarse"].sentence or "coarse" in findings_of(
            coarse.round(2)
        )
        assert findings_of(coarse) == {}

    def test_duplicate_missing_and_unordered_rows(self):
        scores = table()
        assert findings_of(pd.concat([scores, scores.iloc[:2]]))["duplicate rows"].examples == (
            "site_00_5",
            "site_00_10",
        )
        assert findings_of(scores.drop("site_03_10"))["missing rows"].examples == ("site_03",)
        assert "row counts" in findings_of(scores.drop("site_03_60"))
        assert "missing rows" not in findings_of(scores.drop("site_03_60"))
        order = sorted(scores.index[:12]) + list(scores.index[12:])
        result = findings_of(scores.loc[order])["row order"]
        assert (result.severity, result.examples) == ("warning", ("site_00",))
        assert "sorted as text" in result.sentence
        mixed = np.arange(240).reshape(2, 10, 12).transpose(1, 0, 2).reshape(-1)
        assert "split recordings" not in findings_of(scores.iloc[mixed])
        assert findings_of(scores.iloc[np.arange(240).reshape(20, 12).T.reshape(-1)])["split recordings"].count == 20

    def test_invalid_row_ids(self):
        scores = table()
        assert findings_of(scores.rename(index={"site_03_10": "site_03_7"}))["row ids"].examples == ("site_03_7",)
        assert findings_of(scores.set_axis(range(240), axis=0))["row ids"].count == 240

    def test_durations(self):
        durations = {f"site_{n:02}": Fraction(60) for n in range(N)}
        result = findings_of(table(), durations_s={**durations, "site_04": Fraction(1920001, 32000), "site_05": 54.9})
        assert result["durations"].examples == ("site_04 (12 for 13)", "site_05 (12 for 11)")
        result = findings_of(table(), durations_s={**durations, "more": 60} | {"site_00": 60.0})
        assert result["missing recordings"].examples == ("more",)
        del durations["site_02"]
        assert findings_of(table(), durations_s=durations)["unknown recordings"].examples == ("site_02",)

    def test_columns(self):
        scores, classes = table(), list(table().columns)
        result = findings_of(scores, classes=[*classes[1:], classes[0]])["column order"]
        assert (result.severity, result.count, result.examples[0]) == ("error", 14, "c00 for c01")
        result = findings_of(scores, classes=[*classes[1:], "x"])
        assert result["missing classes"].examples == ("x",)
        assert result["unknown classes"].examples == ("c00",)
        assert findings_of(pd.concat([scores, scores[["c01"]]], axis=1))["duplicate classes"].examples == ("c01",)

    def test_copied_recordings(self):
        copied = LOGITS.copy()
        copied[9] = copied[2]
        assert findings_of(table(copied))["copies"].examples == ("site_09 as site_02",)

    def test_sentences_and_severities(self):
        broadcast, stems = table(np.repeat(LOGITS[:, :1], ROWS, 1)), [f"site_{n:02}" for n in range(N)]
        assert "all rows are identical in 20 recordings of 20" in findings_of(broadcast)["broadcast"].sentence
        assert "probably logits" in findings_of(table(sigmoid=False))["logits"].sentence
        assert "the sigmoid was applied twice" in findings_of(1 / (1 + np.exp(-table())))["sigmoid twice"].sentence
        assert [finding.name for finding in check(broadcast, silent=stems)] == ["silence"]
        assert {finding.severity for finding in check(table(LOGITS * 0), silent=stems)} == {"warning"}
        assert [finding.name for finding in check(table().assign(c03=0.25))] == ["constant classes"]

    def test_empty(self):
        assert findings_of(table().iloc[:0])["empty"].severity == "error"
        assert findings_of(table().iloc[:, :0])["empty"].sentence == "the table has no class columns."

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.permutations(range(K)))
    def test_recordings_and_classes_in_any_order_are_valid(self, seed, columns):
        order = np.random.default_rng(seed).permutation(N)
        scores = table().iloc[(order[:, None] * ROWS + np.arange(ROWS)).reshape(-1), list(columns)]
        assert check(scores) == ()

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.sampled_from(["a_5", "a_10", "b_5", "b", "_5", "5", "c_-5", "c_5.0", "ü_\u0665"]), max_size=8))
    def test_any_row_ids_are_checked(self, ids):
        scores = pd.DataFrame(np.linspace(0.1, 0.9, 2 * len(ids)).reshape(-1, 2), ids, ["a", "b"])
        for finding in check(scores):
            assert finding.severity in ("error", "warning")
            assert finding.sentence.endswith(".")


class TestTwoTables:
    @pytest.mark.parametrize(
        ("other", "cause", "sentence"),
        [
            (table(), "same", "agree to 0 in 240 rows of 14 classes"),
            (table(np.repeat(LOGITS[:, :1], 12, 1)), "broadcast", "the value is row 1 of a"),
            (table(np.repeat(LOGITS[:, 3:4], 12, 1)), "broadcast", "in 20 of 20 recordings.*the value is row 4 of a"),
            (table(np.roll(LOGITS, 1, 1)), "shift", r"its rows 1 row \(5 s\) too late.*agree to 0"),
            (table(np.roll(LOGITS, -3, 1)), "shift", r"its rows 3 rows \(15 s\) too early"),
            (table(LOGITS[..., [1, 0, *range(2, K)]]), "columns", "2 of 14 classes.*'c00' under 'c01'.*agree to 0"),
            (table(LOGITS[..., ::-1]), "columns", "14 of 14 classes under another name"),
            (table(LOGITS[:, ::-1]), "row order", "reversed.*agree to 0"),
            (table(np.roll(LOGITS, 1, 0)), "recordings", "20 of 20 recordings under another name"),
            (table(sigmoid=False), "logit", "an increasing function of a, the logit"),
            (1 / (1 + np.exp(-table())), "sigmoid", "the sigmoid"),
            (table() ** 1.5, "power", r"to the power 1\.5:"),
            (table() * 0.3, "scale", r"times 0\.3:"),
            (table() * 0.3 + 0.2, "affine", r"times 0\.3 and \+0\.2"),
            (table(LOGITS / 1.7), "temperature", r"a temperature of 1\.7 "),
            (table() ** 3 + table() / 2, "monotone", "without a simple name"),
            (table().rank(pct=True), "ranks", "its ranks within each class"),
            (table() ** np.linspace(0.5, 2, K), "per class", "a different one for each class"),
            (1 - table(), "complement", r"a falling function of a, one minus it \(1 - p\): ROC-AUC is reversed"),
            (1 - table() ** 3, "monotone", "a falling function of a, without a simple name"),
            (-table(sigmoid=False), "monotone", "a falling function of a"),
            (0 * table() + 0.25, "constant", r"b is 0\.25 everywhere"),
            (table().clip(0.1, 0.5), "clip", "b is a cut off below 0.1 and above 0.5"),
            (table().clip(upper=0.5), "clip", "b is a cut off above 0.5"),
            (table().round(2), "rounding", "b is a rounded to 2 digits"),
            ((table() > 0.5) * 1.0, "rounding", "b is a rounded to 0 digits"),
            ((table() * 255).round() / 255, "rounding", "256 levels"),
            (table().astype(np.float16), "rounding", "in half precision"),
            (table().div(table().sum(axis=1), axis=0), "softmax", "each row divided by its sum"),
            (np.exp(table(sigmoid=False)).pipe(lambda t: t.div(t.sum(axis=1), axis=0)), "softmax", "after the softmax"),
            (table(LOGITS[[0, *range(N - 1)]]), "copies", "'site_01' has those of 'site_00'"),
            (table(LOGITS[..., [1, *range(1, K)]]), "copies", "in 1 of 14: 'c00' has those of 'c01'"),
            (table(LOGITS + 0.003 * RNG.normal(size=LOGITS.shape)), "small", "by at most .*, and no cause explains it"),
            (table(LOGITS + RNG.normal(size=LOGITS.shape)), "everywhere", "`bcsed trace` finds the stage"),
        ],
        ids=lambda value: value if isinstance(value, str) and " " not in value else "",
    )
    def test_the_cause_is_named(self, other, cause, sentence):
        import re

        result = doctor.compare(table(), other, names=("a", "b"))
        assert result.cause == cause
        assert re.search(sentence, result.verdict), result.verdict
        assert result.same == (cause == "same")

    def test_two_of_many_classes(self):
        many = np.random.default_rng(8).normal(-2, 1.5, (N, ROWS, 150))
        other = many.copy()
        other[..., [20, 90]] = many[..., [90, 20]]
        result = doctor.compare(table(many), table(other), names=("a", "b"))
        assert result.verdict == (
            "b has 2 of 150 classes under another name: 'c20' under 'c90', 'c90' under 'c20'; after correction the "
            "tables agree to 0."
        )

    def test_two_of_many_recordings(self):
        other = LOGITS.copy()
        other[[4, 11]] = LOGITS[[11, 4]]
        result = doctor.compare(table(), table(other))
        assert result.cause == "recordings"
        assert "2 of 20 recordings under another name: 'site_04' under 'site_11'" in result.verdict

    def test_two_faults_at_once(self):
        result = doctor.compare(table(), table(LOGITS[..., ::-1], sigmoid=False))
        assert result.cause == "columns"
        assert "its values are also an increasing function of the first table, the logit" in result.verdict

    def test_text_order(self):
        order = np.argsort(sorted(range(12), key=lambda row: str(5 * (row + 1))))
        assert "sorted as text" in doctor.compare(table(), table(LOGITS[:, order])).verdict

    def test_the_different_part_is_named(self):
        for where, cause, sentence in (
            (np.s_[3], "some recordings", "differ in 1 of 20 recordings, 'site_03'"),
            (np.s_[:, 0], "ends", "only in the first row of their recordings"),
            (np.s_[:, [0, 11]], "ends", "only in the first and last rows of"),
            (np.s_[..., 5], "classes", "differ in 1 of 14 classes, 'c05'"),
            (np.s_[:, 1::2], "some rows", "differ in 120 of 240 rows"),
        ):
            other = LOGITS.copy()
            other[where] = np.random.default_rng(5).normal(size=other[where].shape)
            result = doctor.compare(table(), table(other))
            assert result.cause == cause
            assert sentence in result.verdict
            assert not result.explained
        other = LOGITS.copy()
        other[3] += 2
        result = doctor.compare(table(), table(other))
        assert result.largest.index[0] == "site_03"
        assert (result.largest.iloc[1:] == 0).all()

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda p: p[3].fill(0), "in 1 of 20 recordings, 'site_03', .*; there, b is 0 everywhere"),
            (lambda p: p[..., 5].fill(0.5), "in 1 of 14 classes, 'c05', .*; there, b is 0.5 everywhere"),
            (lambda p: np.subtract(1, p[..., 5], out=p[..., 5]), "classes, 'c05', .*; there, b is a falling function"),
            (
                lambda p: p[3].__setitem__(slice(None), p[3, ::-1].copy()),
                "'site_03', .*; there, b has the rows .*reversed",
            ),
            (
                lambda p: p[4:6].__setitem__(slice(None), np.roll(p[4:6], 1, 1)),
                "in 2 of 20 recordings.*1 row .* too late",
            ),
            (lambda p: np.sqrt(p[:, 1::2], out=p[:, 1::2]), "in 120 of 240 rows.*there, b is .*to the power 0.5"),
        ],
    )
    def test_the_cause_in_a_part(self, change, sentence):
        import re

        values = table().to_numpy().reshape(LOGITS.shape).copy()
        change(values)
        result = doctor.compare(table(), table(values, sigmoid=False), names=("a", "b"))
        assert re.search(sentence, result.verdict), result.verdict
        assert result.explained

    @pytest.mark.parametrize(
        "changed",
        [np.roll(LOGITS, 1, 1), LOGITS[..., ::-1], LOGITS[:, ::-1], np.roll(LOGITS, 1, 0), -LOGITS, LOGITS / 3],
    )
    def test_a_cause_that_leaves_a_part_is_not_named(self, changed):
        assert doctor.compare(table(), table(changed)).explained
        rest = np.random.default_rng(1).normal(size=LOGITS.shape) * np.sqrt(0.2 * np.square(changed - LOGITS).mean())
        result = doctor.compare(table(), table(changed + rest))
        assert (result.explained, result.cause) == (False, "everywhere"), result.verdict

    def test_rows_of_recordings_of_different_lengths(self):
        rows = [f"site_{n:02}_{5 * (row + 1)}" for n in range(N) for row in range(ROWS - n % 4)]
        first = table().loc[rows]
        stems = first.index.str.slice(0, 7)
        reversed_rows = first.groupby(stems).transform(lambda column: column[::-1].to_numpy())
        assert "another order, reversed" in doctor.compare(first, reversed_rows).verdict
        as_text = first.loc[sorted(rows)].set_axis(rows, axis=0)
        assert "sorted as text" in doctor.compare(first, as_text).verdict

    @settings(max_examples=40, deadline=None)
    @example(52, 0.5, (1, 2, 1), "logits")
    @given(
        st.integers(0, 10_000),
        st.sampled_from([1e-3, 1e-2, 0.1, 0.5, 3]),
        st.sampled_from([(1, 2, 1), (1, 7, 3), (2, 12, 2), (5, 3, 20), (20, 12, 14)]),
        st.sampled_from(["probabilities", "logits"]),
    )
    def test_noise_has_no_cause(self, seed, level, shape, unit):
        rng = np.random.default_rng(seed)
        logits = rng.normal(-2, 1.5, shape) + rng.normal(0, 1, (1, 1, shape[2]))
        noisy = logits + level * rng.normal(size=shape)
        result = doctor.compare(table(logits), table(noisy, sigmoid=unit == "probabilities"))
        assert not result.explained or (
            unit == "logits" and level < 0.5 and "an increasing function" in result.verdict
        ), result.verdict

    def test_what_is_not_explained_may_change_the_auc(self):
        """A few high scores make up the squared difference; the order of the many low ones is lost."""
        rng = np.random.default_rng(0)
        first = table(np.where(rng.random(LOGITS.shape) < 0.05, 2.0, -7.0) + rng.normal(0, 0.5, LOGITS.shape))
        result = doctor.compare(first, first * 0.5 + rng.uniform(0, 0.003, first.shape))
        assert "increasing function" in result.verdict and "ROC-AUC may differ" in result.verdict
        assert "ROC-AUC is unchanged" not in result.verdict

    def test_evidence(self):
        result = doctor.compare(table(), table(np.roll(LOGITS, 2, 1)))
        assert max(result.shifts, key=lambda shift: result.shifts[shift]) == 2
        assert result.shifts[2] == pytest.approx(1, abs=1e-6)
        assert list(result.spearman.index) == list(table().columns)
        from scipy.stats import spearmanr

        other = table(LOGITS + RNG.normal(size=LOGITS.shape))
        slow = [spearmanr(table()[name], other[name]).statistic for name in table()]
        np.testing.assert_allclose(doctor.compare(table(), other).spearman, slow, atol=1e-5)

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000))
    def test_aligned_by_name_in_any_order(self, seed):
        rng = np.random.default_rng(seed)
        other = table().iloc[rng.permutation(240), rng.permutation(K)]
        result = doctor.compare(table(), other)
        assert result.same

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, K))
    def test_any_permutation_of_columns_is_found(self, seed, n):
        rng = np.random.default_rng(seed)
        moved = rng.permutation(K)[:n]
        columns = np.arange(K)
        columns[moved] = np.roll(moved, 1)
        result = doctor.compare(table(), table(LOGITS[..., columns]))
        assert result.cause == "columns"
        assert f"{n} of 14 classes" in result.verdict

    def test_rows_and_classes_of_one_table_only(self):
        result = doctor.compare(table(), table().drop(index="site_00_5", columns="c03"), names=("a", "b"))
        assert not result.same
        assert [finding.sentence for finding in result.findings] == [
            "1 of 240 rows are only in a: 'site_00_5'.",
            "1 of 14 classes are only in a: 'c03'.",
        ]
        assert result.cause == "missing"
        assert result.verdict.startswith(
            "b lacks 1 of 240 rows, 'site_00_5'; b lacks 1 of 14 classes, 'c03'; of the common"
        )

    def test_missing_and_repeated_recordings(self):
        without = table().drop(index=[f"site_07_{5 * (row + 1)}" for row in range(ROWS)])
        for pair, verdict in (
            (
                (table(), without),
                "b lacks 1 of 20 recordings, 'site_07'; of the common rows and classes, b and a agree",
            ),
            ((without, table()), "a lacks 1 of 20 recordings, 'site_07'; of the common"),
            ((table(), pd.concat([table(), table().iloc[:12]])), "b has 12 rows twice; of the common"),
            ((table(), 1 - without), "of the common rows and classes, b is a falling function of a"),
        ):
            result = doctor.compare(*pair, names=("a", "b"))
            assert verdict in result.verdict
            assert not result.same
            assert result.explained

    def test_rows_that_are_not_numbers_are_left_out(self):
        other = table()
        other.iloc[:3] = np.nan
        assert "agree to 0 in 237 rows" in doctor.compare(table(), other).verdict

    def test_tables_without_numbers(self, tmp_path, capsys):
        result = doctor.compare(table(), table() * np.nan)
        assert result.cause == "no numbers"
        table().to_csv(tmp_path / "a.csv")
        (table() * np.nan).to_csv(tmp_path / "b.csv")
        assert run_doctor(tmp_path / "a.csv", tmp_path / "b.csv") == 1
        assert "no row in which all values are numbers" in capsys.readouterr().out

    def test_small_and_constant_tables(self):
        few = table(LOGITS[:1, :1, :1])
        assert doctor.compare(few, few).same
        assert doctor.compare(few, few * 0.5).cause == "everywhere"
        dead = table(LOGITS * 0)
        assert not doctor.compare(table(), dead).same
        assert doctor.compare(dead, dead).same

    def test_refusals(self):
        with pytest.raises(DataError, match="a and b have no row in common: the first are 'site_00_5' and 'x'"):
            doctor.compare(table(), table().set_axis(["x"] * 240, axis=0), names=("a", "b"))
        with pytest.raises(DataError, match="no class in common"):
            doctor.compare(table(), table().add_prefix("x"))


class TestCommand:
    def test_ok_and_failed(self, tmp_path, capsys):
        table().to_csv(tmp_path / "a.csv")
        assert run_doctor(tmp_path / "a.csv") == 0
        assert capsys.readouterr().out == "OK: no errors in this table, no warnings.\n"
        table(np.repeat(LOGITS[:, :1], 12, 1)).to_csv(tmp_path / "b.csv")
        assert run_doctor(tmp_path / "b.csv") == 1
        assert capsys.readouterr().out.splitlines()[-1] == "FAILED: this table has errors: broadcast."
        assert run_doctor(tmp_path / "a.csv", tmp_path / "b.csv") == 1
        text = capsys.readouterr().out
        assert "error   broadcast:" in text
        assert text.splitlines()[-1].startswith("FAILED: b.csv has equal scores in all rows of a recording in 20 of 20")
        assert run_doctor(tmp_path / "a.csv", tmp_path / "a.csv") == 0

    def test_six_digits_agree(self, tmp_path):
        table().to_csv(tmp_path / "a.csv")
        table().to_csv(tmp_path / "b.csv", float_format="%.6f")
        assert run_doctor(tmp_path / "a.csv", tmp_path / "b.csv") == 0
        assert run_doctor(tmp_path / "a.csv", tmp_path / "b.csv", "--tolerance", 1e-9) == 1

    def test_logits_and_nan_are_read(self, tmp_path, capsys):
        broken = table(sigmoid=False)
        broken.iloc[0, 0] = np.nan
        broken.to_csv(tmp_path / "a.csv")
        assert run_doctor(tmp_path / "a.csv") == 1
        assert "this table has errors: nan, logits." in capsys.readouterr().out

    def test_recordings_and_template(self, tmp_path, capsys):
        for number in range(2):
            wave = 0.1 * RNG.normal(size=32_000 * 12) * number
            soundfile.write(tmp_path / f"site_{number:02}.wav", wave, 32_000)
        scores = table(LOGITS[:2, :3])
        scores.iloc[:3] = scores.iloc[:1].to_numpy()
        scores.to_csv(tmp_path / "a.csv")
        (tmp_path / "template.csv").write_text("row_id," + ",".join(scores.columns) + "\n")
        arguments = (tmp_path / "a.csv", "--sample-submission", tmp_path / "template.csv")
        assert run_doctor(*arguments) == 1
        capsys.readouterr()
        assert run_doctor(*arguments, "--recordings", tmp_path) == 0
        assert "digital silence, as expected: 'site_00'" in capsys.readouterr().out
        scores.drop("site_01_15").to_csv(tmp_path / "a.csv")
        assert run_doctor(*arguments, "--recordings", tmp_path) == 1
        assert "site_01 (2 for 3)" in capsys.readouterr().out

    def test_duplicate_columns_are_reported(self, tmp_path):
        (tmp_path / "a.csv").write_text("row_id,x,x\na_5,.1,.2\na_10,.3,.4\n")
        assert list(doctor.read_scores(tmp_path / "a.csv").columns) == ["x", "x"]
        assert run_doctor(tmp_path / "a.csv") == 1

    def test_other_forms_of_table(self, tmp_path):
        scores = table(LOGITS[:2, :3])
        timed = scores.reset_index(drop=True)
        timed.insert(0, "filename", ["site_00.ogg"] * 3 + ["site_01.ogg"] * 3)
        timed.insert(1, "start", [0, 5, 10] * 2)
        timed.insert(2, "end", [5, 10, 15] * 2)
        timed.to_parquet(tmp_path / "a.parquet")
        pd.testing.assert_index_equal(doctor.read_scores(tmp_path / "a.parquet").index, scores.index)
        scores.to_parquet(tmp_path / "b.parquet")
        pd.testing.assert_frame_equal(doctor.read_scores(tmp_path / "b.parquet"), scores, check_column_type=False)
        scores.rename_axis("id").to_csv(tmp_path / "c.csv")
        pd.testing.assert_index_equal(doctor.read_scores(tmp_path / "c.csv").index, scores.index)

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "the file is empty"),
            ("row_id,b\na_5,2,3\n", "its header names 2 columns, and its rows have more"),
            ("row_id,b\na_5,2\na_10,3,4\n", "not readable as CSV"),
            ("row_id,b\n\xff", "not readable as CSV"),
        ],
    )
    def test_invalid_files(self, tmp_path, text, sentence):
        (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=sentence):
            doctor.read_scores(tmp_path / "a.csv")
        with pytest.raises(DataError, match="there is no such file"):
            doctor.read_scores(tmp_path / "none.csv")
        (tmp_path / "a.parquet").write_text("x")
        with pytest.raises(DataError, match="not readable as Parquet"):
            doctor.read_scores(tmp_path / "a.parquet")
        pd.DataFrame(index=range(3)).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="the table has no columns"):
            doctor.read_scores(tmp_path / "a.parquet")

    def test_a_header_alone(self, tmp_path, capsys):
        (tmp_path / "a.csv").write_text("row_id,a,b\n")
        assert run_doctor(tmp_path / "a.csv") == 1
        assert "the table has no rows" in capsys.readouterr().out


def test_neither_torch_nor_a_network_is_needed():
    code = "import sys, bcsed.scores.checks, bcsed.analysis.doctor; print({'torch', 'openvino'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"


def test_shortened_paths_differ(tmp_path):
    from pathlib import Path

    assert shorten_paths([Path("x/scores.csv"), Path("y/scores.csv")]) == ("x/scores.csv", "y/scores.csv")
    assert shorten_paths([Path("x/a.csv"), Path("y/b.csv")]) == ("a.csv", "b.csv")
    assert shorten_paths([Path("a.csv"), Path("a.csv")]) == ("a.csv (1)", "a.csv (2)")
