"""Windows with embeddings and targets, from clips, labelled and pseudolabelled soundscapes, and noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config.recipe import Data
from ..data.competitions import detect_competition
from ..data.label_files import multi_hot
from ..data.labels import NEVER_HELD_OUT, assign_folds
from ..errors import DataError
from ..files import check_fields, shorten_list
from ..predict.embeddings import read_embeddings
from ..recordings import by_file_name
from .pseudolabels.table import read_pseudolabels
from .sequence import find_followers
from .soundscapes import read_labelled_rows

Array = npt.NDArray[np.float32]

# Rarer classes than in a training have clips held out, since a fit takes seconds.
_FOLDS = Data(min_class_count=5)


@dataclass(frozen=True)
class Windows:
    """Windows with embeddings and soft targets; the last column of the targets is "none of the classes"."""

    vectors: Array  # (N, E)
    targets: Array  # (N, K + 1), shares that sum to 1
    fold_of: npt.NDArray[np.int64]  # (N,)
    clip_of: npt.NDArray[np.int64]  # (N,), row of the clip in the table; -1 for soundscapes
    following: npt.NDArray[np.int64]  # (N,), the next window of the recording; after the last, the first

    def select(self, kept: npt.NDArray[np.bool_]) -> Windows:
        """Return some windows, which are all or none of each recording."""
        following = (np.cumsum(kept) - 1)[self.following[kept]]
        rows = (self.vectors[kept], self.targets[kept], self.fold_of[kept], self.clip_of[kept])
        return Windows(*rows, following)


def read_tables(paths: Sequence[str | Path]) -> tuple[pd.DataFrame, Array, dict[str, Any]]:
    """Return ``filename, start_s, table`` and vectors of tables of one bundle, and the description of the bundle."""
    tables = [read_embeddings(path) for path in paths]
    described = [metadata for _, _, metadata in tables]
    for path, metadata in zip(paths, described, strict=True):
        check_fields(metadata, {"bundle": str, "sha256": str}, path)
        if metadata["sha256"] != described[0]["sha256"]:
            raise DataError(f"{path}: its embeddings are not those of the bundle {described[0]['bundle']!r}.")
    frame = pd.concat([table.assign(table=k) for k, (table, _, _) in enumerate(tables)], ignore_index=True)
    return frame, np.concatenate([vectors for _, vectors, _ in tables]), described[0]


def name_recordings(
    frame: pd.DataFrame, vectors: Array, paths: Sequence[str | Path], n_tables: int
) -> npt.NDArray[np.object_]:
    """Return the name of the recording of each window of `read_tables`, with its table after the first `n_tables`.

    Noise of two sites may have equal names. DataError if a window is in the tables twice: it would count twice.
    """
    own = frame["filename"].where(frame["table"] < n_tables, frame["table"].astype(str) + "/" + frame["filename"])
    same = pd.DataFrame({"vector": vectors.sum(1, dtype=np.float64), **frame[["filename", "start_s"]]})
    twice = np.flatnonzero(same.duplicated() | same.assign(filename=own)[["filename", "start_s"]].duplicated())
    if len(twice):
        name, start_s, k = frame.loc[twice[0], ["filename", "start_s", "table"]]
        raise DataError(
            f"{paths[k]}: the window of {name!r} at {start_s:g} s is there twice; name each table once, and embed "
            "different recordings of one name together, from a folder of both."
        )
    names: npt.NDArray[np.object_] = own.to_numpy(object)
    return names


def read_rows(
    pseudolabels: str | Path | None,
    labels: Sequence[str | Path],
    data: Path,
    classes: Sequence[str],
    log: Callable[[str], None],
) -> list[tuple[str, pd.DataFrame, Array]]:
    """Return ``name, start, end`` and values (R, K) of the rows of soundscapes, and their source, the labels last."""
    sources = []
    if pseudolabels is not None:
        table = read_pseudolabels(pseudolabels)
        if table.provenance.get("of") == "clips":
            raise DataError(f"{pseudolabels} labels clips; a head learns from pseudolabels of soundscapes.")
        values = table.columns(classes).astype(np.float32)
        # A row that is not selected may contain calls.
        used = np.full(len(values), True) if table.soft else values.any(1)
        rows = pd.DataFrame({"name": table.filename, "start": table.start_s, "end": table.end_s})
        sources.append((str(pseudolabels), rows[used], values[used]))
    if labels:
        competition = detect_competition(data)
        read = read_labelled_rows(labels, data / competition.soundscapes_dir, classes, competition.row_s)
        values = multi_hot(read["labels"], classes, read["known"])
        # A row without a call of the known classes may contain others.
        used = (values == 1).any(1) | ~np.isnan(values).any(1)
        if not used.all():
            log(f"{(~used).sum()} of {len(used)} labelled rows are not used: some classes are unknown, no other calls")
        rows = read[["filename", "start_s", "end_s"]].set_axis(["name", "start", "end"], axis=1)
        sources.append((", ".join(map(str, labels)), rows[used], np.nan_to_num(values[used])))
    return sources


def label_windows(
    sources: Sequence[tuple[str, pd.DataFrame, Array]],
    n_classes: int,
    names: npt.NDArray[np.object_],
    centre_s: npt.NDArray[np.float64],
    log: Callable[[str], None],
) -> Array:
    """Return the labels of the row in which the centre of each window lies, (N, K); NaN without a row."""
    result = np.full((len(names), n_classes), np.nan, np.float32)
    of_file = by_file_name(map(str, names))
    for source, rows, values in sources:
        labelled, unknown = np.full(len(names), False), []
        for name, group in rows.reset_index(drop=True).groupby("name"):
            mine = np.flatnonzero(names == _find_name(str(name), of_file))
            unknown += [] if len(mine) else [str(name)]
            order = np.argsort(group["start"].to_numpy(), kind="stable")
            start, end = group["start"].to_numpy()[order], group["end"].to_numpy()[order]
            at = np.searchsorted(start, centre_s[mine], side="right") - 1
            inside = (at >= 0) & (centre_s[mine] < end[at])
            result[mine[inside]] = values[group.index.to_numpy()[order][at[inside]]]
            labelled[mine[inside]] = True
        if not labelled.any():
            raise DataError(f"{source}: none of its recordings has an embedding; add the table of these soundscapes.")
        if unknown:
            of_all = f"{len(unknown)} of {rows['name'].nunique()} recordings"
            log(f"{source}: {of_all} have no embedding of their own and are not used: {shorten_list(unknown, 3)}")
    return result


def _find_name(name: str, of_file: Mapping[str, Sequence[str]]) -> str:
    """Return the embedded recording of a name, either of which may leave out folders; '' if none or several match."""
    names = of_file.get(name.rpartition("/")[2], ())
    similar = [each for each in names if f"/{name}".endswith(f"/{each}") or f"/{each}".endswith(f"/{name}")]
    return name if name in names else similar[0] if len(similar) == 1 else ""


def make_windows(
    clips: pd.DataFrame,
    targets: Array,
    table: tuple[npt.NDArray[np.object_], npt.NDArray[np.float64], Array],
    labels: Array | None,
    is_noise: npt.NDArray[np.bool_],
    window_s: float,
    seed: int,
) -> Windows:
    """Return the windows of clips, of pseudolabelled soundscapes and of noise, with their targets and folds."""
    names, start_s, vectors = table
    clip_of = pd.Index(clips["filename"]).get_indexer(pd.Index(names))
    known = clip_of >= 0
    if not known.any():
        raise DataError(
            f"none of the {len(clips)} clips has an embedding; clips are named as in the label file, such as "
            f"{clips['filename'].iloc[0]!r}, and the embeddings have {names[0]!r}."
        )
    values = np.zeros((len(names), targets.shape[1]), np.float32)
    values[known] = targets[clip_of[known]]
    if labels is not None:
        labelled = ~known & ~is_noise & ~np.isnan(labels).any(1)
        values[labelled], known = labels[labelled], known | labelled
    known |= is_noise
    total = values.sum(1, keepdims=True)
    # A window without a class, or with an uncertain one, is partly "none"; several classes share a window.
    shares = np.hstack([values, np.maximum(0, 1 - total)]) / np.maximum(total, 1)
    try:
        folds = assign_folds(clips, _FOLDS, seed)
    except DataError:  # too few clips to hold any out
        folds = np.full(len(clips), NEVER_HELD_OUT, np.int64)
    fold_of = np.where(clip_of >= 0, folds[clip_of], NEVER_HELD_OUT)
    return Windows(
        vectors=vectors[known],
        targets=shares[known],
        fold_of=fold_of[known],
        clip_of=clip_of[known],
        following=find_followers(names[known], start_s[known], window_s),
    )


def describe_windows(windows: Windows, n_clips: int, n_windows: int, classes: Sequence[str]) -> str:
    """Return a sentence about what a head is trained on, and what is left out."""
    n_embedded = len(np.unique(windows.clip_of[windows.clip_of >= 0]))
    parts = [f"{len(windows.vectors)} windows, of {n_embedded} clips"]
    if n_embedded < n_clips:
        parts.append(f"{n_clips - n_embedded} clips have no embedding")
    if len(windows.vectors) < n_windows:
        parts.append(f"{n_windows - len(windows.vectors)} windows have no label and are not used")
    absent = [name for name, total in zip(classes, windows.targets[:, :-1].sum(0), strict=True) if not total]
    if absent:
        parts.append(f"{len(absent)} classes have no window and get no score above 0: {shorten_list(absent)}")
    return "; ".join(parts)
