from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from training.calibrate import HIGHEST, LOWEST, fit_temperature, negative_log_likelihood
from training.evaluate import expected_calibration_error
from undertone.engine import calibrated
from undertone.errors import TrainingError


@st.composite
def problems(draw):
    rows, classes = draw(st.integers(1, 40)), draw(st.integers(2, 5))
    logits = draw(hnp.arrays(np.float32, (rows, classes), elements=st.floats(-30, 30, width=32)))
    return logits, draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_temperature_is_in_range_and_never_worse_than_one(problem):
    logits, labels = problem
    temperature = fit_temperature(logits, labels)
    assert LOWEST <= temperature <= HIGHEST
    before, after = (negative_log_likelihood(logits, labels, value) for value in (1.0, temperature))
    assert after <= before


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_temperature_keeps_every_argmax(problem):
    logits, labels = problem
    probabilities = calibrated(logits, fit_temperature(logits, labels))
    # Ties may fall either way once rounded to float32, so: what was largest is still (one of) the largest.
    largest = probabilities[np.arange(len(logits)), logits.argmax(axis=1)]
    assert np.array_equal(largest, probabilities.max(axis=1))


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 2.5, 6.0])
def test_it_finds_the_temperature_that_made_the_labels(true_temperature):
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (8_000, 4))
    noise = generator.gumbel(size=logits.shape)  # argmax of logits plus Gumbel noise: a draw from the softmax
    labels = (logits / true_temperature + noise).argmax(axis=1)
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.06)


def test_calibration_brings_confidence_to_accuracy():
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, (4_000, 3))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    boasting = (logits * 3).astype(np.float32)
    before = expected_calibration_error(calibrated(boasting, 1.0), labels)
    after = expected_calibration_error(calibrated(boasting, fit_temperature(boasting, labels)), labels)
    assert before > 0.1
    assert after < 0.03


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=int)),
        (np.zeros((2, 3)), np.zeros(3, dtype=int)),
        (np.zeros(3), np.zeros(3, dtype=int)),
        (np.array([[0.0, np.nan]]), np.array([0])),
    ],
)
def test_what_cannot_be_calibrated_is_refused(logits, labels):
    with pytest.raises(TrainingError):
        fit_temperature(logits, labels)
