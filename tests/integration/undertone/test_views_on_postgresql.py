"""The views on PostgreSQL: the same figures, a role that reads them and nothing else, grants that outlive a change."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import select, text

from undertone import views
from undertone.ledger import Ledger
from undertone.records import Message, Prediction, ScoredMessage
from undertone.store import Store


def scored(name: str, moment: datetime) -> ScoredMessage:
    answer = Prediction(name, "sentiment", "positive", (0.1, 0.2, 0.7), 3, "ab" * 32, moment)
    return ScoredMessage(Message(name, f"text {name}", "chat", "pro", "c1", moment, moment), (answer,), "positive")


def test_the_figures_are_those_of_sqlite(postgres_store: Store, store: Store) -> None:
    moment = datetime(2026, 11, 3, 23, 30, tzinfo=UTC)
    for one in (postgres_store, store):
        one.record([scored("a", moment), scored("b", moment + timedelta(hours=2))])
        for days in (0, 15):
            at = moment + timedelta(days=days)
            Ledger(one).append("approved", "sentiment", at=at, actor="ada", reason="fine", version=days + 1)
    for name in ("hourly_labels", "predictions", "model_updates"):
        found = []
        for one in (postgres_store, store):
            table = views.get_view(name).table(one.engine.dialect.name)
            with one.reading() as connection:
                rows = [dict(row) for row in connection.execute(select(table)).mappings()]
            found.append(sorted(rows, key=str))
        assert found[0] == found[1], name


def test_a_reader_sees_views_and_no_table(postgres, postgres_store: Store) -> None:
    role = f"reader_{postgres_store.url.database}"
    postgres.rows(f"create role {role} login")
    with postgres_store.transaction() as connection:
        connection.execute(text(f"grant usage on schema bi to {role}"))
        connection.execute(text(f"grant select on bi.messages to {role}"))
        connection.execute(text("update views_state set digest = 'old'"))
        assert views.refresh(connection)
    address = f"host=127.0.0.1 port={postgres.port} user={role} dbname={postgres_store.url.database}"
    with psycopg.connect(address, autocommit=True) as reader:
        reader.execute("select count(*) from bi.messages")
        for closed in ("messages", "bi.message_texts"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"select count(*) from {closed}")
        about = reader.execute("select obj_description('bi.messages'::regclass)").fetchone()
    assert about == ("Every scored message, one row each, without its text.",)
