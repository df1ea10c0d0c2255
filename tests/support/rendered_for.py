"""The use cases that the monitoring tests render for: one of the project's, and one that lives here alone."""

from serving.scoring.contract import Field
from training.use_case import Binary, UseCase, load

MADE_UP = UseCase(
    name="late_delivery",
    title="Late 'Delivery' API",
    description="Probability that a parcel is late.",
    owner="logistics",
    fields=(Field(name="Weight", kind="number", description="", example=1, minimum=0, maximum=30),),
    label=Binary("Late"),
    purpose="Tests.",
    misuse="All else.",
)
"""A title with quotes, which the queries must take, and a name with ``_``, which a namespace cannot have."""
USE_CASES = (load("attrition"), MADE_UP)
