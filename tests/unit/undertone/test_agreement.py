"""Agreement of two people: against statsmodels, at the edges, and as often right as it says."""

from datetime import UTC, datetime

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.proportion import proportion_confint

from undertone.agreement import FEWEST, Twice, agree, agree_by_label, by_people, confusion, wilson

LABELS = ("negative", "neutral", "positive")
NOW = datetime(2026, 11, 3, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(12))
def test_kappa_and_its_interval_are_those_of_statsmodels(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(FEWEST, 200))
    shares = random.dirichlet(np.full(9, 0.8)) * 0.5 + np.eye(3).ravel() * random.dirichlet(np.ones(9)) + 0.02
    cells = random.choice(9, size=rows, p=shares / shares.sum())
    pairs = [(LABELS[cell // 3], LABELS[cell % 3]) for cell in cells]
    found, theirs = agree(LABELS, pairs), cohens_kappa(confusion(LABELS, pairs))
    assert found is not None
    assert found.rows == rows
    assert found.observed == sum(first == second for first, second in pairs) / rows
    hits = sum(first == second for first, second in pairs)
    assert found.observed_interval == pytest.approx(proportion_confint(hits, rows, method="wilson"), abs=1e-9)
    assert found.kappa == pytest.approx(theirs.kappa)
    assert found.kappa_interval == pytest.approx([max(theirs.kappa_low, -1), min(theirs.kappa_upp, 1)], abs=1e-9)
    turned = agree(LABELS, [(second, first) for first, second in pairs])
    assert turned is not None
    assert turned.kappa == pytest.approx(found.kappa)


def test_the_examples_of_the_books() -> None:
    # https://en.wikipedia.org/wiki/Cohen%27s_kappa: 20 and 15 agreed, 5 and 10 not
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    found = agree(("a", "b"), pairs)
    assert found is not None
    assert (found.rows, found.observed, found.kappa) == (50, 0.7, pytest.approx(0.4))


def test_perfect_agreement_of_a_few_is_no_proof_and_too_few_tell_nothing() -> None:
    pairs = [("negative", "negative"), ("positive", "positive")]
    few = agree(LABELS, pairs * 9)
    assert few is not None
    assert (few.kappa, few.kappa_interval) == (1.0, None)
    many, more = agree(LABELS, pairs * 15), agree(LABELS, pairs * 150)
    assert many is not None
    assert more is not None
    assert many.kappa_interval is not None
    assert more.kappa_interval is not None
    assert many.kappa_interval[0] == pytest.approx(2 * wilson(30, 30)[0] - 1)
    assert 0.5 < many.kappa_interval[0] < more.kappa_interval[0] < more.kappa_interval[1] == 1
    same = agree(LABELS, [("neutral", "neutral")] * 50)
    assert same is not None
    assert (same.observed, same.kappa, same.kappa_interval) == (1.0, None, None)
    stubborn = agree(LABELS, [("neutral", "neutral"), ("neutral", "positive")] * 20)
    assert stubborn is not None
    assert (stubborn.kappa, stubborn.kappa_interval) == (pytest.approx(0), None)
    assert agree(LABELS, []) is None
    assert agree(LABELS, [("great", "neutral")]) is None


@pytest.mark.parametrize(("rows", "same"), [(60, 0.8), (60, 0.95), (200, 0.9)])
def test_the_interval_covers_the_true_kappa_about_as_often_as_it_says(rows: int, same: float) -> None:
    random, shares = np.random.default_rng(5), np.array([0.5, 0.3, 0.2])
    truth = np.full((3, 3), (1 - same) / 2) + np.eye(3) * (same - (1 - same) / 2)
    joint = shares[:, None] * truth
    chance = float(joint.sum(axis=1) @ joint.sum(axis=0))
    kappa, covered, runs = (same - chance) / (1 - chance), 0, 400
    for drawn in random.multinomial(rows, joint.ravel(), size=runs).reshape(runs, 3, 3):
        pairs = [(LABELS[i], LABELS[j]) for i in range(3) for j in range(3) for _ in range(drawn[i, j])]
        found = agree(LABELS, pairs)
        assert found is not None
        assert found.kappa_interval is not None
        covered += found.kappa_interval[0] <= kappa <= found.kappa_interval[1]
    assert 0.90 <= covered / runs <= 0.985


def test_where_labels_differ_is_told_label_by_label() -> None:
    pairs = [("negative", "negative")] * 6 + [("negative", "neutral")] * 3 + [("positive", "negative")]
    negative, neutral, positive = agree_by_label(LABELS, pairs)
    assert (negative.given, negative.both, negative.specific) == (16, 6, 12 / 16)
    assert negative.instead == (("neutral", 3), ("positive", 1))
    assert (neutral.specific, neutral.instead) == (0.0, (("negative", 3),))
    assert (positive.given, positive.both) == (1, 0)
    assert agree_by_label(LABELS, [])[0].specific is None


def test_pairs_of_people_are_one_whoever_was_first() -> None:
    def one(first: tuple[str, str], second: tuple[str, str]) -> Twice:
        return Twice(1, 2, "m1", first[1], second[1], first[0], second[0], NOW)

    twice = [one(("bo", "x"), ("ann", "y")), one(("ann", "y"), ("bo", "x")), one(("eve", "x"), ("bo", "z"))]
    assert by_people(twice) == {("ann", "bo"): [("y", "x"), ("y", "x")], ("bo", "eve"): [("z", "x")]}
