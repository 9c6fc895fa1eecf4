"""Differences between two windows, each with an effect size and a p-value. Pure functions.

A signal fires only if its p-value is below alpha, divided by the number of signals (Bonferroni), *and* its effect
reaches the floor: with many messages every trifle is significant.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    if min(reference.embedded.sum(), current.embedded.sum()) < policy.min_rows:
        return None
    scores = domain_scores(reference, current)
    if scores is None:
        return None
    auc, p_value = auc_test(*(side[np.isfinite(side)] for side in scores))
    return _signal(
        "embedding", "classifier two-sample test, AUC", auc, policy.embedding_auc, p_value, policy,
        severe=auc >= policy.embedding_auc_act,
    )  # fmt: skip


def domain_scores(reference: Window, current: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Held-out scores of a logistic regression that tells reference rows (first) from current ones (second).

    NaN for a row without an embedding. None where a side has no embeddings, their widths differ, or a side has
    fewer of them than folds. The order of the rows does not matter.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if reference.embeddings is None or current.embeddings is None:
        return None
    first, second = (side.embeddings[side.embedded] for side in (reference, current))  # type: ignore[index]
    if first.shape[1] != second.shape[1] or min(len(first), len(second)) < FOLDS:
        return None
    orders = [np.lexsort(side.T[: min(8, side.shape[1])]) for side in (first, second)]
    rows = np.concatenate([first[orders[0]], second[orders[1]]]).astype(np.float64)
    is_current = np.repeat([0, 1], [len(first), len(second)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    held_out = cross_val_predict(model, rows, is_current, cv=folds, method="decision_function")
    halves = held_out[: len(first)], held_out[len(first) :]
    scores = [np.full(side.rows, np.nan) for side in (reference, current)]
    for side, found, order, half in zip((reference, current), scores, orders, halves, strict=True):
        found[np.flatnonzero(side.embedded)[order]] = half
    return scores[0], scores[1]


def auc_test(reference: NDArray[Any], current: NDArray[Any]) -> tuple[float, float]:
    """AUC with which a score tells current from reference, and the one-sided Mann-Whitney p-value of that."""
    result = stats.mannwhitneyu(current, reference, alternative="greater", method="asymptotic")
    return float(result.statistic / (len(current) * len(reference))), float(result.pvalue)


def label_shares(reference: Window, current: Window, policy: DriftPolicy, labels: tuple[str, ...]) -> Signal:
    """Predicted labels: population stability index, and the p-value of a chi-square test."""
    effect, p_value = shares_test(reference.frame["label"], current.frame["label"], labels)
    return _signal("labels", "population stability index, chi-square", effect, policy.label_psi, p_value, policy)


def distance(name: str, reference: Window, current: Window, policy: DriftPolicy, floor: float) -> Signal | None:
    """A number's Wasserstein distance in standard deviations of the reference, and the Kolmogorov-Smirnov p-value."""
    first, second = (side.frame[name].dropna().to_numpy(dtype=np.float64) for side in (reference, current))
    if min(len(first), len(second)) < policy.min_rows:
        return None
    effect, p_value = distance_test(first, second)
    return _signal(name, "Wasserstein distance / std, Kolmogorov-Smirnov", effect, floor, p_value, policy)


def mix(name: str, reference: Window, current: Window) -> Signal | None:
    """Shares of channels or segments: they explain a drift, and never fire. New and vanished ones count."""
    first, second = reference.frame[name].dropna(), current.frame[name].dropna()
    if first.empty or second.empty:
        return None
    effect, p_value = shares_test(first, second)
    return Signal(f"{name} mix", "population stability index, chi-square", effect, 0.0, p_value, False)


def distance_test(reference: NDArray[Any], current: NDArray[Any]) -> tuple[float, float]:
    """Wasserstein distance over the reference's standard deviation, and the Kolmogorov-Smirnov p-value."""
    effect = stats.wasserstein_distance(reference, current) / max(float(reference.std()), 1e-6)
    return float(effect), float(stats.ks_2samp(reference, current, method="asymp").pvalue)


def shares_test(first: pd.Series, second: pd.Series, values: Sequence[str] | None = None) -> tuple[float, float]:
    """Population stability index and chi-square p-value of two columns of words; `values`: those that count."""
    found = sorted(set(first) | set(second)) if values is None else list(values)
    counts = np.array([[int((side == value).sum()) for value in found] for side in (first, second)])
    return psi(counts), _chi_square(counts)


def significant(p_value: float, policy: DriftPolicy) -> bool:
    """Below alpha over the number of signals that can fire."""
    return p_value < policy.alpha / FIRING


def psi(counts: NDArray[Any]) -> float:
    """Population stability index of counts [2, k], half a message added to every cell (Siddiqi, 2006, ch. 6).

    Values that neither side holds play no part.
    """
    counts = counts[:, counts.sum(axis=0) > 0]
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _chi_square(counts: NDArray[np.int64]) -> float:
    seen = counts[:, counts.sum(axis=0) > 0]
    if seen.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(seen, correction=False).pvalue)


def _signal(
    name: str, method: str, effect: float, floor: float, p_value: float, policy: DriftPolicy, severe: bool = False
) -> Signal:
    fired = significant(p_value, policy) and effect >= floor
    return Signal(name, method, effect, floor, p_value, fired, severe and fired)
