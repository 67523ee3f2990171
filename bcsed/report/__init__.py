"""One self-contained HTML page about trainings, bundles, predictions, pseudolabels and rounds.

The content of a path decides what is reported of it: a run, a bundle, a folder of `predict` or a score table, a table
of pseudolabels, the rounds of a noisy student, or a folder of such folders. Several runs are compared first. Figures
are SVG in the page, sounds are in it too. The page loads nothing, and its content security policy forbids loading.
All text from files is escaped.
"""

from .api import LIMIT_MB, ReportFile, report

__all__ = ["LIMIT_MB", "ReportFile", "report"]
