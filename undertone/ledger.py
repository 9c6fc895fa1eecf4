"""The ledger: every decision is one row, and each row's hash covers the row before it.

An edit, a deletion in the middle, an insertion or a reordering breaks the chain at a row that
`Ledger.verify` names. Rows cut off at the end, or a chain computed anew, no longer fit what this machine saw last (the
*witness*, a small file outside the database) and what approvers signed (`undertone.signing.Order`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, select, text

from undertone.errors import StoreError
from undertone.records import LedgerEntry, utc
from undertone.schema import ledger
from undertone.store import Store
from undertone.text import repair

GENESIS = "0" * 64

#: Every kind of row, and what it says happened.
KINDS = {
    "registered": "a training flow registered a model version",
    "gate": "the gate gave its verdict on a version",
    "approved": "an approver signed a version and made it champion",
    "rejected": "a person turned a version down",
    "rolled_back": "a person put an earlier approved version back",
    "trial_started": "an approver let a challenger score a share of the messages beside the champion",
    "trial_ended": "a trial ended: by a person, by a promotion, or by a worker, which says why",
    "drift": "a drift watch gave its verdict on a window",
    "retrain": "the retrain policy decided, yes or no",
    "training_failed": "a training flow ended without a model",
    "frozen": "promotion of a task was stopped until somebody lifts it",
    "unfrozen": "promotion of a task was allowed again",
    "key_trusted": "a public key came to count",
    "key_revoked": "a key and all it signed stopped counting",
    "finding": "the reconciler found something that the ledger does not explain",
    "finding_cleared": "a finding is no longer there",
    "reproduced": "a version was trained again and compared",
    "calibrated": "a model's own healthy windows set its drift floors",
    "audit_drawn": "random messages of a window went to the reviewers",
    "audit": "reviewers' labels said how good a version is on recent messages",
    "labels_asked": "people were asked for labels that a retrain needs",
    "retrain_asked": "a person asked for a retrain whatever the cadence says",
    "alert": "people were told of an incident",
    "resolved": "people were told that an incident is over",
    "erased": "everything of one customer was erased, or texts past their retention were",
}

#: Rows that say which version of a task is the champion.
PROMOTIONS = ("approved", "rolled_back")

#: In the column ``task`` of rows that concern no single task.
EVERY_TASK = "all"

#: Rows read at a time by `Ledger.export`.
_PAGE = 1_000

_ADVISORY_LOCK = 0x756E6465  # "unde": serialises appends on PostgreSQL


class Ledger:
    """Append-only decisions in the store's ``ledger`` table.

    Args:
        store: the store with the table.
        witness: a file in which this machine remembers the newest row it wrote; None: it does not.
    """

    def __init__(self, store: Store, witness: Path | None = None) -> None:
        self.store = store
        self.witness = witness

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
        if len(actor) > 200 or len(task) > 100:  # what PostgreSQL refuses, SQLite would take
            raise ValueError(
                f"an actor of at most 200 and a task of at most 100 characters, not {len(actor)}, {len(task)}"
            )
        with self.store.transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
            last = connection.execute(
                select(ledger.c.seq, ledger.c.hash).order_by(ledger.c.seq.desc()).limit(1)
            ).first()
            row: dict[str, Any] = {
                "seq": last.seq + 1 if last else 1,
                "at": _time(at),
                "kind": kind,
                "task": task,
                "version": version,
                "actor": repair(actor),
                "reason": repair(reason),
                "payload": _canonical(json.loads(repair(_canonical(payload or {})))),  # as an export reads it
                "previous_hash": last.hash if last else GENESIS,
            }
            row["hash"] = _hash(row)
            connection.execute(ledger.insert(), [row])
        self._remember(row["seq"], row["hash"])
        return _entry(row)

    def entries(
        self,
        task: str | None = None,
        kinds: Sequence[str] | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        version: int | None = None,
        until: datetime | None = None,
    ) -> list[LedgerEntry]:
        """Rows in order, filtered by task, kind, version, and time (not later than `until`)."""
        query = select(ledger).order_by(ledger.c.seq.desc() if newest_first else ledger.c.seq).limit(limit)
        if task is not None:
            query = query.where(ledger.c.task == task)
        if kinds is not None:
            query = query.where(ledger.c.kind.in_(kinds))
        if version is not None:
            query = query.where(ledger.c.version == version)
        if until is not None:
            query = query.where(ledger.c.at <= _time(until))
        with self.store.reading() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def latest(
        self, task: str, kinds: Sequence[str], version: int | None = None, until: datetime | None = None
    ) -> LedgerEntry | None:
        """The newest row of these kinds, for one version if given, not later than `until` if given."""
        found = self.entries(task, kinds, limit=1, newest_first=True, version=version, until=until)
        return found[0] if found else None

    def champion(self, task: str, at: datetime | None = None) -> LedgerEntry | None:
        """The row that made the champion of `task`, now or as of `at`."""
        return self.latest(task, PROMOTIONS, until=at)

    def misfit(self, task: str, serial: int, digest: str) -> str | None:
        """Why an order numbered `serial`, signed over the row with hash `digest`, is not the newest one of `task`.

        Promotions of a task queue, so the newest order was given after the promotion before it. None: it fits.
        """
        anchor = self.row(serial) if serial else None
        if (anchor.hash if anchor else GENESIS) != digest:
            return f"row {serial} of the ledger is not the one that was signed over"
        promotions = self.entries(task, PROMOTIONS, limit=2, newest_first=True)
        if len(promotions) == 2 and serial < promotions[1].seq:
            return f"serial {serial}, older than the promotion in row {promotions[1].seq}"
        return None

    def head(self) -> tuple[int, str]:
        """Number and hash of the last row; 0 and `GENESIS` in an empty ledger."""
        last = self.entries(limit=1, newest_first=True)
        return (last[0].seq, last[0].hash) if last else (0, GENESIS)

    def row(self, seq: int) -> LedgerEntry | None:
        """Row number `seq`, or None."""
        with self.store.reading() as connection:
            found = connection.execute(select(ledger).where(ledger.c.seq == seq)).mappings().first()
            return _entry(found) if found else None

    def verify(self) -> int:
        """Check the whole chain, and that the row this machine wrote last is still in it.

        Returns:
            The number of rows.

        Raises:
            StoreError: naming the first row that does not hold.
        """
        with self.store.reading() as connection:
            count = verify_rows(connection.execute(select(ledger).order_by(ledger.c.seq)).mappings())
        seq, seen = self._remembered()
        row = self.row(seq) if seq else None
        if seq and (row is None or row.hash != seen):
            raise _broken(
                f"row {seq}, written by this machine, {'with another hash' if row else 'gone'}; {count} rows are left",
                seq,
            )
        return count

    def export(self) -> Iterator[str]:
        """Every row as one line of JSON, in order; `verify_export` checks such lines without the database."""
        last = 0
        while True:  # page by page: a reader that pauses holds no transaction open
            query = select(ledger).where(ledger.c.seq > last).order_by(ledger.c.seq).limit(_PAGE)
            with self.store.reading() as connection:
                rows = [_entry(row) for row in connection.execute(query).mappings()]
            yield from map(as_line, rows)
            if len(rows) < _PAGE:
                return
            last = rows[-1].seq

    def _remember(self, seq: int, digest: str) -> None:
        """Keep the newest row in the witness. Best effort: the row itself is written already."""
        if self.witness is None or self._remembered()[0] >= seq:
            return
        fresh = self.witness.with_name(f"{self.witness.name}.{os.getpid()}.new")
        with suppress(OSError):
            self.witness.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps([seq, digest]), encoding="utf-8")
            os.replace(fresh, self.witness)

    def _remembered(self) -> tuple[int, str]:
        try:
            seq, digest = json.loads(self.witness.read_text(encoding="utf-8")) if self.witness else (0, GENESIS)
            return int(seq), str(digest)
        except (OSError, ValueError, TypeError):
            return 0, GENESIS


def as_line(entry: LedgerEntry) -> str:
    """One row as a line of JSON, its time as the characters that the hash covers."""
    return _canonical(asdict(entry) | {"at": _time(entry.at)})


def verify_export(lines: Iterable[str]) -> int:
    """Check the chain of exported lines; gives their number.

    Raises:
        StoreError: naming the first row that does not hold.
    """

    def rows() -> Iterator[dict[str, Any]]:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                yield {name: row[name] for name in (*_HASHED, "hash")} | {"payload": _canonical(row["payload"])}
            except (ValueError, KeyError, TypeError) as error:
                raise _broken(f"line {number}, which is no ledger row", number) from error

    return verify_rows(rows())


def verify_rows(rows: Iterable[Mapping[Any, Any]]) -> int:
    """Check numbers, links and hashes of rows in order; gives their number.

    Raises:
        StoreError: naming the first row that does not hold.
    """
    previous, count = GENESIS, 0
    for row in rows:
        count += 1
        for broken, found in (
            (row["seq"] != count, f"row {row['seq']} where row {count} should stand"),
            (row["previous_hash"] != previous, f"row {count}, which does not follow from the row before it"),
            (row["hash"] != _hash(row), f"row {count}, whose content does not match its hash"),
        ):
            if broken:
                raise _broken(found, count)
        previous = row["hash"]
    return count


def _broken(found: str, row: int) -> StoreError:
    return StoreError(
        "an unbroken ledger", found, f"compare row {row} with a backup; nothing from there on can be trusted"
    )


def _time(moment: datetime) -> str:
    """The characters that stand in the column ``at``: one width and one zone, so that text sorts as time does."""
    return utc(moment).isoformat(timespec="microseconds")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)


_HASHED = ("seq", "at", "kind", "task", "version", "actor", "reason", "payload", "previous_hash")


def _hash(row: Mapping[Any, Any]) -> str:
    return hashlib.sha256(_canonical([row[field] for field in _HASHED]).encode()).hexdigest()


def _entry(row: RowMapping | dict[str, Any]) -> LedgerEntry:
    return LedgerEntry(
        **{key: row[key] for key in ("seq", "kind", "task", "version", "actor", "reason", "previous_hash", "hash")},
        at=datetime.fromisoformat(row["at"]),
        payload=json.loads(row["payload"]),
    )
