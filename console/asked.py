"""What an insight page was asked. Its address names the whole period, absolutely, so that the address reproduces it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import func, select
from starlette.requests import Request

from insights.counts import view
from insights.period import STEPS, Period, Step
from undertone.errors import DataError, UndertoneError
from undertone.records import utc
from undertone.store import Store
from undertone.tasks import TASKS

#: Days of a period that nobody named.
DAYS = 28
#: Days after which the newest message is called old.
OLD_DAYS = 7
#: Lengths to choose from: in the address, in words, in days.
LASTS = {"1": "24 hours", "7": "7 days", "28": "28 days", "91": "13 weeks", "364": "52 weeks"}
#: Years that an address may name: what people type, and no date that cannot be counted back from.
_YEARS = (1990, 2200)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class NotUnderstood(UndertoneError):
    """An address that asks for no period, or for something that is none of a page's choices."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the address puts it.

    Attributes:
        path: of the page, without ``.csv``.
        more: the page's own fields.
        newest: when the newest message was sent; None: there is none.
        canonical: the address names all of this, in these words.
    """

    path: str
    period: Period
    more: Mapping[str, str]
    newest: datetime | None
    now: datetime
    canonical: bool

    def link(self, path: str | None = None, **changes: str | int | None) -> str:
        """The address of this question, with other fields if told; None takes one away."""
        return f"{path or self.path}?{self.period.query(**{**self.more, **changes})}"

    def other(self, path: str | None = None, **changes: str | int | None) -> str:
        """The address with fields of the period itself changed."""
        values = dict(_pairs(self.period)) | dict(self.more) | changes
        return f"{path or self.path}?{urlencode({name: value for name, value in values.items() if value is not None})}"

    def last(self, days: str) -> str:
        """The address of the last so many days, whenever it is opened."""
        values = dict(_pairs(self.period)) | dict(self.more) | {"last": days}
        return (
            f"{self.path}?{urlencode({name: values[name] for name in values if name not in {'start', 'end', 'step'}})}"
        )

    def page(self, path: str) -> str:
        """The address of another page over the same period."""
        period = Period(self.period.start, self.period.end, self.period.step)
        return f"{path}?{period.query()}"

    @property
    def csv(self) -> str:
        """The address of the figures as CSV."""
        return self.link(f"{self.path}.csv")

    @property
    def stale(self) -> bool:
        """Whether no message is recent."""
        return self.newest is not None and self.newest < self.now - timedelta(days=OLD_DAYS)

    @property
    def dates(self) -> tuple[str, str]:
        """First and last day, as the form has them."""
        return f"{self.period.start:%Y-%m-%d}", f"{self.period.end - timedelta(microseconds=1):%Y-%m-%d}"

    @property
    def words(self) -> str:
        """The period in words."""
        return in_words(self.period)


def in_words(period: Period) -> str:
    """A period in words, in UTC; whole days without their hours."""
    start, end = period.start, period.end
    first, last = f"{start.day} {start:%b %Y}", end - timedelta(microseconds=1)
    if start.hour or start.minute or end - start < timedelta(days=1):
        first += f", {start:%H:%M}"
    second = f"{last.day} {last:%b %Y}"
    if end != end.replace(hour=0, minute=0, second=0, microsecond=0):
        second += f", {end:%H:%M}"
    return first if first == second else f"{first} to {second}"


def ask(
    request: Request,
    store: Store,
    now: datetime,
    more: Mapping[str, tuple[str, ...]],
    *,
    days: int = DAYS,
    narrow: bool = True,
    loose: tuple[str, ...] = (),
) -> Asked:
    """The question of `request`; the last `days` days, or those up to the newest message, where it names no period.

    Args:
        more: the page's own fields with their choices, the default first.
        days: one of `LASTS`.
        narrow: whether channel, segment and version may be named.
        loose: of the page's own fields, those where the default stands in for a value that is no choice.

    Raises:
        NotUnderstood: a value that is none.
        StoreError: the store is out of reach.
    """
    path = request.url.path.removesuffix(".csv")
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    if "\0" in "".join(given.values()):  # which PostgreSQL cannot even look for
        raise NotUnderstood("a channel and a segment from the lists", "a character that no name has", "choose one")
    for name in loose:
        if name in more and given.get(name) not in more[name]:
            given.pop(name, None)
    own = {name: _choice(name, given.get(name), choices) for name, choices in more.items()}
    own = {name: value for name, value in own.items() if value}
    newest = newest_message(store)
    start, end = _ends(given, newest, now, str(days))
    step = _step(given.get("step"), start, end)
    try:
        period = Period(
            start,
            end,
            step,
            channel=given.get("channel") if narrow else None,
            segment=given.get("segment") if narrow else None,
            model_version=_version(given.get("model_version")) if narrow else None,
        )
    except DataError as error:
        raise NotUnderstood(error.expected, error.found, error.next_step) from error
    known = dict(_pairs(period)) | own
    return Asked(path, period, own, newest, now, canonical=dict(request.query_params) == known)


def newest_message(store: Store) -> datetime | None:
    """When the newest scored message was sent."""
    answers = view(store, "predictions")
    with store.reading() as connection:
        found = [
            connection.execute(
                select(answers.c.event_at).where(answers.c.task == task).order_by(answers.c.event_at.desc()).limit(1)
            ).scalar()
            for task in TASKS
        ]
    return max((utc(at) for at in found if at is not None), default=None)


@dataclass(frozen=True, slots=True)
class Found:
    """What a period holds, to choose from: values with their messages, most first."""

    channels: dict[str, int]
    segments: dict[str, int]
    versions: dict[int, int]
    first_answers: dict[int, datetime]


def found(store: Store, task: str, period: Period) -> Found:
    """Channels, segments and versions of a task's answers in the period, whatever it is narrowed to."""
    answers = view(store, "predictions")
    count, first = func.count(), func.min(answers.c.event_at, type_=answers.c.event_at.type)
    query = (
        select(answers.c.channel, answers.c.segment, answers.c.model_version, count, first)
        .where(answers.c.task == task, answers.c.event_at >= period.start, answers.c.event_at < period.end)
        .group_by(answers.c.channel, answers.c.segment, answers.c.model_version)
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    channels: Counter[str] = Counter()
    segments: Counter[str] = Counter()
    versions: Counter[int] = Counter()
    firsts: dict[int, datetime] = {}
    for channel, segment, version, messages, at in rows:
        channels.update({} if channel is None else {channel: messages})
        segments.update({} if segment is None else {segment: messages})
        versions[version] += messages
        firsts[version] = min(utc(at), firsts.get(version, utc(at)))
    return Found(dict(channels.most_common()), dict(segments.most_common()), dict(versions.most_common()), firsts)


def back(end: datetime, days: int) -> datetime:
    """So many days before `end`: whole ones of UTC, unless it is one."""
    if days == 1:
        return end - timedelta(days=1)
    last = (end - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return last - timedelta(days=days - 1)


def _ends(given: Mapping[str, str], newest: datetime | None, now: datetime, usual: str) -> tuple[datetime, datetime]:
    if "start" in given or "end" in given:
        end = _moment("end", given["end"]) if "end" in given else _minute(now)
        start = _moment("start", given["start"]) if "start" in given else back(end, int(usual))
        return start, end
    days = int(_choice("last", given.get("last"), (usual, *LASTS)))
    recent = newest is None or newest >= now - timedelta(days=days)
    end = _minute(now if recent or newest is None else newest)
    return back(end, days), end


def _minute(at: datetime) -> datetime:
    """The first whole minute after `at`: a message of that very moment is inside the period."""
    return at.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _moment(name: str, value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if not _YEARS[0] <= at.year <= _YEARS[1]:
            raise ValueError(value)
    except (ValueError, OverflowError):
        raise NotUnderstood(
            f"a day or a time for the {name}, such as 2026-10-05 or 2026-10-05T14:00Z", repr(value[:40]), "choose a day"
        ) from None
    if name == "end" and _DATE.fullmatch(value):  # the last day is meant whole
        at += timedelta(days=1)
    return at


def _step(value: str | None, start: datetime, end: datetime) -> Step:
    if value is not None:
        _choice("step", value, tuple(STEPS))
        return value  # type: ignore[return-value]  # one of STEPS
    length = end - start
    return "hour" if length <= timedelta(days=3) else "day" if length <= timedelta(days=120) else "week"


def _version(value: str | None) -> int | None:
    if value is None:
        return None
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise NotUnderstood("the number of a model version", repr(value[:40]), "choose from the list")
    return int(value)


def _choice(name: str, value: str | None, choices: tuple[str, ...]) -> str:
    if value is None:
        return choices[0]
    if value not in choices:
        raise NotUnderstood(
            f"for {name.replace('_', ' ')}: {', '.join(filter(None, dict.fromkeys(choices)))}",
            repr(value[:40]),
            "choose from the list",
        )
    return value


def _pairs(period: Period) -> list[tuple[str, Any]]:
    return parse_qsl(period.query())
