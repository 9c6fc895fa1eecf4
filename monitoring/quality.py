"""Gate 0: whether a window's messages are what the watch can compare, or an upstream is broken.

Each check has a limit of `QualityPolicy` and fails only where the share is over it by more than chance: a small window
with one empty message cries no wolf. What fails names a thing that a person can go and look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from scipy import stats

from monitoring.windows import NO_LABEL, NO_PROBABILITIES, Window
from undertone.records import Finding
from undertone.store import Store
from undertone.tasks import TaskSpec

#: A share is over its limit if one at the limit would come out so high less often than this.
CHANCE = 0.001
#: Languages with a smaller share on both sides are one: short texts are told wrong now and then.
RARE_LANGUAGE = 0.01
#: Earlier windows that a usual volume is told from, at least.
USUAL = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts over all messages of a window, and of the windows of equal length before it.

    Attributes:
        removed: messages whose text retention has removed; they are no texts that a check looks at.
        duplicates: messages whose text stands in an earlier-keyed message of the window too: rows minus distinct texts.
        earlier_rows, earlier_duplicates: of the windows before, newest first; shares for the second, which is empty
            where the window's own share is within the limit whatever is usual: they are costly to count.
    """

    rows: int
    empty: int
    duplicates: int
    truncated: int
    earlier_rows: tuple[int, ...] = ()
    earlier_duplicates: tuple[float, ...] = ()
    removed: int = 0


def facts(store: Store, spec: TaskSpec, start: datetime, end: datetime, *, earlier: int = 4) -> Facts:
    """Counts of the messages sent in [start, end), whichever version scored them, and of at most `earlier` windows.

    A window that begins before the task's first message is no whole one, and does not count.
    """
    now = store.text_counts(spec.name, start, end)
    first, length = store.first_event(spec.name), end - start
    begins = [start - number * length for number in range(1, earlier + 1)]
    before = [(begin, begin + length) for begin in begins if first is not None and begin >= first]
    texts = now["rows"] - now["removed"]
    duplicates = texts - now["distinct"]
    shares = []
    if duplicates > spec.quality.max_duplicates * texts:
        for window in before:
            counts = store.text_counts(spec.name, *window)
            left = counts["rows"] - counts["removed"]
            shares.append(1 - counts["distinct"] / left if left else 0.0)
    return Facts(
        rows=now["rows"],
        empty=now["empty"],
        duplicates=duplicates,
        truncated=now["truncated"],
        removed=now["removed"],
        earlier_rows=tuple(store.count(spec.name, *window) for window in before),
        earlier_duplicates=tuple(shares),
    )


def check(spec: TaskSpec, reference: Window, current: Window, facts: Facts) -> tuple[Finding, ...]:
    """What does not hold, the texts first, then answers, channels and segments, languages, volume."""
    return (
        *_texts(spec, facts),
        *_answers(spec, current),
        *(finding for name in ("channel", "segment") for finding in _values(spec, name, reference, current)),
        *_languages(spec, reference, current),
        *_volume(spec, facts),
    )


def _texts(spec: TaskSpec, facts: Facts) -> Iterator[Finding]:
    policy, rows = spec.quality, facts.rows - facts.removed
    if _over(facts.empty, rows, policy.max_empty):
        found = f"{facts.empty} of {rows} messages have no text"
        yield Finding("empty", "the message source (empty texts)", found, facts.empty / rows, policy.max_empty)
    pairs = zip(facts.earlier_rows, facts.earlier_duplicates, strict=False)
    usual = float(np.median([share for count, share in pairs if count] or [0.0]))
    if _over(facts.duplicates, rows, limit := usual + policy.max_duplicates):
        found = f"{facts.duplicates} of {rows} messages repeat another one's text; usual are {_percent(usual)}"
        yield Finding("duplicates", "the message source (repeated texts)", found, facts.duplicates / rows, limit)
    if _over(facts.truncated, facts.rows, policy.max_truncated):
        found = f"{facts.truncated} of {facts.rows} messages were cut to the limit of {spec.max_tokens} tokens"
        yield Finding(
            "truncated", "the serving worker (truncation)", found, facts.truncated / facts.rows, policy.max_truncated
        )


def _answers(spec: TaskSpec, current: Window) -> Iterator[Finding]:
    unknown = sum(current.left_out.get(reason, 0) for reason in (NO_LABEL, NO_PROBABILITIES))
    rows, limit = current.rows + unknown, spec.quality.max_unknown
    if _over(unknown, rows, limit):
        found = f"{unknown} of {rows} answers have an unknown label or no usable probabilities"
        yield Finding("unknown", "the serving worker (answers)", found, unknown / rows, limit)


def _values(spec: TaskSpec, name: str, reference: Window, current: Window) -> Iterator[Finding]:
    """Channels or segments that messages lost, that all messages lost, and that the reference has not."""
    policy = spec.quality
    before, after = reference.counts[name], current.counts[name]
    known, seen = sum(before.values()), sum(after.values())
    if not known or not current.total:
        return
    usual, missing = 1 - known / reference.total, current.total - seen
    if _over(missing, current.total, limit := usual + policy.max_missing):
        found = f"{missing} of {current.total} messages have no {name}; {_percent(usual)} in the reference"
        yield Finding("missing", f"{name} of messages", found, missing / current.total, limit)
    for value, count in before.items():
        share = count / known
        if seen and value not in after and share > policy.max_missing and (1 - share) ** seen < CHANCE:
            found = f"no message of {seen}; {_percent(share)} in the reference"
            yield Finding("vanished", f"{name} {value!r}", found, share, policy.max_missing)
    strange = {value: count for value, count in after.items() if value not in before}
    if _over(sum(strange.values()), seen, policy.max_unseen):
        largest = max(strange, key=lambda value: (strange[value], value))
        found = f"{sum(strange.values())} of {seen} messages are of a {name} that the reference does not have"
        share = sum(strange.values()) / seen
        yield Finding("unseen", f"{name} {largest!r}", f"{found}, such as {largest!r}", share, policy.max_unseen)


def _languages(spec: TaskSpec, reference: Window, current: Window) -> Iterator[Finding]:
    """Languages of all messages, and of each large segment against the same one of the reference.

    A reference that knows no segments stands for all of them.
    """
    fewest, by_segment = spec.drift.segment_rows, reference.counts["segment"]
    before, after = reference.frame[["segment", "language"]], current.frame[["segment", "language"]]
    parts: list[tuple[str, pd.Series, pd.Series]] = [("messages", before["language"], after["language"])]
    for name in current.counts["segment"]:
        same = before[before["segment"] == name] if by_segment else before
        parts.append((f"segment {name!r}", same["language"], after[after["segment"] == name]["language"]))
    for where, first, second in parts:
        first, second = first.dropna(), second.dropna()
        if min(len(first), len(second)) >= fewest:
            yield from _moved(spec, where, first, second)


def _moved(spec: TaskSpec, where: str, first: pd.Series, second: pd.Series) -> Iterator[Finding]:
    counts = [Counter(each) for each in (first, second)]
    shares = {code: [side[code] / side.total() for side in counts] for code in counts[0] | counts[1]}
    rare = [pair for pair in shares.values() if max(pair) < RARE_LANGUAGE]
    shares = {code: pair for code, pair in shares.items() if max(pair) >= RARE_LANGUAGE}
    shares["other"] = [sum(pair[side] for pair in rare) for side in (0, 1)]
    risen = {code: pair for code, pair in shares.items() if pair[1] > pair[0]}
    before, after = (sum(pair[side] for pair in risen.values()) for side in (0, 1))
    moved, limit = after - before, spec.quality.max_language
    # by more than chance: so many messages in the languages that rose, were these at the limit
    if moved > limit and _over(round(after * len(second)), len(second), before + limit):
        top = max(risen, key=lambda code: risen[code][1] - risen[code][0])
        change = f"{top} {_percent(risen[top][0])} -> {_percent(risen[top][1])}"
        found = f"{_percent(moved)} of the messages moved to other languages: {change}"
        yield Finding("language", f"{where} (language)", found, moved, limit)


def _volume(spec: TaskSpec, facts: Facts) -> Iterator[Finding]:
    earlier = [rows for rows in facts.earlier_rows if rows]
    if len(earlier) < USUAL:
        return
    usual = float(np.median(earlier))
    ratio = facts.rows / usual
    least, most = spec.quality.min_volume * usual, spec.quality.max_volume * usual
    low = facts.rows < least and stats.poisson.cdf(facts.rows, least) < CHANCE
    high = facts.rows > most and stats.poisson.sf(facts.rows - 1, most) < CHANCE
    if low or high:
        limit = spec.quality.min_volume if low else spec.quality.max_volume
        found = f"{facts.rows} messages, {ratio:.2g} times the usual {usual:.0f}"
        yield Finding("volume", "the message source (volume)", found, ratio, limit)


def _over(count: int, rows: int, limit: float) -> bool:
    """Whether a share is over its limit, and by more than chance (one-sided binomial test)."""
    return rows > 0 and count / rows > limit and bool(stats.binom.sf(count - 1, rows, min(limit, 1.0)) < CHANCE)


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
