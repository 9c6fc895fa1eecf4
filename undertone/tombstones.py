"""Who was erased, so that what they sent before does not come back: from a worker's spool, a topic, a retry, a file.

The store keeps an HMAC of the customer's id and the time, never the id. The key (``salt``) lies in the same table: who
has the database can try ids out, so the hash hides an id from a reader of the ledger, not from one of the store.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select, text

from undertone.records import utc
from undertone.schema import erasures

_LOCK = 0x756E6572  # "uner": on PostgreSQL, writers of messages share it, an erasure has it alone


def pseudonym(salt: str, customer: str) -> str:
    """The hash under which a store and its ledger know an erased customer, 64 hexadecimal digits."""
    return hmac.new(bytes.fromhex(salt), customer.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def bury(connection: Connection, customer: str, at: datetime) -> str:
    """Write down that `customer` is erased as of `at`, in the caller's transaction; gives their hash.

    On PostgreSQL it waits for whoever writes messages just now: what they write is there once it returns.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    salt = _salt(connection) or secrets.token_hex(32)
    hashed = pseudonym(salt, customer)
    connection.execute(erasures.delete().where(erasures.c.customer_hash == hashed))
    connection.execute(erasures.insert(), [{"customer_hash": hashed, "salt": salt, "erased_at": utc(at)}])
    return hashed


def known_as(connection: Connection, customer: str) -> str | None:
    """The hash of `customer` in this store; None: nobody was erased here yet."""
    salt = _salt(connection)
    return pseudonym(salt, customer) if salt else None


def erased_at(connection: Connection, customers: Iterable[str | None]) -> dict[str, datetime]:
    """Which of these customers were erased, and when last. Called in the transaction that writes their rows."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock_shared(:key)"), {"key": _LOCK})
    salt = _salt(connection)
    if salt is None:
        return {}
    hashes = {pseudonym(salt, customer): customer for customer in set(customers) if customer is not None}
    found: dict[str, datetime] = {}
    names = sorted(hashes)
    for start in range(0, len(names), 500):  # databases limit the values of one `in`
        query = select(erasures.c.customer_hash, erasures.c.erased_at).where(
            erasures.c.customer_hash.in_(names[start : start + 500])
        )
        found |= {hashes[row.customer_hash]: row.erased_at for row in connection.execute(query)}
    return found


def is_buried(erased: dict[str, datetime], customer: str | None, *moments: datetime | None) -> bool:
    """Whether something of `customer` is of before their erasure, by the earliest of its times."""
    at = erased.get(customer) if customer is not None else None
    return at is not None and min((utc(moment) for moment in moments if moment is not None), default=at) <= at


def _salt(connection: Connection) -> str | None:
    found: str | None = connection.execute(select(erasures.c.salt).limit(1)).scalar()
    return found
