"""Pictures for the registry: what is confused with what, whether confidence can be believed, and the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from undertone.tasks import GatePolicy, ReviewPolicy, TaskSpec

if TYPE_CHECKING:
    from training.evaluate import Evaluation
    from training.verdict import GateVerdict

_INK, GREY, BLUE, RED = "#1f2933", "#9aa5b1", "#2f6f9f", "#c0492b"


def draw_confusion(evaluation: Evaluation, spec: TaskSpec, path: Path) -> Path:
    """Draw the confusion matrix as PNG: counts, and shares of each true label's rows."""
    counts = np.array(evaluation.confusion, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    labels = [label.replace("_", " ") for label in spec.labels]
    size = 2.6 + 1.15 * len(labels)
    figure = new_figure((size + 0.6, size))
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
    return save_png(figure, path)


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
    figure = new_figure((5.4, 6.0))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="confidence = accuracy")
    upper.bar(
        centres[filled], accuracies[filled], width=0.9 / ECE_BINS, color=BLUE, alpha=0.35, label="accuracy in bin"
    )
    upper.scatter(means[filled], accuracies[filled], color=RED, s=16, zorder=3, label="at mean confidence")
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    error = expected_calibration_error(probabilities, labels)
    upper.set_title(f"expected calibration error {error:.3f} on {len(labels):,} rows", loc="left")
    lower.bar(centres, counts, width=0.9 / ECE_BINS, color=GREY)
    for centre, count in zip(centres[filled], counts[filled], strict=True):
        lower.text(centre, count, f"{count:,}", ha="center", va="bottom", fontsize=7)
    lower.set_ylim(0, counts.max() * 1.2)
    lower.set_xlim(0, 1)
    lower.set_ylabel("rows")
    lower.set_xlabel("confidence (largest probability)")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return save_png(figure, path)


def draw_reliability(models: Mapping[str, NDArray[Any]], labels: NDArray[Any], path: Path) -> Path:
    """Draw the reliability curves of several models on the same rows as PNG, and how many rows stand behind each bin.

    Args:
        models: name to calibrated probabilities [n, labels]; at most three.
        labels: int [n], class indices.
        path: where the picture goes.
    """
    from training.evaluate import ECE_BINS, calibration_bins, expected_calibration_error

    figure = new_figure((6.4, 5.2))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    width = 0.9 / ECE_BINS / len(models)
    for place, (name, probabilities) in enumerate(models.items()):
        counts, means, accuracies = calibration_bins(probabilities, labels)
        colour, filled = (GREY, BLUE, RED)[place + (len(models) < 3)], counts > 0
        error = expected_calibration_error(probabilities, labels)
        upper.plot(means[filled], accuracies[filled], color=colour, linewidth=1.2, alpha=0.6)
        upper.scatter(
            means[filled], accuracies[filled], color=colour, s=8 + 160 * counts[filled] / len(labels), zorder=3,
            label=f"{name}: expected calibration error {error:.3f}",
        )  # fmt: skip
        left = (np.arange(ECE_BINS) + 0.05) / ECE_BINS + place * width
        lower.bar(left, counts, width=width, align="edge", color=colour)
    upper.set_ylim(0, 1.02)
    upper.set_ylabel("accuracy in bin")
    upper.legend(loc="upper left", frameon=False, fontsize=8, markerscale=0.6)
    lower.set_xlim(0, 1)
    lower.set_ylabel("rows")
    lower.set_xlabel("confidence (largest probability)")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    return save_png(figure, path)


def draw_gate(verdict: GateVerdict, policy: GatePolicy, path: Path) -> Path:
    """Draw the gate's verdict as PNG: scores by slice with the floors, differences with their intervals, behaviour.

    Args:
        verdict: the gate's.
        policy: the limits that it applied.
        path: where the picture goes.
    """
    compared = verdict.interval is not None
    names = ["all rows", *(f"{part.name.replace('=', ': ').replace('_', ' ')}" for part in verdict.slices)]
    height = 1.5 + 0.27 * len(names)
    figure = new_figure((9.6, height + 1.6))
    upper, lower = figure.subfigures(2, 1, height_ratios=(height, 1.6))
    scores, *others = upper.subplots(1, 2 if compared else 1, sharey=True, squeeze=False)[0]
    _draw_scores(scores, verdict, policy, names)
    if compared:
        _draw_differences(others[0], verdict, policy)
    _draw_behaviour(lower.subplots(), verdict, policy)
    broken = [line.name for line in verdict.lines if not line.passed]
    title = f"Gate {'refused' if broken else 'passed'} ({verdict.verdict.replace('_', ' ')})"
    figure.suptitle(
        title + (f": {', '.join(broken)}" if broken else ""),
        x=0.01,
        ha="left",
        fontsize=11,
        weight="bold",
        color=RED if broken else _INK,
    )
    return save_png(figure, path)


def draw_risk_coverage(
    curves: Mapping[str, tuple[NDArray[Any], NDArray[Any]]], kept: float, policy: ReviewPolicy, path: Path
) -> Path:
    """Draw risk-coverage curves as PNG: the share of wrong answers among the most confident ones, by the share kept.

    Args:
        curves: name to coverage [n] and risk [n], from the first a line each.
        kept: coverage at the threshold that was chosen, of the last curve.
        policy: what was aimed at.
        path: where the picture goes.
    """
    figure = new_figure((5.4, 3.8))
    axes = figure.subplots()
    for (name, (coverage, risk)), colour in zip(curves.items(), (GREY, BLUE)[-len(curves) :], strict=True):
        # a handful of answers says nothing about a share
        shown = coverage >= min(0.05, float(coverage[-1]))
        axes.plot(coverage[shown], risk[shown], color=colour, linewidth=1.8, label=name)
    axes.axhline(policy.max_error, color=RED, linestyle="--", linewidth=1, label=f"target {policy.max_error:g}")
    axes.axvline(kept, color=_INK, linestyle=":", linewidth=1.2, label=f"kept {kept:.0%}")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("coverage: share of the answers kept, the most confident first")
    axes.set_ylabel("risk: share of these that are wrong")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return save_png(figure, path)


def _draw_scores(axes: Any, verdict: GateVerdict, policy: GatePolicy, names: list[str]) -> None:
    overall = next((line.found for line in verdict.lines if line.name == "macro-F1"), None)
    ours = [overall if isinstance(overall, float) else None, *(part.challenger for part in verdict.slices)]
    first = None if verdict.difference is None or ours[0] is None else ours[0] - verdict.difference
    theirs = [first, *(part.champion for part in verdict.slices)]
    faint = [False, *(part.too_few for part in verdict.slices)]
    for row, (score, rival, few) in enumerate(zip(ours, theirs, faint, strict=True)):
        floor = policy.slice_floor if row else policy.floor
        if rival is not None:
            axes.scatter(rival, row, s=34, facecolors="white", edgecolors=GREY, zorder=3)
        if score is not None:
            colour = GREY if few else RED if score < floor else BLUE
            axes.scatter(score, row, s=34, color=colour, alpha=0.5 if few else 1, zorder=4)
        if not few:
            axes.plot([floor, floor], [row - 0.36, row + 0.36], color=_INK, linewidth=1.4)
    rows = [""] + [f"  ({part.rows:,}{', too few' if part.too_few else ''})" for part in verdict.slices]
    axes.set_yticks(range(len(names)), [name + count for name, count in zip(names, rows, strict=True)])
    axes.set_ylim(len(names) - 0.4, -0.6)
    champion = ", ○ champion" if verdict.interval is not None else ""
    axes.set_title(f"macro-F1   (● challenger{champion}, | floor)", loc="left", fontsize=9)
    calm(axes)


def _draw_differences(axes: Any, verdict: GateVerdict, policy: GatePolicy) -> None:
    parts = [(verdict.difference, verdict.interval, verdict.verdict in ("better", "not_worse"))]
    parts += [(part.difference, part.interval, part.upper is None or part.upper >= 0) for part in verdict.slices]
    for row, (difference, bounds, fine) in enumerate(parts):
        limit = policy.slice_margin if row else policy.margin
        if difference is None or bounds is None:
            continue
        fine = fine or (row > 0 and difference >= -limit)
        colour = BLUE if fine else RED
        axes.plot(bounds, [row, row], color=colour, linewidth=2.4 if row == 0 else 1.3)
        axes.scatter(difference, row, s=30, color=colour, zorder=3)
        axes.plot([-limit, -limit], [row - 0.36, row + 0.36], color=_INK, linewidth=1.4)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_title("challenger less champion   (95 % interval, | margin)", loc="left", fontsize=9)
    axes.tick_params(labelleft=False)
    calm(axes)


def _draw_behaviour(axes: Any, verdict: GateVerdict, policy: GatePolicy) -> None:
    limits = {"negation": policy.min_negation}
    for row, check in enumerate(verdict.behaviour):
        limit = limits.get(check.name, policy.min_invariance)
        held = limit is None or check.share >= limit
        axes.barh(row, check.share, height=0.55, color=BLUE if held else RED, alpha=0.55)
        if limit is not None:
            axes.plot([limit, limit], [row - 0.36, row + 0.36], color=_INK, linewidth=1.4)
        axes.text(1.005, row, f"{check.share:.1%}", va="center", fontsize=8, color=_INK)
    axes.set_yticks(range(len(verdict.behaviour)), [f"{check.name} ({check.cases})" for check in verdict.behaviour])
    axes.set_ylim(len(verdict.behaviour) - 0.4, -0.6)
    axes.set_xlim(0.5, 1)
    axes.set_title("behaviour: share of cases that held   (| least)", loc="left", fontsize=9)
    calm(axes)


def calm(axes: Any) -> None:
    """Take away what a picture does not need: frame and ticks."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", color=GREY, alpha=0.2)


def new_figure(size: tuple[float, float]) -> Any:
    """An empty figure of that size in inches."""
    # The object interface with the Agg canvas: no display, no global state, safe in threads.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: Path) -> Path:
    """Write a figure as PNG and give the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version string the same numbers give the same bytes.
    figure.savefig(path, format="png", dpi=144, metadata={"Software": None})
    return path
