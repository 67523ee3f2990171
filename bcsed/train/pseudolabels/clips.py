"""Label training clips out of fold: each by the teachers that did not train on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...audio.headers import AudioInfo
from ...config.experiments import Experiment
from ...config.strict import from_dict, to_dict
from ...config.versions import upgrade
from ...data.competitions import detect_competition
from ...errors import ConfigError, DataError
from ...models.bundle.bundle import Bundle
from ...models.ensemble import Member, split_members
from ...predict.api import RunOptions, predict
from ...predict.outputs import OutputOptions
from ...predict.spec import Windowing
from ...recordings import recording_names
from ...scores.checks.ids import parse_row_ids
from ..data import TrainOptions, prepare_data
from .api import Selection, count_notes, describe_origin, require_new_table, scores_folder, select
from .table import Pseudolabels, write_pseudolabels

_Scores = npt.NDArray[np.float32]


def make_clip_pseudolabels(
    teachers: Sequence[Member],
    data: str | Path,
    out: str | Path,
    *,
    selection: Selection | None = None,
    windowing: Windowing | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Pseudolabels:
    """Label the clips of a competition's folder that teachers held out; write the table and return it.

    The table has a row per clip: the mean over the teachers that held the clip out of their maximum over its rows.
    `teachers` were trained on the clips of `data` with a held-out fold each. Clips that no teacher held out, silent and
    unreadable ones are not in it. `out`, `selection` and other parameters are those of `make_pseudolabels`. ConfigError
    or DataError if a teacher held out no fold, was trained on other clips or has other classes, or `out` exists.
    """
    selection, out = selection or Selection(), Path(out)
    require_new_table(out)
    bundles, tables = split_members(teachers)
    if tables:
        raise ConfigError(f"{tables[0].path} is a score table, which held out no clips; label clips with bundles.")
    windowing = windowing or Windowing(row_s=detect_competition(data).row_s)
    classes = bundles[0].contract.classes
    scores: dict[str, list[_Scores]] = {}
    seconds: dict[str, float] = {}
    failed, silent = dict[str, str](), set[str]()
    notes: list[pd.DataFrame] = []
    for number, bundle in enumerate(bundles, 1):
        if set(bundle.contract.classes) != set(classes):
            raise ConfigError(
                f"{bundle.path} and {bundles[0].path} have other classes; use teachers of the same classes."
            )
        held_out, n_clips, skipped = _held_out_clips(bundle, data, jobs)
        seconds |= {name: info.duration_s for name, info in held_out.items()}
        paths = [info.path for info in held_out.values()]
        names = dict(zip(recording_names(paths), held_out, strict=True))
        result = predict(
            [bundle],
            paths,
            out=scores_folder(out) / f"teacher-{number}",
            windowing=windowing,
            output=OutputOptions(formats=()),
            options=RunOptions(jobs=jobs),
            progress=progress,
        )
        recordings = parse_row_ids(result.scores.index)
        values = result.scores[list(classes)].to_numpy(np.float32)
        silent |= {names[stem] for stem in result.silent}
        notes.append(result.notes)
        for index, stem in enumerate(recordings.stems):
            if stem not in result.silent:
                scores.setdefault(names[stem], []).append(values[recordings.recording == index].max(0))
        by_path = {str(info.path): name for name, info in held_out.items()}
        failed |= skipped | dict(zip(result.failures["recording"].map(by_path), result.failures["reason"], strict=True))
    if not scores:
        raise DataError(f"none of {len(seconds)} held-out clips of {data} could be labelled.")
    table = Pseudolabels(
        filename=np.array(list(scores), object),
        start_s=np.zeros(len(scores), np.int64),
        end_s=np.array([math.ceil(seconds[name]) for name in scores]),
        values=select(np.stack([np.mean(parts, axis=0) for parts in scores.values()]), classes, selection),
        classes=classes,
        provenance={
            **describe_origin(bundles, selection),
            "of": "clips",
            "windowing": to_dict(windowing),
            "n_recordings": len(seconds) + len(skipped),
            "n_clips": n_clips,
            "n_failed": len(failed),
            "failed": failed,
            "silent": sorted(silent),
            "notes": count_notes(pd.concat(notes)),
        },
    )
    write_pseudolabels(table, out)
    return table


def _held_out_clips(bundle: Bundle, data: str | Path, jobs: int) -> tuple[dict[str, AudioInfo], int, dict[str, str]]:
    """Return the clips that a network did not train on, by name, the number of all clips, and the unreadable ones."""
    fold = bundle.provenance.get("fold")
    if fold is None or not bundle.recipe:
        raise ConfigError(
            f"{bundle.path} held out no fold, so it trained on all clips; train teachers with --fold 0, 1, ..."
        )
    experiment = from_dict(
        Experiment, {"name": "teacher", **upgrade(bundle.recipe), "private_lb": "", "public_lb": "", "note": ""}
    )
    # Which clips it held out does not depend on what else it was trained with.
    without: dict[str, Any] = dict.fromkeys(("pseudo__share", "labelled__share"), 0.0)
    without |= dict.fromkeys(("fit__distil_weight", "fit__strong_weight"), 0.0)
    if not (Path(data) / detect_competition(data).soundscape_labels_csv).is_file():
        without["data__soundscapes"] = "validate"  # its labels of soundscapes are elsewhere
    experiment = experiment.vary("teacher", **without)
    ready = prepare_data(experiment, data, fold=fold, options=TrainOptions(jobs=jobs, on_error="skip"))
    if ready.clips_sha256 != bundle.provenance.get("clips_sha256"):
        raise DataError(
            f"{bundle.path} was trained on other clips than those of {data}, so its fold {fold} is not known; use "
            "teachers that were trained on this data."
        )
    held_out = {ready.names[row]: ready.inputs.clips.recordings[row] for row in ready.valid_rows}
    return held_out, len(ready.names) + len(ready.skipped), ready.skipped
