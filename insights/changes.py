"""Real changes between two periods, told from noise: the model's errors, volume and day-to-day variation considered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Literal

from insights.counts import Counts, Said, corrections, read_counts
from insights.difference import Difference, differences, summed
from insights.estimate import Corrections, Estimate
from insights.examples import Example, read_examples
from insights.period import Cut, Period
from insights.trend import MOST_SERIES, series_name
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task

__all__ = ["Change", "Days", "Example", "Looked", "Verdict", "changes", "compare", "words_of"]

Verdict = Literal["changed", "steady", "too_few"]

#: Least difference of a share that counts, in fractions of 1.
MIN_EFFECT = 0.05
#: False discovery rate over all series that are looked at together.
ALPHA = 0.05
#: Days before the one period up to the other that tell how much shares vary from day to day.
HISTORY = timedelta(days=28)
#: Half a band of a difference that is wider says nothing, unless the difference is beyond it.
WIDEST_HALF = 0.15


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
        dispersion: how many times the variance of single messages the days before varied; at least 1.
        lacking: what there is too little of, in words; empty where nothing is.
        examples: messages that the model gave the label, of `period` where it rose and of `against` where it fell; only
            where it changed.
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
    lacking: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def name(self) -> str:
        """What to call the series: "all", its value, or "no channel"."""
        return series_name(self.cut, self.value)

    @property
    def series(self) -> str:
        """What it is told under: task, label, cut and value."""
        return "/".join(str(part) for part in (self.task, self.label, self.cut or "all", self.value or "none"))

    @property
    def words(self) -> str:
        """A change in one sentence; that there is too little to tell, where there is."""
        if self.difference is None:
            return f"{self.label.replace('_', ' ')} in {self.name}: {self.lacking}"
        return words_of(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, with message ids and without texts."""
        values = asdict(self)
        for name in ("period", "against"):
            values[name] = {key: _plain(value) for key, value in values[name].items()}
        values["examples"] = [example.message_id for example in self.examples]
        return values | {"series": self.series, "name": self.name}


def words_of(change: Mapping[str, Any]) -> str:
    """A change, as `Change.as_dict` gives it, in one sentence."""
    where = "" if change["cut"] is None else f" in {change['name']}"
    before, after = (100 * change[name]["share"] for name in ("before", "after"))
    rose = change["difference"] > 0
    ends = sorted((100 if rose else -100) * change[name] for name in ("low", "high"))
    what = f"{change['label'].replace('_', ' ')}{where} {'rose' if rose else 'fell'}"
    size = f"by {ends[0]:.0f} to {ends[1]:.0f} points, {change['after']['rows']} messages"
    return f"{what} from {before:.0f} % to {after:.0f} % of messages ({size})"


def changes(
    store: Store,
    tasks: str | Sequence[str],
    period: Period,
    *,
    against: Period | None = None,
    cuts: Sequence[Cut] = ("channel", "segment"),
    min_effect: float = MIN_EFFECT,
    alpha: float = ALPHA,
    examples: int = 5,
) -> tuple[Change, ...]:
    """Every label of all messages and of each value of `cuts`: what changed first, by size, then steady, then too few.

    Of a task with two labels the second stands for both.

    Args:
        tasks: one task or several; the correction for many series is over all of them.
        against: what to compare with; None: `period.before()`. The `HISTORY` up to its end tells how much shares vary.
        min_effect: least difference that counts, in fractions of 1.
        alpha: false discovery rate over all series.
        examples: messages to show for each change at most.

    Raises:
        ConfigError: no such task.
        StoreError: the store is out of reach.
    """
    specs = [get_task(name) for name in ([tasks] if isinstance(tasks, str) else tasks)]
    against = against or period.before()
    begins = against.end - HISTORY
    history = replace(against, start=begins, end=against.start, step="day") if begins < against.start else None
    wanted = tuple(cut for cut in cuts if getattr(period, cut) is None)
    looked = [
        Looked(spec, corrections(store, spec), *(_read(store, spec, one, wanted) for one in (history, against, period)))
        for spec in specs
    ]
    found = compare(looked, period, against, cuts=wanted, min_effect=min_effect, alpha=alpha)
    return tuple(_shown(store, item, examples) if item.verdict == "changed" else item for item in found)


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Counts of some days; ``steps`` days in all."""

    steps: int
    counts: Counts

    def said(self, cut: Cut | None, value: str | None) -> list[Said]:
        """Label counts of one series, by day."""
        return self.counts.by_step(self.steps, None if cut is None else self.counts.values[cut] == value)


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """What is known of a task: its model's errors, the days that only tell how much days vary, before, and now."""

    spec: TaskSpec
    corrected: Corrections
    earlier: Days
    before: Days
    after: Days


def compare(
    looked: Sequence[Looked],
    period: Period,
    against: Period,
    *,
    cuts: Sequence[Cut] = ("channel", "segment"),
    min_effect: float = MIN_EFFECT,
    alpha: float = ALPHA,
) -> tuple[Change, ...]:
    """`changes`, of counts that are there already, and without examples."""
    found = [
        compared for task in looked for cut, value in _series(task, cuts) for compared in _compare(task, cut, value)
    ]
    told = [
        _judge(item, p, period, against, min_effect, alpha)
        for item, p in zip(found, _adjusted([item.difference for item in found]), strict=True)
    ]
    return tuple(
        sorted(
            told, key=lambda item: (_ORDER[item.verdict], -abs(item.difference or 0.0), -item.after.rows, item.series)
        )
    )


_ORDER: dict[Verdict, int] = {"changed": 0, "steady": 1, "too_few": 2}


@dataclass(frozen=True, slots=True)
class _Compared:
    """One label of one series before it is judged; `difference` is what lacks where it cannot be told."""

    task: str
    label: str
    cut: Cut | None
    value: str | None
    before: Estimate
    after: Estimate
    difference: Difference | str


def _read(store: Store, spec: TaskSpec, period: Period | None, cuts: Sequence[Cut]) -> Days:
    if period is None:
        return Days(0, Counts.empty(spec, cuts))
    days = replace(period, step="day")
    return Days(sum(1 for _ in days.steps()), read_counts(store, spec, days, cuts))


def _series(task: Looked, cuts: Sequence[Cut]) -> Iterator[tuple[Cut | None, str | None]]:
    """All messages, then each cut's largest values: those of now first, then those of before."""
    yield None, None
    for cut in cuts:
        largest = (part.counts.largest(cut, MOST_SERIES) for part in (task.after, task.before))
        yield from ((cut, value) for value in list(dict.fromkeys(chain(*largest)))[:MOST_SERIES])


def _compare(task: Looked, cut: Cut | None, value: str | None) -> Iterator[_Compared]:
    spec, corrected = task.spec, task.corrected
    earlier, before, after = (part.said(cut, value) for part in (task.earlier, task.before, task.after))
    shares = [corrected.estimate(summed(days, len(spec.labels))) for days in (before, after)]
    found = differences(corrected, before, after, earlier)
    for label in spec.labels if len(spec.labels) > 2 else spec.labels[1:]:  # of two, one says what the other does
        difference = found if isinstance(found, str) else found[label]
        yield _Compared(spec.name, label, cut, value, shares[0][label], shares[1][label], difference)


def _adjusted(found: Sequence[Difference | str]) -> list[float | None]:
    """p-values after Benjamini and Hochberg (1995, https://www.jstor.org/stable/2346101) over those that are there."""
    from scipy.stats import false_discovery_control

    tested = [item.p for item in found if isinstance(item, Difference)]
    adjusted = iter(false_discovery_control(tested) if tested else ())
    return [float(next(adjusted)) if isinstance(item, Difference) else None for item in found]


def _judge(
    item: _Compared, p: float | None, period: Period, against: Period, min_effect: float, alpha: float
) -> Change:
    told, before, after = item.difference, item.before, item.after
    of_series = (item.task, item.label, item.cut, item.value, before, after)
    if isinstance(told, str) or p is None or before.share is None or after.share is None:
        words = told if isinstance(told, str) else before.lacking or after.lacking
        return Change(*of_series, None, None, None, p, "too_few", period, against, lacking=words)
    moved = after.share - before.share
    low, high = max(-1.0, min(told.low, moved)), min(1.0, max(told.high, moved))
    verdict: Verdict = "steady"
    words = ""
    if p <= alpha and min(abs(moved), abs(told.value)) >= min_effect:
        verdict = "changed"
    elif (told.high - told.low) / 2 > WIDEST_HALF:
        verdict, words = "too_few", f"the difference is known to {50 * (told.high - told.low):.0f} points only"
    return Change(*of_series, moved, low, high, p, verdict, period, against, dispersion=told.dispersion, lacking=words)


def _shown(store: Store, item: Change, most: int) -> Change:
    period = item.period if (item.difference or 0.0) > 0 else item.against
    where = {} if item.cut is None else {str(item.cut): item.value}
    return replace(item, examples=read_examples(store, item.task, item.label, period, most, where))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
