"""Macro-F1 under resampling: how far a score, or the difference of two, could have come out otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000

#: Labels with fewer true rows in a slice do not count towards its macro-F1: one row would move it by many points.
CLASS_ROWS = 5

#: Weights held at once; bounds memory to about 64 MB whatever the number of rows.
_WEIGHTS_AT_ONCE = 8_000_000


def resample(
    truth: NDArray[Any],
    predictions: Sequence[NDArray[Any]],
    classes: int,
    parts: Sequence[NDArray[np.bool_] | None] = (None,),
    *,
    keys: Sequence[str] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Macro-F1 of each prediction in each of 2,000 resamples of the rows: [parts, predictions, resamples].

    The Poisson bootstrap (Hanley and MacGibbon, 2006, https://doi.org/10.1016/j.cmpb.2006.04.006; Chamandy et
    al., 2012): each row counts Poisson(1) times. The counts depend on the seed and on the row's place in the order of
    `keys` alone, never on predictions. So predictions are paired, and one that is set right lowers the score of no
    resample.

    Args:
        truth: class indices [n].
        predictions: class indices [n], one array a model.
        classes: number of labels.
        parts: rows of each part, bool [n]; None stands for all rows, where every label counts. In a slice
            the labels with at least `CLASS_ROWS` true rows do; without any the score is NaN.
        keys: what each row is known by, such as its text, so that the order of the rows does not matter; None: its
            place.
        seed: of the counts.
    """
    rows = len(truth)
    order = (
        np.arange(rows) if keys is None else np.array(sorted(range(rows), key=lambda row: keys[row]), dtype=np.int64)
    )
    columns = np.hstack([_columns(truth[order], predicted[order], classes) for predicted in predictions])
    members = [np.arange(rows) if part is None else np.flatnonzero(part[order]) for part in parts]
    counted = [
        np.ones(classes, dtype=np.bool_) if part is None else counted_classes(truth[part], classes) for part in parts
    ]
    scores = np.empty((len(parts), len(predictions), RESAMPLES))
    start = 0
    for weights in poisson_weights(rows, seed):
        stop = start + weights.shape[1]
        for part, (inside, labels) in enumerate(zip(members, counted, strict=True)):
            sums = columns[inside].T @ (weights if len(inside) == rows else weights[inside])
            scores[part, :, start:stop] = _mean_f1(sums.reshape(len(predictions), 2, classes, -1), labels)
        start = stop
    return scores


def slice_macro_f1(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> float:
    """Macro-F1 over the labels with at least `CLASS_ROWS` true rows; NaN where there is none."""
    sums = _columns(truth, predicted, classes).sum(axis=0, dtype=np.float64)
    return float(_mean_f1(sums.reshape(1, 2, classes, 1), counted_classes(truth, classes))[0, 0])


def counted_classes(truth: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Which labels count in a slice, bool [classes]."""
    return np.asarray(np.bincount(truth, minlength=classes) >= CLASS_ROWS)


def interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled `values` (Efron and Tibshirani, 1993, chapter 13)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(truth: NDArray[Any], ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Exact two-sided McNemar p-value: are the rows that just one of the two gets right split evenly?

    McNemar, 1947, https://doi.org/10.1007/BF02295996, in the binomial form. 1.0 where they never differ.
    """
    from scipy.stats import binomtest

    ours_only = int(np.sum((ours == truth) & (theirs != truth)))
    theirs_only = int(np.sum((ours != truth) & (theirs == truth)))
    split = ours_only + theirs_only
    return float(binomtest(ours_only, split, 0.5).pvalue) if split else 1.0


def _columns(truth: NDArray[Any], predicted: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """Row by row what F1 is made of, [n, 2 * classes]: hits of each label, then its true and its predicted rows."""
    labels = np.arange(classes)
    is_truth, is_predicted = truth[:, None] == labels, predicted[:, None] == labels
    hits, total = is_truth & is_predicted, is_truth.astype(np.float32) + is_predicted
    return np.hstack([hits.astype(np.float32), total])


def _mean_f1(sums: NDArray[Any], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean F1 [models, resamples] of the counted labels from sums [models, 2, classes, resamples]."""
    if not counted.any():
        return np.full((sums.shape[0], sums.shape[3]), np.nan)
    hits, total = sums[:, 0, counted].astype(np.float64), sums[:, 1, counted]
    scores: NDArray[np.float64] = (2 * hits / np.maximum(total, 1)).mean(axis=1)
    return scores


def poisson_weights(rows: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each row counts, [rows, some resamples], until `RESAMPLES` were given.

    Poisson(1) by inversion: 16 random bits look its value up, 30 times as fast as drawing it.
    """
    cumulative = np.cumsum([np.exp(-1)] + [np.exp(-1) / factorial for factorial in (1, 2, 6, 24, 120, 720, 5_040)])
    table = np.searchsorted(cumulative, (np.arange(65_536) + 0.5) / 65_536).astype(np.float32)
    generator = np.random.default_rng(seed)
    step = max(1, _WEIGHTS_AT_ONCE // max(rows, 1))
    for start in range(0, RESAMPLES, step):
        yield table[generator.integers(0, 65_536, (rows, min(step, RESAMPLES - start)), dtype=np.uint16)]
