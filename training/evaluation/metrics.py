"""Which metrics judge a model: the one place that asks for the kind of a label."""

from typing import Any, Protocol

from numpy.typing import NDArray

from training.evaluation import binary
from training.evaluation.binary import Array, Comparison, Estimate
from training.use_case import Binary


class Metrics(Protocol):
    """What a module of metrics offers, see ``training.evaluation.binary``."""

    def titles(self, label: Binary) -> dict[str, str]: ...

    def resamples(self, y: NDArray[Any], seed: int) -> Array: ...

    def measure(self, p: Array, y: NDArray[Any], weights: Array) -> dict[str, Estimate]: ...

    def compare(self, challenger: Array, other: Array, y: NDArray[Any], weights: Array) -> dict[str, Comparison]: ...


_BY_KIND: dict[type[Binary], Metrics] = {Binary: binary}


def metrics_of(label: Binary) -> Metrics:
    """The metrics for a label of this kind."""
    return _BY_KIND[type(label)]
