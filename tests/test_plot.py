from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from bcsed import plot


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def history(column: str = "row_auc", n: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"epoch": range(1, n + 1), "loss": np.linspace(2, 1, n), column: np.linspace(0.55, 0.8, n)})


def comparison(**changes) -> pd.DataFrame:
    values = {
        "experiment": ["first", "second", "third"],
        "differs": ["", "fit.lr: 0.001 -> 0.002", "; ".join(f"group.field{k}: {k} -> {k + 1}" for k in range(9))],
        "n_runs": [3, 1, 1],
        "auc": [0.8, 0.85, 0.7],
        "low": [0.75, 0.8, 0.65],
        "high": [0.84, 0.9, 0.75],
        "gain": [np.nan, 0.05, np.nan],
        "gain_low": [np.nan, 0.02, np.nan],
        "gain_high": [np.nan, 0.08, np.nan],
    }
    return pd.DataFrame({**values, **changes})


def check(figure: Figure, path, *, legend: bool) -> None:
    """A title above, a title and both names on every axis, and a picture that is not blank."""
    assert figure.get_suptitle()
    for axis in figure.axes:
        assert axis.get_title()
        assert axis.get_xlabel()
        assert axis.get_ylabel() or axis.get_shared_y_axes().joined(axis, figure.axes[0])
    assert bool(figure.legends) == legend
    picture = image.imread(path, format="png")
    assert picture.shape[1] > 400
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 10


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


class TestComparison:
    def test_dots_stand_where_the_figures_are(self, drawn, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        check(drawn[0], tmp_path / "a.png", legend=True)
        left, right = drawn[0].axes
        dots = sorted(
            (float(y), float(x)) for line in left.lines if line.get_marker() == "o" for x, y in line.get_xydata()
        )
        assert dots == [(0, 0.7), (1, 0.85), (2, 0.8)]
        bars = sorted(b[:, 0].tolist() for c in left.collections for b in c.get_segments())
        np.testing.assert_allclose(bars, [(0.65, 0.75), (0.75, 0.84), (0.8, 0.9)])
        assert [tuple(line.get_xydata()[0]) for line in right.lines if line.get_marker() == "o"] == [(0.05, 1)]
        assert set(legend_of(drawn[0])) == {
            "macro ROC-AUC",
            "scored on other data than line 1",
            "gain",
            "no difference",
        }

    def test_variants_are_named_by_what_they_change(self, drawn, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
        assert names[0] == "1: first (3 runs)"
        assert names[1] == "2: second\nfit.lr: 0.001 -> 0.002"
        assert names[2].splitlines()[-2:] == ["group.field3: 3 -> 4", "and 5 more"]

    def test_chance_is_drawn_where_it_is_in_range(self, drawn, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        plot.comparison(comparison(low=[0.45, 0.8, 0.65]), tmp_path / "b.png")
        assert "chance" not in legend_of(drawn[0])
        assert "chance" in legend_of(drawn[1])

    def test_one_variant_without_interval_has_one_panel_and_no_legend(self, drawn, tmp_path):
        table = comparison(gain=np.nan, gain_low=np.nan, gain_high=np.nan, low=np.nan, high=np.nan).head(1)
        plot.comparison(table, tmp_path / "a.png")
        assert len(drawn[0].axes) == 1
        check(drawn[0], tmp_path / "a.png", legend=False)

    def test_an_interval_beside_its_estimate(self, drawn, tmp_path):
        plot.comparison(comparison(low=[0.81, 0.8, 0.65]), tmp_path / "a.png")
        assert len(drawn) == 1


class TestCurves:
    def test_a_colour_per_variant_and_a_panel_per_kind(self, drawn, tmp_path):
        both = history().assign(clip_auc=0.6)
        plot.curves({"a": [both, both], "b": [history()], "none": []}, tmp_path / "a.png")
        check(drawn[0], tmp_path / "a.png", legend=True)
        clips, rows = drawn[0].axes
        assert (clips.get_title(), rows.get_title()) == ("held-out clips", "soundscape rows")
        curves = [line for line in rows.lines if line.get_marker() == "."]
        assert [line.get_color() for line in curves] == ["C0", "C0", "C1"]
        assert len([line for line in clips.lines if line.get_marker() == "."]) == 2
        assert {"a (2 runs)", "b"} <= set(legend_of(drawn[0]))

    def test_nothing_validated(self, drawn, tmp_path):
        plot.curves({"a": [history("loss2")]}, tmp_path / "a.png")
        check(drawn[0], tmp_path / "a.png", legend=True)
        assert legend_of(drawn[0]) == ["chance"]


class TestPseudolabelCounts:
    @pytest.mark.parametrize("n", [1, 6, 40, 41, 234])
    def test_classes_are_sorted_and_named_where_names_can_be_read(self, drawn, tmp_path, n):
        rng = np.random.default_rng(n)
        kept = {f"class{k}": int(rng.integers(1, 20)) for k in range(n)}
        plot.pseudolabel_counts(kept, [1, 2, 2, 5], tmp_path / "a.png", title="round 1")
        check(drawn[0], tmp_path / "a.png", legend=False)
        bars = drawn[0].axes[0].patches
        lengths = [bar.get_width() if n <= 40 else bar.get_height() for bar in bars]
        assert lengths == sorted(kept.values(), reverse=True)
        names = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
        assert (set(names) == set(kept)) == (n <= 40)

    def test_the_axis_is_logarithmic_where_counts_differ_much(self, drawn, tmp_path):
        plot.pseudolabel_counts({"a": 1, "b": 20}, [1], tmp_path / "a.png")
        plot.pseudolabel_counts({"a": 1, "b": 2000, "c": 0}, [1], tmp_path / "b.png")
        plot.pseudolabel_counts({"a": 1, "b": 20}, [1], tmp_path / "c.png", unselected={"b": 900, "other": 3})
        assert [figure.axes[0].get_xscale() for figure in drawn] == ["linear", "log", "log"]
        assert drawn[1].axes[0].get_title() == "Rows per class\n3 classes, 1 without a row"
        assert drawn[1].axes[0].get_xlim()[0] < 1  # a single row is still a bar

    def test_what_was_not_kept(self, drawn, tmp_path):
        plot.pseudolabel_counts({"a": 3, "b": 9}, [1, 0, 0], tmp_path / "a.png", unselected={"a": 7})
        check(drawn[0], tmp_path / "a.png", legend=True)
        assert sorted(legend_of(drawn[0])) == ["kept", "not kept"]
        (dots,) = drawn[0].axes[0].lines
        assert dots.get_xdata().tolist() == [0, 7]  # b first, of which nothing was left
        assert drawn[0].axes[1].get_title() == "Rows per recording\n3 recordings, 2 without a row"

    def test_every_recording_is_in_the_histogram(self, drawn, tmp_path):
        per_file = [0, 1, 1, 2, 100, 240]
        plot.pseudolabel_counts({"a": 344}, per_file, tmp_path / "a.png")
        plot.pseudolabel_counts({"a": 4}, [0, 1, 1, 2], tmp_path / "b.png")
        assert sum(bar.get_height() for bar in drawn[0].axes[1].patches) == 6
        assert [bar.get_height() for bar in drawn[1].axes[1].patches] == [1, 2, 1]

    @pytest.mark.parametrize(("kept", "per_file"), [({}, []), ({"a": 0}, [0])])
    def test_nothing_kept(self, drawn, tmp_path, kept, per_file):
        plot.pseudolabel_counts(kept, per_file, tmp_path / "a.png", unselected={})
        check(drawn[0], tmp_path / "a.png", legend=True)


def test_learning_curves(drawn, tmp_path):
    plot.learning_curves(history().assign(clip_auc=0.6), tmp_path / "a.png", title="tiny")
    assert [axis.get_title() for axis in drawn[0].axes] == ["Loss", "Validation"]
    assert drawn[0].get_suptitle() == "tiny"
