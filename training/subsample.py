"""Fewer rows than there are: every label's share is kept, and rows that weigh more are likelier to stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from undertone.errors import DataError
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from pandas import DataFrame

#: Column with the rows' weights; rows of a frame without it weigh alike.
WEIGHT = "weight"


def subsample(frame: DataFrame, spec: TaskSpec, limit: int | None, seed: int) -> DataFrame:
    """At most `limit` rows of `frame`, in its order, with each label's share kept (and one row of each at least).

    Where ``weight`` differs, a label's rows are drawn without replacement in proportion to it (Efraimidis and Spirakis,
    2006, https://doi.org/10.1016/j.ipl.2005.11.003), and ``weight`` becomes what each row still has to weigh in the
    loss: divided by its chance to be drawn (Cohen and Kaplan, 2007, *Summarizing data using bottom-k sketches*,
    https://doi.org/10.1145/1281100.1281133), so that a heavy row that was likely to stay does not count twice.

    Raises:
        DataError: no rows, or a label that the spec does not have.
    """
    unknown = sorted(set(frame["label"]) - set(spec.labels))
    if unknown or frame.empty:
        raise DataError(
            f"rows labelled {', '.join(spec.labels)}",
            f"{', '.join(map(str, unknown[:5]))}" if unknown else "no rows",
            f"correct the data of task {spec.name!r}",
        )
    if limit is None or len(frame) <= limit:
        return frame
    generator = np.random.default_rng(seed)
    labels, weights = frame["label"].to_numpy(), weights_of(frame)
    rows_of = [np.flatnonzero(labels == label) for label in spec.labels]
    shares = apportion([len(rows) for rows in rows_of], limit)
    if weights is None:
        picked = [generator.choice(rows, size=size, replace=False) for rows, size in zip(rows_of, shares, strict=True)]
        return frame.iloc[np.sort(np.concatenate(picked))]
    left = weights.copy()
    picked = [_draw(rows, size, weights, left, generator) for rows, size in zip(rows_of, shares, strict=True)]
    kept = np.sort(np.concatenate(picked))
    return frame.iloc[kept].assign(**{WEIGHT: left[kept]})


def weights_of(frame: DataFrame) -> NDArray[np.float64] | None:
    """The rows' weights, float64 [n]; None where all weigh alike."""
    if WEIGHT not in frame:
        return None
    weights = frame[WEIGHT].to_numpy(dtype=np.float64)
    return None if len(weights) == 0 or (weights == weights[0]).all() else weights


def apportion(counts: list[int], limit: int) -> list[int]:
    """`limit` rows divided in proportion to `counts`, each at most its count, with one at least for what is not empty.

    Row by row to the label that is furthest below its share, once every label has one.
    """
    total = sum(counts)
    shares = [min(count, max(1, limit * count // total)) for count in counts]
    while sum(shares) > limit and max(shares) > 1:
        shares[shares.index(max(shares))] -= 1
    while sum(shares) < min(limit, total):
        open_to = [index for index, count in enumerate(counts) if shares[index] < count]
        shares[max(open_to, key=lambda index: limit * counts[index] / total - shares[index])] += 1
    return shares


def _draw(
    rows: NDArray[np.int64],
    size: int,
    weights: NDArray[np.float64],
    left: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """`size` of `rows`, the first to arrive where a row of weight w comes w times an hour; writes `left`."""
    arrivals = generator.exponential(size=len(rows)) / weights[rows]
    order = np.argsort(arrivals, kind="stable")
    kept = rows[order[:size]]
    if size < len(rows):
        left[kept] = weights[kept] / -np.expm1(-weights[kept] * arrivals[order[size]])
    return kept
