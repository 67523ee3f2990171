"""Rounds of a noisy student: networks label soundscapes, new networks train on them, and so on.

A `Plan` is a list of rounds. In each round, teachers (networks of earlier rounds, or other bundles) label the
soundscapes; students are trained on the clips and on the labelled soundscapes, exported, and added to the ledger::

    DIR/plan.json
    DIR/round-1/tiny-s0/run, bundle
    DIR/round-2/pseudolabels.parquet, .json, .png
    DIR/round-2/tiny-s0/run, bundle
    DIR/ledger.json

Every step is atomic: a plan that was killed continues where it stopped, with bit-identical results.
"""

from .api import LEDGER, PLAN, describe_round, read_ledger, run, student_runs
from .plan import PRESETS, QUESTIONS, Plan, Round, add_files, find_plan, rounds_study

__all__ = [
    "LEDGER",
    "PLAN",
    "PRESETS",
    "QUESTIONS",
    "Plan",
    "Round",
    "add_files",
    "describe_round",
    "find_plan",
    "read_ledger",
    "rounds_study",
    "run",
    "student_runs",
]
