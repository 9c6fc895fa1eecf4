"""Selective classification: answer where the model is sure enough, and leave the rest to people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertone.tasks import ReviewPolicy

#: Shares of the answers, the most confident ones, whose error the model card shows.
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which confidence on answers are kept.

    Attributes:
        review_below: answers of less confidence need a person; 0: none does.
        coverage: share of the rows it was chosen on that are kept.
        risk: share of these that are wrong.
        bound: the risk is at most this, but for a chance of `ReviewPolicy.level`.
        reached: whether ``bound`` is within `ReviewPolicy.max_error`.
        rows: it was chosen on so many.
    """

    review_below: float
    coverage: float
    risk: float
    bound: float
    reached: bool
    rows: int


@dataclass(frozen=True, slots=True)
class Curve:
    """Risk (share of wrong answers) among the most confident answers, by the share that is kept.

    Attributes:
        coverage: [n], rising to 1; where confidences tie, one point stands for all rows of the tie.
        risk: [n].
        aurc: area under the curve: the mean risk over all coverages (Geifman et al., 2019,
            https://arxiv.org/abs/1805.08206); 0: never wrong.
    """

    coverage: NDArray[np.float64]
    risk: NDArray[np.float64]
    aurc: float

    def at(self, coverage: float) -> float:
        """Risk where at least `coverage` of the answers are kept."""
        return float(self.risk[min(int(np.searchsorted(self.coverage, coverage - 1e-9)), len(self.risk) - 1)])


def choose_threshold(confidence: NDArray[Any], right: NDArray[Any], policy: ReviewPolicy) -> Threshold:
    """The threshold that keeps most answers while their risk is at most ``policy.max_error``, with a bound.

    Selection with guaranteed risk (Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500, algorithm 1): a binary
    search over the confidences; each look's bound is Clopper and Pearson's at an equal part of ``policy.level``, so all
    of them hold at once. It holds for rows like these, drawn at random, that neither the model nor its
    confidence was fitted on. Where no threshold reaches the target, or only ones that keep less than
    ``policy.min_coverage``, the one that keeps just that share is given, with its own bound.

    Args:
        confidence: the likeliest label's probability [n].
        right: whether that label is the true one, bool [n].
        policy: target, level and least coverage.

    Raises:
        ValueError: there are no rows.
    """
    if not len(confidence):
        raise ValueError("expected at least one row to choose a threshold on; found none")
    ranked, wrong, ends = _ranked(confidence, right)
    looks = max(1, int(np.ceil(np.log2(len(ends) + 1)))) + 1

    def look(place: int) -> Threshold:
        kept, errors = int(ends[place]) + 1, int(wrong[ends[place]])
        limit = upper_bound(errors, kept, policy.level / looks)
        below = 0.0 if kept == len(ranked) else float(ranked[ends[place]])
        share = kept / len(ranked)
        return Threshold(below, share, errors / kept, limit, limit <= policy.max_error, len(ranked))

    # one look is at the least coverage, below which nothing is searched
    high = len(ends) - 1
    low = min(int(np.searchsorted(ends + 1, policy.min_coverage * len(ranked) - 1e-9)), high)
    best = look(low)
    while low <= high:
        middle = (low + high + 1) // 2
        found = look(middle)
        if found.reached:
            best, low = max(best, found, key=lambda item: (item.reached, item.coverage)), middle + 1
        else:
            high = middle - 1
    return best


def upper_bound(errors: int, rows: int, level: float) -> float:
    """Clopper and Pearson's upper bound of a share, one-sided: it is exceeded with a chance of at most `level`."""
    from scipy.stats import beta

    return 1.0 if errors >= rows else float(beta.ppf(1 - level, errors + 1, rows - errors))


def risk_coverage(confidence: NDArray[Any], right: NDArray[Any]) -> Curve:
    """The risk-coverage curve (El-Yaniv and Wiener, 2010, https://jmlr.org/papers/v11/el-yaniv10a.html).

    Args:
        confidence: [n], n > 0.
        right: bool [n].
    """
    ranked, wrong, ends = _ranked(confidence, right)
    kept = ends + 1
    risk = wrong[ends] / kept
    return Curve(kept / len(ranked), risk, float(np.sum(risk * np.diff(kept, prepend=0)) / len(ranked)))


def _ranked(
    confidence: NDArray[Any], right: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Confidences from the greatest down [n], errors until each [n], and the places where a threshold may stand.

    A threshold keeps all rows of a tie or none.
    """
    given = np.asarray(confidence, dtype=np.float64)
    order = np.argsort(-given, kind="stable")
    ranked, wrong = given[order], np.cumsum(~np.asarray(right, dtype=bool)[order])
    return ranked, wrong, np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))


def report(threshold: Threshold, confidence: NDArray[Any], right: NDArray[Any], policy: ReviewPolicy) -> dict[str, Any]:
    """What the threshold does on a holdout, as JSON-ready values.

    Args:
        threshold: chosen on other rows.
        confidence: of the holdout's answers [n].
        right: bool [n].
        policy: what was aimed at.
    """
    curve = risk_coverage(confidence, right)
    kept = np.asarray(confidence) >= threshold.review_below
    right = np.asarray(right, dtype=bool)
    return {
        "policy": policy.model_dump(),
        "threshold": asdict(threshold),
        "holdout": {
            "rows": len(right),
            "coverage": float(kept.mean()),
            "risk": float((~right[kept]).mean()) if kept.any() else None,
            "risk_of_the_rest": float((~right[~kept]).mean()) if not kept.all() else None,
        },
        "curve": [{"coverage": share, "risk": curve.at(share)} for share in COVERAGES],
        "aurc": curve.aurc,
    }
