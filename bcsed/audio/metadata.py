"""Read the texts that recorders write into their files: comments, and GUANO metadata.

The package ``guano`` reads RIFF alone and refuses a header that is not finished, which recorders leave when their
battery ends; the chunk is text, which `bcsed.data.recorders` reads.
"""

from __future__ import annotations

from pathlib import Path

import soundfile

from ..errors import DataError
from ..files import as_path
from .headers import LAYOUTS, explain, open_audio

# Bytes of a chunk of GUANO that are read; such a chunk has some hundred.
_MAX_BYTES = 1 << 16


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the texts in a recording: ``comment`` (AudioMoth's, for example) and ``guano``, without those it lacks.

    DataError if the recording cannot be opened.
    """
    path, guano = as_path(path), b""
    try:
        with open_audio(path) as file:
            texts = {"comment": str(file.comment or "")}
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            layout = LAYOUTS.get(stream.read(4))
            for name, begin, n_bytes in layout.walk(stream, layout.first, size) if layout else ():
                if name == b"guan":
                    stream.seek(begin)
                    guano = stream.read(min(n_bytes, _MAX_BYTES))
                    break
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: {explain(error)}.") from error
    texts["guano"] = guano.decode("utf-8", "replace")
    return {name: text.strip("\0 \r\n") for name, text in texts.items() if text.strip("\0 \r\n")}
