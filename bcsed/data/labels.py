"""Training targets, folds and repetitions of clips.

A table is the result of `bcsed.data.read_train`, with N clips. There are K classes. The label of negative clips is ''.
Folds are numbered from 0; `NEVER_HELD_OUT` marks a clip that is always in training.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config.recipe import Data
from ..errors import ConfigError, DataError
from .label_files import multi_hot

NEVER_HELD_OUT = -1


def make_targets(
    table: pd.DataFrame, classes: Sequence[str], data: Data
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return targets and their weights in the loss, (N, K) each; DataError if a label is unknown.

    Targets are `data.label_target` at the label, `data.secondary_target` at secondary labels, else 0; floats
    throughout: the original stored 0.3 as an 8-bit integer, and so lost all secondary labels. Weights are 1; if
    `data.secondary_target` is None, 0 at secondary labels, which are then neither present nor absent.
    """
    index = _class_index(table, classes)
    secondary = multi_hot(table["secondary"], classes)
    targets = secondary * np.float32(data.secondary_target or 0)
    weights = 1 - secondary if data.secondary_target is None else np.ones_like(secondary)
    # Last, because the label takes precedence if it is also listed as a secondary label.
    labelled = np.flatnonzero(table["label"] != "")
    primary = (labelled, [index[name] for name in table["label"].iloc[labelled]])
    targets[primary], weights[primary] = data.label_target, 1
    return targets, weights


def class_counts(table: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of clips labelled with each class, shape (K,), without secondary labels and negatives."""
    index = _class_index(table, classes)
    labels = [index[name] for name in table["label"] if name]
    return np.bincount(labels, minlength=len(classes)).astype(np.int64)


def class_priors(targets: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean target of each class, used as scores of an unreadable recording.

    (N, K) -> (K,). It is about the mean of the network's probabilities; any constant ranks such rows equally within a
    class. The result is limited to [1 / 2N, 1 - 1 / 2N]: a class without clips is rare, not impossible.
    """
    if not len(targets):
        raise DataError("class priors need at least one clip, got none.")
    least = 0.5 / len(targets)
    return np.asarray(targets.mean(axis=0, dtype=np.float64).clip(least, 1 - least), np.float32)


def assign_folds(table: pd.DataFrame, data: Data, seed: int) -> npt.NDArray[np.int64]:
    """Assign clips to folds, stratified by label, with each group in one fold.

    A group is a recording, or all recordings of an author (of unknown author, a recording); clips with one value in
    the optional column ``copies`` are in one group. Groups with a clip of a
    class that has fewer than `data.min_class_count` clips, or only one group (without which training would lack the
    class), always stay in training (`NEVER_HELD_OUT`), and so do groups of negatives only; other negatives are in the
    fold of their group. The result (N,) is independent of the order of the clips.
    DataError if fewer groups than folds can be held out, or no class has a clip for each fold.
    """
    # Sorted by name, because the assignment depends on the position.
    order = np.argsort(table["filename"].to_numpy(dtype=object), kind="stable")
    table = table.iloc[order]
    clips = pd.DataFrame({"label": table["label"].to_numpy(dtype=object), "group": _groups(table, data)})
    labelled = (clips["label"] != "").to_numpy(bool)
    classes = clips[labelled].groupby("label")["group"].agg(["size", "nunique"])
    rare = classes.index[(classes["size"] < data.min_class_count) | (classes["nunique"] < 2)]
    free = labelled & ~clips["group"].isin(clips["group"][clips["label"].isin(rare)]).to_numpy(bool)
    n_groups, most = clips["group"][free].nunique(), clips["label"][free].value_counts().max()
    if n_groups < data.n_folds or most < data.n_folds:
        few = f"{n_groups} groups by {data.group_by} and at most {most if n_groups else 0} clips of one class"
        raise DataError(
            f"{few} can be held out, too few for {data.n_folds} folds: {len(rare)} of {len(classes)} classes have "
            f"fewer than {data.min_class_count} clips or only one group; lower min_class_count or n_folds."
        )
    fold_of = dict(zip(clips["group"][free], _split(clips[free], data.n_folds, seed), strict=True))
    folds = np.full(len(table), NEVER_HELD_OUT, np.int64)
    folds[order] = [fold_of.get(group, NEVER_HELD_OUT) for group in clips["group"]]
    return folds


def assign_site_folds(sites: Sequence[str], n_folds: int) -> dict[str, int]:
    """Return the fold of each site, so that folds have about equally many rows; `sites` has the site of each row.

    >>> assign_site_folds(["S1", "S2", "S2", "S3"], 2)
    {'S2': 0, 'S1': 1, 'S3': 1}
    """
    counts = pd.Series(list(sites), dtype=object).value_counts()
    sizes = [0] * n_folds
    folds: dict[str, int] = {}
    for site in sorted(counts.index, key=lambda site: (-counts[site], site)):
        folds[site] = sizes.index(min(sizes))
        sizes[folds[site]] += int(counts[site])
    return folds


def training_rows(
    table: pd.DataFrame, fold_of: npt.NDArray[np.int64], fold: int | None, data: Data
) -> npt.NDArray[np.int64]:
    """Return the rows to train on: all but the held-out fold (if any), with rows of rare classes repeated.

    All clips of a class with fewer than `data.min_class_count` clips are repeated equally often, until that count is
    reached, and negatives in turn until they are `data.negative_share` of the clips; the repeats follow the rows.
    `fold_of` (N,): see `assign_folds`.
    """
    if len(fold_of) != len(table):
        raise DataError(f"the folds are of {len(fold_of)} clips, the table has {len(table)}.")
    held_out = np.empty(0, np.int64) if fold is None else validation_rows(fold_of, fold)
    rows = np.setdiff1d(np.arange(len(table)), held_out)
    label = table["label"].to_numpy(dtype=object)
    repeats = []
    for name, count in table["label"][label != ""].value_counts(sort=False).items():
        cycles = -(-data.min_class_count // count) - 1
        repeats.append(np.tile(rows[label[rows] == name], max(cycles, 0)))
    negatives, share = rows[label[rows] == ""], data.negative_share
    n_labelled = len(rows) - len(negatives) + sum(map(len, repeats))
    missing = round(share / (1 - share) * n_labelled) - len(negatives)
    repeats.append(np.resize(negatives, max(missing, 0) if len(negatives) else 0))
    return np.concatenate([rows, *repeats]).astype(np.int64)


def validation_rows(fold_of: npt.NDArray[np.int64], fold: int) -> npt.NDArray[np.int64]:
    """Return the rows of a fold, in order; raise a ConfigError if there is no such fold."""
    rows = np.flatnonzero(fold_of == fold)
    if fold == NEVER_HELD_OUT or not len(rows):
        folds = np.unique(fold_of[fold_of != NEVER_HELD_OUT])
        raise ConfigError(f"no clip is in fold {fold}; the folds are {', '.join(map(str, folds))}.")
    return rows.astype(np.int64)


def _class_index(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, int]:
    index = {name: k for k, name in enumerate(classes)}
    unknown = sorted({*table["label"], *(name for names in table["secondary"] for name in names)} - {"", *index})
    if unknown:
        raise DataError(f"the label {unknown[0]!r} is not among the {len(classes)} classes.")
    return index


def _groups(table: pd.DataFrame, data: Data) -> npt.NDArray[np.int64]:
    recording, author = table["recording"].astype(str), table["author"].astype(str)
    keys = [pd.factorize(recording)[0]]
    if data.group_by == "author":
        # With a prefix, because an author and a recording may have the same name.
        known = ("author " + author).where(author != "", "recording " + recording)
        keys.append(pd.factorize(known)[0])
    if "copies" in table:
        keys.append(pd.factorize(table["copies"])[0])
    group = np.arange(len(table))
    # A recording may have clips of two authors, or clips with and without author: all clips that share either key
    # are one group.
    while True:
        before = group
        for key in keys:
            least = np.full(len(table), len(table))
            np.minimum.at(least, key, group)
            group = least[key]
        if np.array_equal(group, before):
            return group.astype(np.int64)


def _split(clips: pd.DataFrame, n_folds: int, seed: int) -> npt.NDArray[np.int64]:
    from sklearn.model_selection import StratifiedGroupKFold  # imported here: it takes longer to import than pandas

    label, group = clips["label"].to_numpy(dtype=object), pd.factorize(clips["group"])[0]
    # Shuffled here: with `shuffle=True`, scikit-learn 1.4 confuses the groups and no longer stratifies. The split takes
    # about five seconds for 28,500 clips of 206 classes.
    group = np.random.default_rng(seed).permutation(group.max() + 1)[group]
    folds = np.zeros(len(clips), np.int64)
    with warnings.catch_warnings():
        # Groups may keep most clips of a class in training; the class is then missing from some folds.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        for fold, (_, held_out) in enumerate(StratifiedGroupKFold(n_folds).split(label, label, group)):
            folds[held_out] = fold
    return folds
