"""What labels of randomly drawn messages say of a model: accuracy and macro-F1, and how far chance may move them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertone.reviews import AuditedAnswer

RESAMPLES = 2_000

#: Strata with fewer audited labels are resampled as one: a resample of one or two rows knows no spread.
STRATUM_ROWS = 5

#: With fewer labels than this an interval covers everything.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Quality:
    """Accuracy and macro-F1 of a model on the messages that its labelled answers stand for.

    Attributes:
        rows: labelled answers.
        accuracy_interval, macro_f1_interval: 95 %, each by itself; None: fewer than `FEWEST` rows.
    """

    rows: int
    accuracy: float
    macro_f1: float
    accuracy_interval: tuple[float, float] | None
    macro_f1_interval: tuple[float, float] | None


def measure(labels: Sequence[str], answers: Sequence[AuditedAnswer], seed: int = 0) -> Quality | None:
    """Quality on randomly drawn messages, each standing for the messages of its weight; None: no label counts.

    The intervals are percentiles of 2,000 resamples within strata (`resampled`).

    Args:
        labels: of the task; answers and labels that are none of them do not count.
        seed: of the resampling.
    """
    index = {label: place for place, label in enumerate(labels)}
    kept = [answer for answer in answers if answer.label in index and answer.predicted in index]
    if not kept:
        return None
    cells, weights, strata = counted(kept, index)
    point = scores(np.bincount(cells, weights, minlength=len(labels) ** 2), len(labels))
    low = high = None
    if len(kept) >= FEWEST:
        drawn = scores(resampled(cells, weights, strata, len(labels), np.random.default_rng(seed)), len(labels))
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    accuracy, f1 = (None if low is None or high is None else (float(low[n]), float(high[n])) for n in (0, 1))
    return Quality(len(kept), float(point[0]), float(point[1]), accuracy, f1)


def counted(
    answers: Sequence[AuditedAnswer], index: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[str | None]]:
    """Cell of the flat confusion matrix [true, predicted], weight and stratum of each answer, in one order always."""
    kept = sorted(answers, key=lambda answer: (answer.batch, answer.message_id))
    cells = np.array([index[answer.label] * len(index) + index[answer.predicted] for answer in kept], dtype=np.int64)
    return cells, np.array([answer.weight for answer in kept]), [answer.stratum for answer in kept]


def macro_f1(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Mean F1 of the labels that occur, of confusion matrices [..., true, predicted]."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    there = total > 0
    scores = np.where(there, 2 * hits / np.where(there, total, 1), 0.0)
    return np.asarray(scores.sum(axis=-1) / np.maximum(there.sum(axis=-1), 1))


def scores(cells: NDArray[Any], labels: int) -> NDArray[np.float64]:
    """Accuracy and macro-F1 [..., 2] of flat confusion matrices [..., labels²]."""
    matrix = cells.reshape(*cells.shape[:-1], labels, labels)
    accuracy = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))
    return np.stack([accuracy, macro_f1(matrix)], axis=-1)


def resampled(
    cells: NDArray[np.int64],
    weights: NDArray[np.float64],
    strata: Sequence[str | None],
    labels: int,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """Weighted confusion counts [resamples, labels²] of rows drawn anew within their strata.

    The rescaled bootstrap of Rao and Wu (1988, https://doi.org/10.1080/01621459.1988.10478591), which knows the spread
    of small strata.
    """
    groups: dict[str | None, list[int]] = defaultdict(list)
    for row, stratum in enumerate(strata):
        groups[stratum].append(row)
    small = [name for name, rows in groups.items() if len(rows) < STRATUM_ROWS]
    joined = [row for name in small for row in groups.pop(name)]
    parts = list(groups.values())
    if len(joined) >= STRATUM_ROWS or not parts:
        parts.append(joined)
    else:
        max(parts, key=len).extend(joined)
    made = np.zeros((RESAMPLES, labels**2))
    for part in parts:
        rows = len(part)
        drawn = np.array(part)[random.integers(0, rows, (RESAMPLES, rows - 1))]
        places = np.arange(RESAMPLES)[:, None] * labels**2 + cells[drawn]
        sums = np.bincount(places.ravel(), weights[drawn].ravel(), minlength=made.size)
        made += sums.reshape(made.shape) * (rows / (rows - 1))
    return made
