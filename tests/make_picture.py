"""Draw the picture of the README: ``python tests/make_picture.py bcsed-demo``.

From the folder that ``bcsed demo`` wrote: the log-mel spectrogram of a test soundscape, the scores of the classes
that call in it, and the true rows.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bcsed import bundle, plot, trace
from bcsed.scores.evaluation import read_truth
from bcsed.scores.table import read_table

ROW_S, N_CLASSES = 5, 3
COLOURS = ("#1f77b4", "#d95f02", "#1b9e77")


def main(demo: Path, out: Path) -> None:
    """Choose the soundscape in which most classes call, and draw it."""
    scores = read_table(demo / "scores" / "submission.csv")
    truth = read_truth(demo / "sample" / "test_truth.csv", list(scores.columns)).loc[scores.index]
    recording_of = np.array([row_id.rpartition("_")[0] for row_id in scores.index])
    n_calling = {name: int(truth[recording_of == name].any().sum()) for name in dict.fromkeys(recording_of)}
    name = max(n_calling, key=lambda key: n_calling[key])
    rows = recording_of == name
    classes = truth[rows].sum().sort_values(ascending=False).index[:N_CLASSES]
    model = bundle.load(demo / "bundle")
    stages = trace.trace(model, demo / "sample" / "test_soundscapes" / f"{name}.ogg", n_rows=int(rows.sum()))

    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 4.6), sharex=True, height_ratios=(3, 2), dpi=110)
    plot.spectrogram(
        stages.arrays["db"],
        model.contract.frontend,
        above,
        first_frame=stages.facts["first_frame"],
        colorbar=False,
        title="Log-mel spectrogram of a synthetic soundscape",
    )
    above.set_xlabel("")
    edges = np.arange(rows.sum() + 1) * ROW_S
    for k, (label, colour) in enumerate(zip(classes, COLOURS, strict=True)):
        below.stairs(scores.loc[rows, label], edges, color=colour, linewidth=2, label=label)
        true_rows = np.flatnonzero(truth.loc[rows, label])
        bar = -0.08 * (k + 1)
        below.hlines([bar] * len(true_rows), edges[true_rows], edges[true_rows + 1], color=colour, linewidth=4)
    below.set(xlim=(0, edges[-1]), ylim=(-0.08 * (N_CLASSES + 1), 1), xlabel="Time (s)", ylabel="Score")
    below.set_title("Scores of the rows of 5 s; bars below: the rows in which the class calls", fontsize=10)
    below.legend(loc="upper right", ncols=N_CLASSES, frameon=False, fontsize=9)
    for side in ("top", "right"):
        below.spines[side].set_visible(False)
    figure.tight_layout()
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent.parent / ".github" / "picture.png")
