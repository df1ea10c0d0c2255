"""The golden answers of a bundle, and whether it gives them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.verify.client import Failed

TOLERANCE = 1e-6


def fault_in(examples: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    """The first golden answer that differs, in words; probabilities and scores may differ by 1e-6."""
    for name, wanted in examples.items():
        if name == "records":
            continue
        got = answer.get(name)
        if not isinstance(got, list) or len(got) != len(wanted):
            return f"{name}: expected {len(wanted)} values, got {got!r:.80}"
        for position, (expected, value) in enumerate(zip(wanted, got, strict=True)):
            same = value == expected if isinstance(expected, bool) else abs(value - expected) <= TOLERANCE
            if not same:
                return f"{name}: example {position} should be {expected}, is {value}"
    return None


def read_examples(bundle: Path) -> dict[str, Any]:
    """``examples.json`` of a bundle: records, and what the registered model answered."""
    examples: dict[str, Any] = json.loads((bundle / "examples.json").read_bytes())
    return examples


def verify_bundle(bundle: Path) -> str:
    """Load a bundle with this image's scoring package; ``Failed`` unless it reproduces its examples."""
    from serving.scoring.bundle import Bundle, BundleError

    try:
        examples = read_examples(bundle)
        scored = Bundle.load(bundle).score(examples["records"])
    except (BundleError, OSError, ValueError, KeyError) as error:
        raise Failed(f"the bundle {bundle} does not load: {error}") from error
    answer = {name: getattr(scored, name) for name in examples if name != "records"}
    if fault := fault_in(examples, answer):
        raise Failed(f"the model is not the one that was registered: {fault}")
    return f"{len(examples['records'])} examples reproduced"
