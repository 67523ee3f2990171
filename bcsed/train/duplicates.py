"""Search training clips for copies of one another and of validation soundscapes, at any level, offset or encoding."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..audio.fingerprints import Match, confirm, find_matches, fingerprint
from ..audio.headers import AudioInfo
from ..config.recipe import Data
from ..data.competitions import detect_competition, read_class_list
from ..data.label_files import read_train
from ..errors import DataError
from ..files import read_csv, read_errors, shorten_list
from ..recordings import printable
from ..scores.checks.finding import pluralize
from .checkpoints import DUPLICATES
from .dataset.clips import read_headers
from .soundscapes import split_soundscapes

_log = logging.getLogger(__name__)
_COLUMNS = ("group", "filename", "label", "duration_s", "copy_of", "offset_s", "similarity", "exact", "keep")


def find_duplicates(
    table: pd.DataFrame, infos: Sequence[AudioInfo], soundscapes: Sequence[AudioInfo] = (), *, jobs: int = 4
) -> pd.DataFrame:
    """Return the clips whose audio occurs more than once, one row each, sorted by group.

    Clips of one ``group`` are copies of one another, directly or through others. ``copy_of`` is the recording that a
    clip is most similar to, one of the validation `soundscapes` if it is in any; ``offset_s`` is its start in that
    recording, ``similarity`` the correlation of the waves, ``exact`` whether all samples are identical. ``keep``
    is True for the longest labelled clip of a group, or for none if a clip of the group is in a soundscape. DataError
    if a recording cannot be decoded.
    """
    recordings, n = [*infos, *soundscapes], len(infos)
    with ThreadPoolExecutor(max(1, jobs)) as executor:
        matches = find_matches(list(executor.map(fingerprint, recordings)))
    matches = confirm([match for match in matches if match.first < n], recordings)
    between = [match for match in matches if match.second < n]
    group_of = _components(n, between)
    in_soundscape = {int(group_of[match.first]) for match in matches if match.second >= n}
    members = pd.Series(range(n)).groupby(group_of).agg(list)
    names = [*table["filename"], *(printable(info.path.name) for info in soundscapes)]
    best: dict[int, tuple[Match, int, float]] = {}  # of each clip: a match, the other recording, the start in it
    for match in sorted(matches, key=lambda match: (match.second >= n, match.similarity)):
        best[match.first] = (match, match.second, -match.offset_s)
        if match.second < n:
            best[match.second] = (match, match.first, match.offset_s)
    rows = []
    for number, clips in members.items():
        if len(clips) == 1 and number not in in_soundscape:
            continue
        longest = max(clips, key=lambda clip: (bool(table["label"].iloc[clip]), infos[clip].duration_s, -clip))
        for clip in clips:
            match, other, offset_s = best[clip]
            keep = clip == longest and number not in in_soundscape
            values = (names[clip], table["label"].iloc[clip], infos[clip].duration_s, names[other])
            rows.append((number, *values, offset_s, match.similarity, match.exact, keep))
    duplicates: pd.DataFrame = pd.DataFrame(rows, columns=pd.Index(_COLUMNS))
    duplicates["group"] = pd.factorize(duplicates["group"])[0] + 1
    return duplicates


def apply_duplicates(table: pd.DataFrame, duplicates: pd.DataFrame, *, drop: bool) -> pd.DataFrame:
    """Return the clips with a column ``copies`` that is equal for copies, which `assign_folds` keeps in one fold.

    With `drop`, only clips to keep are returned; they get the labels of their copies as secondary labels.
    """
    group_of = dict(zip(duplicates["filename"], duplicates["group"].map("group {}".format), strict=True))
    table = table.copy()
    table["copies"] = [group_of.get(name, name) for name in table["filename"]]
    if not drop:
        return table
    labels = {
        group: dict.fromkeys([*clips["label"], *(name for names in clips["secondary"] for name in names)])
        for group, clips in table[table["filename"].isin(group_of)].groupby("copies")
    }
    table["secondary"] = [
        tuple(name for name in labels.get(group, secondary) if name and name != label)
        for group, label, secondary in zip(table["copies"], table["label"], table["secondary"], strict=True)
    ]
    kept: pd.DataFrame = table[~table["filename"].isin(duplicates["filename"][~duplicates["keep"].astype(bool)])]
    return kept


def describe_duplicates(duplicates: pd.DataFrame, n_clips: int) -> str:
    """Return one sentence about the result of `find_duplicates`."""
    if duplicates.empty:
        return f"no duplicates among {n_clips} clips"
    groups = duplicates.groupby("group")
    text = (
        f"{len(duplicates)} of {n_clips} clips are in {pluralize(groups.ngroups, 'group')} of duplicates, "
        f"{duplicates['exact'].sum()} clips with identical samples; {(~duplicates['keep']).sum()} can be dropped"
    )
    different = int((groups["label"].nunique() > 1).sum())
    if different:
        text += f"; the labels of {pluralize(different, 'group')} differ"
    validated = groups["keep"].any()
    if not validated.all():
        text += f"; the audio of {pluralize(int((~validated).sum()), 'group')} is in soundscapes that validate"
    return f"{text}: {shorten_list(duplicates['filename'], 3)}"


def separate_duplicates(
    table: pd.DataFrame, infos: list[AudioInfo], soundscapes: Sequence[AudioInfo], setting: str, *, jobs: int
) -> tuple[pd.DataFrame, list[AudioInfo], pd.DataFrame]:
    """Search the clips of a training, and return the clips to use, their headers, and the duplicates.

    `setting` is `Data.duplicates`. DataError if no clip is left.
    """
    if setting == "off":
        return table, infos, pd.DataFrame()
    duplicates = find_duplicates(table, infos, soundscapes, jobs=jobs)
    remedy = "these are dropped" if setting == "drop" else "they share a fold, and data.duplicates=drop drops them"
    text = describe_duplicates(duplicates, len(table))
    _log.log(logging.WARNING if len(duplicates) else logging.INFO, "%s%s", text, f"; {remedy}" * bool(len(duplicates)))
    used = apply_duplicates(table, duplicates, drop=setting == "drop")
    if used.empty:
        raise DataError("all clips are in soundscapes that validate; set data.duplicates=keep, or change the labels.")
    return used.reset_index(drop=True), [infos[row] for row in used.index], duplicates


def read_duplicates(run: Path) -> pd.DataFrame | None:
    """Read the duplicates that a training listed, None if it listed none; DataError if the file is damaged."""
    if not (run / DUPLICATES).is_file():
        return None
    table = read_csv(run / DUPLICATES, _COLUMNS)
    with read_errors(run / DUPLICATES, "a table of duplicates"):
        for name in ("group", "duration_s", "offset_s", "similarity"):
            table[name] = pd.to_numeric(table[name])
    for name in ("exact", "keep"):
        table[name] = table[name] == "True"
    return table


def examine_clips(data: str | Path, *, jobs: int = 4) -> tuple[pd.DataFrame, int, dict[str, str]]:
    """Return the duplicates of a competition's folder, the number of its clips, and which cannot be read and why.

    The clips are compared with all labelled soundscapes. DataError as `bcsed.data.read_train`.
    """
    data = Path(data)
    competition = detect_competition(data)
    classes = read_class_list(data, competition)
    table = read_train(data, competition, classes)
    infos, failures = read_headers([str(path) for path in table["path"]], jobs=jobs)
    readable = [info for info in infos if info is not None]
    table = table[[info is not None for info in infos]]
    soundscapes = split_soundscapes(data, competition, classes, Data(), None).valid
    return find_duplicates(table, readable, soundscapes, jobs=jobs), len(infos), failures


def _components(n: int, matches: Sequence[Match]) -> npt.NDArray[np.int64]:
    """Return the group of each of n clips, numbered by first appearance."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = np.array([(match.first, match.second) for match in matches], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    labels: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return np.asarray(pd.factorize(labels)[0], np.int64)
