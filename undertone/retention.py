"""Rows past their age lose what is personal and stay as figures: no text, no customer, no embedding.

Channel, segment, times, answers and people's labels stay, so every count by hour, label, channel, segment and version
is what it was. Small batches with a pause between them: who writes messages never waits long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select

from undertone.records import utc
from undertone.schema import feedback, messages, predictions, surveys
from undertone.store import Store

#: Messages in one transaction.
BATCH = 500
#: Longest pause between two transactions, in seconds. SQLite lets writers in one by one, and a loop that comes back at
#: once would keep the others out.
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows lost something: texts, the embeddings beside them, customers of messages and of survey answers."""

    texts: int = 0
    embeddings: int = 0
    customers: int = 0
    survey_customers: int = 0

    def __bool__(self) -> bool:
        return any((self.texts, self.embeddings, self.customers, self.survey_customers))

    def plus(self, other: Removed) -> Removed:
        """Both together."""
        return Removed(
            self.texts + other.texts,
            self.embeddings + other.embeddings,
            self.customers + other.customers,
            self.survey_customers + other.survey_customers,
        )


def due(store: Store, before: datetime) -> Removed:
    """What `remove_texts` would remove."""
    old = select(func.count()).select_from(messages).where(*_due(before))
    bare = (
        select(func.count())
        .select_from(messages.join(predictions, predictions.c.message_id == messages.c.id))
        .where(*_due(before), predictions.c.embedding.is_not(None))
    )
    named = select(func.count()).select_from(surveys).where(*_named(before))
    with store.reading() as connection:
        counts = (
            connection.execute(query).scalar_one()
            for query in (old, bare, old.where(messages.c.customer_id.is_not(None)), named)
        )
        return Removed(*map(int, counts))


def labelled_texts(store: Store, before: datetime) -> dict[str, str]:
    """Texts, by message id, that are about to go and may stand in files of trainings: those that people labelled."""
    labelled = select(feedback.c.id).where(feedback.c.message_id == messages.c.id).exists()
    with store.reading() as connection:
        found = connection.execute(select(messages.c.id, messages.c.text).where(*_due(before), labelled))
        return {row.id: row.text for row in found}


def remove_texts(
    store: Store,
    before: datetime,
    now: datetime,
    *,
    batch: int = BATCH,
    progress: Callable[[int], None] = lambda count: None,
) -> Removed:
    """Empty every message received before that moment: text, customer, embeddings; and customers of old surveys.

    Stopped at any time, it goes on where it was.

    Args:
        store: where.
        before: messages received earlier, and survey answers given earlier.
        now: goes into ``text_removed_at``.
        batch: messages in one transaction.
        progress: gets the number of messages of each batch.
    """
    total = Removed()
    while True:
        began = time.monotonic()
        done = _batch(store, before, now, batch)
        if not done:
            return total
        total = total.plus(done)
        progress(done.texts)
        time.sleep(min(time.monotonic() - began, PAUSE_S))


def _due(before: datetime) -> tuple[ColumnElement[bool], ...]:
    return messages.c.received_at < utc(before), messages.c.text_removed_at.is_(None)


def _named(before: datetime) -> tuple[ColumnElement[bool], ...]:
    return surveys.c.answered_at < utc(before), surveys.c.customer_id.is_not(None)


def _batch(store: Store, before: datetime, now: datetime, batch: int) -> Removed:
    with store.transaction() as connection:
        old = select(messages.c.id, messages.c.customer_id).where(*_due(before)).order_by(messages.c.received_at)
        rows = connection.execute(old.limit(batch)).all()
        ids = [row.id for row in rows]
        emptied = {"text": "", "customer_id": None, "text_removed_at": utc(now)}
        connection.execute(messages.update().where(messages.c.id.in_(ids)).values(emptied))
        bare = connection.execute(
            predictions.update()
            .where(predictions.c.message_id.in_(ids), predictions.c.embedding.is_not(None))
            .values(embedding=None)
        )
        named = select(surveys.c.id).where(*_named(before))
        anonymous = connection.execute(
            surveys.update().where(surveys.c.id.in_(named.limit(batch))).values(customer_id=None)
        )
    customers = sum(row.customer_id is not None for row in rows)
    return Removed(len(rows), bare.rowcount, customers, anonymous.rowcount)
