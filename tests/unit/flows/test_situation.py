"""What the ledger's rows say of a task's trainings."""

from datetime import UTC, datetime, timedelta
from typing import Any

from flows.situation import TRAINER, Trainings, read_trainings
from undertone.records import LedgerEntry

START = datetime(2026, 10, 5, tzinfo=UTC)
Row = tuple[str, dict[str, Any]]


def row(kind: str, day: float, actor: str = TRAINER, version: int | None = None, **payload: Any) -> Row:
    at = START + timedelta(days=day)
    return kind, {"at": at, "actor": actor, "version": version, "payload": payload}


def started(day: float, began: float | None = None) -> Row:
    now = START + timedelta(days=day if began is None else began)
    return row("retrain", day, "drift-watch", retrain=True, started=True, training={"now": now.isoformat()})


def read(*rows: Row, now: float = 40) -> Trainings:
    entries = [
        LedgerEntry(seq, kind=kind, task="sentiment", reason="why", **rest) for seq, (kind, rest) in enumerate(rows, 1)
    ]
    return read_trainings(entries, START + timedelta(days=now), timedelta(days=28))


def day(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - START) / timedelta(days=1)


def test_nothing_yet() -> None:
    assert read() == Trainings(None, None, None, (), 0.0, None)


def test_a_start_without_an_end_was_killed_and_goes_on_with_its_own_clock() -> None:
    killed = read(started(20), started(21, began=20)).killed
    assert killed is not None
    assert (day(killed.at), killed.training) == (20, {"now": killed.at.isoformat()})
    assert read(started(20), row("registered", 20, version=2)).killed is not None, "registered, and never judged"
    assert read(started(20), row("registered", 20, version=2), row("gate", 20, "gate", 2, passed=True)).killed is None
    assert read(started(20), row("training_failed", 20)).killed is None
    assert read(started(20), row("training_failed", 20, stopped=True)).killed is not None, "Ctrl-C"
    assert read(started(20), row("training_failed", 21, "ann")).killed is not None, "somebody else's"
    assert read(started(20), row("registered", 21, "ann", 2)).killed is None, "a person trained since"
    assert read(row("retrain", 20, "drift-watch", retrain=True, started=False)).killed is None
    assert read(row("retrain", 20, "drift-watch", retrain=True)).killed is None, "as version 0.1 wrote it"


def test_only_trainings_of_the_policy_cool_it_down() -> None:
    own = [started(20), row("registered", 20, version=2)]
    assert day(read(*own, row("gate", 20, "gate", 2, passed=False)).failed_at) == 20
    assert read(*own, row("gate", 20, "gate", 2, passed=True)).failed_at is None
    assert day(read(*own, row("gate", 20, "gate", 2, passed=True), row("rejected", 22, "bo", 2)).failed_at) == 22
    assert read(row("registered", 20, "ann", 2), row("gate", 20, "gate", 2, passed=False)).failed_at is None
    assert read(row("training_failed", 20, "ann")).failed_at is None
    # a resumed training's rows carry the clock with which it first began
    assert day(read(started(20), started(25, began=20), row("training_failed", 20)).failed_at) == 25


def test_an_order_is_spent_by_the_next_training() -> None:
    asked = row("retrain_asked", 10, "ann")
    found = read(asked).asked
    assert found is not None
    assert (found.actor, found.reason, day(found.at)) == ("ann", "why", 10)
    assert read(asked, row("retrain", 11, "drift-watch", retrain=True, started=False)).asked is not None
    assert read(asked, row("training_failed", 11, "bo")).asked is not None
    assert read(asked, started(11)).asked is None
    assert read(asked, row("registered", 11, "bo", 2)).asked is None
    assert read(started(9), asked).asked is not None


def test_the_last_model_is_the_last_row_not_the_latest_time() -> None:
    """A model trained under a clock that was years ahead is followed by one that sets it right."""
    assert day(read(row("registered", 2_000, version=2), row("registered", 30, "ann", 3)).last_model_at) == 30


def test_processor_hours_count_for_the_longest_time_between_models() -> None:
    spent = {"spent": {"cpu_s": 7_200}}
    rows = [
        row("registered", 5, version=2, **spent),
        row("training_failed", 20, **spent),
        row("registered", 30, version=3),
    ]
    assert read(*rows).cpu_hours == 2.0
    assert read(*rows, now=21).cpu_hours == 4.0
