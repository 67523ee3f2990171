"""Label soundscapes with teachers: score, select, write the table."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..._version import __version__
from ...config.strict import in_range, to_dict
from ...data.label_files import read_soundscape_labels
from ...errors import ConfigError, DataError
from ...files import require_new_parquet, require_own_file, sha256
from ...models.ensemble import Member, describe_members, from_bundles
from ...predict.api import RunOptions, predict
from ...predict.outputs import FRAMES, OutputOptions
from ...predict.spec import Windowing
from ...recordings import find_recordings, printable
from ...scores.checks.ids import parse_row_ids
from ...scores.postprocess import Weight
from ...scores.postprocess.combine import LOGIT_EPS
from .table import Half, Pseudolabels, check_broadcast, write_pseudolabels

# The smallest probability that is not 0 in float16.
_LEAST = 6e-8


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The rule that selects pseudolabels."""

    #: Probabilities of at least a threshold; of those of at least `floor`, the `top_n` highest of each class (top); or
    #: all probabilities (soft).
    kind: str = "threshold"
    threshold: float = 0.5  #: for every class, in (0, 1)
    thresholds: Mapping[str, float] = field(default_factory=dict)  #: exceptions, by class
    floor: float = 0.1  #: in [0, 1)
    top_n: int = 0  #: maximum number of rows of each class; also limits 'threshold' if it is above 0
    power: float = 1.0  #: exponent of selected probabilities; above 1 it sharpens
    #: Scale the odds of each class before the selection, see `balance_classes`: 0 not, 1 to equal sums of all classes.
    balance: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("threshold", "top", "soft"):
            raise ConfigError(f"the selection must be one of threshold, top, soft; got {self.kind!r}.")
        for name, value in {"the threshold": self.threshold, **self.thresholds}.items():
            if not 0 < value < 1:
                raise ConfigError(f"{name}: a threshold must be in (0, 1), got {value:g}.")
        if not 0 <= self.floor < 1:
            raise ConfigError(f"floor must be in [0, 1), got {self.floor:g}.")
        if self.top_n < 0 or (self.kind == "top" and self.top_n < 1):
            raise ConfigError(f"top_n must be at least 1 row per class, got {self.top_n}.")
        if not 0 < self.power < float("inf"):
            raise ConfigError(f"power must be above 0, got {self.power:g}.")
        in_range(self, 0, 1, "balance")

    def describe(self) -> dict[str, Any]:
        """Return the fields that have an effect, as plain values."""
        used = {"kind": self.kind, "power": self.power} | ({"balance": self.balance} if self.balance else {})
        if self.kind == "threshold":
            used |= {"threshold": self.threshold, "thresholds": dict(self.thresholds)}
        if self.kind == "top":
            used |= {"floor": self.floor}
        return used | ({"top_n": self.top_n} if self.top_n and self.kind != "soft" else {})

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise ConfigError if a threshold is that of another class."""
        unknown = sorted(set(self.thresholds) - set(classes))
        if unknown:
            raise ConfigError(
                f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes."
            )


def select(scores: npt.NDArray[np.float32], classes: Sequence[str], selection: Selection) -> Half:
    """Return values, (R, K): probabilities to the power if selected, else 0; ConfigError for an unknown class."""
    selection.check_classes(classes)
    scores = balance_classes(scores, selection.balance) if selection.balance else scores
    limits = np.full(len(classes), selection.floor if selection.kind == "top" else 0.0, np.float32)
    if selection.kind == "threshold":
        limits[:] = [selection.thresholds.get(name, selection.threshold) for name in classes]
    selected = scores >= limits
    if selection.kind != "soft" and selection.top_n:
        # Of equal scores, earlier rows come first.
        order = np.argsort(-np.where(selected, scores, -1.0), axis=0, kind="stable")
        highest = np.zeros_like(selected)
        np.put_along_axis(highest, order[: selection.top_n], True, axis=0)
        selected &= highest
    powered = np.maximum(scores.astype(np.float64) ** selection.power, 0 if selection.kind == "soft" else _LEAST)
    return np.where(selected, powered, 0.0).astype(np.float16)


def balance_classes(scores: npt.NDArray[np.float32], amount: float) -> npt.NDArray[np.float32]:
    """Return scores, (R, K), of which the odds of each class are scaled so that its sum approaches the classes' mean.

    The sum of a class becomes ``sum ** (1 - amount) * mean ** amount``, the order of its rows is the same. A class
    whose scores are all equal is unchanged. It is distribution alignment (Berthelot et al. 2020) without a softmax.
    """
    from scipy.optimize import brentq
    from scipy.special import expit, logit

    sums = scores.sum(0, dtype=np.float64)

    def balance(column: npt.NDArray[np.float32], total: float) -> npt.NDArray[np.float32]:
        if (column == column[:1]).all():
            return column
        logits = logit(np.clip(column.astype(np.float64), LOGIT_EPS, 1 - LOGIT_EPS))
        shift = brentq(lambda shift: expit(logits + shift).sum() - total, -50, 50)
        return np.asarray(expit(logits + shift), np.float32)

    return np.stack(list(map(balance, scores.T, sums ** (1 - amount) * sums.mean() ** amount)), axis=1)


def make_pseudolabels(
    bundles: Sequence[Member],
    recordings: Sequence[str | Path],
    out: str | Path,
    *,
    selection: Selection | None = None,
    weights: Sequence[Weight] | None = None,
    mean: str = "prob",
    windowing: Windowing | None = None,
    frames: bool = False,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Pseudolabels:
    """Label recordings with teachers; write the table and return it.

    It is without unreadable and silent recordings, which are counted in the provenance.

    Parameters
    ----------
    bundles, weights : sequence of Bundle and TableMember, sequence of Weight
        The teachers, with the same classes, score tables last; their weights, equal by default.
    mean : {'prob', 'logit'}
        The kind of mean over the teachers, see `bcsed.scores.postprocess.combine`.
    recordings : sequence of str or Path
        Files and folders.
    out : str or Path
        The table, ``*.parquet``. The same stem names its provenance (JSON), a figure of the counts, and a folder of
        the teachers' scores, from which an interrupted call is resumed and another selection needs no scoring.
    selection : Selection, optional
        A threshold of 0.5 by default.
    windowing, jobs, progress
        See `bcsed.predict.predict`.
    frames : bool
        Label each time step of the network instead of each row, so that the label of an excerpt is the maximum of
        exactly the steps inside it. Needs sliding windows, which are the default then, and the memory of all steps.

    Raises ConfigError, BundleError or DataError as `predict`; or if `out` exists, no recording can be read, or all rows
    of a recording are identical.
    """
    windowing = windowing or Windowing(windows="sliding" if frames else "centred")
    selection, out = selection or Selection(), Path(out)
    if mean == "rank":
        raise ConfigError("pseudolabels are probabilities; a mean of ranks has none.")
    require_new_table(out)
    paths = find_recordings(recordings)
    _check_stems(paths)
    result = predict(
        from_bundles(bundles, weights, mean=mean),
        recordings,
        out=scores_folder(out),
        windowing=windowing,
        output=OutputOptions(formats=("frames",) if frames else ()),
        options=RunOptions(jobs=jobs),
        progress=progress,
    )
    if not len(result.scores):
        raise DataError(f"none of {result.n_recordings} recordings could be labelled; see {scores_folder(out)}.")
    check_broadcast(result.scores, allowed=result.silent)
    ids, classes = parse_row_ids(result.scores.index), tuple(map(str, result.scores.columns))
    names = {printable(path.stem): printable(path.name) for path in paths}
    filename = np.array([names[stem] for stem in ids.stems], object)[ids.recording]
    start_s, end_s, scores = ids.end_s - windowing.row_s, ids.end_s, result.scores.to_numpy(np.float32)
    if frames:
        steps = pd.read_parquet(scores_folder(out) / FRAMES)
        filename = steps["recording"].map(lambda path: PurePath(path).name).to_numpy(object)
        start_s, end_s = (steps[name].to_numpy() for name in ("start_s", "end_s"))
        scores = steps[list(classes)].to_numpy(np.float32)
    used = ~np.isin(filename.astype(str), [names[stem] for stem in result.silent])
    table = Pseudolabels(
        filename=filename[used],
        start_s=start_s[used],
        end_s=end_s[used],
        values=select(scores[used], classes, selection),
        classes=classes,
        provenance={
            **describe_origin(bundles, selection, weights),
            "mean": mean,
            "windowing": to_dict(windowing),
            "n_recordings": result.n_recordings,
            "n_failed": result.n_failed,
            "failed": describe_failures(result.failures),
            "silent": list(result.silent),
            "notes": count_notes(result.notes),
        },
    )
    write_pseudolabels(table, out)
    return table


def require_new_table(out: Path) -> None:
    """Refuse a file that is not Parquet (ConfigError) or exists (DataError)."""
    require_new_parquet(out, "pseudolabels")
    require_own_file(out.with_suffix(".json"), '"teachers"', "the description of a table")


def describe_origin(
    bundles: Sequence[Member], selection: Selection, weights: Sequence[Weight] | None = None
) -> dict[str, Any]:
    """Return the version, the date, the teachers and the selection of a table, for its provenance."""
    return {
        "bcsed": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "teachers": describe_members(bundles, weights),
        "selection": selection.describe(),
    }


def describe_failures(failures: pd.DataFrame) -> dict[str, str]:
    """Return the reason of each recording that a prediction could not score, by its file name."""
    names = [printable(PurePath(path).name) for path in failures["recording"]]
    return dict(zip(names, map(str, failures["reason"]), strict=True))


def count_notes(notes: pd.DataFrame) -> list[str]:
    """Return each note of a prediction with the number of its recordings, and the names of three of them."""
    sentences = []
    for note, of_note in notes.drop_duplicates().groupby("note", sort=False):
        names = [PurePath(path).name for path in of_note["recording"]]
        more = ", ..." if len(names) > 3 else ""
        sentences.append(f"{len(names)} recording{'s' * (len(names) > 1)} ({', '.join(names[:3])}{more}): {note}")
    return sentences


def label_with_truth(truth: str | Path, classes: Sequence[str], out: str | Path) -> Pseudolabels:
    """Write true labels of soundscapes as a table of pseudolabels: the ceiling of any teacher.

    `truth` is a file for `bcsed.data.label_files.read_soundscape_labels`; rows that are not listed are not in the
    table. Raises ConfigError if `out` is not named ``*.parquet``, DataError if it exists or
    the labels cannot be read.
    """
    out = Path(out)
    require_new_table(out)
    rows = read_soundscape_labels(truth, classes)
    values = np.array([[name in labels for name in classes] for labels in rows["labels"]], np.float16)
    origin = {"bundle": str(truth), "experiment": "truth", "fingerprint": "truth", "sha256": sha256(Path(truth))}
    table = Pseudolabels(
        filename=rows["filename"].to_numpy(object),
        start_s=rows["start_s"].to_numpy(),
        end_s=rows["end_s"].to_numpy(),
        values=values,
        classes=tuple(classes),
        provenance={**describe_origin([], Selection()), "teachers": [{**origin, "weight": 1.0}]},
    )
    write_pseudolabels(table, out)
    return table


def scores_folder(out: str | Path) -> Path:
    """Return the folder of the teachers' scores of a table."""
    out = Path(out)
    return out.with_name(f"{out.stem}.scores")


def _check_stems(paths: Sequence[Path]) -> None:
    """Refuse two recordings of one stem: row ids contain the stem only."""
    stem, count = Counter(path.stem for path in paths).most_common(1)[0] if paths else ("", 0)
    if count > 1:
        first, second = [path for path in paths if path.stem == stem][:2]
        raise DataError(f"{first} and {second} share the name {stem!r} and so their row ids; label them in two tables.")
