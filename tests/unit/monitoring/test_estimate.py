"""CBPE as a difference: nothing changed means no change, and what it sees is what confidence says."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from monitoring.estimate import estimate, expected
from monitoring.windows import Window
from undertone.tasks import SENTIMENT

LABELS = np.array(SENTIMENT.labels, dtype=object)


def window(probabilities: np.ndarray, truth: np.ndarray | None = None) -> Window:
    frame = pd.DataFrame({"label": LABELS[probabilities.argmax(axis=1)]})
    frame["truth"] = None if truth is None else LABELS[truth]
    return Window(frame, None, probabilities=probabilities)


def calibrated(rows: int, sharpness: float, seed: int) -> Window:
    """Probabilities that are true of the labels drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet([sharpness] * 3, size=rows)
    truth = (random.random((rows, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    return window(probabilities, truth)


shares = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.floats(0.01, 1)).map(
    lambda made: made / made.sum(axis=1, keepdims=True)
)


@given(shares, st.randoms())
@settings(max_examples=50)
def test_the_same_window_in_any_order_changes_nothing(probabilities: np.ndarray, shuffler) -> None:
    truth = probabilities.argmin(axis=1)
    order = list(range(len(probabilities)))
    shuffler.shuffle(order)
    made = estimate(window(probabilities, truth), window(probabilities[order]), SENTIMENT, error=0.05)
    assert made is not None
    assert made.accuracy_change == pytest.approx(0, abs=1e-12)
    assert made.macro_f1_change == pytest.approx(0, abs=1e-12)
    assert made.accuracy == pytest.approx((truth == probabilities.argmax(axis=1)).mean())
    assert (made.rows, made.error) == (len(probabilities), 0.05)


@given(shares, shares)
@settings(max_examples=50)
def test_estimates_are_scores(before: np.ndarray, now: np.ndarray) -> None:
    made = estimate(window(before, before.argmax(axis=1)), window(now), SENTIMENT)
    assert made is not None
    assert 0 <= made.accuracy <= 1
    assert 0 <= made.macro_f1 <= 1
    assert made.accuracy_change == pytest.approx(now.max(axis=1).mean() - before.max(axis=1).mean())


def test_certain_answers_are_expected_to_be_right() -> None:
    certain = window(np.eye(3)[[0, 1, 2, 2]])
    assert np.array_equal(expected(certain, SENTIMENT), np.diag([1.0, 1.0, 2.0]))  # type: ignore[arg-type]
    made = estimate(window(np.eye(3)[[0, 1, 2]], np.array([0, 1, 1])), certain, SENTIMENT)
    assert made is not None
    assert (made.accuracy_change, made.macro_f1_change) == (0, 0)
    assert made.accuracy == pytest.approx(2 / 3)


def test_where_probabilities_are_true_the_estimate_is() -> None:
    before, now = calibrated(20_000, 0.3, seed=1), calibrated(20_000, 1.0, seed=2)
    made = estimate(before, now, SENTIMENT)
    assert made is not None
    truth, label = now.frame["truth"], now.frame["label"]
    assert made.accuracy == pytest.approx((truth == label).mean(), abs=0.015)
    assert made.macro_f1 == pytest.approx(f1_score(truth, label, average="macro"), abs=0.015)
    assert made.accuracy_change < -0.1


def test_without_truth_or_rows_nothing_is_estimated() -> None:
    some, empty = calibrated(50, 1.0, seed=1), Window(pd.DataFrame({"label": [], "truth": []}), None)
    assert estimate(window(some.probabilities), some, SENTIMENT) is None
    assert estimate(some, empty, SENTIMENT) is None
    assert estimate(empty, some, SENTIMENT) is None
