"""Planted differences are found with honest intervals, and none is found where none was planted."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from insights.associate import MIN_CUSTOMERS, compare
from insights.revenue import share_kept


def panel(seed: int, ratio: float = 1.0, customers: int = 150, months: int = 3) -> pd.DataFrame:
    """Customers who differ in what they spend and in how often they complain; months and segments differ too."""
    random = np.random.default_rng(seed)
    level, segment = random.lognormal(0, 1, customers), random.integers(0, 3, customers)
    complains = random.beta(2, 4, customers)
    rows = []
    for month in range(months):
        labelled = random.random(customers) < complains

        def spent(labelled: object, month: int = month) -> np.ndarray:
            mean = level * (1 + 0.3 * month) * (1 + segment) * np.where(labelled, ratio, 1.0)
            return mean * random.lognormal(-0.3, 0.8, customers) * (random.random(customers) < 0.7)

        rows.append(
            pd.DataFrame(
                {
                    "customer": np.arange(customers),
                    "period": month,
                    "segment": segment,
                    "labelled": labelled.astype(float),
                    "messages": 1 + random.poisson(1, customers),
                    "outcome": spent(labelled),
                    "previous": spent(False, month - 1),
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_nothing_planted_is_seldom_found() -> None:
    found = [compare(panel(seed), "ratio", previous=True, flips=499) for seed in range(40)]
    wrong = sum(one.p_value is not None and one.p_value < 0.05 for one in found)
    assert wrong <= 7  # more would happen to a level of 5 % once in a thousand
    assert sum(one.low <= 1 <= one.high for one in found) >= 33


def test_a_planted_ratio_is_found_and_covered() -> None:
    found = [compare(panel(seed, ratio=0.5, customers=400), "ratio", previous=True, flips=499) for seed in range(8)]
    assert sum(one.p_value < 0.05 for one in found) >= 6
    assert sum(one.low <= 0.5 <= one.high for one in found) >= 6
    assert np.median([one.value for one in found]) == pytest.approx(0.5, abs=0.07)


def test_a_planted_difference_is_found_and_covered() -> None:
    rows = panel(3, customers=400)
    noise = np.random.default_rng(5).normal(0, 1, len(rows))
    found = compare(rows.assign(outcome=7 - 1.5 * rows["labelled"] + noise), "difference", previous=False)
    assert found.low <= -1.5 <= found.high
    assert found.p_value == pytest.approx(0.0001, abs=1e-4)


def test_the_currency_does_not_matter() -> None:
    rows = panel(1, ratio=0.7)
    euros = compare(rows, "ratio", previous=True, flips=99)
    cents = compare(rows.assign(outcome=rows["outcome"] * 100, previous=rows["previous"] * 100), "ratio", previous=True)
    assert cents.value == pytest.approx(euros.value, rel=1e-6)
    assert cents.high == pytest.approx(euros.high, rel=1e-6)


def test_rows_of_one_customer_are_no_independent_witnesses() -> None:
    """The same rows three times over, each under its own customer: the interval does not shrink."""
    rows = panel(2)
    once = compare(rows, "ratio", previous=True, flips=99)
    thrice = compare(pd.concat([rows] * 3, ignore_index=True), "ratio", previous=True, flips=99)
    assert thrice.high / thrice.low == pytest.approx(once.high / once.low, rel=0.02)


def test_the_standard_error_is_that_of_leaving_customers_out() -> None:
    rows = panel(1, customers=80)
    found = compare(rows, "difference", previous=False)
    months = [(rows["period"] == month).to_numpy(float) for month in (1, 2)]
    segments = [(rows["segment"] == segment).to_numpy(float) for segment in (1, 2)]
    one = np.ones(len(rows))
    design = np.column_stack([rows["labelled"], one, np.log2(rows["messages"]), *months, *segments])
    customer, outcome = rows["customer"].to_numpy(), rows["outcome"].to_numpy()

    def fit(kept: np.ndarray) -> float:
        return float(np.linalg.lstsq(design[kept], outcome[kept], rcond=None)[0][0])

    moved = [fit(customer != number) - found.value for number in range(80)]
    error = np.sqrt(79 / 80 * np.square(moved).sum())
    assert found.value == pytest.approx(fit(customer >= 0))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 79) * error, rel=1e-6)


def test_too_few_customers_say_nothing() -> None:
    rows = panel(0)
    rows["labelled"] = (rows["customer"] < MIN_CUSTOMERS - 1).astype(float)
    found = compare(rows, "ratio", previous=True)
    assert (found.value, found.customers) == (None, MIN_CUSTOMERS - 1)
    assert "too few" in found.problem


def test_a_label_that_goes_with_the_period_cannot_be_told_from_it() -> None:
    rows = panel(0)
    found = compare(rows.assign(labelled=(rows["period"] == 1).astype(float)), "ratio", previous=True)
    assert found.value is None
    assert "tell them apart" in found.problem


def test_who_spent_nothing_gives_no_ratio() -> None:
    rows = panel(0)
    found = compare(rows.assign(outcome=rows["outcome"] * (rows["labelled"] == 0)), "ratio", previous=True)
    assert (found.value, found.problem) == (None, "one of the two groups spent nothing")


def test_errors_of_the_model_hide_as_much_as_is_said() -> None:
    random = np.random.default_rng(0)
    true = random.random(400_000) < 0.3
    said = np.where(true, random.random(len(true)) < 0.8, random.random(len(true)) < 0.1)
    outcome = 2.0 * true + random.normal(0, 1, len(true))
    seen = outcome[said].mean() - outcome[~said].mean()
    assert share_kept(0.8, 0.9, said.mean()) == pytest.approx(seen / 2.0, abs=0.01)


@pytest.mark.parametrize("figures", [(0.5, 0.5, 0.3), (0.9, 0.9, 0.05), (0.9, 0.9, 0.0)])
def test_errors_that_explain_every_label_correct_nothing(figures: tuple[float, float, float]) -> None:
    assert share_kept(*figures) is None
