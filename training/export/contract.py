"""The request contract that the models of a use case are served with."""

from serving.scoring.contract import Contract, OutlierRule
from training.use_case import UseCase

_NO_MODEL = OutlierRule(trees=1, normaliser=1.0, offset=0.0)


def request_contract(use_case: UseCase, outliers: OutlierRule | None = None, reference_rows: int = 0) -> Contract:
    """The contract with what training adds; without that, enough to describe, encode and log requests with."""
    return Contract(
        contract_version=2,
        name=use_case.model_name,
        title=use_case.title,
        description=use_case.description,
        fields=use_case.fields,
        outliers=outliers or _NO_MODEL,
        reference_rows=reference_rows,
        key=use_case.key,
    )
