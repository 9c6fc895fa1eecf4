"""Real changes between two periods, told from noise: the model's errors, volume and day-to-day variation considered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from insights.estimate import Estimate
from insights.period import Cut, Period
from insights.trend import series_name
from undertone.store import Store

Verdict = Literal["changed", "steady", "too_few"]


@dataclass(frozen=True, slots=True)
class Example:
    """A message that shows what a figure is about.

    Attributes:
        text: empty where it was removed by retention.
        sentiment: the final one; None: no sentiment model served.
    """

    message_id: str
    text: str
    event_at: datetime
    channel: str | None
    segment: str | None
    customer_id: str | None
    sentiment: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One label of one series, in two periods.

    Attributes:
        cut: what `value` is one of; None: all messages.
        value: channel or segment; None with a cut: the messages that have none.
        before: over `against`.
        after: over `period`.
        difference: `after` less `before`, in fractions of 1; None: too few to tell.
        low: lower end of the difference's 95 % band; None with `difference`.
        high: upper end of it; None with `difference`.
        adjusted_p: after Benjamini-Hochberg over all series looked at; None: not tested.
        dispersion: how many times the variance of single messages the steps before varied; at least 1.
        examples: messages of `period` that the model gave the label, newest first; only where it changed and texts
            were asked for.
    """

    task: str
    label: str
    cut: Cut | None
    value: str | None
    before: Estimate
    after: Estimate
    difference: float | None
    low: float | None
    high: float | None
    adjusted_p: float | None
    verdict: Verdict
    period: Period
    against: Period
    dispersion: float = 1.0
    examples: tuple[Example, ...] = ()

    @property
    def name(self) -> str:
        """What to call the series: "all", its value, or "no channel"."""
        return series_name(self.cut, self.value)

    @property
    def series(self) -> str:
        """What it is told under: task, label, cut and value."""
        return "/".join(str(part) for part in (self.task, self.label, self.cut or "all", self.value or "none"))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with message ids and without texts."""
        raise NotImplementedError


def changes(
    store: Store,
    tasks: str | Sequence[str],
    period: Period,
    *,
    against: Period | None = None,
    cuts: Sequence[Cut] = ("channel", "segment"),
    min_effect: float = 0.05,
    alpha: float = 0.05,
    examples: int = 5,
) -> tuple[Change, ...]:
    """Every label of all messages and of each value of `cuts`: what changed first, by size, then steady, then too few.

    Args:
        tasks: one task or several; the correction for many series is over all of them.
        against: what to compare with; None: `period.before()`. Its steps tell how much shares vary.
        min_effect: least difference that counts, in fractions of 1.
        alpha: false discovery rate over all series.
        examples: messages to show for each change at most.

    Raises:
        ConfigError: no such task.
        StoreError: the store is out of reach.
    """
    raise NotImplementedError
