"""One self-contained page of HTML about trainings, predictions, pseudolabels, or several of them.

Conventions
-----------
What is shown follows from what a path holds: a run, a bundle, a folder of `predict` or a score table, a table of
pseudolabels, the rounds of a noisy student; or a folder of such folders, as `bcsed demo` leaves it. Several runs are
compared first. Figures are drawings in the page, sounds are in it too; nothing is fetched, and a policy in the page
lets nothing be fetched. Everything that comes from files is escaped.
"""

from .api import LIMIT_MB, ReportFile, report

__all__ = ["LIMIT_MB", "ReportFile", "report"]
