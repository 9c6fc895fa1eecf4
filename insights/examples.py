"""Messages that show what a figure is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, func, select

from insights.counts import view, within
from insights.period import Period
from undertone.store import Store


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


def read_examples(
    store: Store, task: str, label: str, period: Period, most: int, where: Mapping[str, str | int | None] | None = None
) -> tuple[Example, ...]:
    """Messages of a period that a model gave a label: those that it was sure of first, then the newest.

    Args:
        where: values that columns of the view of predictions have; None as a value: none was given.
    """
    answers = view(store, "predictions")
    wanted = [answers.c.task == task, answers.c.label == label, *within(answers, period)]
    wanted += [answers.c[name].is_(None) if value is None else answers.c[name] == value
               for name, value in (where or {}).items()]  # fmt: skip
    query = (
        select(answers.c.message_id)
        .where(*wanted)
        .order_by(func.coalesce(answers.c.needs_review, False), answers.c.event_at.desc(), answers.c.message_id)
        .limit(most)
    )
    with store.reading() as connection:
        picked = list(connection.execute(query).scalars())
    return examples_of(store, picked)


def examples_of(store: Store, message_ids: Sequence[str]) -> tuple[Example, ...]:
    """These messages in this order; one that was erased meanwhile is left out."""
    messages, texts = view(store, "messages"), view(store, "message_texts")
    found: dict[str, Example] = {}
    with store.reading() as connection:
        for start in range(0, len(message_ids), 500):  # databases limit the values of one `in`
            part = message_ids[start : start + 500]
            for row in connection.execute(_with_texts(messages, texts, messages.c.message_id.in_(part))).mappings():
                found[row["message_id"]] = Example(**row)
    return tuple(found[name] for name in message_ids if name in found)


def _with_texts(messages: Table, texts: Table, wanted: ColumnElement[bool]) -> Select[Any]:
    columns = [
        messages.c[name] for name in ("message_id", "event_at", "channel", "segment", "customer_id", "sentiment")
    ]
    return (
        select(*columns, func.coalesce(texts.c.text, "").label("text"))
        .select_from(messages.outerjoin(texts, texts.c.message_id == messages.c.message_id))
        .where(wanted)
    )
