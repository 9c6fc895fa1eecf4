"""The views of BI tools: columns as described, and the figures that they give."""

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select, text

from undertone import views
from undertone.ledger import Ledger
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.store import Store

NOW = datetime(2026, 11, 3, 23, 30, tzinfo=UTC)


def scored(name: str, sent_at: datetime | None = NOW, label: str = "positive", version: int = 3) -> ScoredMessage:
    message = Message(name, f"text {name}", "chat", "starter", "c1", sent_at, NOW + timedelta(hours=1))
    answer = Prediction(name, "sentiment", label, (0.1, 0.2, 0.7), version, "ab" * 32, NOW, None, needs_review=True)
    return ScoredMessage(message, (answer,), label, "alone", 0.7, True)


def rows(store: Store, name: str) -> list[dict]:
    table = views.get_view(name).table(store.engine.dialect.name)
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table)).mappings()]


@pytest.mark.parametrize("view", views.VIEWS, ids=lambda view: view.name)
def test_a_view_has_the_columns_that_are_described(store: Store, view: views.View) -> None:
    with store.reading() as connection:
        found = connection.execute(text(f"select * from {view.full_name('sqlite')}"))
        assert list(found.keys()) == [column.name for column in view.columns]


def test_messages_by_hour_in_utc(store: Store) -> None:
    store.record([scored("a"), scored("b"), scored("c", label="negative"), scored("d", NOW + timedelta(hours=1))])
    found = sorted(rows(store, "hourly_labels"), key=lambda row: (row["hour"], row["label"]))
    assert [(row["hour"], row["day"], row["label"], row["messages"], row["unsure"]) for row in found] == [
        (NOW.replace(minute=0), date(2026, 11, 3), "negative", 1, 1),
        (NOW.replace(minute=0), date(2026, 11, 3), "positive", 2, 2),
        (datetime(2026, 11, 4, tzinfo=UTC), date(2026, 11, 4), "positive", 1, 1),
    ]
    assert found[0]["mean_confidence"] == pytest.approx(0.7)


def test_time_to_insight_ends_when_the_row_was_written(store: Store) -> None:
    sent = datetime.now(UTC) - timedelta(seconds=90)
    store.record([scored("a", sent)])
    (row,) = rows(store, "messages")
    assert row["seconds_to_insight"] == pytest.approx((row["stored_at"] - sent).total_seconds(), abs=0.01)
    assert row["seconds_to_insight"] >= 90


def test_model_updates_count_days_per_task(store: Store) -> None:
    ledger = Ledger(store)
    for task, version, days in (("sentiment", 1, 0), ("sarcasm", 1, 3), ("sentiment", 2, 20.5)):
        at = NOW + timedelta(days=days)
        ledger.append("approved", task, at=at, actor="ada", reason="fine", version=version)
    ledger.append("gate", "sentiment", at=NOW, actor="gate", reason="passed", version=3)
    found = {(row["task"], row["model_version"]): row for row in rows(store, "model_updates")}
    assert {key: row["days_since_last"] for key, row in found.items()} == {
        ("sentiment", 1): None,
        ("sarcasm", 1): None,
        ("sentiment", 2): pytest.approx(20.5),
    }
    assert found["sentiment", 1]["at"] == NOW


def test_a_label_stands_beside_the_answer(store: Store) -> None:
    store.record([scored("a")])
    store.add_feedback([Feedback("a", "sentiment", "negative", "bo", NOW, guideline="2")])
    (row,) = rows(store, "labels")
    assert (row["label"], row["predicted"], row["model_version"], row["guideline"]) == ("negative", "positive", 3, "2")


def test_a_changed_definition_replaces_the_old_views(store: Store) -> None:
    with store.transaction() as connection:
        assert not views.refresh(connection)
        connection.execute(text("update views_state set digest = 'old'"))
        connection.execute(text("create view bi_gone as select 1 as one"))
        assert views.refresh(connection)
        names = connection.execute(text("select name from sqlite_master where type = 'view'")).scalars().all()
    assert sorted(names) == sorted(view.full_name("sqlite") for view in views.VIEWS)
