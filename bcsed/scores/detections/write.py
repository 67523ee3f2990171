"""Write several formats of detections at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd

from ...errors import ConfigError
from ...files import as_path
from .detect import Recording
from .raven_audacity import Writer, write_audacity, write_raven
from .tables import write_csv, write_parquet
from .taxonomy import ClassName

FORMATS = ("raven", "audacity", "csv", "parquet")


@contextmanager
def write(
    out: str | Path,
    formats: Sequence[str],
    *,
    fmin_hz: float,
    fmax_hz: float,
    names: Mapping[str, ClassName] | None = None,
) -> Iterator[Writer]:
    """Yield a function that writes a `Recording` and its detections in several formats.

    Parameters
    ----------
    out : str or Path
        The folder for ``raven/``, ``audacity/``, ``detections.csv`` and ``detections.parquet``.
    formats : sequence of {'raven', 'audacity', 'csv', 'parquet'}
    fmin_hz, fmax_hz, names
        See `write_raven`.

    Raises
    ------
    ConfigError
        If `formats` is empty or has an unknown format.
    DataError
        See `write_raven`.
    """
    out = as_path(out)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ConfigError(f"formats are {', '.join(FORMATS)}; got {repr(unknown[0]) if unknown else 'none'}.")
    writers = {
        "raven": lambda: write_raven(out / "raven", fmin_hz=fmin_hz, fmax_hz=fmax_hz, names=names),
        "audacity": lambda: write_audacity(out / "audacity", names=names),
        "csv": lambda: write_csv(out / "detections.csv", names=names),
        "parquet": lambda: write_parquet(out / "detections.parquet", names=names),
    }
    with ExitStack() as stack:
        adds = [stack.enter_context(writers[name]()) for name in dict.fromkeys(formats)]

        def add(recording: Recording, lines: pd.DataFrame) -> None:
            for each in adds:
                each(recording, lines)

        yield add
