"""Read the answers of a review, from the page or from tables of Raven and Audacity, into labels."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...data.annotations import read_annotations
from ...errors import ConfigError, DataError
from ...files import atomic_write, check_schema, quote_list, read_csv, read_json
from .choose import COLUMNS

REVIEW, SCORES, ANSWERS_FILE, SNIPPETS = "review.csv", "scores.csv", "answers.json", "snippets"
ANSWERED = "answered.csv"
ANSWERS = ("yes", "no", "other", "unsure")
_RANGES = {**dict.fromkeys(("item", "start_s", "end_s"), (0, np.inf)), "score": (0, 1), "probability": (1e-12, 1)}
_ANSWER_COLUMNS = (*COLUMNS, "answer", "other")
SCHEMA = 1
# Labels of snippets that answer, besides the class (yes) and the name of another species.
_WORDS = {
    **dict.fromkeys(("yes", "y"), "yes"),
    **dict.fromkeys(("no", "n", "nocall", "-"), "no"),
    **dict.fromkeys(("other", "o"), "other"),
    **dict.fromkeys(("unsure", "u", "?"), "unsure"),
}


def write_review(drawn: pd.DataFrame, folder: Path, scores: pd.DataFrame, answered: pd.DataFrame | None = None) -> None:
    """Write the chosen rows, earlier answers and their scores: ``review.csv``, ``answered.csv``, ``scores.csv``."""
    rows = drawn["row_id"]
    if answered is not None:
        rows = pd.concat([rows, answered["row_id"]])
        numbered = answered.assign(item=np.arange(len(answered)) + len(drawn) + 1)
        with atomic_write(folder / ANSWERED) as temporary:
            numbered.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_write(folder / SCORES) as temporary:
        scores.loc[rows.unique()].to_csv(temporary, index_label="row_id", lineterminator="\n")
    with atomic_write(folder / REVIEW) as temporary:
        drawn[list(COLUMNS)].to_csv(temporary, index=False, lineterminator="\n")


def read_review(folder: str | Path) -> pd.DataFrame:
    """Read the chosen rows of a folder of `bcsed review`; DataError if they are missing or invalid."""
    path = Path(folder) / REVIEW
    if not path.is_file():
        raise DataError(f"{folder} is not a folder of `bcsed review`: it has no {REVIEW}.")
    return read_lines(path, COLUMNS)


def read_answered(paths: Sequence[str | Path]) -> pd.DataFrame:
    """Read answers of earlier reviews, tables of `bcsed review read`; DataError if they are invalid or contradict."""
    joined = pd.concat([read_lines(Path(path), _ANSWER_COLUMNS) for path in paths])[list(_ANSWER_COLUMNS)]
    clear = joined[joined["answer"] != ""].drop_duplicates(["row_id", "class", "answer", "other"])
    if (twice := clear[clear.duplicated(["row_id", "class"])]).size:
        raise DataError(f"{twice['row_id'].iloc[0]} has two answers about {twice['class'].iloc[0]!r}; keep one.")
    result: pd.DataFrame = clear.reset_index(drop=True)
    return result


def read_lines(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table of a review with some of its columns; DataError if a number or an answer is invalid."""
    table = read_csv(path, columns)
    for name, (low, high) in _RANGES.items():
        if name in columns:
            values = pd.to_numeric(table[name], errors="coerce")
            if (invalid := ~values.between(low, high)).any():
                k = int(invalid.to_numpy().argmax())
                raise DataError(
                    f"{path}: line {k + 2}: {name} must be a number of {low:g} to {high:g}, got {table[name][k]!r}."
                )
            table[name] = values if high == 1 else values.astype(np.int64)
    if "item" in columns and table["item"].duplicated().any():
        raise DataError(f"{path}: items must be distinct numbers.")
    if "answer" in columns:
        answers = table["answer"].str.strip().str.lower()
        if (unknown := ~answers.isin((*ANSWERS, ""))).any():
            k = int(unknown.to_numpy().argmax())
            cell = table["answer"][k]
            raise DataError(f"{path}: line {k + 2}: the answer must be {', '.join(ANSWERS)}, got {cell!r}.")
        table["answer"] = answers
    return table


def review_id(drawn: pd.DataFrame) -> str:
    """Return a hash of the chosen rows and classes, by which answers are known to belong to them."""
    text = "\n".join(f"{row}|{name}" for row, name in zip(drawn["row_id"], drawn["class"], strict=True))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unanswered_label(name: str) -> str:
    """Return the label of a snippet before it is answered."""
    return f"{name}?"


def read_answers(folder: str | Path, paths: Sequence[str | Path] = ()) -> pd.DataFrame:
    """Return the chosen rows of a review with the columns ``answer`` ('' if unanswered) and ``other`` (a species).

    `paths` are files of the page (``*.json``), Raven tables and Audacity labels of the snippets, or folders of these
    tables; by default ``answers.json`` in the folder. Answers of earlier reviews, which were left out of this one,
    follow with the probability 1, so that all together are a sample of all candidates. Raises DataError if a file is
    invalid or of another review, an item has two different answers, or there is no answer.
    """
    folder = Path(folder)
    drawn = read_review(folder)
    answers: dict[int, tuple[str, str]] = {}
    listed = [Path(path) for path in paths] or [folder / ANSWERS_FILE]
    for path in (file for each in listed for file in (sorted(each.glob("*.txt")) if each.is_dir() else [each])):
        for item, answer in (_read_page if path.suffix == ".json" else _read_labels)(path, drawn):
            if answers.setdefault(item, answer) != answer:
                before = " ".join(answers[item]).strip()
                raise DataError(f"{path}: item {item} is answered {' '.join(answer).strip()!r}, and {before!r} before.")
    if not answers:
        raise DataError(f"no item of {folder} is answered; answer some in its page, or in the tables of the snippets.")
    pairs = [answers.get(item, ("", "")) for item in drawn["item"]]
    table: pd.DataFrame = drawn.assign(answer=[pair[0] for pair in pairs], other=[pair[1] for pair in pairs])
    if (folder / ANSWERED).is_file():
        table = pd.concat([table, read_lines(folder / ANSWERED, _ANSWER_COLUMNS)[list(table)]], ignore_index=True)
    return table


def _read_page(path: Path, drawn: pd.DataFrame) -> list[tuple[int, tuple[str, str]]]:
    values = read_json(path, fields={"review": str, "answers": dict})
    check_schema(values, path, (SCHEMA,))
    if values["review"] != review_id(drawn):
        raise DataError(f"{path}: these are answers of another review than that of the folder.")
    answers = []
    items = {str(item): int(item) for item in drawn["item"]}
    for key, value in values["answers"].items():
        cells = value if isinstance(value, dict) else {}
        answer, other = cells.get("answer"), cells.get("other", "")
        if key not in items:
            raise DataError(f"{path}: it answers item {key!r}, which is not in the review ({len(items)} items).")
        if answer not in ANSWERS or not isinstance(other, str):
            raise DataError(f"{path}: the answer {value!r} of item {key!r} is not one of {', '.join(ANSWERS)}.")
        answers.append((items[key], (answer, other.strip() if answer == "other" else "")))
    return answers


def _read_labels(path: Path, drawn: pd.DataFrame) -> list[tuple[int, tuple[str, str]]]:
    """Read labels of snippets: the unanswered label, the class (yes), a word, or another species."""
    events = read_annotations(path)
    names = [re.split(r"[\\/]", name)[-1].removesuffix(".flac") for name in events["recording"]]
    classes = dict(zip(drawn["item"], drawn["class"], strict=True))
    answers = []
    for name, text in zip(names, events["label"].str.strip(), strict=True):
        item = int(name) if name.isdecimal() and name.isascii() else -1
        if item not in classes:
            raise DataError(f"{path}: {name!r} is not a snippet of the review; snippets are named like 0001.flac.")
        if text == classes[item]:
            answers.append((item, ("yes", "")))
        elif text.endswith("?") and text not in (unanswered_label(classes[item]), *_WORDS):
            raise DataError(
                f"{path}: {text!r} is no label of snippet {name} of {classes[item]!r}; is it another review's?"
            )
        elif text != unanswered_label(classes[item]):
            answer = _WORDS.get(text.lower(), "other")
            answers.append((item, (answer, text if text.lower() not in _WORDS else "")))
    return answers


def to_labels(answers: pd.DataFrame, scores: pd.DataFrame, *, absent_below: float = 0.0) -> pd.DataFrame:
    """Return soundscape labels ``filename,start,end,primary_label,known``, a line per row with a clear answer.

    ``known`` lists the classes about which an answer says something; all others are unknown, not absent. Of the species
    that were named instead of the class, those of `scores`, the score table of the chosen rows, are labels. Classes
    whose score in a row is less than `absent_below` are taken as absent, unless an answer names them. Raises DataError
    if a class is answered as present and as absent.
    """
    if not 0 <= absent_below <= 1:
        raise ConfigError(f"classes are absent below a score in [0, 1], got {absent_below:g}.")
    if missing := sorted(set(answers["row_id"]) - set(scores.index)):
        raise DataError(
            f"the scores of {quote_list(missing)} are missing in {SCORES} of the review; choose rows again."
        )
    allowed, rows = set(map(str, scores.columns)), []
    for (filename, start_s, end_s), lines in answers.groupby(["recording", "start_s", "end_s"], sort=True):
        present = {*lines["class"][lines["answer"] == "yes"], *(set(lines["other"]) & allowed)}
        absent = set(lines["class"][lines["answer"].isin(("no", "other"))])
        if both := sorted(present & absent):
            where = f"{filename}, {start_s} to {end_s} s"
            raise DataError(f"{quote_list(both)} is answered as present and as absent in {where}; correct the answers.")
        if present | absent:
            low = scores.loc[lines["row_id"].iloc[0]] < absent_below
            known = present | absent | (set(map(str, scores.columns[low])) - set(lines["class"]))
            rows.append((filename, start_s, end_s, ";".join(sorted(present)), ";".join(sorted(known))))
    table: pd.DataFrame = pd.DataFrame(rows, columns=["filename", "start", "end", "primary_label", "known"])
    return table


def to_events(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the calls that were confirmed or named, ``filename,start,end,label``, a line per row and species."""
    parts = [
        answers[answers["answer"] == "yes"].assign(label=lambda lines: lines["class"]),
        answers[answers["other"] != ""].assign(label=lambda lines: lines["other"]),
    ]
    renamed = pd.concat(parts).rename(columns={"recording": "filename", "start_s": "start", "end_s": "end"})
    events = renamed[["filename", "start", "end", "label"]].drop_duplicates()
    ordered: pd.DataFrame = events.sort_values(["filename", "start", "label"], ignore_index=True)
    return ordered
