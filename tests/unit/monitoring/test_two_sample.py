"""The tests under the signals: their level on like samples, their sight of unlike ones, and odd input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.two_sample import (
    auc_test,
    chi_square,
    cross_fit,
    cross_fit_texts,
    distance_test,
    mmd_test,
    psi,
    rise_test,
    shares_test,
)
from undertone.multiplicity import holm

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def vectors(seed: int, rows: int, shift: float = 0.0, width: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, size=(rows, width)).astype(np.float32)


@pytest.mark.parametrize("test", [lambda *sides: cross_fit(*sides).test(), mmd_test], ids=["classifier", "mmd"])
def test_like_samples_are_told_apart_no_more_often_than_the_level(test) -> None:
    """At 20 % six of 60 are expected at most for the classifier (Bonferroni), twelve for MMD; 22 are very unlikely."""
    found = [test(vectors(2 * seed, 150), vectors(2 * seed + 1, 90))[1] for seed in range(60)]
    assert sum(p_value < 0.2 for p_value in found) <= 22
    assert min(found) > 1e-4


@pytest.mark.parametrize("test", [lambda *sides: cross_fit(*sides).test(), mmd_test], ids=["classifier", "mmd"])
def test_unlike_samples_are_told_apart_whatever_the_order(test) -> None:
    first, second = vectors(1, 400), vectors(2, 300, shift=0.3)
    effect, p_value = test(first, second)
    assert p_value < 1e-3
    order = np.random.default_rng(0).permutation(300)
    again, same = test(first[::-1], second[order])
    assert (again, same) == pytest.approx((effect, p_value), rel=1e-4)
    assert test(first, vectors(3, 300, shift=0.6))[0] > effect


@pytest.mark.parametrize("test", [lambda *sides: cross_fit(*sides).test(), mmd_test], ids=["classifier", "mmd"])
@pytest.mark.parametrize("sides", ["same", "constant", "one column constant", "one row repeated"])
def test_nothing_to_tell_apart(test, sides: str) -> None:
    first = vectors(1, 100)
    pair = {
        "same": (first, first),
        "constant": (np.ones((100, 24), np.float32), np.ones((80, 24), np.float32)),
        "one column constant": (first * ([1] * 23 + [0]), vectors(2, 100) * ([1] * 23 + [0])),
        "one row repeated": (np.repeat(first[:1], 50, axis=0), np.repeat(first[:1], 60, axis=0)),
    }[sides]
    effect, p_value = test(*pair)
    assert np.isfinite(effect)
    assert 0.01 < p_value <= 1


def test_mmd_agrees_with_the_kernel_itself() -> None:
    """Against the unbiased estimate with the exact kernel, of the same width."""
    from scipy.spatial.distance import cdist, pdist

    first, second = vectors(1, 300), vectors(2, 250, shift=0.4)
    width = np.median(pdist(first))
    inner, outer, across = (
        np.exp(-(cdist(*pair) ** 2) / (2 * width**2)) for pair in ((first, first), (second, second), (first, second))
    )
    n, m = len(first), len(second)
    exact = (inner.sum() - n) / (n * (n - 1)) + (outer.sum() - m) / (m * (m - 1)) - 2 * across.mean()
    assert mmd_test(first, second)[0] == pytest.approx(np.sqrt(exact), rel=0.1)


def test_scores_are_held_out_and_stay_with_their_rows() -> None:
    first, second = vectors(1, 120), vectors(2, 80)
    fit = cross_fit(first, second)
    assert fit is not None
    assert auc_test(fit.first, fit.second)[0] < 0.65  # what a fit that saw its rows would not give
    order = np.random.default_rng(3).permutation(80)
    again = cross_fit(first, second[order])
    assert again is not None
    np.testing.assert_allclose(again.second, fit.second[order], rtol=1e-5)
    assert (again.second_folds == fit.second_folds[order]).all()


def test_texts_are_told_apart_by_their_words() -> None:
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(200)])

    def texts(count: int, extra: str = "") -> list[str]:
        return [" ".join(random.choice(words, 12)) + extra * (random.random() < 0.5) for _ in range(count)]

    like = cross_fit_texts(texts(200), texts(150))
    unlike = cross_fit_texts(texts(200), texts(150, " gate delayed"))
    assert like is not None
    assert unlike is not None
    assert like.test()[1] > 0.01
    auc, p_value = unlike.test()
    assert auc > 0.65
    assert p_value < 1e-4


@pytest.mark.parametrize("texts", [[""] * 50, ["ok"] * 2, ["! ?"] * 50, [f"only{number}" for number in range(50)]])
def test_texts_without_common_words_have_no_test(texts: list[str]) -> None:
    assert cross_fit_texts(texts, ["fine"] * 2 if len(texts) == 2 else texts) is None


@pytest.mark.parametrize("sizes", [(0, 50), (50, 0), (3, 50), (1, 1)])
def test_too_few_rows_for_the_folds(sizes: tuple[int, int]) -> None:
    assert cross_fit(vectors(1, sizes[0]), vectors(2, sizes[1])) is None


def test_a_constant_reference_does_not_blow_an_effect_up() -> None:
    """Lower-cased from the start: without a spread of its own, that of both together is the measure."""
    assert distance_test(np.zeros(100), np.zeros(80)) == (0.0, 1.0)
    effect, p_value = distance_test(np.zeros(100), np.linspace(0, 0.2, 100))
    assert 0.5 < effect < 3
    assert p_value < 1e-6


def test_a_rise_is_one_sided() -> None:
    assert rise_test((10, 100), (30, 100)) == (pytest.approx(0.2), pytest.approx(0.0003, abs=2e-4))
    effect, p_value = rise_test((30, 100), (10, 100))
    assert effect == pytest.approx(-0.2)
    assert p_value > 0.99


@given(p_values, st.floats(0.001, 0.5))
def test_holm_rejects_what_its_procedure_rejects(found: list[float], alpha: float) -> None:
    """Step down from the smallest: reject until one is over alpha over the number of those left."""
    rejected = set()
    for step, index in enumerate(sorted(range(len(found)), key=found.__getitem__)):
        if found[index] * (len(found) - step) > alpha:
            break
        rejected.add(index)
    assert set(np.flatnonzero(holm(found) <= alpha)) == rejected


@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_mind_the_order(found: list[float], random) -> None:
    order = list(range(len(found)))
    random.shuffle(order)
    np.testing.assert_allclose(holm([found[index] for index in order]), holm(found)[order])
    assert (holm(found) >= np.array(found)).all()


cells = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=6)


@given(cells)
def test_psi_is_never_negative_and_zero_for_equal_shares(pairs: list[tuple[int, int]]) -> None:
    counts = np.array(pairs).T
    assert psi(counts) >= 0
    assert psi(np.stack([counts[0], counts[0]])) == pytest.approx(0)
    assert psi(np.hstack([counts, np.zeros((2, 3), int)])) == pytest.approx(psi(counts))


@settings(max_examples=200)
@given(cells)
def test_chi_square_takes_any_counts(pairs: list[tuple[int, int]]) -> None:
    assert 0 <= chi_square(np.array(pairs).T) <= 1


def test_rare_values_do_not_make_a_chi_square_small() -> None:
    """Forty values of one message each: one cell, not forty with half a message expected."""
    counts = np.array([[500, *[1] * 20, *[0] * 20], [500, *[0] * 20, *[1] * 20]])
    assert chi_square(counts) == pytest.approx(1.0)


def test_shares_of_words() -> None:
    effect, p_value = shares_test(["a"] * 80 + ["b"] * 20, ["a"] * 40 + ["b"] * 60)
    assert effect > 0.5
    assert p_value < 1e-6
    assert shares_test(["a"], ["a"]) == (pytest.approx(0), 1.0)


def test_messages_that_stand_there_twice_do_not_make_like_samples_differ() -> None:
    first, second = vectors(1, 600), vectors(2, 400)
    repeated = np.concatenate([second[:280], second[:120]])
    fit, once = cross_fit(first, repeated), cross_fit(first, second[:280])
    assert fit.test() == pytest.approx(once.test())
    assert (fit.second_folds < 0).sum() == 120
    assert fit.second[:120] == pytest.approx(fit.second[280:])


def test_a_flood_of_one_text_is_still_told_apart() -> None:
    fit = cross_fit(vectors(1, 600), np.repeat(vectors(2, 1), 400, axis=0))
    assert fit.test()[0] > 0.9
