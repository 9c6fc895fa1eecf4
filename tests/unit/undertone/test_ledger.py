"""The ledger's chain breaks on any edit, and writers queue."""

import itertools
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from undertone.errors import StoreError
from undertone.ledger import GENESIS, KINDS, Ledger, verify_export
from undertone.store import Store

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


def fill(ledger: Ledger, rows: int = 5) -> None:
    for number in range(rows):
        ledger.append(
            "gate",
            "sentiment",
            at=NOW,
            actor="ann",
            reason=f"row {number}",
            version=number,
            payload={"f1": 0.1 + number},
        )


def test_rows_follow_each_other(ledger: Ledger) -> None:
    fill(ledger)
    rows = ledger.entries()
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].previous_hash == GENESIS
    assert all(later.previous_hash == earlier.hash for earlier, later in itertools.pairwise(rows))
    assert ledger.verify() == 5


def test_an_empty_ledger_is_unbroken(ledger: Ledger) -> None:
    assert ledger.verify() == 0
    assert ledger.latest("sentiment", ["gate"]) is None


def test_unknown_kind_is_misuse(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        ledger.append("party", "sentiment", at=NOW, actor="ann", reason="")


def test_filters(ledger: Ledger) -> None:
    fill(ledger)
    ledger.append("approved", "sarcasm", at=NOW, actor="bo", reason="fine", version=1)
    assert [row.task for row in ledger.entries("sarcasm")] == ["sarcasm"]
    latest = ledger.latest("sentiment", ["gate"], version=3)
    assert latest is not None
    assert latest.reason == "row 3"
    assert len(ledger.entries(limit=2)) == 2


TAMPERINGS = [
    "update ledger set reason = 'nothing to see' where seq = 3",
    "update ledger set actor = 'eve' where seq = 3",
    "update ledger set at = '2020-01-01T00:00:00+00:00' where seq = 3",
    "update ledger set kind = 'approved' where seq = 3",
    "update ledger set task = 'sarcasm' where seq = 3",
    "update ledger set version = 9 where seq = 3",
    """update ledger set payload = '{"f1":1.0}' where seq = 3""",
    "update ledger set previous_hash = hash where seq = 3",
    "update ledger set hash = 'ff' where seq = 3",
    "delete from ledger where seq = 3",
    "delete from ledger where seq = 1",
    "update ledger set seq = 99 where seq = 3",
    "update ledger set seq = case seq when 3 then -4 when 4 then -3 else seq end; update ledger set seq = abs(seq)",
]


def unguard(connection: Connection) -> None:
    """Drop what keeps rows as they are, as somebody with the rights of the table's owner can."""
    if connection.dialect.name == "sqlite":
        for name in connection.exec_driver_sql("select name from sqlite_schema where type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"drop trigger {name}")
    else:
        connection.exec_driver_sql("alter table ledger disable trigger all")


@pytest.mark.parametrize(
    "change",
    [
        *(statement for statement in TAMPERINGS if ";" not in statement),
        "delete from ledger where seq = 5",
        "delete from ledger",
        "insert into ledger select * from ledger where seq = 3",
        "insert into ledger select 6, at, kind, task, 1, actor, reason, payload, '', hash from ledger where seq = 3",
    ],
)
def test_the_database_takes_new_rows_only(ledger: Ledger, change: str) -> None:
    fill(ledger)
    before = ledger.entries()
    with pytest.raises(StoreError, match=r"new rows only|unique constraint"), ledger.store.transaction() as connection:
        connection.exec_driver_sql(change)
    assert ledger.entries() == before
    fill(ledger, 1)
    assert ledger.verify() == 6


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_any_tampering_is_named(ledger: Ledger, tampering: str) -> None:
    fill(ledger)
    with ledger.store.transaction() as connection:
        unguard(connection)
        for statement in tampering.split(";"):
            connection.exec_driver_sql(statement)
    with pytest.raises(StoreError, match=r"row (1|2|3|4|99)\b") as caught:
        ledger.verify()
    assert caught.value.expected == "an unbroken ledger"


def test_an_inserted_row_is_named(ledger: Ledger) -> None:
    fill(ledger)
    with ledger.store.transaction() as connection:
        connection.exec_driver_sql(
            "insert into ledger select 6, at, 'approved', task, 7, 'eve', reason, payload, hash, 'ab' "
            "from ledger where seq = 5"
        )
    with pytest.raises(StoreError, match="row 6, whose content"):
        ledger.verify()


def test_concurrent_writers_queue(ledger: Ledger) -> None:
    threads = [threading.Thread(target=fill, args=(ledger, 10)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.verify() == 60


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    actor=st.text(min_size=1, max_size=50).filter(str.isprintable),
    payload=st.dictionaries(
        st.text(), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
    ),
)
def test_whatever_is_written_comes_back_and_verifies(ledger: Ledger, kind: str, actor: str, payload: dict) -> None:
    before = ledger.verify()
    payload = {key: value for key, value in payload.items() if key.isprintable()}
    entry = ledger.append(kind, "sentiment", at=NOW, actor=actor, reason="r", payload=payload)
    assert ledger.entries(newest_first=True, limit=1) == [entry]
    assert entry.payload == payload
    assert ledger.verify() == before + 1


@pytest.mark.parametrize(
    "odd",
    ["nul \x00 inside", "lone \ud83d surrogate", "\udc00", "two halves \ud83d\ude00", "\x07\x7f\x85", "a\r\n\tb",
     "x" * 200_000, "'; drop table ledger; --", "%s %(a)s :name \\", "é 👍🏽 \u202e \ufffe"],
)  # fmt: skip
def test_odd_text_is_kept_or_repaired_and_verifies(ledger: Ledger, odd: str) -> None:
    payload = {odd: odd, "b": [odd], "\ue000": 1, "by version": {9: "nine", 10: "ten"}}
    entry = ledger.append("gate", "sentiment", at=NOW, actor=odd[:100], reason=odd, payload=payload)
    assert ledger.entries() == [entry]
    assert len(entry.reason) >= len(odd) - 1
    assert entry.payload["by version"] == {"9": "nine", "10": "ten"}
    assert ledger.verify() == 1


@pytest.mark.parametrize("payload", [{"f1": {9: "nine", 10: "ten"}}, {"\ud83d": 1, "\ue000": 2}, {"\x85a": 1, "b": 2}])
def test_an_export_of_any_payload_verifies(ledger: Ledger, payload: dict) -> None:
    ledger.append("gate", "sentiment", at=NOW, actor="ann", reason="r", payload=payload)
    assert verify_export(list(ledger.export())) == 1


def test_a_time_is_kept_as_the_same_moment(ledger: Ledger) -> None:
    at = datetime(2026, 11, 3, 15, 30, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    ledger.append("gate", "sentiment", at=at, actor="ann", reason="")
    assert ledger.entries()[0].at == at
    assert ledger.verify() == 1


@pytest.fixture
def watched(store: Store, tmp_path: Path) -> Ledger:
    """A ledger with a witness outside the database."""
    return Ledger(store, tmp_path / "ledger.head")


def test_rows_cut_off_at_the_end_are_missed(watched: Ledger) -> None:
    fill(watched)
    with watched.store.transaction() as connection:
        unguard(connection)
        connection.exec_driver_sql("delete from ledger where seq = 5")
    assert Ledger(watched.store).verify() == 4, "the chain alone cannot tell"
    with pytest.raises(StoreError, match="row 5, written by this machine, gone; 4 rows are left"):
        watched.verify()


def test_a_chain_computed_anew_is_noticed(watched: Ledger) -> None:
    fill(watched)
    with watched.store.transaction() as connection:
        unguard(connection)
        connection.exec_driver_sql("delete from ledger")
    forger = Ledger(watched.store)
    fill(forger, 4)
    forger.append("approved", "sentiment", at=NOW, actor="eve", reason="always so", version=9)
    assert forger.verify() == 5
    with pytest.raises(StoreError, match="row 5, written by this machine, with another hash"):
        watched.verify()


def test_the_champion_at_a_moment(ledger: Ledger) -> None:
    hours = [NOW.replace(hour=hour) for hour in (8, 9, 10)]
    for hour, (kind, version) in zip(hours, [("approved", 1), ("approved", 2), ("rolled_back", 1)], strict=True):
        ledger.append(kind, "sentiment", at=hour, actor="ann", reason="r", version=version)

    def at(moment: datetime | None) -> int | None:
        row = ledger.champion("sentiment", moment)
        return row.version if row else None

    assert [at(hours[0].replace(hour=7)), at(hours[0]), at(hours[1]), at(hours[2]), at(None)] == [None, 1, 2, 1, 1]
    assert ledger.champion("sarcasm") is None


def test_an_export_verifies_without_the_database(ledger: Ledger) -> None:
    fill(ledger)
    ledger.append(
        "gate", "sentiment", at=NOW, actor="ann", reason="line\u2028break \x00 \ud800", payload={"é": "\u2029"}
    )
    lines = list(ledger.export())
    assert verify_export(lines) == 6
    assert all("\n" not in line for line in lines)
    for broken in (
        [*lines[:2], lines[2].replace("row 2", "row two"), *lines[3:]],
        [*lines[:2], *lines[3:]],
        [lines[1], lines[0], *lines[2:]],
        [*lines[:3], "{}", *lines[3:]],
        [*lines[:3], "no json"],
    ):
        with pytest.raises(StoreError, match="an unbroken ledger"):
            verify_export(broken)
