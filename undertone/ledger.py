"""The ledger: every decision is one row, and each row's hash covers the row before it.

An edit, a deletion in the middle, an insertion or a reordering breaks the chain at a row that
`Ledger.verify` names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select, text

from undertone.errors import StoreError
from undertone.records import LedgerEntry, utc
from undertone.schema import ledger
from undertone.store import Store

GENESIS = "0" * 64

#: Every kind of row, and what it says happened.
KINDS = {
    "registered": "a training flow registered a model version",
    "gate": "the gate gave its verdict on a version",
    "approved": "an approver signed a version and made it champion",
    "rejected": "a person turned a version down",
    "rolled_back": "a person put an earlier approved version back",
    "drift": "a drift watch gave its verdict on a window",
    "retrain": "the retrain policy decided, yes or no",
    "training_failed": "a training flow ended without a model",
}

_ADVISORY_LOCK = 0x756E6465  # "unde": serialises appends on PostgreSQL


class Ledger:
    """Append-only decisions in the store's ``ledger`` table."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def append(
        self,
        kind: str,
        task: str,
        *,
        at: datetime,
        actor: str,
        reason: str,
        version: int | None = None,
        payload: dict[str, Any] | None = None,
    ) -> LedgerEntry:
        """Write one decision. Concurrent writers queue; no two rows share a predecessor.

        Args:
            kind: one of `KINDS`.
            payload: evidence as JSON-ready values (links, numbers, digests).
        """
        if kind not in KINDS:
            raise ValueError(f"unknown kind of ledger row {kind!r}; expected one of {', '.join(KINDS)}")
        with self.store.transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            last = connection.execute(
                select(ledger.c.seq, ledger.c.hash).order_by(ledger.c.seq.desc()).limit(1)
            ).first()
            row: dict[str, Any] = {
                "seq": last.seq + 1 if last else 1,
                "at": utc(at).isoformat(timespec="microseconds"),
                "kind": kind,
                "task": task,
                "version": version,
                "actor": actor,
                "reason": reason,
                "payload": _canonical(payload or {}),
                "previous_hash": last.hash if last else GENESIS,
            }
            row["hash"] = _hash(row)
            connection.execute(ledger.insert(), [row])
        return _entry(row)

    def entries(
        self,
        task: str | None = None,
        kinds: Sequence[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[LedgerEntry]:
        """Rows in order, filtered by task and kind."""
        query = select(ledger).order_by(ledger.c.seq.desc() if newest_first else ledger.c.seq).limit(limit)
        if task is not None:
            query = query.where(ledger.c.task == task)
        if kinds is not None:
            query = query.where(ledger.c.kind.in_(kinds))
        with self.store.reading() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def latest(self, task: str, kinds: Sequence[str], version: int | None = None) -> LedgerEntry | None:
        """The newest row of these kinds, for one version if given."""
        rows = self.entries(task, kinds, newest_first=True)
        return next((row for row in rows if version is None or row.version == version), None)

    def verify(self) -> int:
        """Check the whole chain.

        Returns:
            The number of rows.

        Raises:
            StoreError: naming the first row that does not hold.
        """
        with self.store.reading() as connection:
            return _verify(connection)


def _verify(connection: Connection) -> int:
    previous, count = GENESIS, 0
    for row in connection.execute(select(ledger).order_by(ledger.c.seq)).mappings():
        count += 1
        for broken, found in (
            (row["seq"] != count, f"row {row['seq']} where row {count} should stand"),
            (row["previous_hash"] != previous, f"row {count}, which does not follow from the row before it"),
            (row["hash"] != _hash(row), f"row {count}, whose content does not match its hash"),
        ):
            if broken:
                raise StoreError(
                    "an unbroken ledger",
                    found,
                    f"compare row {count} with a backup; nothing from there on can be trusted",
                )
        previous = row["hash"]
    return count


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


def _hash(row: RowMapping | dict[str, Any]) -> str:
    fields = ("seq", "at", "kind", "task", "version", "actor", "reason", "payload", "previous_hash")
    return hashlib.sha256(_canonical([row[field] for field in fields]).encode()).hexdigest()


def _entry(row: RowMapping | dict[str, Any]) -> LedgerEntry:
    return LedgerEntry(
        **{key: row[key] for key in ("seq", "kind", "task", "version", "actor", "reason", "previous_hash", "hash")},
        at=datetime.fromisoformat(row["at"]),
        payload=json.loads(row["payload"]),
    )
