"""The pictures of a training run, as PNG files."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from training.data.dataset import Dataset
from training.evaluation.binary import equal_bins
from training.export.bundle import drift_fields, drift_references
from training.use_case import Binary

_DPI = 80
_FIELDS_IN_A_ROW = 6
_SHOWN_FEATURES = 20
Curves = dict[str, NDArray[np.float64]]
"""Probabilities on the hold-out, by the name shown in the legend."""


def draw_all(
    folder: Path,
    holdout: Dataset,
    curves: Curves,
    importance: dict[str, tuple[float, float]],
    reference: Dataset,
) -> None:
    """Write ROC, precision-recall, calibration, importance and drift references into ``folder``.

    ``reference`` are the rows that requests are tested against for drift.
    """
    folder.mkdir(parents=True, exist_ok=True)
    y, label = holdout.y, holdout.use_case.binary
    draw_roc(folder / "roc.png", y, curves, label)
    draw_precision_recall(folder / "precision_recall.png", y, curves, label)
    draw_calibration(folder / "calibration.png", y, curves, label)
    draw_importance(folder / "permutation_importance.png", importance)
    draw_drift_references(folder / "drift_references.png", reference)


def draw_roc(file: Path, y: NDArray[np.int64], curves: Curves, label: Binary) -> None:
    figure, axes = plt.subplots(figsize=(5, 5), gridspec_kw={"left": 0.15})
    for name, p in curves.items():
        false_positive, true_positive, _ = roc_curve(y, p)
        axes.plot(false_positive, true_positive, label=name)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(
        xlabel=f"Share of {label.negatives} picked out",
        ylabel=f"Share of {label.positives} found",
        title="ROC on the hold-out",
    )
    _save(figure, axes, file)


def draw_precision_recall(file: Path, y: NDArray[np.int64], curves: Curves, label: Binary) -> None:
    figure, axes = plt.subplots(figsize=(5, 5), gridspec_kw={"left": 0.15})
    for name, p in curves.items():
        precision, recall, _ = precision_recall_curve(y, p)
        axes.step(recall, precision, where="post", label=name)
    axes.axhline(y.mean(), color="grey", linestyle=":")
    axes.set(
        xlabel=f"Share of {label.positives} found",
        ylabel=f"Share of {label.positives} among those picked out",
        title="Precision and recall",
    )
    _save(figure, axes, file)


def draw_calibration(file: Path, y: NDArray[np.int64], curves: Curves, label: Binary) -> None:
    figure, axes = plt.subplots(figsize=(5, 5), gridspec_kw={"left": 0.15})
    for name, p in curves.items():
        bins = equal_bins(p)
        points = [(p[bins == number].mean(), y[bins == number].mean()) for number in np.unique(bins)]
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="Predicted risk", ylabel=f"Share of {label.positives}", title="Calibration in ten equal bins")
    _save(figure, axes, file)


def draw_importance(file: Path, importance: dict[str, tuple[float, float]]) -> None:
    """``importance``: mean and standard deviation of the loss in ROC AUC by feature."""
    largest = sorted(importance.items(), key=lambda item: item[1][0])[-_SHOWN_FEATURES:]
    figure, axes = plt.subplots(figsize=(7, 6), gridspec_kw={"left": 0.32})
    names = [name for name, _ in largest]
    axes.barh(names, [mean for _, (mean, _) in largest], xerr=[spread for _, (_, spread) in largest])
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)  # a name may hold $
    axes.set(xlabel="Loss in ROC AUC when shuffled", title="Permutation importance, hold-out")
    _save(figure, axes, file, legend=False)


def draw_drift_references(file: Path, reference: Dataset) -> None:
    """What requests are tested against for drift, a small picture for each field."""
    arrays = drift_references(reference)
    fields = drift_fields(reference)
    rows = -(-len(fields) // _FIELDS_IN_A_ROW)
    # All in one pair of axes: thirty pairs would take longer than the rest of the evaluation.
    figure = plt.figure(figsize=(2.4 * _FIELDS_IN_A_ROW, 1.6 * rows))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, _FIELDS_IN_A_ROW), ylim=(-rows, 0))
    axes.set_axis_off()
    for place, field in enumerate(fields):
        row, column = divmod(place, _FIELDS_IN_A_ROW)
        if field.kind == "category":
            heights = arrays[f"count:{field.name}"][:-1]
            span = f"{len(heights)} categories"
        else:
            values = arrays[f"ref:{field.name}"]
            heights = np.histogram(values, bins=20)[0]
            span = f"{values[0]:g} to {values[-1]:g}"
        floor = -row - 0.95
        edges = column + np.linspace(0.06, 0.94, len(heights) + 1)
        axes.stairs(floor + 0.6 * heights / max(heights.max(), 1), edges, baseline=floor, fill=True, color="C0")
        axes.text(
            column + 0.5, floor + 0.64, f"{field.name}\n{span}", fontsize=7, ha="center", va="bottom", parse_math=False
        )
    figure.savefig(file, dpi=_DPI)
    plt.close(figure)


def _save(figure: Figure, axes: Axes, file: Path, *, legend: bool = True) -> None:
    if legend:
        axes.legend()
    figure.savefig(file, dpi=_DPI)
    plt.close(figure)
