"""What is curated: the service whose lines are read, and the columns of its records."""

from training.export.contract import TITLE
from training.inference_log.sql_engine import Column
from use_cases.attrition.fields import FIELDS

SERVICE = TITLE
"""``service_name`` of the log lines."""

COLUMNS: tuple[Column, ...] = tuple(Column(field.name, field.kind) for field in FIELDS)
"""The fields of a request, in request order."""
