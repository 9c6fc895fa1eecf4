"""One customer's rows in the store: found, deleted, and their bytes overwritten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table, func, select, text

from undertone.redaction import Sought, redact_value
from undertone.schema import feedback, insight_alerts, ledger, messages, predictions, reviews, surveys
from undertone.store import Store

#: Messages deleted in one transaction.
BATCH = 500
#: Seconds that the write-ahead log waits for readers before it is given up.
PATIENCE_S = 10.0

#: Tables whose rows belong to a message.
_OF_MESSAGES: tuple[tuple[Table, Any], ...] = (
    (predictions, predictions.c.message_id),
    (feedback, feedback.c.message_id),
    (reviews, reviews.c.message_id),
)


def collect(store: Store, customer: str) -> Sought:
    """The customer's messages, by which files are looked through."""
    with store.reading() as connection:
        rows = connection.execute(select(messages.c.id, messages.c.text).where(messages.c.customer_id == customer))
        found = rows.all()
    return Sought(customer, frozenset(row.id for row in found), frozenset(row.text for row in found))


def count_rows(store: Store, sought: Sought) -> dict[str, int]:
    """Rows by table; insight_alerts are those that name one of the messages."""
    with store.reading() as connection:
        counts = {
            "messages": _count(connection, messages, messages.c.customer_id == sought.customer),
            **{
                table.name: sum(_count(connection, table, column.in_(ids)) for ids in _parts(sought.message_ids))
                for table, column in _OF_MESSAGES
            },
            "surveys": _count(connection, surveys, surveys.c.customer_id == sought.customer),
            "insight_alerts": sum(1 for _ in _alerts(connection, sought)),
        }
    return {name: count for name, count in counts.items() if count}


def delete_rows(store: Store, sought: Sought) -> dict[str, int]:
    """Delete the customer's rows, a batch a transaction; alerts stay, without the ids of the messages.

    Messages that came in meanwhile go too.

    Returns:
        Rows by table.
    """
    if sought.customer is None:
        raise ValueError("no customer is named")
    counts: dict[str, int] = dict.fromkeys(("messages", *(table.name for table, _ in _OF_MESSAGES)), 0)
    own = select(messages.c.id).where(messages.c.customer_id == sought.customer).limit(BATCH)
    for left in _parts(sought.message_ids):  # labels and reviews whose message is gone already
        with store.transaction() as connection:
            _delete(connection, left, counts)
    while True:
        with store.transaction() as connection:
            ids = connection.execute(own).scalars().all()
            if not ids:
                break
            _delete(connection, ids, counts)
            counts["messages"] += connection.execute(messages.delete().where(messages.c.id.in_(ids))).rowcount
    with store.transaction() as connection:
        counts["surveys"] = connection.execute(
            surveys.delete().where(surveys.c.customer_id == sought.customer)
        ).rowcount
        changed = list(_alerts(connection, sought))
        for number, detail in changed:
            connection.execute(insight_alerts.update().where(insight_alerts.c.id == number).values(detail=detail))
        counts["insight_alerts"] = len(changed)
    return {name: count for name, count in counts.items() if count}


def ledger_rows(store: Store, sought: Sought) -> list[int]:
    """Numbers of the ledger's rows that have the customer's id in them: these cannot be changed."""
    if sought.customer is None:
        return []
    query = select(ledger.c.seq).where(
        ledger.c.payload.contains(f'"{sought.customer}"', autoescape=True)
        | ledger.c.reason.contains(sought.customer, autoescape=True)
    )
    with store.reading() as connection:
        return list(connection.execute(query.order_by(ledger.c.seq)).scalars())


def shred(store: Store, *, whole: bool = True) -> list[str]:
    """Overwrite what was deleted, as far as the database lets us; gives what is left, a sentence each.

    SQLite writes zeros over what is deleted (`secure_delete`); here the file is built anew and the write-ahead log
    emptied. PostgreSQL keeps the bytes until their space is used again.

    Args:
        store: where rows were deleted.
        whole: build SQLite's file anew: it waits for writers, who then wait for it.
    """
    if store.url.get_backend_name() != "sqlite":
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (messages, predictions, feedback, reviews, surveys, insight_alerts):
                connection.execute(text(f"vacuum {table.name}"))
        return [
            "PostgreSQL keeps deleted bytes in its files until the space is used again (`vacuum full` ends that), and"
            " in its write-ahead log and replicas until these are recycled"
        ]
    raw = store.engine.raw_connection()
    try:
        cursor = raw.cursor()
        if whole:
            try:
                cursor.execute("vacuum")
            except sqlite3.OperationalError as error:
                return [f"SQLite's file could not be built anew ({error}): run the erasure again"]
        usual = cursor.execute("pragma busy_timeout").fetchone()[0]
        cursor.execute(f"pragma busy_timeout = {int(PATIENCE_S * 1000)}")
        busy = cursor.execute("pragma wal_checkpoint(truncate)").fetchone()[0]
        cursor.execute(f"pragma busy_timeout = {usual}")
        return ["SQLite's write-ahead log is in use and not emptied: run the erasure again"] if busy else []
    finally:
        raw.close()


def _delete(connection: Connection, ids: Sequence[str], counts: dict[str, int]) -> None:
    for table, column in _OF_MESSAGES:
        counts[table.name] += connection.execute(table.delete().where(column.in_(ids))).rowcount


def _alerts(connection: Connection, sought: Sought) -> Iterator[tuple[int, Any]]:
    """Alerts that name one of the messages, without its id."""
    for row in connection.execute(select(insight_alerts.c.id, insight_alerts.c.detail)).all():
        detail, count = redact_value(row.detail, sought)
        if count:
            yield row.id, detail


def _count(connection: Connection, table: Table, *where: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())


def _parts(ids: frozenset[str]) -> Iterator[list[str]]:
    """Databases limit the values of one `in`."""
    every = sorted(ids)
    yield from (every[start : start + BATCH] for start in range(0, len(every), BATCH))
