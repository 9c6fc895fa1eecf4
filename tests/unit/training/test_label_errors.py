"""Planted label errors in generated messages are found well above chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from training.label_errors import out_of_fold, pairs, suspect
from training.sample import generate_sample
from undertone.errors import DataError
from undertone.tasks import get_task

LABELS = get_task("sentiment").labels
NOISE = 0.1


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of 1,200 generated messages, labels of which a tenth are wrong, and which are."""
    frame = generate_sample().sample(1_200, random_state=0)
    vectors = TfidfVectorizer(max_features=400, sublinear_tf=True).fit_transform(frame["text"]).toarray()
    truth = np.array([LABELS.index(label) for label in frame["sentiment"]], dtype=np.int64)
    generator = np.random.default_rng(0)
    wrong = generator.random(len(truth)) < NOISE
    given = np.where(wrong, (truth + generator.integers(1, 3, len(truth))) % 3, truth)
    return vectors, given, wrong


def test_planted_errors_stand_at_the_top(planted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    vectors, given, wrong = planted
    found = suspect(out_of_fold(vectors, given, 3), given)
    top = found.rows[: wrong.sum()]
    assert wrong[top].mean() > 3 * NOISE
    assert wrong[found.rows].sum() > 0.5 * wrong.sum()
    assert (np.diff(found.given_probability) >= 0).all()
    assert (found.suggested != given[found.rows]).all()
    table = pairs(found, given, LABELS)
    assert sum(row["suspected"] for row in table) == len(found.rows)


def test_no_row_is_answered_by_a_model_that_learned_from_it(
    planted: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    vectors, given, _ = planted
    # a vector of its own for every row: in sample it would tell the label, out of fold it tells nothing
    own = np.hstack([vectors[:300] * 0, 10 * np.eye(300)])
    chances = out_of_fold(own, given[:300], 3)
    assert np.ptp(chances, axis=0).max() < 0.05


def test_too_few_rows_for_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match="as many rows of every label as folds"):
        out_of_fold(np.ones((5, 2)), np.array([0, 0, 0, 1, 1]), 2, folds=3)
