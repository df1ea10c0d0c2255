"""What is curated: the service whose lines are read, and the columns of its records."""

from training.contract import TITLE
from training.curation.engine import Column
from training.fields import FIELDS

SERVICE = TITLE
"""``service_name`` of the log lines."""

COLUMNS: tuple[Column, ...] = tuple(Column(field.name, field.kind) for field in FIELDS)
"""The fields of a request, in request order."""
