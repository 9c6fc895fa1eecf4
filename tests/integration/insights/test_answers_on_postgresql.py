"""PostgreSQL and SQLite answer every question alike."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from insights.changes import changes
from insights.channels import channel_performance
from insights.latency import latency
from insights.period import Period
from insights.trend import trends
from insights.upsell import upsell
from tests.insight_rows import SHARES, add_holdout, fill
from undertone.store import Store

START = datetime(2026, 10, 1, tzinfo=UTC)
ANGRY = {"sentiment": (0.80, 0.15, 0.05)}


def test_every_answer_is_that_of_sqlite(postgres, store: Store) -> None:
    other = Store(postgres.store())
    end = START + timedelta(days=14, hours=5, minutes=30)
    week, whole = Period(end - timedelta(days=6), end), Period(START - timedelta(hours=3), end)
    answers = []
    for one in (other, store):
        fill(one, START, days=14, rows=900, shares=SHARES, by_channel={"ticket": ANGRY}, customers=60)
        fill(one, START, days=3, rows=60, shares=ANGRY, segments={"pay_per_use": 1.0}, first_customer=90, customers=3,
             prefix="a", version=2)  # fmt: skip
        with one.transaction() as connection:
            connection.exec_driver_sql("update messages set channel = null where id like 'm1_'")
            connection.exec_driver_sql("update messages set stored_at = null where id like 'm2_'")
        for task in SHARES:
            for version in (1, 2):
                add_holdout(one, task, version=version)
        answers.append(
            [
                *(trends(one, "sentiment", replace(whole, step=step), "channel") for step in ("hour", "day", "week")),
                changes(one, list(SHARES), week),
                [replace(item, latency=None) for item in channel_performance(one, week)],
                upsell(one, whole),
            ]
        )
    for on_postgresql, on_sqlite in zip(*answers, strict=True):
        assert on_postgresql == on_sqlite
    assert answers[0][-1].candidates  # else nothing was compared
    for found in zip(latency(other, whole), latency(store, whole), strict=True):
        on_postgresql, on_sqlite = (asdict(item) for item in found)
        assert on_postgresql == pytest.approx(on_sqlite, abs=0.051)  # SQLite keeps milliseconds: a cell may differ
    other.engine.dispose()
