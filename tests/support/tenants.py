"""A use case whose fields, key, label and title have names that SQL does not take as they are."""

import msgspec

from serving.scoring.contract import Field
from training.use_case import Binary, UseCase

TENANTS = UseCase(
    name="tenants",
    title="Tenants' notice",
    description="Probability that a tenant gives notice.",
    owner="landlord",
    fields=(
        Field("tenant no", "category", "Number of the contract, with its zeros.", "00042", role="carried"),
        Field("Monthly Income (EUR)", "number", "Income.", 2500, minimum=0, maximum=20_000),
        Field("order", "integer", "How many contracts were made before.", 3, minimum=0, maximum=1000),
        Field("floor 'as {built}' / Größe", "category", "Where the flat is.", "top", categories=("top", "l'étage")),
        Field("newest", "integer", "Whether it is the newest contract.", 1, minimum=0, maximum=1),
    ),
    label=Binary("gave notice", positive="ja", negative="n'est pas", positives="leaving", negatives="staying"),
    key="tenant no",
    horizon_days=90,
    purpose="It shows odd names.",
    misuse="Nothing else.",
)
KEYLESS = msgspec.structs.replace(TENANTS, name="keyless", key=None)
