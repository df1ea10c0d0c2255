"""The request contract that a model of this package is served with."""

from serving.scoring.contract import Contract, OutlierRule
from use_cases.attrition.fields import FIELDS

TITLE = "Employee Attrition API"
DESCRIPTION = (
    "Probability that an employee leaves, with outlier and drift indicators. "
    "A figure to start a conversation with, not to decide about a person."
)


def request_contract(
    name: str = "employee_attrition",
    outliers: OutlierRule | None = None,
    reference_rows: int = 0,
) -> Contract:
    """The contract with what training adds; without it, enough to encode with."""
    return Contract(
        contract_version=2,
        name=name,
        title=TITLE,
        description=DESCRIPTION,
        fields=FIELDS,
        outliers=outliers or OutlierRule(trees=1, normaliser=1.0, offset=0.0),
        reference_rows=reference_rows,
    )
