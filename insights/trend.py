"""Labels over time: one series for all messages, and one for each channel, segment or model version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from insights.counts import Counts, corrections, error_source, read_counts
from insights.estimate import Corrections, ErrorSource, Estimate
from insights.period import Cut, Period
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task

#: Series of one cut at most, the largest ones.
MOST_SERIES = 12


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One step: messages sent in [start, end)."""

    start: datetime
    end: datetime
    rows: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Trend:
    """One series.

    Attributes:
        labels: of the task, in its order.
        cut: what `value` is one of; None: all messages.
        value: channel, segment or version as text; None with a cut: the messages that have none.
        error_source: where the error counts come from; "none": nothing can be corrected, so nothing is told.
        error_rows: labelled messages behind the error counts.
        rows: messages of all points.
        whole: estimates over the whole period.
        points: one for each step of the period, also where no message was sent.
    """

    task: str
    labels: tuple[str, ...]
    period: Period
    cut: Cut | None
    value: str | None
    error_source: ErrorSource
    error_rows: int
    rows: int
    whole: Mapping[str, Estimate]
    points: tuple[TrendPoint, ...]

    @property
    def name(self) -> str:
        """What to call the series: "all", its value, or "no channel"."""
        return series_name(self.cut, self.value)


def series_name(cut: Cut | None, value: str | None) -> str:
    """What to call a series: "all", its value, or "no channel"."""
    if cut is None:
        return "all"
    words = cut.replace("_", " ")
    return f"no {words}" if value is None else f"version {value}" if cut == "model_version" else value


def trends(store: Store, task: str, period: Period, cut: Cut | None = None) -> tuple[Trend, ...]:
    """Each label's share over the period: all messages first, then one series for each value of the cut, largest first.

    At most `MOST_SERIES` values are given.

    Raises:
        ConfigError: no such task.
        StoreError: the store is out of reach.
    """
    spec = get_task(task)
    counts = read_counts(store, spec, period, () if cut is None else (cut,))
    corrected = corrections(store, spec)
    whole = [_trend(spec, period, None, None, counts, None, corrected)]
    if cut is None:
        return tuple(whole)
    values = counts.largest(cut, MOST_SERIES)
    return (
        *whole,
        *(_trend(spec, period, cut, value, counts, counts.values[cut] == value, corrected) for value in values),
    )


def _trend(
    spec: TaskSpec,
    period: Period,
    cut: Cut | None,
    value: str | None,
    counts: Counts,
    where: NDArray[np.bool_] | None,
    corrected: Corrections,
) -> Trend:
    steps = tuple(period.steps())
    said = counts.said(where)
    source, labelled = error_source(corrected.errors, list(said))
    points = tuple(
        TrendPoint(start, end, sum(int(counts.sum()) for counts in of_step.values()), corrected.estimate(of_step))
        for (start, end), of_step in zip(steps, counts.by_step(len(steps), where), strict=True)
    )
    whole = corrected.estimate(said)
    rows = sum(point.rows for point in points)
    return Trend(spec.name, spec.labels, period, cut, value, source, labelled, rows, whole, points)
