"""Shares corrected for a model's errors: bands that hold what they promise, and silence where there is too little."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from statsmodels.stats.proportion import proportion_confint

from insights.estimate import MIN_ROWS, Corrections, ErrorCounts, onto_simplex

LABELS = ("negative", "neutral", "positive")
RATES = np.array([[0.80, 0.15, 0.05], [0.10, 0.80, 0.10], [0.04, 0.16, 0.80]])
CLEAR = np.diag([300, 400, 300])


def corrections(counts: np.ndarray, version: int = 1, **more: int) -> Corrections:
    return Corrections(LABELS, {version: ErrorCounts(version, "holdout", counts)}, **more)


def holdout(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.stack([rng.multinomial(rows // 3, p) for p in RATES])


def test_the_band_holds_the_true_share_and_a_binomial_one_does_not() -> None:
    rng, true = np.random.default_rng(1), np.array([0.6, 0.3, 0.1])
    held = naive = 0
    for seed in range(150):
        said = rng.multinomial(500, true @ RATES)
        found = corrections(holdout(rng, 900), draws=400, seed=seed).estimate({1: said})
        low, high = proportion_confint(said, 500, method="wilson")
        held += sum(found[label].low <= p <= found[label].high for label, p in zip(LABELS, true, strict=True))
        naive += int(((low <= true) & (true <= high)).sum())
    assert 0.92 <= held / 450 <= 0.98
    assert naive / 450 < 0.5


def test_what_a_model_without_errors_says_is_true() -> None:
    found = corrections(CLEAR).estimate({1: np.array([200, 500, 300])})
    assert [found[label].share for label in LABELS] == pytest.approx([0.2, 0.5, 0.3], abs=0.01)
    assert [found[label].observed for label in LABELS] == [0.2, 0.5, 0.3]


def test_bands_narrow_with_messages_and_with_labelled_ones() -> None:
    def width(messages: int, labelled: int) -> float:
        counts = np.rint(RATES * labelled / 3).astype(int)
        found = corrections(counts).estimate({1: np.rint(messages * np.array([0.3, 0.5, 0.2]) @ RATES).astype(int)})
        return found["negative"].high - found["negative"].low

    assert width(100, 300) > width(1_000, 300) > width(1_000, 3_000) > width(10_000, 3_000)


def test_versions_with_other_errors_are_mixed_by_their_messages() -> None:
    poor = np.array([[0.6, 0.3, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]])
    true = np.array([0.5, 0.3, 0.2])
    errors = {v: ErrorCounts(v, "holdout", np.rint(rates * 3_000).astype(int)) for v, rates in ((1, RATES), (2, poor))}
    said = {1: np.rint(1_000 * true @ RATES).astype(int), 2: np.rint(3_000 * true @ poor).astype(int)}
    found = Corrections(LABELS, errors).estimate(said)
    assert [found[label].share for label in LABELS] == pytest.approx(true, abs=0.005)
    assert found["negative"].observed == pytest.approx(
        (1_000 * true @ RATES + 3_000 * true @ poor)[0] / 4_000, abs=1e-3
    )


def test_a_group_of_labels_is_estimated_as_one() -> None:
    said = {1: np.rint(1_000 * np.array([0.5, 0.3, 0.2]) @ RATES).astype(int)}
    found = corrections(np.rint(RATES * 1_000).astype(int)).estimate_groups(said, {"any": ("negative", "positive")})
    assert found["any"].share == pytest.approx(0.7, abs=0.01)
    assert found["any"].low < 0.7 < found["any"].high


@pytest.mark.parametrize(
    ("said", "counts", "words"),
    [
        ({}, CLEAR, f"0 of {MIN_ROWS} messages"),
        ({1: np.array([MIN_ROWS - 1, 0, 0])}, CLEAR, f"{MIN_ROWS - 1} of {MIN_ROWS} messages"),
        ({2: np.array([100, 0, 0])}, CLEAR, "no error counts of version 2"),
        ({1: np.array([100, 0, 0])}, np.diag([300, 400, 0]), "no labelled message of positive"),
        ({1: np.array([40, 30, 30])}, np.full((3, 3), 20), "a band of"),
    ],
    ids=["nothing", "few messages", "unknown version", "unseen label", "a model that guesses"],
)
def test_too_little_is_told_as_such(said: dict, counts: np.ndarray, words: str) -> None:
    found = corrections(counts).estimate(said)
    for estimate in found.values():
        assert estimate.too_few
        assert (estimate.low, estimate.high) == (None, None)
    assert any(words in estimate.lacking for estimate in found.values())


def test_the_same_question_has_the_same_answer() -> None:
    said = {1: np.array([40, 30, 60])}
    counts = np.rint(RATES * 200).astype(int)
    assert corrections(counts).estimate(said) == corrections(counts).estimate(said)


@given(arrays(float, (4, 3), elements=st.floats(-50, 50)))
def test_the_nearest_shares_are_shares(points: np.ndarray) -> None:
    found = onto_simplex(points)
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(1)
    again = onto_simplex(found)
    assert again == pytest.approx(found)
