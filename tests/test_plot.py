from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from bcsed import plot
from bcsed.audio.spectrogram import LogMel
from bcsed.config.contract import TINY_128
from bcsed.scores import metrics, postprocess
from bcsed.scores.ablation import ablate
from bcsed.scores.calibration import calibrate, reliability


@pytest.fixture
def saved(monkeypatch):
    """Return a list of the figures that are saved during the test."""
    figures: list[Figure] = []
    save = Figure.savefig

    def record(figure, *args, **options):
        figures.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", record)
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
    """Check the titles and axis labels of a figure, its legend, and that its PNG is not blank."""
    assert figure.get_suptitle()
    for axis in figure.axes:
        assert axis.get_title()
        assert axis.get_xlabel()
        assert axis.get_ylabel() or axis.get_shared_y_axes().joined(axis, figure.axes[0])
    assert bool(figure.legends) == legend
    with Image.open(path) as picture:
        assert picture.width > 400
        # None stands for more colours.
        assert picture.getcolors(10) is None


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


class TestComparison:
    def test_dots_and_intervals_are_at_their_values(self, saved, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        check(saved[0], tmp_path / "a.png", legend=True)
        left, right = saved[0].axes
        dots = sorted(
            (float(y), float(x)) for line in left.lines if line.get_marker() == "o" for x, y in line.get_xydata()
        )
        assert dots == [(0, 0.7), (1, 0.85), (2, 0.8)]
        bars = sorted(b[:, 0].tolist() for c in left.collections for b in c.get_segments())
        np.testing.assert_allclose(bars, [(0.65, 0.75), (0.75, 0.84), (0.8, 0.9)])
        assert [tuple(line.get_xydata()[0]) for line in right.lines if line.get_marker() == "o"] == [(0.05, 1)]
        assert set(legend_of(saved[0])) == {
            "macro ROC-AUC",
            "scored on other data than line 1",
            "gain",
            "no difference",
        }

    def test_labels_of_variants_contain_their_changes(self, saved, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        names = [label.get_text() for label in saved[0].axes[0].get_yticklabels()]
        assert names[0] == "1: first (3 runs)"
        assert names[1] == "2: second\nfit.lr: 0.001 -> 0.002"
        assert names[2].splitlines()[-2:] == ["group.field3: 3 -> 4", "and 5 more"]

    def test_chance_is_drawn_only_in_the_range_of_the_axis(self, saved, tmp_path):
        plot.comparison(comparison(), tmp_path / "a.png")
        plot.comparison(comparison(low=[0.45, 0.8, 0.65]), tmp_path / "b.png")
        assert "chance" not in legend_of(saved[0])
        assert "chance" in legend_of(saved[1])

    def test_a_single_variant_without_interval_has_one_panel_and_no_legend(self, saved, tmp_path):
        table = comparison(gain=np.nan, gain_low=np.nan, gain_high=np.nan, low=np.nan, high=np.nan).head(1)
        plot.comparison(table, tmp_path / "a.png")
        assert len(saved[0].axes) == 1
        check(saved[0], tmp_path / "a.png", legend=False)

    def test_an_interval_may_exclude_its_estimate(self, saved, tmp_path):
        plot.comparison(comparison(low=[0.81, 0.8, 0.65]), tmp_path / "a.png")
        assert len(saved) == 1


class TestCurves:
    def test_a_colour_per_variant_and_a_panel_per_kind(self, saved, tmp_path):
        both = history().assign(clip_auc=0.6)
        plot.curves({"a": [both, both], "b": [history()], "none": []}, tmp_path / "a.png")
        check(saved[0], tmp_path / "a.png", legend=True)
        clips, rows = saved[0].axes
        assert (clips.get_title(), rows.get_title()) == ("held-out clips", "soundscape rows")
        curves = [line for line in rows.lines if line.get_marker() == "."]
        assert [line.get_color() for line in curves] == ["C0", "C0", "C1"]
        assert len([line for line in clips.lines if line.get_marker() == "."]) == 2
        assert {"a (2 runs)", "b"} <= set(legend_of(saved[0]))

    def test_trainings_without_validation(self, saved, tmp_path):
        plot.curves({"a": [history("loss2")]}, tmp_path / "a.png")
        check(saved[0], tmp_path / "a.png", legend=True)
        assert legend_of(saved[0]) == ["chance"]


class TestPseudolabelCounts:
    @pytest.mark.parametrize("n", [1, 6, 40, 41, 234])
    @pytest.mark.slow
    def test_classes_are_sorted_and_named_up_to_40(self, saved, tmp_path, n):
        rng = np.random.default_rng(n)
        selected = {f"class{k}": int(rng.integers(1, 20)) for k in range(n)}
        plot.pseudolabel_counts(selected, [1, 2, 2, 5], tmp_path / "a.png", title="round 1")
        check(saved[0], tmp_path / "a.png", legend=False)
        bars = saved[0].axes[0].patches
        lengths = [bar.get_width() if n <= 40 else bar.get_height() for bar in bars]
        assert lengths == sorted(selected.values(), reverse=True)
        names = [label.get_text() for label in saved[0].axes[0].get_yticklabels()]
        assert (set(names) == set(selected)) == (n <= 40)

    def test_the_axis_is_logarithmic_for_a_large_ratio_of_counts(self, saved, tmp_path):
        plot.pseudolabel_counts({"a": 1, "b": 20}, [1], tmp_path / "a.png")
        plot.pseudolabel_counts({"a": 1, "b": 2000, "c": 0}, [1], tmp_path / "b.png")
        plot.pseudolabel_counts({"a": 1, "b": 20}, [1], tmp_path / "c.png", unselected={"b": 900, "other": 3})
        assert [figure.axes[0].get_xscale() for figure in saved] == ["linear", "log", "log"]
        assert saved[1].axes[0].get_title() == "Rows per class\n3 classes, 1 without a row"
        assert saved[1].axes[0].get_xlim()[0] < 1  # a single row is still a bar

    def test_rows_that_were_not_selected_are_dots(self, saved, tmp_path):
        plot.pseudolabel_counts({"a": 3, "b": 9}, [1, 0, 0], tmp_path / "a.png", unselected={"a": 7})
        check(saved[0], tmp_path / "a.png", legend=True)
        assert sorted(legend_of(saved[0])) == ["not selected", "selected"]
        (dots,) = saved[0].axes[0].lines
        assert dots.get_xdata().tolist() == [0, 7]  # b first, of which no row is left
        assert saved[0].axes[1].get_title() == "Rows per recording\n3 recordings, 2 without a row"

    def test_every_recording_is_in_the_histogram(self, saved, tmp_path):
        per_file = [0, 1, 1, 2, 100, 240]
        plot.pseudolabel_counts({"a": 344}, per_file, tmp_path / "a.png")
        plot.pseudolabel_counts({"a": 4}, [0, 1, 1, 2], tmp_path / "b.png")
        assert sum(bar.get_height() for bar in saved[0].axes[1].patches) == 6
        assert [bar.get_height() for bar in saved[1].axes[1].patches] == [1, 2, 1]

    @pytest.mark.parametrize(("selected", "per_file"), [({}, []), ({"a": 0}, [0])])
    def test_no_row_was_selected(self, saved, tmp_path, selected, per_file):
        plot.pseudolabel_counts(selected, per_file, tmp_path / "a.png", unselected={})
        check(saved[0], tmp_path / "a.png", legend=True)


def test_learning_curves(saved, tmp_path):
    plot.learning_curves(history().assign(clip_auc=0.6), tmp_path / "a.png", title="tiny")
    assert [axis.get_title() for axis in saved[0].axes] == ["Loss", "Validation"]
    assert saved[0].get_suptitle() == "tiny"


# ---- figures as axes -----------------------------------------------------------------------------------------


def tables(n: int = 60, classes: tuple[str, ...] = ("a", "b", "c")) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return truth, and scores that are correlated with it."""
    rng = np.random.default_rng(4)
    index = pd.Index([f"r{k // 6}_{5 * (k % 6 + 1)}" for k in range(n)], name="row_id")
    truth = pd.DataFrame(rng.random((n, len(classes))) < 0.3, index, list(classes)).astype(np.float32)
    return truth, ((0.4 * truth + rng.random(truth.shape)) / 1.4).astype(np.float32)


def detected() -> pd.DataFrame:
    return pd.DataFrame(
        {"start_s": [5.0, 20.0], "end_s": [15.0, 25.0], "label": ["b", "a"], "score": np.float32([0.9, 0.5])}
    )


TRUTH, SCORES = tables()
MEMBERS = {"1-x": SCORES, "2-y": SCORES.sample(frac=1, random_state=0).set_axis(SCORES.index)}
ABLATION = ablate(
    TRUTH, SCORES, postprocess.parse_stages(["top=3"]), members=MEMBERS, n=20, rng=np.random.default_rng(0)
)
LOGITS = np.linspace(-3, 3, 24, dtype=np.float32).reshape(8, 3)
AXES = {
    "activity": (pd.DataFrame({"class": ["a"], "hour": [3], "detections": [2], "hours": [0.5]}), "hour"),
    "ablation": (ABLATION,),
    "attention": (LOGITS, np.tanh(LOGITS), ("a", "b", "c"), 1.0),
    "class_auc_bars": (metrics.per_class(TRUTH, SCORES),),
    "class_counts": ({"a": 3, "b": 200, "c": 0},),
    "correlations": (postprocess.spearman(MEMBERS),),
    "detections": (detected(),),
    "durations": ([1.0, 2.0, 60.0],),
    "folds": ([0, 1, 1, -1],),
    "gains": (comparison(),),
    "loss": (history(),),
    "precision_recall": (TRUTH.to_numpy(), SCORES.to_numpy()),
    "reliability": (reliability(TRUTH, SCORES),),
    "rows_per_class": ({"a": 3, "b": 2},),
    "rows_per_recording": ([1, 2, 2],),
    "score_histogram": (SCORES.to_numpy(),),
    "spectrogram": (np.zeros((64, 100), np.float32), TINY_128),
    "validation": (history(),),
    "validations": ({"a": [history()]}, "row_auc"),
    "variants": (comparison(),),
}


class TestAxes:
    def test_every_function_is_tested(self):
        public = set(plot.__all__) - {"TAXON_COLOURS", "comparison", "curves", "learning_curves", "pseudolabel_counts"}
        assert public == set(AXES)

    @pytest.mark.parametrize("name", sorted(AXES))
    def test_axes_have_a_title_and_units_and_need_no_pyplot(self, name):
        from matplotlib import _pylab_helpers

        before = dict(_pylab_helpers.Gcf.figs)
        ax = getattr(plot, name)(*AXES[name])
        assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
        ax.figure.canvas.draw()
        assert dict(_pylab_helpers.Gcf.figs) == before

    @pytest.mark.parametrize("name", sorted(AXES))
    def test_given_axes_are_used(self, name):
        ax = Figure().subplots()
        assert getattr(plot, name)(*AXES[name], ax=ax) is ax
        assert ax.has_data() or ax.images

    @pytest.mark.parametrize(
        "hostile", ["$\\frac$", "a$b$c", "<script>", "é" * 99, "_hidden", "line\nbreak"], ids=range(6)
    )
    @pytest.mark.slow
    def test_special_characters_in_names(self, hostile):
        table = pd.DataFrame({"class": [hostile], "n_positive": [3], "auc": [0.7]})
        for ax in (
            plot.class_auc_bars(table, taxa={hostile: hostile}),
            plot.class_counts({hostile: 3}),
            plot.rows_per_class({hostile: 3}),
            plot.detections(detected().assign(label=hostile)),
            plot.attention(LOGITS[:, :1], LOGITS[:, :1], (hostile,), 1.0),
            plot.correlations(pd.DataFrame([[1.0]], [hostile], [hostile])),
            plot.validations({hostile: [history()]}, "row_auc"),
        ):
            ax.figure.canvas.draw()


class TestRecordings:
    def test_a_tone_is_drawn_at_its_frequency_and_time(self):
        rate = TINY_128.sample_rate
        wave = np.zeros(6 * rate, np.float32)
        t = np.arange(rate) / rate
        wave[2 * rate : 3 * rate] = np.sin(2 * np.pi * 2048 * t)
        with torch.inference_mode():
            db = LogMel(TINY_128).compute(wave, 32, 160)
        ax = plot.spectrogram(db, TINY_128, first_frame=32)
        left, right, bottom, top = ax.images[0].get_extent()
        band, frame = np.unravel_index(db.argmax(), db.shape)
        height = bottom + (band + 0.5) * (top - bottom) / db.shape[0]
        time_s = left + (frame + 0.5) * (right - left) / db.shape[1]
        ticks = dict(zip([text.get_text() for text in ax.get_yticklabels()], ax.get_yticks(), strict=True))
        assert abs(height - ticks["2048"]) <= (top - bottom) / db.shape[0]
        assert 2.0 <= time_s <= 3.0
        assert left == pytest.approx(31.5 * TINY_128.hop_length / rate)

    def test_colours_have_the_range_of_the_front_end(self):
        db = np.full((64, 10), -200, np.float32)
        db[3, 3] = -20
        ax = plot.spectrogram(db, TINY_128)
        assert ax.images[0].get_clim() == (-100, -20)
        assert len(ax.figure.axes) == 2
        assert plot.spectrogram(db, TINY_128, top_db=30, colorbar=False).images[0].get_clim() == (-50, -20)

    def test_ticks_do_not_overlap(self):
        ax = plot.spectrogram(np.zeros((64, 10), np.float32), TINY_128)
        low, high = ax.get_ylim()
        assert np.diff(np.sort(ax.get_yticks())).min() > 0.07 * (high - low)

    def test_bars_are_at_the_times_of_detections(self):
        truth = pd.DataFrame({"start_s": [0.0], "end_s": [10.0], "label": ["c"]})
        ax = plot.detections(detected(), truth=truth, span_s=(0, 30))
        assert [text.get_text() for text in ax.get_yticklabels()] == ["c", "b", "a"]
        bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in ax.patches]
        assert bars == [(5, 10, 1), (20, 5, 2), (0, 10, 0)]
        assert ax.patches[0].get_alpha() > ax.patches[1].get_alpha()
        assert ax.patches[2].get_facecolor()[3] == 0
        assert ax.get_legend_handles_labels()[1][-1] == "true"

    def test_only_selected_lanes(self):
        ax = plot.detections(detected(), classes=["a"], names={"a": "Ant"})
        assert [text.get_text() for text in ax.get_yticklabels()] == ["Ant"]
        assert len(ax.patches) == 1

    def test_no_detections(self):
        ax = plot.detections(detected().head(0))
        assert [text.get_text() for text in ax.texts] == ["nothing found"]

    def test_attention_is_drawn_over_time(self):
        logits = np.full((4, 1), -9.0, np.float32)
        logits[2] = 9.0
        ax = plot.attention(logits, np.zeros_like(logits), ("a",), 0.5, start_s=10.0)
        values, edges, _ = ax.patches[0].get_data()
        assert edges.tolist() == [10, 10.5, 11, 11.5, 12]
        assert values.argmin() == 2  # the axis is inverted: the first lane is on top
        assert ax.get_xlim() == (10, 12)


class TestClasses:
    def test_bars_are_sorted_and_coloured_by_taxon(self):
        table = pd.DataFrame(
            {"class": ["low", "high", "none", "mid"], "n_positive": [1, 2, 0, 3], "auc": [0.4, 0.9, np.nan, 0.6]}
        )
        taxa = {"low": "Amphibia", "high": "Aves", "mid": "Aves"}
        ax = plot.class_auc_bars(table, taxa=taxa)
        names = [text.get_text() for text in ax.get_yticklabels()]
        assert names == ["high (2)", "mid (3)", "low (1)"]
        at = {round(bar.get_y() + bar.get_height() / 2): bar for bar in ax.patches}
        assert [at[position].get_width() for position in (1, 2, 3)] == [0.9, 0.6, 0.4]
        assert [to_hex(at[position].get_facecolor()) for position in (1, 2, 3)] == ["#1f77b4", "#1f77b4", "#2ca02c"]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["chance", "Aves", "Amphibia"]
        assert "3 of 4 classes scored, mean 0.633" in ax.get_title()

    @pytest.mark.parametrize(("n", "named"), [(40, True), (41, False)])
    def test_more_than_40_bars_have_no_names(self, n, named):
        table = pd.DataFrame({"class": [f"c{k}" for k in range(n)], "n_positive": 1, "auc": np.linspace(0.3, 0.9, n)})
        ax = plot.class_auc_bars(table)
        assert (ax.get_ylabel() == "class (true rows or clips)") == named
        assert ax.get_legend() is not None

    def test_folds_are_stacked_by_taxon(self):
        ax = plot.folds([0, 0, 1, -1], taxa=["Aves", "Amphibia", "Aves", "Aves"], held_out=1)
        assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1\n(held out)", "never\nheld out"]
        assert sum(bar.get_height() for bar in ax.patches) == 4
        assert max(bar.get_y() + bar.get_height() for bar in ax.patches) == 2


class TestEvaluation:
    def test_true_and_other_scores_are_counted_apart(self):
        ax = plot.score_histogram(np.array([0.1, 0.2, 0.9]), truth=np.array([0, 0, 1]))
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["not true (2)", "true (1)"]

    def test_a_dot_for_each_threshold(self):
        table = calibrate(TRUTH, SCORES, precision=0.4, min_positives=2).table
        ax = plot.precision_recall(TRUTH.to_numpy(), SCORES.to_numpy(), thresholds=table)
        dots = next(line for line in ax.lines if line.get_marker() == "o")
        assert len(dots.get_xdata()) == table["threshold"].notna().sum() > 0

    def test_cells_contain_their_numbers(self):
        matrix = pd.DataFrame([[1.0, 0.25], [0.25, 1.0]], ["x", "y"], ["x", "y"])
        assert sorted(text.get_text() for text in plot.correlations(matrix).texts) == ["0.25", "0.25", "1.00", "1.00"]

    def test_a_bar_for_each_line_of_an_ablation(self):
        ax = plot.ablation(ABLATION)
        assert [text.get_text() for text in ax.get_yticklabels()] == list(ABLATION["line"][1:])
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], ABLATION["gain"][1:])
