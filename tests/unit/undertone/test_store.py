"""Idempotent writes, windows, labels, leases, migrations."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from undertone.errors import DecisionError, StoreError
from undertone.lease import hold
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.schema import metadata
from undertone.store import Store, sample_key

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    made.migrate()
    return made


def scored(number: int, sent_at: datetime | None = NOW, label: str = "positive") -> ScoredMessage:
    message = Message(str(number), f"text {number}", "chat", "starter", "c1", sent_at, NOW + timedelta(hours=1))
    answer = Prediction(str(number), "sentiment", label, (0.1, 0.2, 0.7), 3, "ab" * 32, NOW, b"\x00\x3c")
    return ScoredMessage(message, (answer,), final_sentiment=label)


def test_migrations_give_the_schema(store: Store) -> None:
    with store.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_twice_changes_nothing(store: Store) -> None:
    store.record([scored(1)])
    store.migrate()
    assert store.count("sentiment", NOW, NOW + timedelta(hours=1)) == 1


def test_a_message_is_stored_once(store: Store) -> None:
    assert store.record([scored(1), scored(2)]) == 2
    assert store.record([scored(2, label="negative"), scored(3)]) == 1
    rows = store.window("sentiment", NOW, NOW + timedelta(seconds=1))
    assert sorted((row["message_id"], row["label"]) for row in rows) == [
        ("1", "positive"),
        ("2", "positive"),
        ("3", "positive"),
    ]


def test_a_window_is_half_open_and_reads_the_time_sent(store: Store) -> None:
    store.record([scored(1, NOW), scored(2, NOW + timedelta(days=1)), scored(3, None)])
    window = store.window("sentiment", NOW, NOW + timedelta(days=1))
    assert {row["message_id"] for row in window} == {"1", "3"}  # 3 was received an hour after NOW
    assert window[0]["event_at"].tzinfo is UTC
    assert window[0]["embedding"] == b"\x00\x3c"
    assert window[0]["probabilities"] == [0.1, 0.2, 0.7]


def test_times_with_another_zone_are_the_same_moment(store: Store) -> None:
    store.record([scored(1, NOW.astimezone(timezone(timedelta(hours=5, minutes=30))))])
    assert store.latest_event("sentiment") == NOW
    assert store.latest_event("sarcasm") is None


def test_a_limited_window_is_the_same_random_sample_each_time(store: Store) -> None:
    store.record([scored(number) for number in range(50)])
    first = [row["message_id"] for row in store.window("sentiment", NOW, NOW + timedelta(days=1), limit=10)]
    assert first == [row["message_id"] for row in store.window("sentiment", NOW, NOW + timedelta(days=1), limit=10)]
    assert first == sorted(map(str, range(50)), key=sample_key)[:10]


def test_the_newest_label_of_a_labeller_counts(store: Store) -> None:
    store.record([scored(1)])
    store.add_feedback([Feedback("1", "sentiment", "neutral", "bo", NOW)])
    store.add_feedback(
        [Feedback("1", "sentiment", "negative", "bo", NOW), Feedback("9", "sentiment", "negative", "bo", NOW)]
    )
    rows = store.labelled("sentiment")
    assert [(row["message_id"], row["label"], row["text"]) for row in rows] == [("1", "negative", "text 1")]
    assert store.labelled("sentiment", until=NOW - timedelta(seconds=1)) == []
    assert store.known(["1", "9"]) == {"1"}


def test_probabilities_must_be_numbers() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Prediction("1", "sentiment", "positive", (float("nan"), 1.0), 1, "", NOW)


def test_a_lease_has_one_holder(store: Store) -> None:
    assert store.acquire("train", "ann", NOW, 60)
    assert not store.acquire("train", "bo", NOW + timedelta(seconds=59), 60)
    assert store.acquire("train", "ann", NOW + timedelta(seconds=59), 60)
    assert not store.acquire("train", "bo", NOW + timedelta(seconds=61), 60)
    assert store.acquire("train", "bo", NOW + timedelta(seconds=120), 60)
    store.release("train", "ann")
    assert store.holder("train") == "bo"


def test_hold_refuses_a_second_and_takes_over_from_the_dead(store: Store) -> None:
    with hold(store, "train"), pytest.raises(DecisionError, match="nobody else at work"), hold(store, "train"):
        pass
    assert store.holder("train") is None
    import socket

    store.acquire("train", f"{socket.gethostname()}/999999999/x", datetime.now(UTC), 600)
    with hold(store, "train"):
        assert store.holder("train") != f"{socket.gethostname()}/999999999/x"


def test_a_store_out_of_reach_says_so(tmp_path: Path) -> None:
    broken = Store(f"sqlite:///{tmp_path}", timeout_s=1)
    with pytest.raises(StoreError, match="UNDERTONE_STORE_URL"):
        broken.ping()
