"""Write ONNX graphs: a node at a time, and whole tree ensembles.

The graphs are written here and not converted, because converters get some of these models silently wrong
(trees behind rounded values, for one) and write slow tree sums. What is written is checked against
scikit-learn row by row (``training.export.parity``).
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 21, "ai.onnx.ml": 3}
_IR_VERSION = 10
INPUT = "X"
MISSING = np.float32(-1e30)
"""Below all values."""


class Tree(msgspec.Struct, frozen=True):
    """One decision tree as arrays ``[nodes]``, node 0 the root; a row goes left where ``value <= threshold``."""

    feature: NDArray[np.int64]
    """Column to look at; -1 in a leaf."""
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    """What a leaf adds to the sum."""

    def sums(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """What rows get that have one value in all columns, ``[rows]``."""
        node = np.zeros(len(values), np.int64)
        while (branch := self.feature[node] >= 0).any():
            down = np.where(values <= self.threshold[node], self.left[node], self.right[node])
            node = np.where(branch, down, node)
        return self.value[node]


class Steps(msgspec.Struct, frozen=True):
    """A sum that depends on one column alone and changes at ``cuts``: from a cut on up to the next one, included."""

    column: int
    cuts: NDArray[np.float32]
    """The largest values before changes, ``[changes]``."""
    sums: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    """The sum for each of some values; NaN is a missing one."""


def step_tables(steps: list[Steps]) -> list[tuple[int, NDArray[np.float32], NDArray[np.float64]]]:
    """Column, cuts ``[k]`` and sums ``[k + 1]`` of all that is said of each column.

    Sum ``i`` is for values up to cut ``i`` (and above the one before), the last for the rest. The first cut is
    ``MISSING``, which stands for what is missing.
    """
    by_column: dict[int, list[Steps]] = {}
    for step in steps:
        by_column.setdefault(step.column, []).append(step)
    tables = []
    for column, own in by_column.items():
        cuts = np.unique(np.concatenate([step.cuts for step in own]))
        values = np.concatenate([[np.nan], cuts, [np.inf]]).astype(np.float32)
        tables.append((column, np.append(MISSING, cuts), np.sum([step.sums(values) for step in own], axis=0)))
    return tables


def balanced_trees(steps: list[Steps]) -> list[Tree]:
    """One tree a column, as flat as can be, for the matrix in which ``MISSING`` stands for what is missing."""
    return [_balanced_tree(*table) for table in step_tables(steps)]


def _balanced_tree(column: int, cuts: NDArray[np.float32], leaves: NDArray[np.float64]) -> Tree:
    """The tree whose leaf ``k`` is for values up to ``cuts[k]`` (and above the one before), the last for the rest."""
    nodes: list[tuple[int, float, int, int, float]] = []

    def add(first: int, last: int) -> int:
        place = len(nodes)
        nodes.append((-1, 0.0, 0, 0, float(leaves[first])))
        if first < last:
            middle = (first + last) // 2
            nodes[place] = (column, float(cuts[middle]), add(first, middle), add(middle + 1, last), 0.0)
        return place

    add(0, len(cuts))
    feature, threshold, left, right, value = map(np.array, zip(*nodes, strict=True))
    return Tree(feature, threshold, left, right, value)


def boosted_tree(predictor: Any, weight: float) -> Tree:
    """A tree of scikit-learn's histogram gradient boosting, what it adds multiplied by ``weight``."""
    nodes = predictor.nodes
    return Tree(
        feature=np.where(nodes["is_leaf"], -1, nodes["feature_idx"]).astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        value=weight * nodes["value"].astype(np.float64),
    )


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

    def cast(self, source: str, to: int = TensorProto.FLOAT) -> str:
        """Add ``source`` in another type."""
        return self.node("Cast", source, to=to)

    def graft(self, model: onnx.ModelProto, source: str, output: int = 0) -> str:
        """Add all nodes of a model of one input, with ``source`` as that, and return one of its outputs.

        Raises ``ValueError`` for a model with operators that this graph does not import.
        """
        for opset in model.opset_import:
            if opset.version > OPSETS.get(opset.domain, 0):
                raise ValueError(f"operators {opset.domain or 'ai.onnx'} {opset.version} are not among {OPSETS}")
        added = onnx.compose.add_prefix(model, f"g{len(self._nodes)}_").graph
        self._nodes.append(helper.make_node("Identity", [source], [added.input[0].name]))
        self._nodes.extend(added.node)
        self._constants.extend(added.initializer)
        return str(added.output[output].name)

    def filled(self, source: str, values: Any) -> str:
        """Add ``source`` with ``values`` (one, or one for each column) in place of what is missing."""
        return self.node("Where", self.node("IsNaN", source), self.constant(values), source)

    def trees(self, trees: list[Tree], source: str) -> str:
        """Add the sum over trees, ``[n, 1]``. ``source`` has nothing missing."""
        output = f"n{len(self._nodes)}"
        attributes: dict[str, Any] = _tree_attributes(trees)
        self._nodes.append(
            helper.make_node(
                "TreeEnsembleRegressor",
                [source],
                [output],
                domain="ai.onnx.ml",
                n_targets=1,
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
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="lifecycle")
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
    return {
        "nodes_treeids": tree_ids.tolist(),
        "nodes_nodeids": node_ids.tolist(),
        "nodes_featureids": np.where(branch, feature, 0).tolist(),
        "nodes_values": round_down(thresholds).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_truenodeids": children("left"),
        "nodes_falsenodeids": children("right"),
        "target_treeids": tree_ids[leaf].tolist(),
        "target_nodeids": node_ids[leaf].tolist(),
        "target_ids": [0] * int(leaf.sum()),
        "target_weights": value[leaf].astype(np.float32).tolist(),
    }
