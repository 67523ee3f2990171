"""Kinds of Kaggle inputs and the files that mark them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class InputKind:
    """A thing that can be attached.

    Parameters
    ----------
    name : str
        What messages call it.
    markers : tuple of str
        Name patterns of files; a folder that holds one of them holds such a thing.
    attach : str
        What to do where there is none.
    is_file : bool
        Whether the thing is the marker itself and not the folder around it.
    beside : str
        A suffix: only a marker beside which a file of its stem and this suffix lies is one. '' for any.
    along : str
        A file beside the marker in which two things may differ too. '' for none.
    """

    name: str
    markers: tuple[str, ...]
    attach: str
    is_file: bool = False
    beside: str = ""
    along: str = ""
