"""How an outcome differs between two groups of customer-periods: a regression, and a check that assumes less.

One row is one customer in one period, so a customer with a thousand messages is one row like any other, and errors are
clustered by customer, so that a customer's months are no independent witnesses. Nothing here says why groups differ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

#: ratio: of mean outcomes, by Poisson pseudo-maximum likelihood; difference: of mean outcomes, by least squares.
Model = Literal["ratio", "difference"]

#: Least customers in each of the two groups: below that nothing is said.
MIN_CUSTOMERS = 30
CONFIDENCE = 0.95
#: Most sign flips of one comparison.
FLIPS = 9_999
#: Flips as far out as what was seen after which no more are made: the p-value is large, and known well enough (Besag
#: and Clifford, 1991, https://doi.org/10.1093/biomet/78.2.301).
ENOUGH = 100
#: Customers beyond which the usual sandwich and the sign flips' normal limit are taken: the same there, and quicker.
MANY = 2_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One comparison of customers with and without the label.

    Attributes:
        value: ratio or difference of the mean outcome, adjusted for what `compare` is given; None: no estimate.
        low: lower end of the 95 % interval.
        high: upper end of it.
        p_value: the larger one of the regression's and the sign-flip test's.
        p_regression: two-sided, t with one degree of freedom less than there are customers.
        p_flips: two-sided, of the sign-flip test.
        customers: with the label in at least one period.
        others: customers without it in at least one period.
        rows: customer-periods that the estimate rests on.
        mean: outcome of the rows with the label, unadjusted.
        mean_others: outcome of the other rows, unadjusted.
        problem: why there is no estimate; empty: there is one.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_regression: float | None = None
    p_flips: float | None = None
    customers: int = 0
    others: int = 0
    rows: int = 0
    mean: float | None = None
    mean_others: float | None = None
    problem: str = ""


def compare(panel: pd.DataFrame, model: Model, *, previous: bool, flips: int = FLIPS, seed: int = 7) -> Estimate:
    """Compare the outcome of rows with the label with that of the others.

    Adjusted for period and segment (fixed effects), the number of messages, and what the customer spent the period
    before. A ratio is exp(b) of a Poisson pseudo-maximum-likelihood fit: it needs no logarithm, so customers who spent
    nothing stay in, and the currency's unit does not matter (Santos Silva and Tenreyro, 2006,
    https://doi.org/10.1162/rest.88.4.641; Chen and Roth, 2024, https://doi.org/10.1093/qje/qjad054). The sign-flip test
    turns the signs of whole customers' score contributions (Hemerik, Goeman and Finos, 2020,
    https://doi.org/10.1111/rssb.12369).

    Args:
        panel: columns customer, period, segment, labelled (0 or 1), messages, outcome and, with `previous`, previous
            (spending in the period before, at least 0).
        model: a ratio needs outcomes of at least 0.
        previous: whether to adjust for the column previous.
        flips: of the sign-flip test.
        seed: of the flips.
    """
    panel = panel[panel["outcome"].notna()]
    if model == "ratio":
        panel = _informative(panel)
    labelled = panel["labelled"].to_numpy(np.float64) > 0
    counts = Estimate(
        customers=panel.loc[labelled, "customer"].nunique(),
        others=panel.loc[~labelled, "customer"].nunique(),
        rows=len(panel),
        mean=_mean(panel.loc[labelled, "outcome"]),
        mean_others=_mean(panel.loc[~labelled, "outcome"]),
    )
    if min(counts.customers, counts.others) < MIN_CUSTOMERS:
        return _without(
            counts, f"too few: {MIN_CUSTOMERS} customers with and {MIN_CUSTOMERS} without the label are needed"
        )
    outcome = panel["outcome"].to_numpy(np.float64)
    if model == "ratio":
        if not (counts.mean and counts.mean_others):
            return _without(counts, "one of the two groups spent nothing")
        outcome = outcome / outcome.mean()
    elif np.ptp(outcome) == 0:
        return _without(counts, "every outcome is the same")
    exposed = labelled.astype(np.float64)
    controls = _controls(panel, previous)
    groups = pd.factorize(panel["customer"])[0]
    try:
        return _estimate(counts, model, outcome, exposed, controls, groups, flips, seed)
    except (np.linalg.LinAlgError, FloatingPointError, ValueError) as error:
        return _without(counts, f"no fit: {error}")


def _estimate(
    counts: Estimate,
    model: Model,
    outcome: Floats,
    exposed: Floats,
    controls: Floats,
    groups: NDArray[np.intp],
    flips: int,
    seed: int,
) -> Estimate:
    null_mean = np.asarray(_fit(model, outcome, controls).fittedvalues, dtype=np.float64)
    weights = null_mean if model == "ratio" else np.ones_like(outcome)
    free = exposed - controls @ _solve(controls, exposed, weights)
    if (weights * free**2).sum() < 1e-8 * (weights * exposed**2).sum():
        return _without(counts, "the label goes with period and segment too closely to tell them apart")
    beta, error = _coefficient(model, outcome, np.column_stack([exposed, controls]), groups)
    if not np.isfinite([beta, error]).all() or error == 0 or (model == "ratio" and abs(beta) > 20):
        return _without(counts, "no fit: the groups hardly overlap")
    degrees = int(groups.max())  # customers less one
    p_regression = float(2 * stats.t.sf(abs(beta / error), degrees))
    scores: Floats = np.bincount(groups, free * (outcome - null_mean)).astype(np.float64)
    p_flips = _flip(scores, flips, seed)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    value, low, high = beta, beta - half, beta + half
    if model == "ratio":
        value, low, high = (float(np.exp(number)) for number in (value, low, high))
    return Estimate(
        value=value,
        low=low,
        high=high,
        p_value=max(p_regression, p_flips),
        p_regression=p_regression,
        p_flips=p_flips,
        customers=counts.customers,
        others=counts.others,
        rows=counts.rows,
        mean=counts.mean,
        mean_others=counts.mean_others,
    )


def _fit(model: Model, outcome: Floats, design: Floats, **how: Any) -> Any:
    """Statsmodels' fit."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of shows in the numbers, which the caller looks at
        if model == "ratio":
            return sm.GLM(outcome, design, family=sm.families.Poisson()).fit(maxiter=50, **how)
        return sm.OLS(outcome, design).fit(**how)


def _coefficient(model: Model, outcome: Floats, design: Floats, groups: NDArray[np.intp]) -> tuple[float, float]:
    """The first coefficient and its standard error, robust to what a customer's rows share."""
    if groups.max() >= MANY:
        fitted = _fit(model, outcome, design, cov_type="cluster", cov_kwds={"groups": groups})
        return float(fitted.params[0]), float(fitted.bse[0])
    fitted = _fit(model, outcome, design)
    means = np.asarray(fitted.fittedvalues, dtype=np.float64)
    return float(fitted.params[0]), float(np.sqrt(_jackknife(model, outcome, design, means, groups)))


def _jackknife(model: Model, outcome: Floats, design: Floats, means: Floats, groups: NDArray[np.intp]) -> float:
    """Variance of the first coefficient by leaving out one customer after another, one Newton step each (CV3).

    With few or unequal customers it holds better than the usual sandwich (MacKinnon, Nielsen and Webb, 2023,
    https://doi.org/10.1002/jae.2969).
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    design, residual = design[order], (outcome - means)[order]
    weighted = design * (means[order, None] if model == "ratio" else 1.0)
    whole = design.T @ weighted
    # without a customer who alone has some segment, that column is empty: it moves nothing, and must not stop the rest
    ridge = np.diag(1e-9 * np.diag(whole))
    first = np.eye(design.shape[1])[0]
    moved = 0.0
    for start, end in zip(starts, [*starts[1:], len(design)], strict=True):
        rest = whole - design[start:end].T @ weighted[start:end] + ridge
        moved += float(np.linalg.solve(rest, first) @ (residual[start:end] @ design[start:end])) ** 2
    return moved * (len(starts) - 1) / len(starts)


def _flip(scores: Floats, flips: int, seed: int) -> float:
    """Share of sign flips of the customers' scores whose sum is at least as far from 0 as the one that was seen."""
    if len(scores) > MANY:
        return float(2 * stats.norm.sf(abs(scores.sum()) / np.sqrt((scores**2).sum())))
    random = np.random.default_rng(seed)
    seen = abs(scores.sum()) * (1 - 1e-12)
    reached = done = 0
    while done < flips and reached < ENOUGH:
        size = min(500, flips - done)
        kept = random.integers(0, 2, (size, len(scores)), dtype=np.int8).astype(np.float64)
        reached += int((np.abs(2 * (kept @ scores) - scores.sum()) >= seen).sum())
        done += size
    return (1 + reached) / (1 + done)


def _controls(panel: pd.DataFrame, previous: bool) -> Floats:
    """The design without the label: constant, messages, spending before, fixed effects; no column without variation."""
    columns = [np.log2(panel["messages"].to_numpy(np.float64))]
    if previous:
        before = panel["previous"].to_numpy(np.float64)
        spent = before[before > 0]
        columns += [np.log1p(before / spent.mean() if len(spent) else before), (before > 0).astype(np.float64)]
    for name in ("period", "segment"):
        codes, values = pd.factorize(panel[name], sort=True)
        columns += [(codes == code).astype(np.float64) for code in range(1, len(values))]
    varied = [column for column in columns if np.ptp(column) > 0]
    return np.column_stack([np.ones(len(panel)), *varied])


def _informative(panel: pd.DataFrame) -> pd.DataFrame:
    """`panel` without periods and segments in which nobody spent anything: their fixed effect alone explains them."""
    while len(panel):
        idle = np.zeros(len(panel), dtype=bool)
        for name in ("period", "segment"):
            idle |= (panel.groupby(name)["outcome"].transform("sum") == 0).to_numpy()
        if not idle.any():
            break
        panel = panel[~idle]
    return panel


def _solve(design: Floats, target: Floats, weights: Floats) -> Floats:
    root = np.sqrt(weights)
    return np.asarray(np.linalg.lstsq(design * root[:, None], target * root, rcond=None)[0], dtype=np.float64)


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def _without(counts: Estimate, problem: str) -> Estimate:
    return Estimate(
        customers=counts.customers,
        others=counts.others,
        rows=counts.rows,
        mean=counts.mean,
        mean_others=counts.mean_others,
        problem=problem,
    )
