"""A use case that shares nothing with attrition: text key, label 1/0, names that neither Python nor SQL takes."""

import msgspec

from serving.scoring.contract import Field
from training.use_case import Binary, Group, Thresholds, UseCase

REPAIRS = UseCase(
    name="repairs",
    title="Machine Repairs",
    description="Probability that a machine breaks down next month.",
    owner="plant",
    fields=(
        Field("serial", "category", "Serial number", "S-000001", role="carried", drift=False),
        Field("Monthly Income (EUR)", "number", "What it earns", 812.5, minimum=0.0, maximum=20_000.0),
        Field("naïve", "category", "Without sensors", "yes", categories=("yes", "no")),
        Field("order", "integer", "Place in the line", 3, minimum=0, maximum=30),
        Field("heat", "number", "Temperature", -3.5, unit="°C", minimum=-40.0, maximum=60.0),
        Field("maker", "category", "Maker", "A", categories=("A", "B", "C")),
        Field("region", "category", "Region", "north", categories=("north", "south"), role="compared", required=False),
        Field("note", "category", "What people wrote", "", role="carried", required=False),
    ),
    label=Binary("broken", positive="1", negative="0", positives="breakdowns", negatives="sound machines"),
    key="serial",
    groups=(
        Group("region"),
        Group("order", bands=(10, 20), fed_because="the line wears machines out from its head to its end"),
    ),
    thresholds=Thresholds(maximum_calibration_error=0.5, maximum_fairness_gap=1.0, not_worse_than_plain=False),
    purpose="It says which machines to look at first.",
    misuse="It is not made to rate the people who run them.",
    entities="machines",
)
WITHOUT_KEY = msgspec.structs.replace(REPAIRS, key=None)
