"""The challenger beside the champion: the same rows, resampled together, as a whole and slice by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.resample import interval, mcnemar, resample, slice_macro_f1
from training.verdict import SliceLine, Verdict, is_number
from undertone.tasks import GatePolicy

if TYPE_CHECKING:
    from training.evaluate import Evaluation

#: A bound this close to its limit stands on it: scores are sums of floats.
_ROUNDING = 1e-9

#: Evaluations must state the macro-F1 of the paired rows to within this.
_AGREEMENT = 1e-6

#: Chance, over all judged slices together, that equal models differ significantly in one.
_SLICE_ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Paired:
    """Both models' answers to the same n rows.

    Attributes:
        truth: class indices [n].
        challenger: predicted class indices [n].
        champion: likewise.
        keys: what each row is known by, such as its text, so that the order of rows does not matter; None: its place.
        slices: name to bool [n], as `training.slices.membership` gives them.
    """

    truth: NDArray[Any]
    challenger: NDArray[Any]
    champion: NDArray[Any]
    keys: Sequence[str] | None = None
    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What the paired rows say; fields as in `training.verdict.GateVerdict`."""

    verdict: Verdict
    difference: float
    interval: tuple[float, float]
    p_value: float
    slices: tuple[SliceLine, ...]


def compare(
    challenger: Evaluation, champion: Evaluation, paired: Paired, classes: int, policy: GatePolicy, seed: int
) -> Comparison | None:
    """The comparison on the paired rows; None where they are not the rows that both evaluations speak of."""
    if not _fits(paired, challenger, champion, classes):
        return None
    truth, ours, theirs = (np.asarray(array, dtype=np.int64) for array in _arrays(paired))
    judged = [name for name, inside in paired.slices.items() if inside.sum() >= policy.slice_min_rows]
    scores = resample(
        truth,
        (ours, theirs),
        classes,
        (None, *(paired.slices[name] for name in judged)),
        keys=paired.keys,
        seed=seed,
    )
    differences = scores[:, 0] - scores[:, 1]
    bounds = interval(differences[0])
    resampled = dict(zip(judged, differences[1:], strict=True))
    slices = tuple(
        _slice(
            name,
            int(inside.sum()),
            slice_macro_f1(truth[inside], ours[inside], classes),
            slice_macro_f1(truth[inside], theirs[inside], classes),
            resampled.get(name),
            len(judged),
            policy,
        )
        for name, inside in paired.slices.items()
    )
    return Comparison(
        _name(bounds, policy.margin),
        challenger.macro_f1 - champion.macro_f1,
        bounds,
        mcnemar(truth, ours, theirs),
        slices,
    )


def _name(bounds: tuple[float, float], margin: float) -> Verdict:
    low, high = bounds
    if low > 0:
        return "better"
    if low >= -margin - _ROUNDING:
        return "not_worse"
    return "worse" if high < 0 else "too_few"


def _slice(
    name: str,
    rows: int,
    ours: float,
    theirs: float,
    differences: NDArray[np.float64] | None,
    judged: int,
    policy: GatePolicy,
) -> SliceLine:
    """One slice with a champion; `differences` are those of the resamples, None for a slice that is not judged."""
    if differences is None or not (is_number(ours) and is_number(theirs)):
        enough = rows >= policy.slice_min_rows
        return SliceLine(
            name, rows, _number(ours), _number(theirs), _number(ours - theirs), None, None, not enough, not enough
        )
    difference = ours - theirs
    # One side, shared out over the slices: equal models are refused by chance in one of twenty comparisons at most.
    upper = float(np.quantile(differences, 1 - _SLICE_ALPHA / judged))
    part = SliceLine(name, rows, ours, theirs, difference, interval(differences), upper, True, False)
    return replace(part, holds=ours >= policy.slice_floor and not lost_too_much(part, policy))


def lost_too_much(part: SliceLine, policy: GatePolicy) -> bool:
    """Did a judged slice lose beyond the limit, significantly? A number that is missing counts as lost."""
    if part.difference is None or part.upper is None:
        return True
    return part.difference < -policy.slice_margin - _ROUNDING and part.upper < 0


def _fits(paired: Paired, challenger: Evaluation, champion: Evaluation, classes: int) -> bool:
    """The paired rows are those that both evaluations speak of: as many, valid classes, same macro-F1, same slices."""
    from training.evaluate import macro_f1

    arrays = [np.asarray(array) for array in _arrays(paired)]
    rows = len(arrays[0])
    if not rows or not rows == challenger.rows == champion.rows or {array.shape for array in arrays} != {(rows,)}:
        return False
    if not all(np.isfinite(array).all() and array.min() >= 0 and array.max() < classes for array in arrays):
        return False
    if {inside.shape for inside in paired.slices.values()} - {(rows,)} or (
        paired.keys is not None and len(paired.keys) != rows
    ):
        return False
    sizes = {name: int(inside.sum()) for name, inside in paired.slices.items()}
    truth, *predictions = (array.astype(np.int64) for array in arrays)
    return all(
        is_number(evaluation.macro_f1)
        and abs(macro_f1(truth, predicted, classes) - evaluation.macro_f1) < _AGREEMENT
        and {name: entry.get("rows") for name, entry in evaluation.slices.items()} == sizes
        for evaluation, predicted in zip((challenger, champion), predictions, strict=True)
    )


def _arrays(paired: Paired) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return paired.truth, paired.challenger, paired.champion


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
