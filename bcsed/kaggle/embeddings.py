"""The embedding notebook: a table of embeddings for `bcsed probe` and as a teacher."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from ..data.competitions import detect_competition
from ..errors import ConfigError
from . import inputs
from .inputs import Log, find_input, kaggle_root
from .notebooks import EmbedSettings
from .session import OutOfTimeError, copy_scores, log_stop, minutes_left, stop_after
from .submission import log_problems

_log = logging.getLogger(__name__)


def embed(settings: EmbedSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Path | None:
    """Embed the clips, or the training soundscapes, with a bundle, and stop before the session ends.

    Return ``working/embeddings.parquet``, or None if recordings are left for another session, which continues if the
    output of this one is attached. Arguments as for `train`; errors also as of `bcsed.predict.embed.embed`.
    """
    from ..models.bundle import load
    from ..predict import RunOptions
    from ..predict.embed import embed, parts_folder

    if settings.of not in ("clips", "soundscapes"):
        raise ConfigError(f"of must be clips or soundscapes, got {settings.of!r}.")
    home = kaggle_root(root)
    out = home / "working" / "embeddings.parquet"
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    wanted = [settings.bundle] if settings.bundle else []
    bundles = inputs.find_bundles(wanted, root=home, scratch=home / "working" / ".bundles", log=log)
    if len(bundles) > 1:
        raise ConfigError(f"{len(bundles)} bundles are attached; name the one to use, such as {bundles[0].name!r}.")
    copy_scores(parts_folder(out), home, log)
    of_clips = settings.of == "clips"
    soundscapes = data / detect_competition(data).soundscapes_dir
    log(f"embedding the {settings.of} of {data if of_clips else soundscapes}")
    try:
        result = embed(
            load(bundles[0]),
            out,
            recordings=() if of_clips else (soundscapes,),
            data=data if of_clips else None,
            step_s=settings.step_s,
            options=RunOptions(jobs=settings.jobs),
            progress=stop_after(minutes_left(settings.hours), log),
        )
    except OutOfTimeError:
        log_stop(settings.hours, log)
        return None
    log_problems(result, log)
    # The table contains all embeddings; the folder of thousands of parts would be mounted with it.
    for name in ("failures.csv", "notes.csv"):
        shutil.copyfile(parts_folder(out) / name, out.with_name(name))
    shutil.rmtree(parts_folder(out))
    log(f"{out}: embeddings of {result.n_scored} of {result.n_recordings} recordings")
    return out
