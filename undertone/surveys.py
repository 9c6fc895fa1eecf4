"""Answers to surveys: what one is, and how it gets into the store, once per id."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from undertone.errors import DataError
from undertone.records import utc
from undertone.text import repair

if TYPE_CHECKING:
    from undertone.store import Store

#: Net promoter score, and customer satisfaction.
Kind = Literal["nps", "csat"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SCALES: dict[Kind, tuple[int, int]] = {"nps": (0, 10), "csat": (1, 5)}

#: Most characters of an id or a customer, and of a segment or a channel, that the store keeps.
ID_CHARS, WORD_CHARS = 200, 100


@dataclass(frozen=True, slots=True)
class Survey:
    """One answer of one customer.

    Attributes:
        id: of the answer, with the tool's name before it.
        score: on the scale of `SCALES`.
        origin: the tool that it came from.
    """

    id: str
    kind: Kind
    score: float
    answered_at: datetime
    origin: str
    customer_id: str | None = None
    segment: str | None = None
    channel: str | None = None


def survey(
    origin: str,
    id: str,
    kind: str,
    score: float,
    answered_at: datetime,
    *,
    customer_id: str | None = None,
    segment: str | None = None,
    channel: str | None = None,
) -> Survey:
    """A checked answer; the same answer of the same tool has the same id.

    Raises:
        DataError: no id, another kind, a score beyond its scale, or a value that is too long.
    """
    if kind not in SCALES:
        raise DataError(f"a kind of survey: {', '.join(KINDS)}", repr(kind)[:50], "say nps or csat")
    of: Kind = kind
    low, high = SCALES[of]
    if not (math.isfinite(score) and low <= score <= high):
        raise DataError(f"a score of {low} to {high} for {kind}", f"{score:g}", "check which kind of survey it is")
    name = repair(id).strip()
    if not name:
        raise DataError("an id of the answer", "none", "name the column or field with the tool's own id")
    words = {"segment": _plain(segment), "channel": _plain(channel)}
    whole, customer = f"{origin}:{name}", _plain(customer_id)
    if len(whole) > ID_CHARS or len(customer or "") > ID_CHARS:
        raise DataError(f"ids of at most {ID_CHARS} characters", "a longer one", "shorten it")
    if any(len(word or "") > WORD_CHARS for word in words.values()):
        raise DataError(f"segment and channel of at most {WORD_CHARS} characters", "a longer one", "shorten it")
    return Survey(whole, of, float(score), utc(answered_at), origin, customer, **words)


@dataclass(frozen=True, slots=True)
class Written:
    """How many answers the store now has, how many of them it had not, and how many are of erased customers."""

    stored: int = 0
    new: int = 0
    erased: int = 0


def write(store: Store, answers: Sequence[Survey], *, replace: bool = True) -> Written:
    """Write answers, each id once; what customers answered before they were erased stays away.

    Args:
        store: where to.
        answers: of two with one id the later one counts.
        replace: an answer that is there already becomes the new one; else it stays.

    Raises:
        StoreError: the store is out of reach.
    """
    from sqlalchemy import select
    from sqlalchemy.dialects import postgresql, sqlite

    from undertone import tombstones
    from undertone.schema import surveys

    last = {answer.id: answer for answer in answers}
    if not last:
        return Written()
    with store.transaction() as connection:
        erased = tombstones.erased_at(connection, (answer.customer_id for answer in last.values()))
        # in one order everywhere: two that write the same answers queue, they do not deadlock
        rows = [
            asdict(last[id])
            for id in sorted(last)
            if not tombstones.is_buried(erased, last[id].customer_id, last[id].answered_at)
        ]
        if not rows:
            return Written(erased=len(last))
        ids = [row["id"] for row in rows]
        known = set(connection.execute(select(surveys.c.id).where(surveys.c.id.in_(ids))).scalars())
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        insert = dialect.insert(surveys)
        changes = {column.name: insert.excluded[column.name] for column in surveys.c if not column.primary_key}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["id"], set_=changes)
            if replace
            else insert.on_conflict_do_nothing(),
            rows,
        )
    return Written(len(rows), len(rows) - len(known), len(last) - len(rows))


def _plain(value: str | None) -> str | None:
    return repair(value).strip() or None if value is not None else None
