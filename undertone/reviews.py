"""The review queue: messages that people are asked to label, and what they said.

An *audit* item was drawn at random and judges the model; a *review* item was picked because its label is useful. Who
labels sees the message and never the model's answer: a label that began as a suggestion proves nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, func, or_, select, text

from undertone.errors import DataError
from undertone.records import Feedback, utc
from undertone.schema import messages, predictions, reviews
from undertone.store import Store, write_feedback
from undertone.tasks import get_task

Kind = Literal["audit", "review"]

#: Share of picked review items that are random: the unsure ones alone would tell nothing of the sure ones.
RANDOM_SHARE = 0.15

#: Values in one SQL statement; databases limit them.
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Pick:
    """A message that goes into the queue.

    Attributes:
        stratum: the segment it was drawn from; None: it has none.
        weight: messages of its window that it stands for.
        predicted: the answer that is judged; reviewers do not see it.
    """

    message_id: str
    stratum: str | None
    weight: float
    predicted: str


@dataclass(frozen=True, slots=True)
class AuditedAnswer:
    """A model's answer and the label that a person gave without seeing it."""

    message_id: str
    batch: str
    predicted: str
    label: str
    weight: float
    stratum: str | None
    labelled_at: datetime


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """One label from a file: for which item, by whom, and when; None: now."""

    review_id: int
    label: str
    reviewer: str
    labelled_at: datetime | None = None


class Reviews:
    """The table ``reviews`` of a store. Safe for many reviewers at once, on SQLite and PostgreSQL."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, task: str, batch: str, kind: Kind, picks: Sequence[Pick], *, version: int, asked_at: datetime) -> int:
        """Put a batch into the queue, whole or not at all: a batch that is there already stays as it is.

        Args:
            batch: its name; adding it once more changes nothing.
            version: the model version whose answers these are.

        Returns:
            How many items are new.
        """
        rows = [
            {
                "task": task,
                "message_id": pick.message_id,
                "batch": batch,
                "kind": kind,
                "stratum": pick.stratum,
                "weight": pick.weight,
                "model_version": version,
                "predicted": pick.predicted,
                "asked_at": asked_at,
                "state": "open",
            }
            for pick in picks
        ]
        with self.store.transaction() as connection:
            if connection.dialect.name == "postgresql":  # as on SQLite, who comes second sees what the first wrote
                connection.execute(text("lock table reviews in share row exclusive mode"))
            there = select(reviews.c.id).where(reviews.c.task == task, reviews.c.batch == batch).limit(1)
            if not rows or connection.execute(there).first():
                return 0
            connection.execute(reviews.insert(), rows)
        return len(rows)

    def next(
        self, task: str, reviewer: str, now: datetime, count: int = 1, minutes: float = 30
    ) -> list[dict[str, Any]]:
        """Up to `count` open items, now in hand of `reviewer` for some minutes: audits first, then the oldest.

        What a reviewer has in hand comes again, what another one has does not; messages that were erased neither.

        Returns:
            Dicts with id, batch, kind, message_id, text, channel, segment, sent_at, held_until and labels (those to
            choose from). The model's answer is not among them.
        """
        labels, now = list(get_task(task).labels), utc(now)
        until = now + timedelta(minutes=minutes)
        query = (
            _with_message()
            .where(reviews.c.task == task, reviews.c.state == "open", _free(reviewer, now))
            .order_by(reviews.c.kind, reviews.c.asked_at, reviews.c.id)  # "audit" sorts before "review"
            .limit(count)
            .with_for_update(of=reviews, skip_locked=True)  # SQLite has no such words and needs none
        )
        with self.store.transaction() as connection:
            found = connection.execute(query).mappings().all()
            taken = [row["id"] for row in found]
            connection.execute(
                reviews.update().where(reviews.c.id.in_(taken)).values(reviewer=reviewer, held_until=until)
            )
        return [_shown(row) | {"held_until": until, "labels": labels} for row in found]

    def label(self, item: int, label: str, reviewer: str, now: datetime) -> None:
        """Close an item with a label, which becomes feedback too, both in one transaction.

        The same label by the same reviewer changes nothing; another one by the same reviewer corrects the first.

        Raises:
            DataError: no such item or label, another reviewer labelled it or has it in hand, or the message was erased.
        """
        with self.store.transaction() as connection:
            row = _locked(connection, [item])[item]
            _check(row, label)
            if row["state"] == "labelled" and row["reviewer"] != reviewer:
                raise DataError(
                    f"a label by {row['reviewer']}, who labelled item {item}",
                    f"another one by {reviewer}",
                    "take another: `undertone reviews next`",
                )
            _refuse_held(row, reviewer, utc(now))
            _write(connection, row, GivenLabel(item, label, reviewer), now)

    def skip(self, item: int, reviewer: str, now: datetime) -> None:
        """Close an item without a label; a label may still come later.

        Raises:
            DataError: no such item, it was labelled, or another reviewer has it in hand.
        """
        with self.store.transaction() as connection:
            row = _locked(connection, [item])[item]
            if row["state"] == "labelled":
                raise DataError(
                    "an item without a label to skip",
                    f"item {item}, labelled by {row['reviewer']}",
                    "label it anew, if the label is yours and wrong",
                )
            _refuse_held(row, reviewer, utc(now))
            connection.execute(
                reviews.update().where(reviews.c.id == item).values(state="skipped", reviewer=reviewer, held_until=None)
            )

    def import_labels(self, task: str, given: Sequence[GivenLabel], now: datetime) -> dict[str, int]:
        """Labels made elsewhere, all of them or, where one cannot be used, none.

        Items that another reviewer labelled meanwhile stay as they are.

        Returns:
            Counts: ``labelled``, ``unchanged`` (that very label was there) and ``others`` (another reviewer was first).

        Raises:
            DataError: an item that `task` does not have, a label that it does not know, or an erased message.
        """
        last = {label.review_id: label for label in given}
        counts = {"labelled": 0, "unchanged": 0, "others": 0}
        with self.store.transaction() as connection:
            rows = _locked(connection, sorted(last))
            for item, label in last.items():
                if rows[item]["task"] != task:
                    raise DataError(
                        f"items of {task}", f"item {item} of {rows[item]['task']}", "import each task's file by itself"
                    )
                _check(rows[item], label.label)
            for item, label in last.items():
                row = rows[item]
                if row["state"] == "labelled" and row["reviewer"] != label.reviewer:
                    counts["others"] += 1
                elif row["state"] == "labelled" and row["label"] == label.label:
                    counts["unchanged"] += 1
                else:
                    _write(connection, row, label, now)
                    counts["labelled"] += 1
        return counts

    def open(self, task: str | None = None, now: datetime | None = None) -> list[dict[str, Any]]:
        """Counts by batch, oldest first: task, batch, kind, version, asked_at, open, held, labelled, skipped, erased.

        ``held`` and ``erased`` (its message is gone) items are among the open ones; without `now` none is held.
        """
        is_open = reviews.c.state == "open"
        query = (
            select(
                reviews.c.task,
                reviews.c.batch,
                reviews.c.kind,
                reviews.c.model_version.label("version"),
                func.min(reviews.c.asked_at, type_=reviews.c.asked_at.type).label("asked_at"),
                _count(is_open).label("open"),
                _count(and_(is_open, reviews.c.held_until > utc(now)) if now else False).label("held"),
                _count(reviews.c.state == "labelled").label("labelled"),
                _count(reviews.c.state == "skipped").label("skipped"),
                _count(and_(is_open, messages.c.id.is_(None))).label("erased"),
            )
            .outerjoin(messages, messages.c.id == reviews.c.message_id)
            .group_by(reviews.c.task, reviews.c.batch, reviews.c.kind, reviews.c.model_version)
        )
        if task is not None:
            query = query.where(reviews.c.task == task)
        with self.store.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return sorted(rows, key=lambda row: (row["asked_at"], row["task"], row["batch"]))

    def batch(self, task: str, batch: str) -> list[Pick]:
        """What was put into the queue under that name, in the order of the draw; empty: nothing."""
        query = select(reviews).where(reviews.c.task == task, reviews.c.batch == batch).order_by(reviews.c.id)
        with self.store.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [Pick(row["message_id"], row["stratum"], row["weight"], row["predicted"]) for row in rows]

    def asked(self, task: str) -> set[str]:
        """Ids of all messages that ever were in the queue of `task`."""
        with self.store.reading() as connection:
            return set(connection.execute(select(reviews.c.message_id).where(reviews.c.task == task)).scalars())

    def candidates(self, task: str, version: int, start: datetime, end: datetime) -> Iterator[RowMapping]:
        """message_id, label and segment of what `version` answered in [start, end) and no audit of it has drawn yet.

        They stream: a million of them take no memory. A read transaction stays open meanwhile.
        """
        drawn = (
            select(reviews.c.id)
            .where(
                reviews.c.message_id == predictions.c.message_id,
                reviews.c.task == task,
                reviews.c.kind == "audit",
                reviews.c.model_version == version,
            )
            .exists()
        )
        query = (
            select(predictions.c.message_id, predictions.c.label, messages.c.segment)
            .join(messages, messages.c.id == predictions.c.message_id)
            .where(
                predictions.c.task == task,
                predictions.c.event_at >= start,
                predictions.c.event_at < end,
                predictions.c.model_version == version,
                ~drawn,
            )
        )
        with self.store.reading() as connection:
            yield from connection.execution_options(yield_per=5_000).execute(query).mappings()

    def withdraw(self, task: str, version: int, since: datetime, now: datetime) -> int:
        """Skip audit items of other versions, or asked before `since`, that nobody has in hand. Gives their number."""
        stale = and_(
            reviews.c.task == task,
            reviews.c.kind == "audit",
            reviews.c.state == "open",
            or_(reviews.c.model_version != version, reviews.c.asked_at < utc(since)),
            or_(reviews.c.held_until.is_(None), reviews.c.held_until <= utc(now)),
        )
        # an item that is being labelled this moment is left alone, and not waited for
        chosen = select(reviews.c.id).where(stale).with_for_update(skip_locked=True)
        query = reviews.update().where(reviews.c.id.in_(chosen)).values(state="skipped", held_until=None)
        with self.store.transaction() as connection:
            return connection.execute(query).rowcount

    def drawn(self, task: str, version: int, since: datetime, until: datetime) -> int:
        """Audit items of `version` asked in [since, until] that have a label or can still get one."""
        query = (
            select(func.count())
            .select_from(reviews.outerjoin(messages, messages.c.id == reviews.c.message_id))
            .where(
                *_audit(task, version, since),
                reviews.c.asked_at <= utc(until),
                or_(reviews.c.state == "labelled", and_(reviews.c.state == "open", messages.c.id.is_not(None))),
            )
        )
        with self.store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def audited(self, task: str, version: int, since: datetime, until: datetime) -> list[AuditedAnswer]:
        """Answers of `version` in audits asked at `since` or later and labelled by `until`, as they were drawn."""
        query = (
            select(reviews)
            .where(*_audit(task, version, since), reviews.c.state == "labelled", reviews.c.labelled_at <= utc(until))
            .order_by(reviews.c.id)
        )
        with self.store.reading() as connection:
            rows = connection.execute(query).mappings().all()
        names = ("message_id", "batch", "predicted", "label", "weight", "stratum", "labelled_at")
        return [AuditedAnswer(**{name: row[name] for name in names}) for row in rows]

    def export(self, task: str) -> list[dict[str, Any]]:
        """Every open item of `task` whose message is there, as `next` gives them, without taking them in hand."""
        query = (
            _with_message()
            .where(reviews.c.task == task, reviews.c.state == "open")
            .order_by(reviews.c.kind, reviews.c.asked_at, reviews.c.id)
        )
        with self.store.reading() as connection:
            return [_shown(row) for row in connection.execute(query).mappings()]


def pick_unsure(rows: Iterable[Mapping[Any, Any]], wanted: int, *, seed: int) -> list[Pick]:
    """The `wanted` messages whose label teaches most: the smallest margins, and `RANDOM_SHARE` of any margin.

    The margin is that between the two largest probabilities (Scheffer, Decomain and Wrobel, 2001,
    https://doi.org/10.1007/3-540-44816-0_31).

    Args:
        rows: with message_id, label, probabilities and segment, in any order.
        seed: of the random ones.
    """
    unsure = sorted(rows, key=lambda row: (_margin(row["probabilities"]), row["message_id"]))
    wanted = min(wanted, len(unsure))
    by_chance = round(RANDOM_SHARE * wanted)
    chosen = unsure[: wanted - by_chance]
    chosen += random.Random(seed).sample(unsure[wanted - by_chance :], by_chance)
    return [Pick(row["message_id"], row["segment"], 1.0, row["label"]) for row in chosen]


def _margin(probabilities: Sequence[float]) -> float:
    second, first = sorted(probabilities)[-2:]
    return first - second


def _with_message() -> Any:
    """Items with their message; without it where it was erased, an item does not come."""
    return select(
        reviews.c.id,
        reviews.c.batch,
        reviews.c.kind,
        reviews.c.message_id,
        messages.c.text,
        messages.c.channel,
        messages.c.segment,
        messages.c.sent_at,
        messages.c.received_at,
    ).join(messages, messages.c.id == reviews.c.message_id)


def _shown(row: RowMapping) -> dict[str, Any]:
    shown = dict(row)
    received = shown.pop("received_at")
    return shown | {"sent_at": shown["sent_at"] or received}


def _free(reviewer: str, now: datetime) -> ColumnElement[bool]:
    return or_(reviews.c.held_until.is_(None), reviews.c.held_until <= now, reviews.c.reviewer == reviewer)


def _audit(task: str, version: int, since: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        reviews.c.task == task,
        reviews.c.model_version == version,
        reviews.c.kind == "audit",
        reviews.c.asked_at >= utc(since),
    )


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _locked(connection: Connection, items: Sequence[int]) -> dict[int, RowMapping]:
    """These items, locked in order of their numbers, each with ``alive``: whether its message is there.

    Raises:
        DataError: one of them does not exist.
    """
    found: dict[int, RowMapping] = {}
    for start in range(0, len(items), _PAGE):
        query = (
            select(reviews, messages.c.id.is_not(None).label("alive"))
            .outerjoin(messages, messages.c.id == reviews.c.message_id)
            .where(reviews.c.id.in_(items[start : start + _PAGE]))
            .order_by(reviews.c.id)
            .with_for_update(of=reviews)
        )
        found |= {row["id"]: row for row in connection.execute(query).mappings()}
    missing = [item for item in items if item not in found]
    if missing:
        raise DataError(
            "items of the review queue",
            f"no item {', '.join(map(str, missing[:5]))}",
            "see `undertone reviews next TASK`, or export the queue anew",
        )
    return found


def _check(row: RowMapping, label: str) -> None:
    labels = get_task(row["task"]).labels
    if label not in labels:
        raise DataError(f"a label of {row['task']}: {', '.join(labels)}", f"{label!r} for item {row['id']}", "mend it")
    if not row["alive"]:
        raise DataError(
            f"the message of item {row['id']}",
            "none: it was erased from the store",
            f"`undertone reviews skip {row['id']}`, or take its row out of the file",
        )


def _refuse_held(row: RowMapping, reviewer: str, now: datetime) -> None:
    """An open item in another one's hand is theirs until their time is over."""
    if row["state"] == "open" and row["held_until"] and row["held_until"] > now and row["reviewer"] != reviewer:
        raise DataError(
            f"item {row['id']} in hand of {reviewer}, or of nobody",
            f"{row['reviewer']} has it until {row['held_until']:%Y-%m-%d %H:%M} UTC",
            "take another: `undertone reviews next`",
        )


def _write(connection: Connection, row: RowMapping, given: GivenLabel, now: datetime) -> None:
    """Close an item and write its label as feedback, in the caller's transaction."""
    if (row["state"], row["label"]) == ("labelled", given.label):
        return
    at = min(utc(given.labelled_at or now), utc(now))
    connection.execute(
        reviews.update()
        .where(reviews.c.id == row["id"])
        .values(state="labelled", label=given.label, reviewer=given.reviewer, labelled_at=at, held_until=None)
    )
    label = Feedback(row["message_id"], row["task"], given.label, given.reviewer, at, origin=row["kind"])
    write_feedback(connection, [label])
