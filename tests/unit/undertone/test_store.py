"""Idempotent writes, windows, labels, leases, migrations."""

from concurrent.futures import ThreadPoolExecutor
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


def test_of_two_labels_written_together_the_second_counts(store: Store) -> None:
    store.record([scored(1)])
    labels = [Feedback("1", "sentiment", label, "bo", NOW) for label in ("neutral", "negative")]
    assert store.add_feedback(labels) == 1
    assert [row["label"] for row in store.labelled("sentiment")] == ["negative"]


def test_labels_written_at_once_leave_one_of_each_labeller(store: Store) -> None:
    store.record([scored(number) for number in range(20)])

    def write(turn: int) -> int:
        order = range(20) if turn % 2 else reversed(range(20))
        return store.add_feedback([Feedback(str(n), "sentiment", f"label {turn}", "bo", NOW) for n in order])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(16))) == {20}
    rows = store.labelled("sentiment")
    assert len(rows) == 20
    assert len({row["label"] for row in rows}) == 1  # whole batches, one after the other


def test_labelled_messages_come_in_the_same_order_from_every_database(store: Store) -> None:
    made = [("b", NOW), ("B", NOW), ("a", NOW), ("é", NOW), ("_", NOW), ("z", None), ("y", NOW - timedelta(days=1))]
    for identifier, sent_at in made:
        message = Message(identifier, "text", sent_at=sent_at, received_at=NOW)
        store.record([ScoredMessage(message, ())])
        store.add_feedback([Feedback(identifier, "sentiment", "neutral", "bo", NOW)])
    assert [row["message_id"] for row in store.labelled("sentiment")] == ["z", "y", "B", "_", "a", "b", "é"]


def test_what_is_written_comes_back(store: Store) -> None:
    text = "👍🏽 ñ \u202e \n\t 'quoted' %s :name \\ " + "x" * 20_000
    message = Message("ключ", text, None, "", "c" * 200, NOW + timedelta(microseconds=1), NOW, truncated=True)
    embedding = bytes(range(256)) * 3
    exact = (1e-6, 0.333333, 1 / 3)
    store.record([ScoredMessage(message, (Prediction("ключ", "emotion", "joy", exact, 1, "", NOW, embedding),))])
    row = store.window("emotion", NOW, NOW + timedelta(seconds=1))[0]
    assert (row["text"], row["channel"], row["segment"], row["customer_id"]) == (text, None, "", "c" * 200)
    assert (row["event_at"], row["scored_at"]) == (NOW + timedelta(microseconds=1), NOW)
    assert (row["embedding"], row["probabilities"], row["confidence"]) == (embedding, [1e-6, 0.333333, 0.333333], 1 / 3)


def test_what_no_store_can_keep_is_refused_whole(store: Store) -> None:
    with pytest.raises(StoreError, match="nothing of this transaction was written"):
        store.record([scored(1), ScoredMessage(Message("2", "lone \ud83d", received_at=NOW), ())])
    assert store.known(["1", "2"]) == set()


def test_the_same_messages_written_at_once_in_any_order_are_stored_once(store: Store) -> None:
    batch = [scored(number) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(store.record, [batch, batch[::-1]] * 8))
    assert sum(new) == 200
    assert store.count("sentiment", NOW, NOW + timedelta(hours=1)) == 200


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


def test_of_many_who_ask_at_once_one_gets_the_lease(store: Store) -> None:
    turns = 20

    def ask(holder: str) -> list[bool]:
        return [store.acquire(f"turn {turn}", holder, NOW, 60) for turn in range(turns)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [f"worker {number}" for number in range(8)]))
    assert [sum(taken) for taken in zip(*answers, strict=True)] == [1] * turns


def test_an_expired_lease_goes_to_one_of_many(store: Store) -> None:
    store.acquire("train", "dead", NOW - timedelta(hours=1), 60)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda holder: store.acquire("train", holder, NOW, 60), map(str, range(8))))
    assert sum(answers) == 1
    assert store.holder("train") == str(answers.index(True))


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
