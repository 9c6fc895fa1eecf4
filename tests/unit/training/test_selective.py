"""Answers are kept while they are right often enough, and the promise holds on other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from training.selective import choose_threshold, report, risk_coverage, upper_bound
from undertone.tasks import ReviewPolicy


def answers(rows: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Calibrated answers: one of confidence p is right with probability p."""
    confidence = rng.uniform(0.4, 1.0, rows)
    return confidence, rng.random(rows) < confidence


def true_risk(below: float) -> float:
    """Of answers kept from `below` on, by the way `answers` draws them."""
    low = max(below, 0.4)
    return 1 - (low + 1) / 2


def test_the_bound_holds_as_often_as_promised() -> None:
    policy, rng = ReviewPolicy(max_error=0.2, level=0.1, min_coverage=0.1), np.random.default_rng(0)
    chosen = [choose_threshold(*answers(400, rng), policy) for _ in range(300)]
    assert np.mean([found.reached for found in chosen]) > 0.9
    broken = np.mean([true_risk(found.review_below) > policy.max_error for found in chosen])
    assert broken <= policy.level
    # and it is not won by keeping nothing: risk 0.2 is reached at coverage 2/3
    assert np.mean([found.coverage for found in chosen]) > 0.4


def test_sure_answers_are_all_kept() -> None:
    found = choose_threshold(np.linspace(0.9, 1, 500), np.ones(500, dtype=bool), ReviewPolicy())
    assert (found.review_below, found.coverage, found.reached) == (0.0, 1.0, True)


def test_a_target_out_of_reach_is_told_and_the_least_coverage_kept() -> None:
    rng = np.random.default_rng(0)
    found = choose_threshold(rng.random(500), rng.random(500) < 0.5, ReviewPolicy(max_error=0.1, min_coverage=0.3))
    assert not found.reached
    assert found.bound > 0.1
    assert found.coverage == pytest.approx(0.3)


def test_ties_are_kept_together() -> None:
    confidence = np.array([0.9] * 50 + [0.5] * 50)
    found = choose_threshold(confidence, np.array([True] * 50 + [False] * 50), ReviewPolicy(max_error=0.2))
    assert (found.review_below, found.coverage, found.risk) == (0.9, 0.5, 0.0)
    curve = risk_coverage(confidence, np.array([True] * 50 + [False] * 50))
    assert curve.coverage.tolist() == [0.5, 1.0]
    assert curve.risk.tolist() == [0.0, 0.5]
    assert (curve.at(0.2), curve.at(0.5), curve.at(0.7), curve.at(1.0)) == (0.0, 0.0, 0.5, 0.5)
    assert curve.aurc == pytest.approx(0.25)


def test_one_row_is_enough_and_none_is_misuse() -> None:
    assert not choose_threshold(np.array([0.7]), np.array([True]), ReviewPolicy()).reached
    with pytest.raises(ValueError, match="at least one row"):
        choose_threshold(np.array([]), np.array([]), ReviewPolicy())


@pytest.mark.parametrize(("errors", "rows", "bound"), [(0, 10, 0.2589), (1, 10, 0.3942), (10, 10, 1.0)])
def test_clopper_and_pearson(errors: int, rows: int, bound: float) -> None:
    assert upper_bound(errors, rows, 0.05) == pytest.approx(bound, abs=1e-4)


def test_the_report_is_of_the_holdout() -> None:
    rng = np.random.default_rng(1)
    policy = ReviewPolicy()
    threshold = choose_threshold(*answers(1_000, rng), policy)
    found = report(threshold, *answers(20_000, rng), policy)
    assert found["holdout"]["risk"] <= policy.max_error
    assert found["holdout"]["risk_of_the_rest"] > found["holdout"]["risk"]
    risks = [line["risk"] for line in found["curve"]]
    assert risks == sorted(risks, reverse=True)
    assert 0 < found["aurc"] < risks[0]
