"""What BI tools get on a real PostgreSQL: the reader's role, the Grafana dashboard's queries, the Parquet files."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow.dataset as ds
import pytest

from insights import orders
from insights.export import export
from insights.revenue import relate
from undertone import surveys, views
from undertone.errors import DataError
from undertone.ledger import Ledger
from undertone.records import Message, Prediction, ScoredMessage
from undertone.schema import metadata, reviews
from undertone.store import Store

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "undertone.json").read_text(encoding="utf-8"))
START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 15, tzinfo=UTC)
MESSAGES = 120


def fill(store: Store) -> None:
    for number in range(MESSAGES):
        moment = START + timedelta(hours=2 * number)
        label = ("negative", "neutral", "positive")[number % 3]
        answer = Prediction(
            f"m{number}", "sentiment", label, (0.2, 0.1, 0.7), 3, "ab" * 32, moment, None, number % 4 == 0
        )
        message = Message(
            f"m{number}", f"words {number}", ("chat", None)[number % 2], "pro", f"c{number}", moment, moment
        )
        store.record([ScoredMessage(message, (answer,), label, "", 0.7, number % 4 == 0)])
    for days in (0, 12):
        at = START + timedelta(days=days, hours=1)
        Ledger(store).append("approved", "sentiment", at=at, actor="ada", reason="fine", version=days + 1)
    surveys.write(
        store, [surveys.survey("generic", "a", "nps", 10, START), surveys.survey("generic", "b", "csat", 5, END)]
    )
    rows = [
        {
            "task": "sentiment", "message_id": f"m{number}", "batch": "audit-1", "kind": "audit", "weight": 2.0,
            "model_version": 3, "predicted": "negative", "asked_at": START, "state": "labelled",
            "label": "negative" if number < 30 else "positive", "labelled_at": START + timedelta(days=1),
        }
        for number in range(40)
    ]  # fmt: skip
    with store.transaction() as connection:
        connection.execute(reviews.insert(), rows)


@pytest.fixture(scope="module")
def filled(postgres) -> Iterator[Store]:
    store = Store(postgres.store(), timeout_s=10)
    fill(store)
    yield store
    store.engine.dispose()


@pytest.fixture(scope="module")
def reader(postgres, filled: Store) -> Iterator[psycopg.Connection]:
    """A connection of the role that `deploy/bi_reader.sql` makes; the script runs twice, as after an upgrade."""
    script = (DEPLOY / "bi_reader.sql").read_bytes()
    where = f"host=127.0.0.1 port={postgres.port} dbname={filled.url.database}"
    for _ in range(2):
        with psycopg.connect(f"{where} user=postgres", autocommit=True) as owner:
            owner.execute(script)
    with psycopg.connect(f"{where} user=bi_reader", autocommit=True) as connection:
        yield connection


def expanded(sql: str) -> str:
    """`sql` with Grafana's macros replaced, as its PostgreSQL data source does it.

    https://grafana.com/docs/grafana/latest/datasources/postgres/query-editor/#macros
    """
    seconds = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    start, end = (moment.strftime("'%Y-%m-%dT%H:%M:%SZ'") for moment in (START, END))

    def replaced(match: re.Match[str]) -> str:
        name, arguments = match[1], [part.strip() for part in match[2].split(",")]
        if name == "__timeFilter":
            return f"{arguments[0]} BETWEEN {start} AND {end}"
        if name in ("__timeGroup", "__timeGroupAlias"):
            length = arguments[1].strip("'")
            every = int(length[:-1]) * seconds[length[-1]]
            group = f"floor(extract(epoch from {arguments[0]})/{every})*{every}"
            return group + (' AS "time"' if name == "__timeGroupAlias" else "")
        raise AssertionError(f"unknown macro {name}")

    written = re.sub(r"\$(__\w+)\(([^)]*)\)", replaced, sql.replace("$__interval", "1h"))
    assert "$" not in written, written
    return written


def test_the_reader_sees_the_views_and_no_table_and_no_words(reader: psycopg.Connection) -> None:
    for view in views.VIEWS:
        if not view.texts:
            reader.execute(f"select * from bi.{view.name} limit 1".encode())
    closed = ["bi.message_texts", *(f"public.{name}" for name in metadata.tables)]
    for name in closed:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute(f"select 1 from {name}".encode())
    for statement in (
        b"create table bi.mine (x int)",
        b"create table public.mine (x int)",
        b"create temp table t (x int)",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            reader.execute(statement)


def test_every_panel_gives_what_grafana_can_draw(reader: psycopg.Connection) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for panel in DASHBOARD["panels"]:
        (target,) = panel["targets"]
        with reader.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            rows = cursor.execute(expanded(target["rawSql"]).encode()).fetchall()
            names = [column.name for column in cursor.description or ()]
        assert rows, panel["title"]
        assert len(set(names)) == len(names)
        if target["format"] == "time_series":
            assert names[0] == "time", panel["title"]
            times = [
                float(row["time"].timestamp() if isinstance(row["time"], datetime) else row["time"]) for row in rows
            ]
            assert times == sorted(times), panel["title"]
            assert START.timestamp() - 7 * 86_400 <= times[0]
            values = [row[name] for row in rows for name in set(names) - {"time", "metric"}]
            assert all(isinstance(value, int | float | Decimal) for value in values), panel["title"]
        found[panel["title"]] = rows
    assert sum(row["messages"] for row in found["Messages per hour"]) == MESSAGES
    (channel, *_) = found["Sentiment by channel"]
    assert sum(float(channel[name]) for name in ("negative", "neutral", "positive")) == pytest.approx(1)
    assert float(found["Unsure"][0]["unsure"]) == pytest.approx(0.25)
    assert found["Cadence: days between model updates"][0]["days"] == pytest.approx(12)
    (audited,) = found["Audited accuracy"]
    assert (audited["labels"], audited["accuracy"]) == (40, 0.75)
    assert all(row["p50"] <= row["p99"] for row in found["Time to insight"])
    assert {(row["metric"], float(row["score"])) for row in found["Survey scores"]} == {("nps", 100.0), ("csat", 100.0)}


def test_the_dashboard_has_what_grafana_needs() -> None:
    assert {"id", "uid", "title", "panels", "time", "templating", "annotations", "schemaVersion", "version"} <= set(
        DASHBOARD
    )
    assert DASHBOARD["id"] is None
    assert 8 <= len(DASHBOARD["uid"]) <= 40
    (source,) = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource", "datasource", "grafana-postgresql-datasource",
    )  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert {"id", "type", "title", "description", "gridPos", "targets", "fieldConfig", "options"} <= set(panel)
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        for target in panel["targets"]:
            assert target["datasource"] == {"type": source["query"], "uid": "${datasource}"} == panel["datasource"]
            assert (target["rawQuery"], target["refId"]) == (True, "A")
            named = re.findall(r"\b(?:from|join)\s+([\w.]+)", target["rawSql"].replace("epoch from", ""))
            assert named
            assert {f"bi.{view.name}" for view in views.VIEWS if not view.texts} >= set(named)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_parquet_says_what_the_views_say(filled: Store, tmp_path: Path) -> None:
    done = {item.view: item for item in export(filled, tmp_path)}
    assert done["messages"].rows == done["predictions"].rows == MESSAGES
    assert done["messages"].files == 10
    table = ds.dataset(tmp_path / "messages", format="parquet", partitioning="hive").to_table()
    with filled.reading() as connection:
        rows = connection.exec_driver_sql("select * from bi.messages order by message_id").mappings().all()
    exported = sorted(table.to_pylist(), key=lambda row: row["message_id"])
    for row, original in zip(exported, sorted(rows, key=lambda row: row["message_id"]), strict=True):
        assert row == dict(original) | {"day": str(original["day"])}


def test_orders_of_a_database_are_only_read(postgres, filled: Store) -> None:
    url = filled.url.set(database="postgres", username="postgres").render_as_string()
    shop = "create table if not exists sales as select 'c1' as customer_id, now() as ordered_at, 4.5 as amount"
    postgres.rows(shop)
    assert orders.read(url, query="select customer_id, ordered_at, amount from sales").frame["amount"].sum() == 4.5
    with pytest.raises(DataError, match="read-only"):
        orders.read(url, query="with gone as (delete from sales returning *) select * from gone")
    assert postgres.rows("select count(*) from sales") == [(1,)]
    postgres.rows("drop table sales")


def test_messages_join_orders_as_on_sqlite(filled: Store, store: Store) -> None:
    fill(store)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{number}" for number in range(MESSAGES)] * 2,
            "ordered_at": ["2026-10-20"] * MESSAGES + ["2026-11-10"] * MESSAGES,
            "amount": [float(number % 7) for number in range(2 * MESSAGES)],
        }
    )
    read = orders.usable(frame, {name: name for name in orders.COLUMNS}, "a table")
    assert relate(filled, read).as_dict() == relate(store, read).as_dict()
