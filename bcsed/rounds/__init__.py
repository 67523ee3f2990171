"""Rounds of a noisy student: networks label the place, new networks learn from both, and again.

A `Plan` is a list of rounds. In each, teachers (networks of earlier rounds, or bundles from elsewhere) label
the soundscapes, students learn from the clips and from what was labelled, are sealed, and enter the ledger::

    DIR/plan.json
    DIR/round-1/tiny-s0/run, bundle
    DIR/round-2/pseudolabels.parquet, .json, .png
    DIR/round-2/tiny-s0/run, bundle
    DIR/ledger.json

Every step is whole or not there, so a plan that was killed goes on where it was, and comes to the same bits.
"""

from .api import LEDGER, PLAN, line, run, students
from .plan import PRESETS, QUESTIONS, Plan, Round, find_plan

__all__ = ["LEDGER", "PLAN", "PRESETS", "Plan", "QUESTIONS", "Round", "find_plan", "line", "run", "students"]
