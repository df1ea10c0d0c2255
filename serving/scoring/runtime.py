"""ONNX Runtime as this project uses it: one thread, and nothing sent to anybody.

Since 1.31 ONNX Runtime starts telemetry threads when it is imported, which report to its maker and, after a
fork, abort the process at exit. The variable has to be there before the import, so import it from here.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.scoring.parts import by_parts

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime


class ModelError(ValueError):
    """Raised when a file is not an ONNX model of the shape that the contract asks for."""


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """Load an ONNX model; raises ``ModelError``."""
    options = onnxruntime.SessionOptions()
    # With one thread there is no pool, which a fork would not survive; requests are what runs in parallel.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise ModelError(f"not a model that ONNX Runtime can run: {error}") from error


class Model:
    """One ONNX model with input ``X`` and one output; thread-safe, and safe to fork."""

    def __init__(self, path: Path, features: int) -> None:
        """Load a model of so many features; raises ``OSError`` or ``ModelError``."""
        try:
            self._session = open_session(path.read_bytes())
        except ModelError as error:
            raise ModelError(f"{path.name} is {error}") from error
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        if list(inputs) != ["X"] or inputs["X"][-1] != features:
            raise ModelError(f"{path.name} takes {inputs}, where the contract has X with {features} features")
        self._outputs = [self._session.get_outputs()[0].name]

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output for the encoded matrix ``[n, features]``, float32 ``[n]``."""
        return by_parts(self._run, x)

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {"X": x})
        return outputs[0].reshape(-1)
