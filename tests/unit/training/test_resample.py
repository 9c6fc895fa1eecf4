from __future__ import annotations

import numpy as np
import pytest

from training.evaluate import macro_f1
from training.resample import RESAMPLES, interval, mcnemar, resample, slice_macro_f1

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.integers(0, 3, 300)
OURS = np.where(GENERATOR.random(300) < 0.2, (TRUTH + 1) % 3, TRUTH)
THEIRS = np.where(GENERATOR.random(300) < 0.3, (TRUTH + 2) % 3, TRUTH)


def test_the_interval_is_that_of_resampling_rows():
    differences = []
    for _ in range(1_000):
        rows = GENERATOR.integers(0, 300, 300)
        differences.append(macro_f1(TRUTH[rows], OURS[rows], 3) - macro_f1(TRUTH[rows], THEIRS[rows], 3))
    scores = resample(TRUTH, (OURS, THEIRS), 3)
    assert scores.shape == (1, 2, RESAMPLES)
    expected = np.quantile(differences, [0.025, 0.975])
    assert interval(scores[0, 0] - scores[0, 1]) == pytest.approx(expected, abs=0.012)


def test_a_slice_is_resampled_with_the_whole():
    inside = np.arange(300) < 120
    scores = resample(TRUTH, (OURS,), 3, (None, inside))
    alone = resample(TRUTH[inside], (OURS[inside],), 3)
    assert scores[1, 0].mean() == pytest.approx(slice_macro_f1(TRUTH[inside], OURS[inside], 3), abs=0.005)
    assert scores[1, 0].std() == pytest.approx(alone[0, 0].std(), rel=0.1)


def test_mending_a_row_lowers_no_resample():
    before = resample(TRUTH, (OURS,), 3)
    for row in np.flatnonzero(OURS != TRUTH)[:10]:
        mended = OURS.copy()
        mended[row] = TRUTH[row]
        assert (resample(TRUTH, (mended,), 3) >= before - 1e-12).all()


def test_labels_that_hardly_occur_in_a_slice_do_not_count():
    truth = np.array([0] * 20 + [1] * 20 + [2] * 4)
    predicted = np.array([0] * 20 + [1] * 20 + [0] * 4)
    assert slice_macro_f1(truth, predicted, 3) == pytest.approx((40 / 44 + 1) / 2)
    assert np.isnan(slice_macro_f1(truth[-4:], predicted[-4:], 3))
    assert np.isnan(resample(truth, (predicted,), 3, (truth == 2,))).all()


def test_mcnemar_is_the_binomial_of_the_rows_that_differ():
    truth = np.zeros(20, dtype=int)
    theirs = truth.copy()
    theirs[:5] = 1
    assert mcnemar(truth, truth, theirs) == pytest.approx(2 * 0.5**5)
    assert mcnemar(truth, truth, truth) == 1.0
