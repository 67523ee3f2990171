"""Review by people: choose rows to listen to, read the answers, estimate precision from them.

The chosen rows (``review.csv``) have the columns `COLUMNS`; `read_answers` adds ``answer`` and ``other``.
"""

from .answers import (
    ANSWERS,
    ANSWERS_FILE,
    REVIEW,
    SCHEMA,
    SCORES,
    SNIPPETS,
    read_answered,
    read_answers,
    read_lines,
    read_review,
    review_id,
    to_events,
    to_labels,
    unanswered_label,
    write_review,
)
from .choose import COLUMNS, WAYS, choose_rows, match_answers
from .precision import (
    CONFIDENCE,
    describe_gaps,
    estimate_precision,
    estimate_share,
    find_thresholds,
    weigh,
    write_thresholds,
)

__all__ = [
    "ANSWERS",
    "ANSWERS_FILE",
    "COLUMNS",
    "CONFIDENCE",
    "REVIEW",
    "SCHEMA",
    "SCORES",
    "SNIPPETS",
    "WAYS",
    "choose_rows",
    "describe_gaps",
    "estimate_precision",
    "estimate_share",
    "find_thresholds",
    "match_answers",
    "read_answered",
    "read_answers",
    "read_lines",
    "read_review",
    "review_id",
    "to_events",
    "to_labels",
    "unanswered_label",
    "weigh",
    "write_review",
    "write_thresholds",
]
