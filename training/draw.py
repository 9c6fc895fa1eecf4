"""Two pictures of an evaluation: what is confused with what, and whether confidence can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from training.evaluate import Evaluation

_INK, _GREY, _BLUE, _RED = "#1f2933", "#9aa5b1", "#2f6f9f", "#c0492b"


def draw_confusion(evaluation: Evaluation, spec: TaskSpec, path: Path) -> Path:
    """Draw the confusion matrix as PNG: counts, and shares of each true label's rows."""
    counts = np.array(evaluation.confusion, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [label.replace("_", " ") for label in spec.labels]
    size = 2.6 + 1.15 * len(labels)
    figure = _figure((size + 0.6, size))
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}\n{shares[row, column]:.0%}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.55 else _INK,
        )
    supports = counts.sum(axis=1)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_yticks(
        range(len(labels)), [f"{label}\n{rows:,} rows" for label, rows in zip(labels, supports, strict=True)]
    )
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{spec.name}: macro-F1 {evaluation.macro_f1:.3f} on {evaluation.rows:,} rows", loc="left")
    return _save(figure, path)


def draw_calibration(probabilities: NDArray[Any], labels: NDArray[Any], path: Path) -> Path:
    """Draw a reliability diagram as PNG: accuracy against confidence, and how many rows stand behind each bin.

    Args:
        probabilities: calibrated, [n, labels].
        labels: int [n], class indices.
        path: where the picture goes.
    """
    from training.evaluate import ECE_BINS, calibration_bins, expected_calibration_error

    counts, means, accuracies = calibration_bins(probabilities, labels)
    centres = (np.arange(ECE_BINS) + 0.5) / ECE_BINS
    filled = counts > 0
    figure = _figure((5.4, 6.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="confidence = accuracy")
    upper.bar(
        centres[filled], accuracies[filled], width=0.9 / ECE_BINS, color=_BLUE, alpha=0.35, label="accuracy in bin"
    )
    upper.scatter(means[filled], accuracies[filled], color=_RED, s=16, zorder=3, label="at mean confidence")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    error = expected_calibration_error(probabilities, labels)
    upper.set_title(f"expected calibration error {error:.3f} on {len(labels):,} rows", loc="left")
    lower.bar(centres, counts, width=0.9 / ECE_BINS, color=_GREY)
    for centre, count in zip(centres[filled], counts[filled], strict=True):
        lower.text(centre, count, f"{count:,}", ha="center", va="bottom", fontsize=7)
    lower.set_ylim(0, counts.max() * 1.2)
    lower.set_xlim(0, 1)
    lower.set_ylabel("rows")
    lower.set_xlabel("confidence (largest probability)")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _figure(size: tuple[float, float]) -> Any:
    # The object interface with the Agg canvas: no display, no global state, safe in threads.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version string the same numbers give the same bytes.
    figure.savefig(path, format="png", dpi=144, metadata={"Software": None})
    return path
