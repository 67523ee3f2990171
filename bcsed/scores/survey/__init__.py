"""From scores to numbers: detection history, effort, activity, species lists and call density of a survey."""

from .density import call_density
from .history import Survey, SurveySettings, survey
from .reviews import Reviewed, read_reviews
from .rows import Rows, read_rows
from .write import FILES, MANIFEST, read_survey, write_survey

__all__ = [
    "FILES",
    "MANIFEST",
    "Reviewed",
    "Rows",
    "Survey",
    "SurveySettings",
    "call_density",
    "read_reviews",
    "read_rows",
    "read_survey",
    "survey",
    "write_survey",
]
