"""Labels of clips: what the network is told, which fold hears which clip, and how often.

Conventions
-----------
A table is what `bcsed.data.read_train` returns: one row per clip, with ``filename``, ``label``,
``secondary`` (tuple of str), ``recording`` and ``author``. N clips, K classes. Folds are numbers from 0;
`NEVER_HELD_OUT` marks a clip that is always trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from ..config.recipe import Data
from ..errors import ConfigError, DataError

NEVER_HELD_OUT = -1


def make_targets(
    table: pd.DataFrame, classes: Sequence[str], data: Data
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return targets and their weights in the loss.

    Returns
    -------
    targets : ndarray of float32, shape (N, K)
        `data.label_target` at the label, `data.secondary_target` at the secondary labels, else 0. Float to
        the end: the original stored .3 as an 8-bit integer, and so never used a secondary label.
    weights : ndarray of float32, shape (N, K)
        1; where `data.secondary_target` is None, 0 at the secondary labels, so that the loss does not count
        them as either present or absent.

    Raises
    ------
    DataError
        If a label or secondary label is not among the classes.
    """
    place = _places(table, classes)
    made = np.zeros((len(table), len(classes)), np.float32)
    weights = np.ones_like(made)
    pairs = [(row, place[name]) for row, names in enumerate(table["secondary"]) for name in names]
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    if data.secondary_target is None:
        weights[rows, columns] = 0
    else:
        made[rows, columns] = data.secondary_target
    # Last, since a clip's label outweighs its being listed as a secondary label too.
    own = (np.arange(len(table)), [place[name] for name in table["label"]])
    made[own], weights[own] = data.label_target, 1
    return made, weights


def class_counts(table: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return how many clips have each class as their label, shape (K,); secondary labels do not count.

    Raises
    ------
    DataError
        If a label or secondary label is not among the classes.
    """
    place = _places(table, classes)
    return np.bincount([place[name] for name in table["label"]], minlength=len(classes)).astype(np.int64)


def class_priors(targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean target of each class: what to answer where nothing could be heard.

    An unreadable recording gets these as its rows. A mean of targets, secondary and lowered ones included, is
    where the network's own answers lie on average; any constant ranks such rows alike within a class.

    Parameters
    ----------
    targets : ndarray, shape (N, K)

    Returns
    -------
    ndarray of float32, shape (K,)
        In [1 / 2N, 1 - 1 / 2N]: a class without a clip is rare, not impossible.

    Raises
    ------
    DataError
        If there are no clips.
    """
    if not len(targets):
        raise DataError("class priors need at least one clip, got none.")
    least = 0.5 / len(targets)
    priors: npt.NDArray[np.float32] = targets.mean(axis=0, dtype=np.float64).clip(least, 1 - least).astype("f4")
    return priors


def assign_folds(table: pd.DataFrame, data: Data, seed: int) -> npt.NDArray[np.int64]:
    """Deal clips into folds, stratified by label, with no group on two sides.

    A group is a recording, or all recordings of an author (one without author is its own group). Groups
    with a clip of a class that has fewer than `data.min_class_count` clips, or that lies in one group only
    (held out, it would be missing from training), stay in training as a whole.

    Parameters
    ----------
    table : DataFrame of N clips
        The order of its rows does not matter.
    data : Data
        `n_folds`, `group_by` and `min_class_count`.
    seed : int
        Decides between equally good deals.

    Returns
    -------
    ndarray of int64, shape (N,)
        0 to ``n_folds - 1``, or `NEVER_HELD_OUT`.

    Raises
    ------
    DataError
        If fewer groups than folds may be held out, or no class has a clip for each fold.

    Notes
    -----
    scikit-learn's `StratifiedGroupKFold` deals; 28,500 clips of 206 classes take it about five seconds.
    """
    # The dealer draws by position; sorted by name, the same clips always draw the same.
    order = np.argsort(table["filename"].to_numpy(dtype=object), kind="stable")
    table = table.iloc[order]
    clips = pd.DataFrame({"label": table["label"].to_numpy(dtype=object), "group": _groups(table, data)})
    classes = clips.groupby("label")["group"].agg(["size", "nunique"])
    kept_back = classes.index[(classes["size"] < data.min_class_count) | (classes["nunique"] < 2)]
    free = ~clips["group"].isin(clips["group"][clips["label"].isin(kept_back)]).to_numpy(bool)
    n_groups, most = clips["group"][free].nunique(), clips["label"][free].value_counts().max()
    if n_groups < data.n_folds or most < data.n_folds:
        few = f"{n_groups} groups by {data.group_by} and at most {most if n_groups else 0} clips of one class"
        raise DataError(
            f"{few} may be held out, too few for {data.n_folds} folds: {len(kept_back)} of {len(classes)} "
            f"classes have fewer than {data.min_class_count} clips or one group only, and stay in training "
            "with their groups; lower min_class_count or n_folds."
        )
    dealt = np.full(len(table), NEVER_HELD_OUT, np.int64)
    dealt[order[free]] = _deal(clips[free], data.n_folds, seed)
    return dealt


def assign_site_folds(sites: Sequence[str], n_folds: int) -> dict[str, int]:
    """Deal the sites of labelled rows into folds of about equally many rows; a site is in one fold, whole.

    Parameters
    ----------
    sites : sequence of str
        The site of each row.
    n_folds : int

    Returns
    -------
    dict
        Site -> fold; with fewer sites than folds the last folds have none.

    Examples
    --------
    >>> assign_site_folds(["S1", "S2", "S2", "S3"], 2)
    {'S2': 0, 'S1': 1, 'S3': 1}
    """
    counts = pd.Series(list(sites), dtype=object).value_counts()
    order = sorted(counts.index, key=lambda site: (-counts[site], site))
    held = [0] * n_folds
    dealt: dict[str, int] = {}
    for site in order:
        dealt[site] = held.index(min(held))
        held[dealt[site]] += int(counts[site])
    return dealt


def training_rows(
    table: pd.DataFrame, fold_of: npt.NDArray[np.int64], fold: int | None, data: Data
) -> npt.NDArray[np.int64]:
    """Return the rows to train on, those of rare classes repeated.

    Parameters
    ----------
    table : DataFrame of N clips
    fold_of : ndarray of int64, shape (N,)
        From `folds`.
    fold : int or None
        The fold held out; None trains on all.
    data : Data
        `min_class_count`.

    Returns
    -------
    ndarray of int64
        Row numbers in order, then the repeats: a class with fewer than `min_class_count` clips is repeated
        whole as often as it takes to reach that count, so that its clips are heard equally often.

    Raises
    ------
    ConfigError
        If there is no such fold.
    DataError
        If `fold_of` belongs to another table.
    """
    if len(fold_of) != len(table):
        raise DataError(f"the folds are of {len(fold_of)} clips, the table has {len(table)}.")
    held_out = np.empty(0, np.int64) if fold is None else validation_rows(fold_of, fold)
    rows = np.setdiff1d(np.arange(len(table)), held_out)
    label = table["label"].to_numpy(dtype=object)
    repeats = []
    for name, count in table["label"].value_counts(sort=False).items():
        cycles = -(-data.min_class_count // count) - 1
        repeats.append(np.tile(rows[label[rows] == name], max(cycles, 0)))
    return np.concatenate([rows, *repeats]).astype(np.int64)


def validation_rows(fold_of: npt.NDArray[np.int64], fold: int) -> npt.NDArray[np.int64]:
    """Return the rows of a fold, in order.

    Raises
    ------
    ConfigError
        If there is no such fold.
    """
    rows = np.flatnonzero(fold_of == fold)
    if fold == NEVER_HELD_OUT or not len(rows):
        there = np.unique(fold_of[fold_of != NEVER_HELD_OUT])
        raise ConfigError(f"no clip is in fold {fold}; there are the folds {', '.join(map(str, there))}.")
    return rows.astype(np.int64)


def _places(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    place = {name: k for k, name in enumerate(classes)}
    unknown = sorted({*table["label"], *(name for names in table["secondary"] for name in names)} - set(place))
    if unknown:
        raise DataError(f"the label {unknown[0]!r} is not among the {len(classes)} classes.")
    return place


def _groups(table: pd.DataFrame, data: Data) -> npt.NDArray[np.int64]:
    recording, author = table["recording"].astype(str), table["author"].astype(str)
    keys = [pd.factorize(recording)[0]]
    if data.group_by == "author":
        # Marked by what they are, since an author may be called like a recording.
        known = ("author " + author).where(author != "", "recording " + recording)
        keys.append(pd.factorize(known)[0])
    group = np.arange(len(table))
    # A recording may have clips of two authors, or of one and none: whatever either key joins is one group.
    while True:
        before = group
        for key in keys:
            least = np.full(len(table), len(table))
            np.minimum.at(least, key, group)
            group = least[key]
        if np.array_equal(group, before):
            return group.astype(np.int64)


def _deal(clips: pd.DataFrame, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    label, group = clips["label"].to_numpy(dtype=object), pd.factorize(clips["group"])[0]
    # Shuffled here: with `shuffle=True`, scikit-learn 1.4 mixes up the groups and no longer stratifies.
    group = np.random.default_rng(seed).permutation(group.max() + 1)[group]
    dealt = np.zeros(len(clips), np.int64)
    with warnings.catch_warnings():
        # Most clips of a class may be kept back by their groups; it is then missing from some folds.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, held_out) in enumerate(StratifiedGroupKFold(n_folds).split(label, label, group)):
            dealt[held_out] = fold
    return dealt
