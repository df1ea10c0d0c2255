"""The fields of a request to progression, in request order, drafted from a table.

Ranges leave room around what the table holds. Descriptions are the columns' names: say what they mean, and
add ``unit`` to a number that has one. docs/your-model.md says what the roles mean.
"""

from serving.scoring.contract import Field

FIELDS: tuple[Field, ...] = (
    # Seen: 19 to 79.
    # It suggests a protected attribute (age): compared by the fairness report, not used by the model.
    Field(
        name="Age (years)",
        kind="integer",
        description="Age (years)",
        example=50,
        minimum=0,
        maximum=110,
        required=False,
        role="compared",
        sensitive=True,
    ),
    # It suggests a protected attribute (gender): compared by the fairness report, not used by the model.
    Field(
        name="sex",
        kind="category",
        description="Sex",
        example="first",
        categories=("first", "second"),
        required=False,
        role="compared",
        sensitive=True,
    ),
    # Seen: 18 to 42.2. Missing in 20 of 442 rows.
    Field(
        name="BMI (kg/m²)",
        kind="number",
        description="BMI (kg/m²)",
        example=25.7,
        minimum=0.0,
        maximum=60.0,
        required=False,
    ),
    # Seen: 62 to 131. Missing in 19 of 442 rows.
    Field(
        name="blood-pressure",
        kind="number",
        description="Blood pressure",
        example=93.0,
        minimum=20.0,
        maximum=170.0,
        required=False,
    ),
    # Seen: 97 to 301.
    Field(
        name="1st_serum",
        kind="integer",
        description="1st serum",
        example=186,
        minimum=0,
        maximum=500,
        nullable=False,
    ),
    # Seen: 41.6 to 242.4.
    Field(
        name="LDL, mg/dl",
        kind="number",
        description="LDL, mg/dl",
        example=113.0,
        minimum=0.0,
        maximum=400.0,
        nullable=False,
    ),
    # Seen: 22 to 99.
    Field(name="order", kind="number", description="Order", example=48.0, minimum=0.0, maximum=140.0, nullable=False),
    # Seen: 2 to 9.09.
    Field(name="select", kind="number", description="Select", example=4.0, minimum=0.0, maximum=13.0, nullable=False),
    # Seen: 3.2581 to 6.107.
    Field(name="ltg", kind="number", description="Ltg", example=4.625, minimum=1.0, maximum=8.0, nullable=False),
    # Seen: 58 to 124.
    Field(
        name="naïve glucose",
        kind="integer",
        description="Naïve glucose",
        example=91,
        minimum=20,
        maximum=160,
        nullable=False,
    ),
    Field(
        name="Weight class",
        kind="category",
        description="Weight class",
        example="normal",
        categories=("high", "normal", "raised"),
        nullable=False,
    ),
    # Carried: one value in every row: there is nothing to learn.
    Field(
        name="study",
        kind="category",
        description="Study; carried, not used by the model",
        example="Efron 2004",
        required=False,
        role="carried",
        drift=False,
    ),
    # Carried: a date: a model would learn the calendar; make an age or a duration of it.
    Field(
        name="visited",
        kind="category",
        description="Visited; carried, not used by the model",
        example="2024-10-04",
        required=False,
        role="carried",
        drift=False,
    ),
    # The key. A request may leave it out; then no outcome can be joined to it.
    Field(
        name="Patient",
        kind="category",
        description="Patient; tells one row from another, not used by the model",
        example="A-00000",
        required=False,
        role="carried",
        drift=False,
        sensitive=True,
    ),
)
