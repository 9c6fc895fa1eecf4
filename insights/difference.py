"""Whether a true share differs between two periods, or only seems to.

Three things make a difference out of nothing: few messages, shares that vary from day to day anyway, and the model's
errors. With one message's variance s² and a day's own variance t² over days of n messages, a period's share has the
variance s² / N + t² Σ n² / N². t² comes from the steps of the period before, by moments (DerSimonian and Laird, 1986,
https://doi.org/10.1016/0197-2456(86)90046-2); the ratio of what varies to what single messages explain is the
dispersion of a quasi-binomial model. Both periods are corrected by the same draws of the error rates, so what the model
gets wrong in both drops out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insights.counts import Said
from insights.estimate import BAND, Corrections, Floats

#: Fewer steps do not tell how much they vary.
MIN_STEPS = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """After less before, of one label's true share.

    Attributes:
        value: in fractions of 1; not yet held to what shares can be.
        error: standard error, with the degrees of freedom ``freedom``.
        low, high: 95 % band.
        p: that there is none (two-sided t).
        dispersion: variance between steps, as a multiple of that of single messages.
    """

    value: float
    error: float
    freedom: int
    low: float
    high: float
    p: float
    dispersion: float


def differences(
    corrected: Corrections, before: Sequence[Said], after: Sequence[Said], earlier: Sequence[Said] = ()
) -> Mapping[str, Difference] | str:
    """Each label's difference between two periods; or what there is too little of, in words.

    Args:
        before, after: how often each version said each label, by step, such as a day.
        earlier: steps before these; they tell, with those of `before`, how much steps vary.
    """
    from scipy import stats

    steps = [said for said in (*earlier, *before) if said]
    sums = [summed(part, len(corrected.labels)) for part in (before, after)]
    for name, said in zip(("before", "now"), sums, strict=True):
        if words := corrected.lacking(said):
            return f"{name}: {words}"
    if len(steps) < MIN_STEPS:
        return f"before: {len(steps)} of {MIN_STEPS} steps with messages"
    if words := corrected.lacking(summed(steps, len(corrected.labels))):
        return f"earlier: {words}"
    versions = sorted({version for said in (*steps, sums[1]) for version in said})
    plain = np.stack([corrected.plain(version) for version in versions])
    drawn = np.stack([corrected.drawn(version) for version in versions], axis=1)
    counts = [_table(part, versions, len(corrected.labels)) for part in (before, after)]
    shares = [_shares(part.sum(axis=0), plain) for part in counts]
    moved = _fractions(counts[1].sum(axis=0)) - _fractions(counts[0].sum(axis=0))
    low, high = np.quantile(np.einsum("dvij,vj->di", drawn, moved), BAND, axis=0)
    single = _variance(counts[0].sum(axis=0) + counts[1].sum(axis=0), plain)
    day, dispersion = _between(_table(steps, versions, len(corrected.labels)), plain)
    variance = ((high - low) / (2 * stats.norm.ppf(BAND[1]))) ** 2
    for part in counts:
        sizes = part.sum(axis=(1, 2))
        variance += single / sizes.sum() + day * (sizes**2).sum() / sizes.sum() ** 2
    error, freedom = np.sqrt(variance), len(steps) - 1
    value = shares[1] - shares[0]
    half = stats.t.ppf(BAND[1], freedom) * error
    p = 2 * stats.t.sf(np.abs(value) / np.maximum(error, 1e-12), freedom)
    return {
        label: Difference(
            float(value[i]),
            float(error[i]),
            freedom,
            float(value[i] - half[i]),
            float(value[i] + half[i]),
            float(p[i]),
            float(dispersion[i]),
        )
        for i, label in enumerate(corrected.labels)
    }


def summed(steps: Sequence[Said], labels: int) -> Said:
    """Label counts by version over all steps."""
    total: Said = {}
    for said in steps:
        for version, counts in said.items():
            total[version] = total.get(version, np.zeros(labels, dtype=np.int64)) + counts
    return total


def _table(steps: Sequence[Said], versions: Sequence[int], labels: int) -> NDArray[np.int64]:
    """Counts (steps, versions, labels)."""
    table = np.zeros((len(steps), len(versions), labels), dtype=np.int64)
    place = {version: number for number, version in enumerate(versions)}
    for number, said in enumerate(steps):
        for version, counts in said.items():
            table[number, place[version]] = counts
    return table


def _fractions(counts: NDArray[np.int64]) -> Floats:
    return np.asarray(counts / counts.sum())


def _shares(counts: NDArray[np.int64], plain: Floats) -> Floats:
    """True shares (labels,) of counts (versions, labels), not held to be shares."""
    return np.asarray(np.einsum("vij,vj->i", plain, _fractions(counts)))


def _variance(counts: NDArray[np.int64], plain: Floats) -> Floats:
    """Variance (labels,) of what one message adds to the corrected share."""
    mean = _shares(counts, plain)
    return np.asarray(np.maximum(np.einsum("vij,vj->i", plain**2, _fractions(counts)) - mean**2, 1e-12))


def _between(counts: NDArray[np.int64], plain: Floats) -> tuple[Floats, Floats]:
    """Variance of the steps' own shares, and dispersion, both (labels,); counts (steps, versions, labels)."""
    sizes = counts.sum(axis=(1, 2))
    shares = np.einsum("vij,nvj->ni", plain, counts / sizes[:, None, None])
    single = _variance(counts.sum(axis=0), plain)
    mean = _shares(counts.sum(axis=0), plain)
    chi = (sizes[:, None] * (shares - mean) ** 2).sum(axis=0) / single
    freedom = len(sizes) - 1
    scale = sizes.sum() - (sizes**2).sum() / sizes.sum()
    return np.maximum(chi - freedom, 0) * single / scale, np.maximum(chi / freedom, 1.0)
