"""Two-sample tests: an effect size and a p-value for two samples of numbers, vectors, texts or words. Pure functions.

Nothing here depends on the order of rows, and every random number comes from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

FOLDS = 2
PERMUTATIONS = 1_999
#: Permutations that are one product of matrices, and how many must reach what was found for the test to stop early:
#: the p-value is then far above any level (after Besag and Clifford, 1991, https://doi.org/10.1093/biomet/78.2.301).
CHUNK, PLAIN_CHANCE = 250, 50
#: Random Fourier features of the MMD test: so many frequencies, a cosine and a sine of each.
FREQUENCIES = 256
#: Rows that tell the width of the MMD test's kernel.
MEDIAN_ROWS = 1_000
#: What single precision may do to a squared MMD; chance is of the order of one over the rows.
ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Held-out scores of a classifier that tells the second sample (high) from the first, and the fold of each row.

    Equal rows of a sample are one: with a copy in each fold the classifier would know rows by heart, and like samples
    would differ. The fold of a copy is -1, its score that of the row. Where too few rows differ for the folds, all of
    them count.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    first_folds: NDArray[np.int64]
    second_folds: NDArray[np.int64]

    def test(self) -> tuple[float, float]:
        """Mean AUC of the folds, and a p-value that holds: the smaller of the folds' times their number.

        Within a fold the scored rows had no part in the fit, so the Mann-Whitney test of their scores is an ordinary
        one. The folds depend on one another (each is trained on what the other scores), which Bonferroni allows. One
        test of all folds' scores together does not hold: at 5 % it rejected 11 to 12 % of like samples
        (`python -m benchmarks.drift_level`).
        """
        folds = [
            auc_test(self.first[self.first_folds == fold], self.second[self.second_folds == fold])
            for fold in range(FOLDS)
        ]
        return float(np.mean([auc for auc, _ in folds])), min(1.0, FOLDS * min(p_value for _, p_value in folds))


def cross_fit(first: NDArray[Any], second: NDArray[Any]) -> CrossFit | None:
    """Tell samples of vectors [n, d], [m, d] apart: balanced logistic regression on standardised columns, two folds.

    A classifier two-sample test (Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545). None where a
    sample has too few different rows for its folds. A row is placed in a fold by its values, not by where it stands.
    """
    from sklearn.preprocessing import StandardScaler

    sides = [_distinct_rows(np.ascontiguousarray(side, dtype=np.float32)) for side in (first, second)]
    if min(len(side.rows) for side in sides) < 2 * FOLDS:
        return None
    rows = np.concatenate([side.rows for side in sides])
    scaled = StandardScaler().fit_transform(rows)  # of all rows alike: it cannot tell which sample a row is of
    return _fit(scaled, sides)


def cross_fit_texts(first: Sequence[str], second: Sequence[str]) -> CrossFit | None:
    """`cross_fit` on the TF-IDF of words and pairs of words, for a model without an encoder."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sides = [_distinct_texts(side) for side in (first, second)]
    if min(len(side.rows) for side in sides) < 2 * FOLDS:
        return None
    vectorizer = TfidfVectorizer(min_df=3, max_features=20_000, ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    try:
        return _fit(vectorizer.fit_transform([text for side in sides for text in side.rows]), sides, strength=1.0)
    except ValueError as error:  # scikit-learn's words for texts of which no word stands in three
        if "vocabulary" in str(error) or "no terms remain" in str(error):
            return None
        raise


class _Distinct(NamedTuple):
    """Different rows in an order of their own values, where each given row is among them, and which ones speak."""

    rows: NDArray[Any]
    place: NDArray[np.int64]
    speaks: NDArray[np.bool_]


def _distinct_rows(rows: NDArray[np.float32]) -> _Distinct:
    order = canonical_order(rows)
    ordered = rows[order]
    return _distinct(ordered, order, (ordered[1:] != ordered[:-1]).any(axis=1))


def _distinct_texts(texts: Sequence[str]) -> _Distinct:
    found = np.array([*texts, ""], dtype=object)[:-1]
    order = np.argsort(found, kind="stable")
    return _distinct(found[order], order, found[order][1:] != found[order][:-1])


def _distinct(ordered: NDArray[Any], order: NDArray[np.int64], changes: NDArray[np.bool_]) -> _Distinct:
    """Of sorted rows, the first of each run of equal ones; `changes` [n - 1]: where a row differs from the last."""
    new = np.concatenate([[True], changes])[: len(order)]
    if new.sum() < 2 * FOLDS:
        new[:] = True
    place, speaks = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.bool_)
    place[order], speaks[order] = np.cumsum(new) - 1, new
    return _Distinct(ordered[new], place, speaks)


def _fit(rows: Any, sides: list[_Distinct], strength: float = 0.01) -> CrossFit:
    """Scores of the rows as they were given."""
    from sklearn.linear_model import LogisticRegression

    sizes = [len(side.rows) for side in sides]
    domain = np.repeat([0, 1], sizes)
    folds = np.concatenate([_folds(size, seed) for seed, size in enumerate(sizes)])
    scores = np.empty(len(domain))
    for fold in range(FOLDS):
        seen, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500).fit(rows[seen], domain[seen])
        scores[held] = model.decision_function(rows[held])
    halves = slice(0, sizes[0]), slice(sizes[0], None)
    given_scores = [scores[half][side.place] for side, half in zip(sides, halves, strict=True)]
    given_folds = [np.where(side.speaks, folds[half][side.place], -1) for side, half in zip(sides, halves, strict=True)]
    return CrossFit(given_scores[0], given_scores[1], given_folds[0], given_folds[1])


def _folds(rows: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(np.arange(rows) % FOLDS)


def canonical_order(rows: NDArray[Any]) -> NDArray[np.int64]:
    """An order of `rows` [n, d] that follows from their values, so that no result depends on how they came."""
    return np.lexsort(rows.T[: min(8, rows.shape[1])])


def auc_test(first: NDArray[Any], second: NDArray[Any]) -> tuple[float, float]:
    """AUC with which a score tells the second sample (high) from the first, and its one-sided Mann-Whitney p-value."""
    result = stats.mannwhitneyu(second, first, alternative="greater", method="asymptotic")
    return float(result.statistic / (len(first) * len(second))), float(result.pvalue)


def mmd_test(first: NDArray[Any], second: NDArray[Any], seed: int = 0) -> tuple[float, float]:
    """Maximum mean discrepancy of two samples of vectors, and its permutation p-value.

    The square root of the unbiased estimate, 0 where that is negative (Gretton et al., 2012,
    https://jmlr.org/papers/v13/gretton12a.html), of a Gaussian kernel as wide as the first sample's median distance.
    Random Fourier features (Rahimi and Recht, 2007) in pairs stand for the kernel, so that all permutations are one
    product of matrices: 5,000 rows against 5,000 take about a second instead of minutes.
    """
    from scipy.spatial.distance import pdist

    random = np.random.default_rng(seed)
    first, second = (side[canonical_order(side)].astype(np.float32) for side in (first, second))
    some = first[random.permutation(len(first))[:MEDIAN_ROWS]]
    width = float(np.median(pdist(some))) or 1.0
    angles = np.concatenate([first, second]) @ random.normal(size=(first.shape[1], FREQUENCIES)).astype(np.float32)
    angles /= width
    features = np.hstack([np.cos(angles), np.sin(angles)]) / np.float32(np.sqrt(FREQUENCIES))
    n, m = len(first), len(second)
    total = features.sum(axis=0, dtype=np.float64)
    found = float(_mmd2(features[:n].sum(axis=0, dtype=np.float64)[None], total, n, m)[0])
    reached = done = 0
    while done < PERMUTATIONS and reached < PLAIN_CHANCE:
        size = min(CHUNK, PERMUTATIONS - done)
        member = random.permuted(np.tile(np.repeat(np.array([1, 0], np.float32), [n, m]), (size, 1)), axis=1)
        reached += int((_mmd2(member @ features, total, n, m) >= found - ROUNDING).sum())
        done += size
    return float(np.sqrt(max(0.0, found))), (1 + reached) / (1 + done)


def _mmd2(sums: NDArray[Any], total: NDArray[np.float64], n: int, m: int) -> NDArray[np.float64]:
    """Unbiased squared MMD for each row of `sums` [b, d], the first sample's. A row's own kernel value is 1."""
    others = total - sums
    within_first = ((sums**2).sum(axis=1) - n) / (n * (n - 1))
    within_second = ((others**2).sum(axis=1) - m) / (m * (m - 1))
    return np.asarray(within_first + within_second - 2 * (sums * others).sum(axis=1) / (n * m))


def distance_test(first: NDArray[Any], second: NDArray[Any]) -> tuple[float, float]:
    """Wasserstein distance over the first sample's standard deviation, and the Kolmogorov-Smirnov p-value.

    Where the first sample is constant, over the standard deviation of both together.
    """
    spread = float(np.std(first))
    if spread < 1e-9:
        spread = float(np.std(np.concatenate([first, second]))) or 1.0
    effect = stats.wasserstein_distance(first, second) / spread
    return float(effect), float(stats.ks_2samp(first, second, method="asymp").pvalue)


def shares_test(first: Sequence[str], second: Sequence[str]) -> tuple[float, float]:
    """Population stability index and chi-square p-value of two columns of words."""
    found = sorted(set(first) | set(second))
    counts = np.array([[sum(value == name for value in side) for name in found] for side in (first, second)])
    return psi(counts), chi_square(counts)


def psi(counts: NDArray[Any]) -> float:
    """Population stability index of counts [2, k], half a message added to every cell (Siddiqi, 2006, ch. 6).

    Values that neither side holds play no part.
    """
    counts = counts[:, counts.sum(axis=0) > 0]
    shares = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def chi_square(counts: NDArray[Any]) -> float:
    """P-value of the chi-square test of counts [2, k]; values of which a side expects fewer than five are one value."""
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / max(1, counts.sum())
    rare = expected < 5
    seen = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)])
    seen = seen[:, seen.sum(axis=0) > 0]
    if seen.shape[1] < 2 or (seen.sum(axis=1) == 0).any():
        return 1.0
    return float(stats.chi2_contingency(seen, correction=False).pvalue)


def rise_test(before: tuple[int, int], after: tuple[int, int]) -> tuple[float, float]:
    """By how much a share (hits, of so many) rose, and the one-sided p-value of Fisher's exact test of that."""
    table = [[after[0], after[1] - after[0]], [before[0], before[1] - before[0]]]
    rise = after[0] / after[1] - before[0] / before[1]
    return float(rise), float(stats.fisher_exact(table, alternative="greater").pvalue)
