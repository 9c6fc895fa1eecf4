"""Channels, upsell candidates, time to insight and cadence."""

from datetime import UTC, datetime, timedelta

import pytest

from insights.cadence import cadence
from insights.channels import channel_performance
from insights.latency import latency
from insights.period import Period
from insights.upsell import OTHERS, upsell
from tests.insight_rows import SHARES, add_holdout, fill
from undertone.errors import ConfigError
from undertone.ledger import Ledger
from undertone.records import Message, ScoredMessage
from undertone.schema import messages
from undertone.store import Store
from undertone.tasks import get_task

START = datetime(2026, 10, 1, tzinfo=UTC)
MONTH = Period(START, START + timedelta(days=28))
SENTIMENT = {"sentiment": SHARES["sentiment"]}
ANGRY = {"sentiment": (0.80, 0.15, 0.05)}
PAY = {"pay_per_use": 1.0}


def add(store: Store, name: str, sent_s: float, stored_s: float | None, channel: str | None = "chat") -> None:
    """A message that was received at noon, sent and stored so many seconds later."""
    noon = START + timedelta(hours=12)
    sent = noon + timedelta(seconds=sent_s)
    store.record([ScoredMessage(Message(name, "text", channel, None, None, sent, noon), ())])
    stored = None if stored_s is None else noon + timedelta(seconds=stored_s)
    with store.transaction() as connection:
        connection.execute(messages.update().where(messages.c.id == name).values(stored_at=stored))


def test_time_to_insight_is_that_of_live_messages(store: Store) -> None:
    for number in range(1, 101):
        add(store, f"m{number}", -number, number)  # 2 to 200 seconds from sent to visible, in twos
    (everything, chat) = latency(store, Period(START, START + timedelta(days=1)))
    assert everything.all
    assert (chat.name, chat.messages, chat.live) == ("chat", 100, 100)
    for found in (everything, chat):
        assert (found.p50, found.p99) == (100, 198)
        assert (found.store_p50, found.store_p99) == (50, 99)
        assert (found.under_minute, found.under_limit) == (0.29, 1.0)


def test_loaded_late_wrong_clock_and_unknown_are_counted_apart(store: Store) -> None:
    add(store, "live", -2, 3)
    add(store, "slow", -2, 5 * 3_600, "email")
    add(store, "ahead", 30, 40)  # within what clocks may be wrong
    add(store, "old", -2 * 86_400, 5)
    add(store, "future", 2 * 3_600, 5)
    add(store, "before", -2, None, None)
    found = {item.name: item for item in latency(store, Period(START - timedelta(days=3), START + timedelta(days=1)))}
    everything = found["all"]
    assert everything.messages == 6
    assert (everything.live, everything.backfilled, everything.clock_wrong, everything.unknown) == (3, 1, 1, 1)
    assert everything.p50 == pytest.approx(10, abs=0.05)
    assert everything.under_limit == pytest.approx(2 / 3)
    assert found["email"].under_limit == 0
    assert found["no channel"].p99 is None
    assert found["no channel"].under_minute is None


def test_no_message_no_figures(store: Store) -> None:
    (everything,) = latency(store, MONTH)
    assert (everything.messages, everything.p50, everything.under_limit) == (0, None, None)
    assert channel_performance(store, MONTH) == ()


def test_days_between_models_against_those_wanted(store: Store) -> None:
    ledger = Ledger(store)
    updates = (
        (0, "approved", 1),
        (20, "approved", 2),
        (25, "rolled_back", 1),
        (30, "approved", 3),
        (70, "approved", 4),
    )
    for days, kind, version in updates:
        at = START + timedelta(days=days)
        ledger.append(kind, "sentiment", at=at, actor="ada", reason="fine", version=version)
    specs = [get_task(name) for name in ("sarcasm", "sentiment")]
    never, found = cadence(store, specs, START + timedelta(days=80))
    assert (never.task, never.updates, never.days_now, never.pace_now) == ("sarcasm", (), None, None)
    assert [update.pace for update in found.updates] == [None, "within", None, "early", "late"]
    assert [update.days_since_last for update in found.updates] == [None, 20, 5, 5, 40]
    assert [update.days_since_approval for update in found.updates] == [None, 20, None, 10, 40]
    assert (found.intervals, found.within, found.median_days) == (3, 1, 20)
    assert (found.days_now, found.pace_now) == (10, "early")
    assert cadence(store, specs, START + timedelta(days=99))[1].pace_now == "late"


def test_channels_beside_each_other_and_the_period_before(store: Store) -> None:
    tasks = {name: SHARES[name] for name in ("sentiment", "sarcasm")}
    fill(store, START, days=28, rows=1_500, shares=tasks)
    fill(store, MONTH.end, days=7, rows=900, shares=tasks, prefix="n", by_channel={"email": ANGRY}, seed=1)
    for task in tasks:
        add_holdout(store, task, 3_000)
    week = Period(MONTH.end, MONTH.end + timedelta(days=7))
    found = {item.channel: item for item in channel_performance(store, week)}
    assert sum(item.messages for item in found.values()) == 900
    assert list(found) == sorted(found, key=lambda name: -found[name].messages)
    assert found["email"].negative.low > 0.6 > found["chat"].negative.high
    assert found["email"].changes["negative"].verdict == "changed"
    assert found["chat"].changes["positive"].verdict != "changed"
    assert 0.02 < found["chat"].unsure < 0.25
    assert found["chat"].latency.live == found["chat"].messages
    assert found["chat"].sarcastic.rows == found["chat"].messages
    alone = channel_performance(store, Period(week.start, week.end, channel="email"))
    assert [item.channel for item in alone] == ["email"]
    assert alone[0].messages == found["email"].messages


def test_candidates_are_surely_unhappy_and_one_angry_message_leads_nothing(store: Store) -> None:
    fill(store, START, rows=1_500, shares=SENTIMENT, segments=PAY, customers=150)
    fill(store, START, rows=60, shares=ANGRY, segments=PAY, customers=3, first_customer=900, prefix="a", seed=1)
    angry_once = {"sentiment": [[1, 0, 0]] * 3}
    fill(
        store,
        START,
        rows=1,
        shares=SENTIMENT,
        segments=PAY,
        first_customer=990,
        customers=1,
        errors=angry_once,
        prefix="o",
    )
    fill(store, START, rows=300, shares=SENTIMENT, segments={"growth": 1.0}, first_customer=2_000, prefix="g", seed=2)
    add_holdout(store, "sentiment", 3_000)
    found = upsell(store, MONTH, evidence=3)
    assert not found.lacking
    assert {item.customer_id for item in found.candidates[:3]} == {"c900", "c901", "c902"}
    assert "c990" not in {item.customer_id for item in found.candidates}
    assert [item.low for item in found.candidates] == sorted((item.low for item in found.candidates), reverse=True)
    pay = next(item for item in found.segments if item.segment == "pay_per_use")
    assert (pay.messages, found.customers) == (1_561, 154)
    assert next(item for item in found.segments if item.segment == OTHERS).messages == 300
    for item in found.candidates:
        assert item.low > pay.negative.share
        assert item.low < item.share
        assert 0 < len(item.evidence) <= 3
        assert {(one.customer_id, one.sentiment) for one in item.evidence} == {(item.customer_id, "negative")}


def test_upsell_says_when_there_is_too_little(store: Store) -> None:
    add_holdout(store, "sentiment")
    fill(store, START, rows=200, shares=SENTIMENT, segments={"growth": 1.0})
    assert "no message of segment" in upsell(store, MONTH).lacking
    fill(store, START, rows=50, shares=ANGRY, segments=PAY, customers=2, prefix="p")
    few = upsell(store, MONTH)
    assert few.lacking == "2 of 10 customers"
    assert few.candidates == ()
    with store.transaction() as connection:
        connection.execute(messages.update().values(customer_id=None))
    assert upsell(store, MONTH).anonymous == 50
    with pytest.raises(ConfigError):
        upsell(store, MONTH, labels=["cross"])
