"""Write ONNX graphs: a node at a time, and whole tree ensembles.

The graphs are written here and not converted, because converters get some of these models silently wrong
(trees behind rounded values, for one) and write slow tree sums. What is written is checked against
scikit-learn row by row (``training.parity``).
"""

from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 21, "ai.onnx.ml": 3}
_IR_VERSION = 10
INPUT = "X"


class Tree(msgspec.Struct, frozen=True):
    """One decision tree as arrays ``[nodes]``, node 0 the root.

    A row goes left where ``value <= threshold``, or at a node marked ``unequal`` where ``value != threshold``.
    """

    feature: NDArray[np.int64]
    """Column to look at; -1 in a leaf."""
    threshold: NDArray[np.float64]
    unequal: NDArray[np.bool_]
    missing_left: NDArray[np.bool_]
    """Where a missing value goes."""
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    """What a leaf adds to the sum."""


class Graph:
    """Nodes and constants of a graph under construction, with one input ``X`` float32 ``[n, features]``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """Add an array and return its name."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        output = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def trees(self, trees: list[Tree], source: str, base: float = 0.0) -> str:
        """Add the sum over trees and ``base``, ``[n, 1]``."""
        output = f"n{len(self._nodes)}"
        attributes: dict[str, Any] = _tree_attributes(trees)
        self._nodes.append(
            helper.make_node(
                "TreeEnsembleRegressor",
                [source],
                [output],
                domain="ai.onnx.ml",
                n_targets=1,
                base_values=[base],
                aggregate_function="SUM",
                post_transform="NONE",
                **attributes,
            )
        )
        return output

    def finish(self, result: str, output: str, features: int) -> bytes:
        """The checked model, with ``result`` as output ``output`` float32 ``[n, 1]``."""
        self._nodes.append(helper.make_node("Identity", [result], [output]))
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", features])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", 1])],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="attrition")
        onnx.checker.check_model(model)
        written: bytes = model.SerializeToString()
        return written


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each threshold.

    For float32 values ``v``, ``v <= threshold`` and ``v <= round_down(threshold)`` are the same question;
    rounding to the nearest would send values between the two down the wrong branch.
    """
    rounded = thresholds.astype(np.float32)
    return np.where(rounded.astype(np.float64) > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _tree_attributes(trees: list[Tree]) -> dict[str, list[Any]]:
    sizes = [len(tree.feature) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    feature = np.concatenate([tree.feature for tree in trees])
    value = np.concatenate([tree.value for tree in trees])
    leaf = feature < 0
    branch = ~leaf

    def children(side: str) -> list[int]:
        found: list[int] = np.where(branch, np.concatenate([getattr(t, side) for t in trees]), 0).tolist()
        return found

    thresholds = np.where(branch, np.concatenate([tree.threshold for tree in trees]), 0.0)
    unequal = np.concatenate([tree.unequal for tree in trees])
    modes = np.select([leaf, unequal], ["LEAF", "BRANCH_NEQ"], "BRANCH_LEQ")
    missing_left = branch & np.concatenate([tree.missing_left for tree in trees])
    return {
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        "nodes_featureids": np.where(branch, feature, 0).tolist(),
        "nodes_values": round_down(thresholds).tolist(),
        "nodes_modes": modes.tolist(),
        "nodes_missing_value_tracks_true": missing_left.astype(int).tolist(),
        "nodes_truenodeids": children("left"),
        "nodes_falsenodeids": children("right"),
        "target_treeids": tree_ids[leaf].tolist(),
        "target_nodeids": node_ids[leaf].tolist(),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights": value[leaf].astype(np.float32).tolist(),
    }
