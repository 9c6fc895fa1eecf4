"""The review queue: messages that people are asked to label, and what they said.

An *audit* item was drawn at random and judges the model; a *review* item was picked because its label is useful; a
*second* item asks another person for the label of one that was labelled, to see how far people agree. Who labels sees
the message and never the model's answer, nor anybody else's: a label that began as a suggestion proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, case, func, or_, select, text

from undertone.agreement import Twice
from undertone.errors import DataError
from undertone.records import Feedback, utc
from undertone.review_picks import Pick as Pick
from undertone.schema import messages, predictions, reviews
from undertone.shares import in_share
from undertone.store import Store, take_feedback_back, write_feedback
from undertone.tasks import get_task

Kind = Literal["audit", "review"]

#: Minutes that an item is in hand.
MINUTES = 30.0

#: Values in one SQL statement; databases limit them.
_PAGE = 500

#: Longest name of a batch whose second items' batch still has a name that fits.
_BATCH_CHARS = 93

_first, _twin = reviews.alias("first"), reviews.alias("twin")

#: Whether the words are still there: not erased, nor removed by retention.
_ALIVE = and_(messages.c.id.is_not(None), messages.c.text_removed_at.is_(None))


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
    """One label from a file.

    Attributes:
        labelled_at: None: now.
        guideline: version of the guideline that it follows; None: the one of the settings.
        second: it is another person's for the same item: its second item is made where there is none.
    """

    review_id: int
    label: str
    reviewer: str
    labelled_at: datetime | None = None
    guideline: str | None = None
    second: bool = False


class Reviews:
    """The table ``reviews`` of a store. Safe for many reviewers at once, on SQLite and PostgreSQL.

    Args:
        guideline: version of the labelling guideline, kept with every label; None: none is named.
        second_share: share of the labelled items that another person is asked for, too.
    """

    def __init__(self, store: Store, guideline: str | None = None, second_share: float = 0.0) -> None:
        self.store, self.guideline, self.second_share = store, guideline, second_share

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
                "reason": pick.reason or ("random" if kind == "audit" else None),
                "priority": pick.priority,
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
        self, task: str, reviewer: str, now: datetime, count: int = 1, minutes: float = MINUTES
    ) -> list[dict[str, Any]]:
        """Up to `count` open items, now in hand of `reviewer` for some minutes.

        What a reviewer has in hand comes first, then audits, second labels and reviews, each by priority and age. What
        another one has in hand does not come, nor a message that the reviewer labelled before in the first or second
        place, nor one that was erased.

        Returns:
            Dicts with id, batch, kind, message_id, text, channel, segment, sent_at, held_until and labels (those to
            choose from). The model's answer is not among them, nor why the message was picked.
        """
        labels, now = list(get_task(task).labels), utc(now)
        until = now + timedelta(minutes=minutes)
        mine = case((and_(reviews.c.reviewer == reviewer, reviews.c.held_until > now), 0), else_=1)
        query = (
            _with_message()
            .where(reviews.c.task == task, reviews.c.state == "open", _free(reviewer, now), _not_twice(reviewer))
            .order_by(mine, *_ORDER)
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

        The same label by the same reviewer changes nothing; another one by the same reviewer corrects the first. A
        second label stays as it is: it measures agreement. A share of the items gets one, chosen by a hash.

        Raises:
            DataError: no such item or label, another reviewer labelled it or has it in hand, the reviewer labelled the
                message in the other place, or it was erased.
        """
        with self.store.transaction() as connection:
            row = _locked(connection, [item])[item]
            _check(row, label)
            if row["state"] == "labelled" and (row["reviewer"] != reviewer or _stands(row, label)):
                raise DataError(
                    f"a label by {row['reviewer']}, who labelled item {item}"
                    if row["reviewer"] != reviewer
                    else f"one second label of item {item}: it measures how far people agree",
                    f"another one by {reviewer}",
                    "take another: `undertone reviews next`",
                )
            _refuse_held(row, reviewer, utc(now))
            _refuse_twice(row, reviewer)
            write_feedback(connection, self._close(connection, row, GivenLabel(item, label, reviewer), now, utc(now)))

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
            closed = {"state": "skipped", "reviewer": reviewer, "held_until": None, "closed_at": utc(now)}
            connection.execute(reviews.update().where(reviews.c.id == item).values(closed))

    def last_act(self, reviewer: str, task: str | None = None) -> dict[str, Any] | None:
        """What `reviewer` labelled or skipped last, and may `undo`: id, task, label (None: skipped), closed_at."""
        with self.store.reading() as connection:
            row = connection.execute(_last_act(reviewer, task)).mappings().first()
        return None if row is None else {name: row[name] for name in ("id", "task", "label", "closed_at")}

    def undo(
        self, reviewer: str, now: datetime, task: str | None = None, item: int | None = None, minutes: float = MINUTES
    ) -> dict[str, Any]:
        """Take the last label or skip of `reviewer` back: the item is open and in their hand again, its feedback gone.

        The feedback that it replaced comes back where another item holds it. Once more takes back the act before.

        Args:
            task: the last act on this task; None: on any.
            item: what the reviewer takes for their last act; None: whatever it is.

        Returns:
            id, task and label (None: it had been skipped).

        Raises:
            DataError: nothing to take back, or the last act was another one than `item`.
        """
        with self.store.transaction() as connection:
            row = connection.execute(_last_act(reviewer, task).with_for_update()).mappings().first()
            if row is None:
                raise DataError(
                    f"a label or skip by {reviewer} to take back", "none", "label something: `undertone reviews next`"
                )
            if item is not None and row["id"] != item:
                raise DataError(
                    f"item {item} as the last act of {reviewer}", f"item {row['id']}", "look again, then undo that"
                )
            opened = {"state": "open", "label": None, "labelled_at": None, "closed_at": None, "guideline": None}
            held = {"first_label": None, "held_until": utc(now) + timedelta(minutes=minutes)}
            connection.execute(reviews.update().where(reviews.c.id == row["id"]).values(opened | held))
            if row["state"] == "labelled" and take_feedback_back(connection, _feedback(row)):
                before = connection.execute(_other_label(row)).mappings().first()
                write_feedback(connection, [_feedback(before)] if before else [])
        return {name: row[name] for name in ("id", "task", "label")}

    def import_labels(self, task: str, given: Sequence[GivenLabel], now: datetime) -> dict[str, int]:
        """Labels made elsewhere, all of them or, where one cannot be used, none.

        Items that another reviewer labelled meanwhile stay as they are, and so do second items of messages that the
        same reviewer labelled in the first place. Labels marked as ``second`` are read after all others.

        Returns:
            Counts: ``labelled`` (of these, ``second`` ones), ``unchanged`` (that very label was there) and ``others``
            (another reviewer was first, or another one is wanted).

        Raises:
            DataError: an item that `task` does not have, a label that it does not know, or an erased message.
        """
        first = {label.review_id: label for label in given if not label.second}
        second = {label.review_id: label for label in given if label.second}
        counts = {"labelled": 0, "second": 0, "unchanged": 0, "others": 0}
        with self.store.transaction() as connection:
            rows = _locked(connection, sorted({*first, *second}))
            for label in (*first.values(), *second.values()):
                row = rows[label.review_id]
                if row["task"] != task:
                    raise DataError(
                        f"items of {task}",
                        f"item {row['id']} of {row['task']}",
                        "import each task's file by itself",
                    )
                _check(row, label.label)
            told: list[Feedback] = []
            for label in first.values():
                told += self._import(connection, rows[label.review_id], label, now, counts)
            for label in second.values():
                row = _locked(connection, [label.review_id])[label.review_id]
                if row["kind"] == "second" or row["state"] != "labelled" or row["reviewer"] == label.reviewer:
                    counts["others"] += 1
                    continue
                twin = self._ask_again(connection, row, now)
                told += self._import(connection, _locked(connection, [twin])[twin], label, now, counts)
            write_feedback(connection, told)
        return counts

    def _import(
        self, connection: Connection, row: RowMapping, label: GivenLabel, now: datetime, counts: dict[str, int]
    ) -> list[Feedback]:
        """Close an item with a label of a file, or count why not. Gives what is to be written as feedback."""
        labelled, own = row["state"] == "labelled", row["reviewer"] == label.reviewer
        if label.reviewer in (row["first_reviewer"], row["second_reviewer"]) or (labelled and not own):
            counts["others"] += 1
        elif labelled and row["label"] == label.label:
            counts["unchanged"] += 1
        elif _stands(row, label.label):
            counts["others"] += 1
        else:
            counts["labelled"] += 1
            counts["second"] += row["kind"] == "second"
            return self._close(connection, row, label, now)
        return []

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
                _count(and_(is_open, ~_ALIVE)).label("erased"),
            )
            .outerjoin(messages, messages.c.id == reviews.c.message_id)
            .group_by(reviews.c.task, reviews.c.batch, reviews.c.kind, reviews.c.model_version)
        )
        if task is not None:
            query = query.where(reviews.c.task == task)
        with self.store.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return sorted(rows, key=lambda row: (row["asked_at"], row["task"], row["batch"]))

    def tally(self, task: str, now: datetime) -> list[dict[str, Any]]:
        """Counts by kind and reason, in the order in which they come: kind, reason, open, held, labelled, skipped.

        Items whose message is gone are not counted as open; ``held`` ones are among the open.
        """
        is_open = and_(reviews.c.state == "open", _ALIVE)
        query = (
            select(
                reviews.c.kind,
                reviews.c.reason,
                _count(is_open).label("open"),
                _count(and_(is_open, reviews.c.held_until > utc(now))).label("held"),
                _count(reviews.c.state == "labelled").label("labelled"),
                _count(reviews.c.state == "skipped").label("skipped"),
            )
            .outerjoin(messages, messages.c.id == reviews.c.message_id)
            .where(reviews.c.task == task)
            .group_by(reviews.c.kind, reviews.c.reason)
        )
        with self.store.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return sorted(rows, key=lambda row: (_RANKS.get(row["kind"], 2), row["reason"] or ""))

    def waiting(self, task: str, reviewer: str, now: datetime) -> int:
        """How many items `next` could give `reviewer`."""
        query = (
            select(func.count())
            .select_from(reviews.join(messages, messages.c.id == reviews.c.message_id))
            .where(reviews.c.task == task, reviews.c.state == "open", _ALIVE)
            .where(_free(reviewer, utc(now)), _not_twice(reviewer))
        )
        with self.store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def twice(self, task: str) -> list[Twice]:
        """Messages with a second label, the newest first. A correction of the first label does not change them."""
        query = (
            select(
                _first.c.id.label("item"),
                reviews.c.id.label("second"),
                reviews.c.message_id,
                reviews.c.first_label,
                reviews.c.label.label("second_label"),
                _first.c.reviewer.label("first_reviewer"),
                reviews.c.reviewer.label("second_reviewer"),
                reviews.c.labelled_at,
                _first.c.guideline.label("first_guideline"),
                reviews.c.guideline,
            )
            .join(_first, _first.c.id == reviews.c.second_of)
            .where(reviews.c.task == task, reviews.c.state == "labelled", reviews.c.first_label.is_not(None))
            .order_by(reviews.c.labelled_at.desc(), reviews.c.id.desc())
        )
        with self.store.reading() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [Twice(same_guideline=row.pop("first_guideline") == row.pop("guideline"), **row) for row in rows]

    def texts(self, message_ids: Sequence[str]) -> dict[str, str]:
        """Texts of messages by id; those that were erased have none."""
        found: dict[str, str] = {}
        with self.store.reading() as connection:
            for start in range(0, len(message_ids), _PAGE):
                asked = messages.c.id.in_(message_ids[start : start + _PAGE])
                query = select(messages.c.id, messages.c.text).where(asked, _ALIVE)
                found |= dict(connection.execute(query).tuples().all())
        return found

    def batch(self, task: str, batch: str) -> list[Pick]:
        """What was put into the queue under that name, in the order of the draw; empty: nothing."""
        query = select(reviews).where(reviews.c.task == task, reviews.c.batch == batch).order_by(reviews.c.id)
        with self.store.reading() as connection:
            rows = connection.execute(query).mappings().all()
        names = ("message_id", "stratum", "weight", "predicted", "reason", "priority")
        return [Pick(**{name: row[name] for name in names}) for row in rows]

    def picked_at(self, task: str) -> datetime | None:
        """When messages were picked for review last; None: never."""
        newest = func.max(reviews.c.asked_at, type_=reviews.c.asked_at.type)
        with self.store.reading() as connection:
            found: datetime | None = connection.execute(
                select(newest).where(reviews.c.task == task, reviews.c.kind == "review")
            ).scalar()
        return found

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
                messages.c.text_removed_at.is_(None),
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
                or_(reviews.c.state == "labelled", and_(reviews.c.state == "open", _ALIVE)),
            )
        )
        with self.store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def audited(self, task: str, version: int, since: datetime, until: datetime) -> list[AuditedAnswer]:
        """Answers of `version` in audits asked at `since` or later and labelled by `until`, as they were drawn."""
        return self._answers(_audit(task, version, since), until)

    def at_random(self, task: str, version: int, since: datetime, until: datetime) -> list[AuditedAnswer]:
        """As `audited`, of the random share of what was picked for review."""
        chosen = (*_asked_since(task, version, since), reviews.c.kind == "review", reviews.c.reason == "random")
        return self._answers(chosen, until)

    def _answers(self, chosen: tuple[ColumnElement[bool], ...], until: datetime) -> list[AuditedAnswer]:
        query = (
            select(reviews)
            .where(*chosen, reviews.c.state == "labelled", reviews.c.labelled_at <= utc(until))
            .order_by(reviews.c.id)
        )
        with self.store.reading() as connection:
            rows = connection.execute(query).mappings().all()
        names = ("message_id", "batch", "predicted", "label", "weight", "stratum", "labelled_at")
        return [AuditedAnswer(**{name: row[name] for name in names}) for row in rows]

    def export(self, task: str, reviewer: str | None = None) -> list[dict[str, Any]]:
        """Every open item of `task` whose message is there, as `next` gives them, without taking them in hand.

        Args:
            reviewer: leave out what `next` would not give this one; None: all.
        """
        query = _with_message().where(reviews.c.task == task, reviews.c.state == "open").order_by(*_ORDER)
        if reviewer is not None:
            query = query.where(_not_twice(reviewer))
        with self.store.reading() as connection:
            return [_shown(row) for row in connection.execute(query).mappings()]

    def _close(
        self,
        connection: Connection,
        row: RowMapping,
        given: GivenLabel,
        now: datetime,
        closed_at: datetime | None = None,
    ) -> list[Feedback]:
        """Close an item and maybe ask for a second label. Gives what the caller writes as feedback."""
        if (row["state"], row["label"]) == ("labelled", given.label):
            return []
        labelled = {
            "state": "labelled",
            "label": given.label,
            "reviewer": given.reviewer,
            "labelled_at": min(utc(given.labelled_at or now), utc(now)),
            "guideline": given.guideline or self.guideline,
            "first_label": row["labelled_first"],
            "held_until": None,
            "closed_at": closed_at,
        }
        connection.execute(reviews.update().where(reviews.c.id == row["id"]).values(labelled))
        if row["kind"] != "second" and in_share(f"{row['batch']} {row['message_id']}", self.second_share):
            self._ask_again(connection, row, now)
        return [_feedback(dict(row) | labelled)]

    def _ask_again(self, connection: Connection, row: RowMapping, now: datetime) -> int:
        """The number of the item that asks another person for this one's label, made where there is none.

        The caller has this one's row locked: nobody else makes it meanwhile.
        """
        there: int | None = connection.execute(select(reviews.c.id).where(reviews.c.second_of == row["id"])).scalar()
        if there is not None:
            return there
        same = {name: row[name] for name in ("task", "message_id", "stratum", "weight", "model_version", "predicted")}
        names = {"kind": "second", "batch": f"{row['batch'][:_BATCH_CHARS]}/second", "second_of": row["id"]}
        made = connection.execute(reviews.insert().values(same | names | {"state": "open", "asked_at": utc(now)}))
        key: Any = made.inserted_primary_key
        return int(key[0])


def age(sent_at: datetime, now: datetime) -> str:
    """How old a message is, in words."""
    minutes = max((utc(now) - utc(sent_at)).total_seconds() / 60, 0)
    if minutes < 2 * 60:
        return f"{minutes:.0f} minutes old"
    return f"{minutes / 60:.0f} hours old" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days old"


#: Kinds in the order in which they come.
_RANKS = {"audit": 0, "second": 1, "review": 2}
_ORDER = (
    case(_RANKS, value=reviews.c.kind, else_=2),
    func.coalesce(reviews.c.priority, -1.0),
    reviews.c.asked_at,
    reviews.c.id,
)


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
    ).join(messages, and_(messages.c.id == reviews.c.message_id, _ALIVE))


def _shown(row: RowMapping) -> dict[str, Any]:
    shown = dict(row)
    received = shown.pop("received_at")
    return shown | {"sent_at": shown["sent_at"] or received}


def _free(reviewer: str, now: datetime) -> ColumnElement[bool]:
    return or_(reviews.c.held_until.is_(None), reviews.c.held_until <= now, reviews.c.reviewer == reviewer)


def _not_twice(reviewer: str) -> ColumnElement[bool]:
    """Of a message that is labelled twice, a reviewer gets one; the second is asked once the first label is there."""
    seconds = select(_twin.c.second_of).where(_twin.c.kind == "second", _twin.c.reviewer == reviewer)
    closed = or_(_twin.c.state != "open", _twin.c.held_until.is_not(None))
    others = select(_first.c.id).where(_first.c.state == "labelled", _first.c.reviewer != reviewer)
    return or_(
        and_(reviews.c.kind != "second", reviews.c.id.not_in(seconds.where(closed))),
        and_(reviews.c.kind == "second", reviews.c.second_of.in_(others)),
    )


def _last_act(reviewer: str, task: str | None) -> Any:
    query = select(reviews).where(reviews.c.reviewer == reviewer, reviews.c.closed_at.is_not(None))
    query = query if task is None else query.where(reviews.c.task == task)
    return query.order_by(reviews.c.closed_at.desc(), reviews.c.id.desc()).limit(1)


def _other_label(row: RowMapping) -> Any:
    """The newest other item of this message that the same reviewer labelled."""
    same = (reviews.c[name] == row[name] for name in ("message_id", "task", "reviewer"))
    query = select(reviews).where(*same, reviews.c.state == "labelled", reviews.c.id != row["id"])
    return query.order_by(reviews.c.labelled_at.desc(), reviews.c.id.desc()).limit(1)


def _feedback(row: Any) -> Feedback:
    """The label of an item, as feedback."""
    return Feedback(
        row["message_id"],
        row["task"],
        row["label"],
        row["reviewer"],
        row["labelled_at"],
        origin=row["kind"],
        guideline=row["guideline"],
    )


def _audit(task: str, version: int, since: datetime) -> tuple[ColumnElement[bool], ...]:
    return (*_asked_since(task, version, since), reviews.c.kind == "audit")


def _asked_since(task: str, version: int, since: datetime) -> tuple[ColumnElement[bool], ...]:
    return reviews.c.task == task, reviews.c.model_version == version, reviews.c.asked_at >= utc(since)


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _locked(connection: Connection, items: Sequence[int]) -> dict[int, RowMapping]:
    """These items, locked in order of their numbers, each with what `label` asks of its message and its pair.

    ``alive``: whether the message is there. Of a second item, ``first_reviewer`` and ``labelled_first`` (the label);
    of another one, ``second_reviewer``, who labelled its second item.

    Raises:
        DataError: one of them does not exist.
    """
    found: dict[int, RowMapping] = {}
    for start in range(0, len(items), _PAGE):
        query = (
            select(
                reviews,
                _ALIVE.label("alive"),
                _first.c.reviewer.label("first_reviewer"),
                _first.c.label.label("labelled_first"),
                select(_twin.c.reviewer)
                .where(_twin.c.second_of == reviews.c.id, _twin.c.state == "labelled")
                .correlate(reviews)
                .scalar_subquery()
                .label("second_reviewer"),
            )
            .outerjoin(messages, messages.c.id == reviews.c.message_id)
            .outerjoin(_first, _first.c.id == reviews.c.second_of)
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


def _refuse_twice(row: RowMapping, reviewer: str) -> None:
    """Two labels of one message are by two people, the second one after the first."""
    if row["kind"] == "second" and row["labelled_first"] is None:
        raise DataError(
            f"a first label of item {row['second_of']}",
            "none: it was taken back",
            "take another: `undertone reviews next`",
        )
    if reviewer in (row["first_reviewer"], row["second_reviewer"]):
        raise DataError(
            f"a label of item {row['id']} by another person than the one who labelled this message before",
            f"one by {reviewer}",
            "take another: `undertone reviews next`",
        )


def _stands(row: RowMapping, label: str) -> bool:
    """Whether this is a second label that was given, which another one may not replace."""
    return bool(row["kind"] == "second" and row["state"] == "labelled" and row["label"] != label)
