from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fidelity import Fidelity, compare_engines
from undertone.model_folder import EXACT, INT8
from undertone.tasks import GatePolicy

POLICY = GatePolicy(min_agreement=0.97, max_engine_loss=0.01)
TRUTH = np.arange(300) % 3
EXACTLY = np.eye(3, dtype=np.float32)[TRUTH]
shares = st.floats(0, 1)


def changed(rows: int) -> np.ndarray:
    """Answers that differ from the exact ones, which are right, on so many rows."""
    logits = EXACTLY.copy()
    logits[:rows] = np.roll(logits[:rows], 1, axis=1)
    return logits


def test_agreement_and_both_scores_are_measured():
    found = compare_engines(INT8, changed(30), EXACTLY, TRUTH)
    assert found == Fidelity(INT8, 0.9, pytest.approx(0.9), 1.0, pytest.approx(2**-29))
    assert found.loss == pytest.approx(0.1)
    assert str(found) == "onnx-int8: 90.00% the same label, macro-F1 -0.1000"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers_agree_with_nothing(value):
    broken = EXACTLY.copy()
    broken[::3, 0] = value  # where class 0 is right, so that argmax would not show it
    assert compare_engines(INT8, broken, EXACTLY, TRUTH).agreement == pytest.approx(2 / 3)
    assert compare_engines(INT8, broken, broken, TRUTH).agreement == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (Fidelity(INT8, 0.97, 0.80, 0.80), True),
        (Fidelity(INT8, 0.9699, 0.80, 0.80), False),
        (Fidelity(INT8, 0.99, 0.795, 0.80), True),
        (Fidelity(INT8, 0.99, 0.785, 0.80), False),
        (Fidelity(INT8, 0.99, 0.90, 0.80), True),  # a gain is no loss
        (Fidelity(INT8, 0.99, 0.785, 0.80, 0.05), True),  # a loss that chance explains
        (Fidelity(INT8, 0.99, 0.785, 0.80, 0.049), False),
        (Fidelity(INT8, 0.9699, 0.785, 0.80, 1.0), False),
        (Fidelity(INT8, 0.99, 0.785, 0.80, float("nan")), False),
        (Fidelity(INT8, float("nan"), 0.80, 0.80), False),
        (Fidelity(INT8, 0.99, float("nan"), 0.80), False),
        (Fidelity(INT8, 0.99, 0.80, float("nan")), False),
        (Fidelity(INT8, None, None, None), False),
        (Fidelity(EXACT, 1.0, 0.80, 0.80), True),
    ],
)
def test_an_engine_holds_where_both_limits_do(found, holds):
    assert found.holds(POLICY) is holds


@given(agreement=shares, more=shares, ours=shares, gain=shares, exact=shares, least=shares, loss=shares)
def test_a_higher_agreement_or_score_never_loses_a_pass(agreement, more, ours, gain, exact, least, loss):
    policy = GatePolicy(min_agreement=least, max_engine_loss=loss)
    if Fidelity(INT8, agreement, ours, exact).holds(policy):
        assert Fidelity(INT8, max(agreement, more), max(ours, gain), exact).holds(policy)
