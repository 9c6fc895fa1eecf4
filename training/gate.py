"""May a person approve this challenger? A pure decision: no clock, no files, everything it saw is in its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertone.tasks import GatePolicy

if TYPE_CHECKING:
    from training.evaluate import Evaluation

Verdict = Literal["better", "not_worse", "worse", "too_few", "first"]

RESAMPLES = 2_000

#: A difference this close to the margin stands on it: scores are sums of floats.
_ROUNDING = 1e-9

#: Evaluations must state the macro-F1 of the paired rows to within this.
_AGREEMENT = 1e-6


@dataclass(frozen=True)
class GateLine:
    """One requirement: what was found, what was required, and whether it holds."""

    name: str
    passed: bool
    found: float | str | None
    required: str


@dataclass(frozen=True)
class GateVerdict:
    """The gate's answer with every number it rests on.

    Attributes:
        passed: a person may approve the challenger.
        verdict: what the comparison with the champion said; ``first`` where there is no champion, ``too_few``
            where the rows cannot tell.
        lines: every requirement.
        difference: macro-F1 of the challenger less the champion's, on the same rows; None without a champion.
        interval: 95 % paired-bootstrap interval of that difference.
        mcnemar_p: exact McNemar p-value of the rows on which just one of the two is right.
    """

    passed: bool
    verdict: Verdict
    lines: tuple[GateLine, ...]
    difference: float | None
    interval: tuple[float, float] | None
    mcnemar_p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has: a found value that is no number is None."""
        values = asdict(self)
        values["lines"] = [line | {"found": _plain(line["found"])} for line in values["lines"]]
        values["interval"] = None if self.interval is None else list(self.interval)
        return values

    def as_markdown(self) -> str:
        """A heading and a table for the registry's page."""
        rows = [
            f"| {line.name} | {_show(line.found)} | {line.required} | {'yes' if line.passed else '**no**'} |"
            for line in self.lines
        ]
        return "\n".join(
            [
                f"### Gate: {'passed' if self.passed else 'refused'} ({self.verdict.replace('_', ' ')})",
                "",
                "| requirement | found | required | holds |",
                "| --- | --- | --- | --- |",
                *rows,
                "",
                *self._comparison(),
            ]
        )

    def _comparison(self) -> list[str]:
        if self.difference is None:
            return [
                "There is no champion to compare with." if self.verdict == "first" else "No comparison was made.",
                "",
            ]
        text = f"Challenger less champion, macro-F1: {self.difference:+.4f}"
        if self.interval is not None:
            text += f" (95 % interval {self.interval[0]:+.4f} to {self.interval[1]:+.4f})"
        if self.mcnemar_p is not None:
            text += f"; McNemar p = {self.mcnemar_p:.3g}"
        return [f"{text}.", ""]


def decide(
    challenger: Evaluation,
    champion: Evaluation | None,
    policy: GatePolicy,
    *,
    challenger_labels: Sequence[str],
    champion_labels: Sequence[str] | None,
    paired: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None,
    seed: int = 0,
) -> GateVerdict:
    """Judge `challenger` against the policy and, where there is one, against the champion on the same rows.

    Fails closed: a number that is missing or not finite is a requirement not met.

    Args:
        challenger: evaluation of the challenger on the holdout.
        champion: evaluation of the champion on the same holdout; None where there is no champion.
        policy: floor, margin, greatest calibration error, fewest rows.
        challenger_labels: label words in the order of the challenger's outputs.
        champion_labels: the champion's; None where there is no champion.
        paired: class indices of truth, challenger's and champion's predictions, row by row; None without a champion.
        seed: of the bootstrap.
    """
    lines = [
        _at_least("rows", challenger.rows, policy.min_rows),
        _at_least("macro-F1", challenger.macro_f1, policy.floor),
        _at_most("calibration error", challenger.ece, policy.max_ece),
    ]
    if champion is None and champion_labels is None and paired is None:
        return _conclude("first", lines, None, None, None)

    same = champion_labels is not None and tuple(champion_labels) == tuple(challenger_labels)
    found = "none" if champion_labels is None else ", ".join(challenger_labels)
    wanted = "the champion's labels in its order" if champion_labels is None else ", ".join(champion_labels)
    lines.append(GateLine("label map", same, found, wanted))
    required = f"at least {-policy.margin:+g}"
    if (
        not same
        or champion is None
        or paired is None
        or not _fits(paired, challenger, champion, len(challenger_labels))
    ):
        lines.append(GateLine("macro-F1 against the champion", False, None, required))
        return _conclude("too_few", lines, None, None, None)

    truth, ours, theirs = (np.asarray(array, dtype=np.int64) for array in paired)
    classes = len(challenger_labels)
    difference = challenger.macro_f1 - champion.macro_f1
    interval = bootstrap_interval(truth, ours, theirs, classes, seed)
    verdict = _name(difference, interval, policy.margin)
    # `worse` implies a difference beyond the margin, so a better challenger can only pass more.
    passed = difference >= -policy.margin - _ROUNDING
    lines.append(GateLine("macro-F1 against the champion", passed, difference, required))
    return _conclude(verdict, lines, difference, interval, mcnemar(truth, ours, theirs))


def bootstrap_interval(
    truth: NDArray[np.int64],
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
    classes: int,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """95 % percentile interval of the difference in macro-F1 when whole rows are drawn again with replacement.

    Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13, with rows paired as in Koehn, 2004
    (https://aclanthology.org/W04-3250). Macro-F1 depends on a resample only through how often each combination of
    (truth, ours, theirs) was drawn, and these counts are multinomial: they are drawn directly, so
    the cost does not grow with the rows.
    """
    cells = (truth * classes + ours) * classes + theirs
    kinds, counts = np.unique(cells, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(truth), counts / len(truth), size=resamples)
    kind_truth, kind_ours, kind_theirs = kinds // classes**2, kinds // classes % classes, kinds % classes
    differences = _macro_f1(drawn, kind_truth, kind_ours, classes) - _macro_f1(drawn, kind_truth, kind_theirs, classes)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(truth: NDArray[Any], ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Exact two-sided McNemar p-value: are the rows that just one of the two gets right split evenly?

    McNemar, 1947, https://doi.org/10.1007/BF02295996, in the binomial form. 1.0 where they never differ.
    """
    from scipy.stats import binomtest

    ours_only = int(np.sum((ours == truth) & (theirs != truth)))
    theirs_only = int(np.sum((ours != truth) & (theirs == truth)))
    split = ours_only + theirs_only
    return float(binomtest(ours_only, split, 0.5).pvalue) if split else 1.0


def _macro_f1(
    drawn: NDArray[np.int64], truth: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Macro-F1 of each resample [resamples], from counts of kinds of row [resamples, kinds]."""
    classes_row = np.arange(classes)
    is_truth = (truth[:, None] == classes_row).astype(np.float64)
    is_predicted = (predicted[:, None] == classes_row).astype(np.float64)
    weights = drawn.astype(np.float64)
    hits = weights @ (is_truth * is_predicted)
    total = weights @ (is_truth + is_predicted)
    scores: NDArray[np.float64] = (2 * hits / np.maximum(total, 1)).mean(axis=1)
    return scores


def _name(difference: float, interval: tuple[float, float], margin: float) -> Verdict:
    low, high = interval
    if low > 0:
        return "better"
    if low >= -margin - _ROUNDING:
        return "not_worse"
    return "worse" if high < -margin and difference < -margin - _ROUNDING else "too_few"


def _fits(paired: Sequence[Any], challenger: Evaluation, champion: Evaluation, classes: int) -> bool:
    """The paired rows are those that both evaluations speak of: as many, valid classes, the same macro-F1."""
    arrays = [np.asarray(array) for array in paired]
    if (
        {array.shape for array in arrays} != {(challenger.rows,)}
        or champion.rows != challenger.rows
        or not len(arrays[0])
    ):
        return False
    if not all(np.isfinite(array).all() and array.min() >= 0 and array.max() < classes for array in arrays):
        return False
    truth, *predictions = (array.astype(np.int64) for array in arrays)
    once = np.ones((1, len(truth)), dtype=np.int64)
    return all(
        _is_number(evaluation.macro_f1)
        and abs(float(_macro_f1(once, truth, predicted, classes)[0]) - evaluation.macro_f1) < _AGREEMENT
        for evaluation, predicted in zip((challenger, champion), predictions, strict=True)
    )


def _conclude(
    verdict: Verdict,
    lines: Sequence[GateLine],
    difference: float | None,
    interval: tuple[float, float] | None,
    p_value: float | None,
) -> GateVerdict:
    return GateVerdict(all(line.passed for line in lines), verdict, tuple(lines), difference, interval, p_value)


def _at_least(name: str, found: Any, required: float) -> GateLine:
    return GateLine(name, _is_number(found) and found >= required, found, f"at least {required:g}")


def _at_most(name: str, found: Any, required: float) -> GateLine:
    return GateLine(name, _is_number(found) and found <= required, found, f"at most {required:g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "missing"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
