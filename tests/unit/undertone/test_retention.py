"""What is past its age loses text, customer and embedding, in small batches; every count stays what it was."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from monitoring.quality import facts
from monitoring.windows import REMOVED, current_window
from training.repairs import Repair
from training.sources import read
from undertone import retention, views
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.reviews import Reviews
from undertone.schema import messages, predictions, reviews, surveys
from undertone.store import Store
from undertone.tasks import get_task

NOW = datetime(2026, 11, 3, tzinfo=UTC)
LABELS = ("negative", "neutral", "positive")
#: Views whose rows have neither text nor customer.
FIGURES = ("hourly_labels", "model_errors", "reviews", "labels")


def scored(number: int, *, days: float) -> ScoredMessage:
    """A message received that many days ago."""
    at = NOW - timedelta(days=days)
    message = Message(f"m{number}", f"text {number} of a parcel", "chat", "starter", f"c{number % 5}", at, at)
    answer = Prediction(f"m{number}", "sentiment", LABELS[number % 3], (0.2, 0.3, 0.5), 1, "ab" * 32, at, b"\x00\x3c")
    return ScoredMessage(message, (answer,), final_sentiment=LABELS[number % 3])


def fill(store: Store, old: int = 30, fresh: int = 20) -> None:
    store.record([scored(n, days=40 + n / 100) for n in range(old)])
    store.record([scored(n, days=1 + n / 100) for n in range(old, old + fresh)])
    store.add_feedback([Feedback(f"m{n}", "sentiment", LABELS[n % 3], "rae", NOW) for n in range(old + fresh)])
    queue = [
        {"task": "sentiment", "message_id": f"m{n}", "batch": "b", "kind": "audit", "weight": 1.0, "model_version": 1,
         "predicted": "negative", "asked_at": NOW, "state": state, "label": label}
        for n, state, label in ((0, "open", None), (1, "labelled", "neutral"), (old, "open", None))
    ]  # fmt: skip
    with store.transaction() as connection:
        connection.execute(reviews.insert(), queue)


def figures(store: Store) -> dict[str, list[Any]]:
    dialect = store.engine.dialect.name
    with store.reading() as connection:
        found = {name: connection.execute(select(views.get_view(name).table(dialect))).all() for name in FIGURES}
        table = views.get_view("messages").table(dialect)
        kept = [column for column in table.c if column.name != "customer_id"]
        return {name: sorted(map(str, rows)) for name, rows in found.items()} | {
            "messages": sorted(map(str, connection.execute(select(*kept)).all()))
        }


def test_old_messages_are_emptied_and_every_figure_stays(store: Store) -> None:
    fill(store)
    before = figures(store)
    cut = NOW - timedelta(days=30)
    assert retention.due(store, cut) == retention.Removed(30, 30, 30, 0)
    assert retention.remove_texts(store, cut, NOW, batch=7) == retention.Removed(30, 30, 30, 0)
    assert figures(store) == before
    with store.reading() as connection:
        rows = connection.execute(select(messages)).mappings().all()
        bare = connection.execute(select(predictions.c.message_id).where(predictions.c.embedding.is_(None))).scalars()
        assert set(bare) == {f"m{n}" for n in range(30)}
    old = [row for row in rows if row["received_at"] < cut]
    assert {(row["text"], row["customer_id"], row["text_removed_at"]) for row in old} == {("", None, NOW)}
    assert all(row["text"] and row["customer_id"] and row["text_removed_at"] is None for row in rows if row not in old)
    assert not retention.remove_texts(store, cut, NOW)


@given(batch=st.integers(3, 40), age=st.floats(0, 60))
@settings(max_examples=12)
def test_batches_do_not_matter(tmp_path_factory: pytest.TempPathFactory, batch: int, age: float) -> None:
    store = Store(f"sqlite:///{_empty(tmp_path_factory)}")
    with store.transaction() as connection:
        connection.execute(messages.delete())
        connection.execute(predictions.delete())
    store.record([scored(n, days=n) for n in range(30)])
    cut = NOW - timedelta(days=age)
    removed = retention.remove_texts(store, cut, NOW, batch=batch)
    with store.reading() as connection:
        left = connection.execute(select(func.count()).where(messages.c.text != "")).scalar_one()
    store.engine.dispose()
    assert (removed.texts, left) == (sum(n > age for n in range(30)), sum(n <= age for n in range(30)))


_MADE: list[Any] = []


def _empty(factory: pytest.TempPathFactory) -> Any:
    """One database for all examples: migrating takes longer than an example."""
    if not _MADE:
        path = factory.mktemp("retention") / "store.db"
        made = Store(f"sqlite:///{path}")
        made.migrate()
        made.engine.dispose()
        _MADE.append(path)
    return _MADE[0]


def test_customers_of_old_survey_answers_go_too(store: Store) -> None:
    rows = [
        {"id": f"s{n}", "kind": "nps", "score": 9.0, "customer_id": "c1", "answered_at": NOW - timedelta(days=40 * n),
         "origin": "t"}
        for n in (0, 1, 2)
    ]  # fmt: skip
    with store.transaction() as connection:
        connection.execute(surveys.insert(), rows)
    assert retention.remove_texts(store, NOW - timedelta(days=30), NOW, batch=1).survey_customers == 2
    with store.reading() as connection:
        found = connection.execute(select(surveys.c.id, surveys.c.customer_id).order_by(surveys.c.id)).all()
    assert [tuple(row) for row in found] == [("s0", "c1"), ("s1", None), ("s2", None)]


def test_who_writes_meanwhile_gets_in(store: Store) -> None:
    fill(store, old=120, fresh=0)
    written: list[int] = []
    done = threading.Event()

    def write() -> None:
        number = 10_000
        while not done.is_set():
            number += 1
            written.append(store.record([scored(number, days=0)]))

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[int] = []
    retention.remove_texts(store, NOW - timedelta(days=30), NOW, batch=10, progress=lambda _: seen.append(len(written)))
    done.set()
    writer.join()
    assert len(seen) == 12
    assert seen[-1] > seen[0]  # rows came in between the first batch and the last


def test_who_reads_texts_leaves_removed_ones_out_and_says_how_many(store: Store) -> None:
    fill(store)
    spec = get_task("sentiment")
    start = NOW - timedelta(days=50)
    retention.remove_texts(store, NOW - timedelta(days=30), NOW)
    assert store.removed_texts("sentiment", start, NOW) == 30
    assert len(store.sample("sentiment", start, NOW, version=1, limit=1_000)) == 20
    assert len(store.sample("sentiment", start, NOW, version=1, limit=10)) == 10
    assert store.count("sentiment", start, NOW) == 50
    seen = current_window(store, spec, start, NOW, model_version=1)
    assert (seen.rows, seen.total, seen.left_out) == (20, 50, {REMOVED: 30})
    counted = facts(store, spec, start, NOW)
    assert (counted.rows, counted.empty, counted.removed, counted.duplicates) == (50, 0, 30, 0)
    assert len(store.labelled("sentiment")) == 20
    assert store.labelled_without_text("sentiment") == 30
    assert store.labelled_without_text("sentiment", NOW - timedelta(days=1)) == 0
    learned = read("feedback", spec, store=store)
    assert len(learned.frame) == 20
    assert learned.repairs == (Repair("text_removed", 30),)
    queue = Reviews(store)
    assert [item["message_id"] for item in queue.next("sentiment", "rae", NOW, count=5)] == ["m30"]
    assert queue.open("sentiment", NOW)[0]["erased"] == 1
    drawn = {row["message_id"] for row in queue.candidates("sentiment", 1, start, NOW)}
    assert drawn == {f"m{number}" for number in range(31, 50)}  # m30 was drawn before


def test_texts_that_go_and_were_labelled_are_named_before(store: Store) -> None:
    store.record([scored(1, days=40), scored(2, days=40), scored(3, days=1)])
    store.add_feedback([Feedback(f"m{n}", "sentiment", "negative", "rae", NOW) for n in (1, 3)])
    assert retention.labelled_texts(store, NOW - timedelta(days=30)) == {"m1": "text 1 of a parcel"}
