"""The golden answers of a bundle, and whether it gives them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.verify.client import Failed

TOLERANCE = 1e-6


def fault_in(examples: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    """The first golden answer that differs, in words; probabilities and scores may differ by 1e-6."""
    for name, wanted in examples.items():
        if name in ("records", "reasons"):
            continue
        got = answer.get(name)
        if not isinstance(got, list) or len(got) != len(wanted):
            return f"{name}: expected {len(wanted)} values, got {got!r:.80}"
        for position, (expected, value) in enumerate(zip(wanted, got, strict=True)):
            same = value == expected if isinstance(expected, bool) else abs(value - expected) <= TOLERANCE
            if not same:
                return f"{name}: example {position} should be {expected}, is {value}"
    explained = examples.get("reasons", [])
    return _fault_in_reasons(explained, answer, examples["classifier__predictions"]) if explained else None


def _fault_in_reasons(
    examples: Sequence[Mapping[str, float]], answer: Mapping[str, Any], probabilities: Sequence[float]
) -> str | None:
    """The first record whose named effects differ, or do not add up to its golden probability."""
    records = answer.get("records", [])
    if len(records) != len(examples):
        return f"reasons: expected those of {len(examples)} records, got {len(records)}"
    for position, (expected, record, wanted) in enumerate(zip(examples, records, probabilities, strict=True)):
        got = {reason["field"]: reason["effect"] for reason in record.get("reasons", [])}
        if got.keys() != expected.keys() or any(abs(got[name] - expected[name]) > TOLERANCE for name in got):
            return f"reasons: example {position} should name {expected}, names {got}"
        sum_ = record["base"] + sum(got.values()) + record["other"]
        if not abs(1 / (1 + math.exp(-sum_)) - wanted) <= TOLERANCE:
            return f"reasons: those of example {position} add up to log-odds of {sum_}, and its probability is {wanted}"
    return None


def read_examples(bundle: Path) -> dict[str, Any]:
    """``examples.json`` of a bundle: records, and what the registered model answered."""
    examples: dict[str, Any] = json.loads((bundle / "examples.json").read_bytes())
    return examples


def verify_bundle(bundle: Path) -> str:
    """Load a bundle with this image's scoring package; ``Failed`` unless it reproduces its examples."""
    import msgspec

    from serving.scoring.bundle import Bundle, BundleError
    from serving.scoring.encode import as_columns, encode_fields

    try:
        examples = read_examples(bundle)
        records, loaded = examples["records"], Bundle.load(bundle)
        fields = encode_fields(as_columns(records, loaded.contract), loaded.contract)
        scored = loaded.score_fields(fields)
        given = loaded.explain(fields, lambda record, name: records[record][name]) if examples.get("reasons") else ()
        explained = msgspec.to_builtins(list(given))
    except (BundleError, OSError, ValueError, KeyError) as error:
        raise Failed(f"the bundle {bundle} does not load: {error}") from error
    answer = msgspec.to_builtins(scored) | {"records": explained}
    if fault := fault_in(examples, answer):
        raise Failed(f"the model is not the one that was registered: {fault}")
    return f"{len(examples['records'])} examples reproduced"
