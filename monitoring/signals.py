"""Differences between two windows, each with an effect size and a p-value. Pure functions.

A signal fires only if its p-value is below alpha, divided by the number of signals (Bonferroni), *and* its effect
reaches the floor: with many messages every trifle is significant.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from monitoring.windows import Window
from undertone.records import Signal
from undertone.tasks import DriftPolicy

#: Signals that can fire: embedding, labels, confidence, length.
FIRING = 4
FOLDS = 5


def measure(reference: Window, current: Window, policy: DriftPolicy, labels: tuple[str, ...]) -> tuple[Signal, ...]:
    """Every signal that both windows have data for, the firing ones first."""
    found = [embedding(reference, current, policy)]
    found += [
        label_shares(reference, current, policy, labels),
        distance("confidence", reference, current, policy, policy.confidence_wasserstein),
        distance("length", reference, current, policy, policy.length_wasserstein),
        mix("channel", reference, current),
        mix("segment", reference, current),
    ]
    return tuple(signal for signal in found if signal is not None)


def embedding(reference: Window, current: Window, policy: DriftPolicy) -> Signal | None:
    """Can a classifier tell the windows apart by their embeddings?

    A cross-fitted classifier two-sample test (Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545). The effect
    is the AUC of its held-out scores, the p-value that of the Mann-Whitney test on them.
    """
    scores = domain_scores(reference, current)
    if scores is None:
        return None
    auc, p_value = auc_test(*scores)
    return _signal(
        "embedding", "classifier two-sample test, AUC", auc, policy.embedding_auc, p_value, policy,
        severe=auc >= policy.embedding_auc_act,
    )  # fmt: skip


def domain_scores(reference: Window, current: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Held-out scores of a logistic regression that tells reference rows (first) from current ones (second).

    None where a side has no embeddings, their widths differ, or a side has fewer rows than folds. The order of
    the rows does not matter.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    first, second = reference.embeddings, current.embeddings
    if first is None or second is None or first.shape[1] != second.shape[1] or min(len(first), len(second)) < FOLDS:
        return None
    orders = [np.lexsort(side.T[: min(8, side.shape[1])]) for side in (first, second)]
    rows = np.concatenate([first[orders[0]], second[orders[1]]]).astype(np.float64)
    is_current = np.repeat([0, 1], [len(first), len(second)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    held_out = cross_val_predict(model, rows, is_current, cv=folds, method="decision_function")
    unsorted = [np.empty(len(side)) for side in (first, second)]
    unsorted[0][orders[0]], unsorted[1][orders[1]] = held_out[: len(first)], held_out[len(first) :]
    return unsorted[0], unsorted[1]


def auc_test(reference: NDArray[Any], current: NDArray[Any]) -> tuple[float, float]:
    """AUC with which a score tells current from reference, and the one-sided Mann-Whitney p-value of that."""
    result = stats.mannwhitneyu(current, reference, alternative="greater", method="asymptotic")
    return float(result.statistic / (len(current) * len(reference))), float(result.pvalue)


def label_shares(reference: Window, current: Window, policy: DriftPolicy, labels: tuple[str, ...]) -> Signal:
    """Predicted labels: population stability index, and the p-value of a chi-square test."""
    counts = _counts(reference.frame["label"], current.frame["label"], list(labels))
    return _signal(
        "labels", "population stability index, chi-square", psi(counts), policy.label_psi, _chi_square(counts), policy
    )


def distance(name: str, reference: Window, current: Window, policy: DriftPolicy, floor: float) -> Signal | None:
    """A number's Wasserstein distance in standard deviations of the reference, and the Kolmogorov-Smirnov p-value."""
    first, second = (side.frame[name].dropna().to_numpy(dtype=np.float64) for side in (reference, current))
    if not len(first) or not len(second):
        return None
    effect = float(stats.wasserstein_distance(first, second) / max(float(first.std()), 1e-6))
    p_value = float(stats.ks_2samp(first, second, method="asymp").pvalue)
    return _signal(name, "Wasserstein distance / std, Kolmogorov-Smirnov", effect, floor, p_value, policy)


def mix(name: str, reference: Window, current: Window) -> Signal | None:
    """Shares of channels or segments: they explain a drift, and never fire. New and vanished ones count."""
    first, second = reference.frame[name].dropna(), current.frame[name].dropna()
    if first.empty or second.empty:
        return None
    counts = _counts(first, second, sorted(set(first) | set(second)))
    return Signal(f"{name} mix", "population stability index, chi-square", psi(counts), 0.0, _chi_square(counts), False)


def psi(counts: NDArray[Any]) -> float:
    """Population stability index of counts [2, k], half a message added to every cell (Siddiqi, 2006, ch. 6)."""
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _counts(first: pd.Series, second: pd.Series, values: list[str]) -> NDArray[np.int64]:
    return np.array([[int((side == value).sum()) for value in values] for side in (first, second)])


def _chi_square(counts: NDArray[np.int64]) -> float:
    seen = counts[:, counts.sum(axis=0) > 0]
    if seen.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(seen, correction=False).pvalue)


def _signal(
    name: str, method: str, effect: float, floor: float, p_value: float, policy: DriftPolicy, severe: bool = False
) -> Signal:
    fired = p_value < policy.alpha / FIRING and effect >= floor
    return Signal(name, method, effect, floor, p_value, fired, severe and fired)
