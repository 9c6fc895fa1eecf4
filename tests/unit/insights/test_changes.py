"""Changes told from noise: volume, days that differ anyway, and a model's errors."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from insights.alerts import close_alerts, mark_told, news, read_alerts, record_alerts
from insights.changes import Change, changes
from insights.difference import differences
from insights.estimate import Corrections, ErrorCounts
from insights.period import Period
from tests.insight_rows import ERRORS, SHARES, add_holdout, fill
from undertone.store import Store

START = datetime(2026, 10, 1, tzinfo=UTC)
NOW = START + timedelta(days=35)
WEEK = Period(NOW - timedelta(days=7), NOW)
MONTH = Period(START, NOW - timedelta(days=7))
SENTIMENT = {"sentiment": SHARES["sentiment"]}
ANGRY = {"sentiment": (0.45, 0.40, 0.15)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Change, ...]:
    """What is found where one channel shifted."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('shifted') / 'store.db'}")
    store.migrate()
    fill(store, START, days=28, rows=3_000, shares=SENTIMENT)
    fill(store, WEEK.start, days=7, rows=1_000, shares=SENTIMENT, prefix="n", seed=1, by_channel={"chat": ANGRY})
    add_holdout(store, "sentiment", 3_000)
    return changes(store, "sentiment", WEEK, against=MONTH)


def test_a_shift_in_one_channel_is_found_there_with_its_messages(found: tuple[Change, ...]) -> None:
    worse = next(item for item in found if item.series == "sentiment/negative/channel/chat")
    assert worse.verdict == "changed"
    assert worse.low <= 0.20 <= worse.high
    assert worse.difference == pytest.approx(worse.after.share - worse.before.share)
    assert worse.adjusted_p <= 0.05
    assert 0 < len(worse.examples) <= 5
    for example in worse.examples:
        assert (example.channel, example.sentiment) == ("chat", "negative")
        assert WEEK.start <= example.event_at < WEEK.end
        assert example.text == f"message {example.message_id} about chat"
    others = {item.value for item in found if item.verdict == "changed" and item.cut == "channel"}
    assert others == {"chat"}
    assert found.index(worse) < min(i for i, item in enumerate(found) if item.verdict == "steady")


def test_steady_messages_are_steady(store: Store) -> None:
    fill(store, START, days=35, rows=2_000, shares=SENTIMENT)
    add_holdout(store, "sentiment", 3_000)
    found = changes(store, "sentiment", WEEK)
    assert {item.verdict for item in found} <= {"steady", "too_few"}
    assert len(found) == 3 * (1 + 4 + 4)


def test_a_day_that_is_shown_by_the_hour_has_its_weeks_before_by_the_day(store: Store) -> None:
    fill(store, START, days=35, rows=2_000, shares=SENTIMENT)
    add_holdout(store, "sentiment", 3_000)
    day = Period(NOW - timedelta(days=1), NOW, step="hour")
    assert {item.verdict for item in changes(store, "sentiment", day)} <= {"steady", "too_few"}


def test_another_model_is_no_change(store: Store) -> None:
    """A new version errs otherwise: what it says moves, what is true does not."""
    other = {"sentiment": ((0.60, 0.30, 0.10), (0.05, 0.90, 0.05), (0.10, 0.30, 0.60))}
    fill(store, START, days=28, rows=2_000, shares=SENTIMENT)
    fill(store, WEEK.start, days=7, rows=1_500, shares=SENTIMENT, errors=other, version=2, prefix="n", seed=1)
    add_holdout(store, "sentiment", 3_000)
    add_holdout(store, "sentiment", 3_000, version=2, errors=other, seed=1)
    neutral = next(
        item for item in changes(store, "sentiment", WEEK, against=MONTH) if item.series.endswith("neutral/all/none")
    )
    assert neutral.after.observed - neutral.before.observed > 0.05
    assert neutral.verdict == "steady"


def test_few_messages_do_not_tell(store: Store) -> None:
    fill(store, START, days=28, rows=1_000, shares=SENTIMENT)
    fill(store, WEEK.start, days=7, rows=20, shares=ANGRY, prefix="n")
    add_holdout(store, "sentiment")
    found = changes(store, "sentiment", WEEK, against=MONTH)
    assert {item.verdict for item in found} == {"too_few"}
    assert all(item.lacking for item in found)


def test_of_two_labels_the_second_stands_for_both(store: Store) -> None:
    fill(store, START, days=35, rows=2_000, shares={"sarcasm": SHARES["sarcasm"]})
    add_holdout(store, "sarcasm")
    assert {item.label for item in changes(store, "sarcasm", WEEK)} == {"sarcastic"}


def test_days_that_differ_anyway_widen_the_band() -> None:
    """The same totals, told apart by how much the days before varied."""
    labels, rates = ("negative", "neutral", "positive"), np.array(ERRORS["sentiment"])
    corrected = Corrections(labels, {1: ErrorCounts(1, "holdout", np.rint(rates * 1_000).astype(int))})
    even = [{1: np.array([30, 50, 20])} for _ in range(28)]
    uneven = [{1: np.array([30 + swing, 50 - swing, 20])} for swing in (20, -20) * 14]
    after = [{1: np.array([42, 40, 18])}]
    calm, moody = (differences(corrected, days, after)["negative"] for days in (even, uneven))
    assert calm.value == pytest.approx(moody.value)
    assert moody.dispersion > 10 > 1.5 > calm.dispersion
    assert calm.p < 0.05 < 0.3 < moody.p
    assert moody.low < calm.low < calm.high < moody.high


def test_earlier_days_tell_how_much_days_vary() -> None:
    labels = ("negative", "neutral", "positive")
    corrected = Corrections(
        labels, {1: ErrorCounts(1, "holdout", np.rint(np.array(ERRORS["sentiment"]) * 1_000).astype(int))}
    )
    uneven = [{1: np.array([30 + swing, 50 - swing, 20])} for swing in (20, -20) * 10]
    after, before = [{1: np.array([42, 40, 18])}], [{1: np.array([30, 50, 20])} for _ in range(7)]
    alone, taught = differences(corrected, before, after), differences(corrected, before, after, uneven)
    assert taught["negative"].error > alone["negative"].error
    assert differences(corrected, before[:3], after) == "before: 3 of 5 steps with messages"


def test_an_alert_is_told_once_while_it_lasts(store: Store, found: tuple[Change, ...]) -> None:
    assert record_alerts(store, news(found, [], NOW), NOW) > 0
    assert record_alerts(store, [item for item in found if item.verdict == "changed"], NOW) == 0
    alerts = read_alerts(store)
    assert news(found, alerts, NOW + timedelta(days=1)) == []
    chat = next(alert for alert in alerts if alert.series == "sentiment/negative/channel/chat")
    assert chat.words.startswith("negative in chat rose from 2")
    assert chat.rose
    assert not chat.over


def test_an_alert_keeps_ids_and_no_texts(store: Store, found: tuple[Change, ...]) -> None:
    record_alerts(store, found[:1], NOW)
    (alert,) = read_alerts(store)
    kept = json.dumps(alert.detail)
    assert "message n" not in kept
    assert all(name.startswith("n") for name in alert.detail["examples"])


def test_a_change_back_and_a_late_repeat_are_news(store: Store, found: tuple[Change, ...]) -> None:
    change = found[0]
    record_alerts(store, [change], NOW)
    steady = replace(change, verdict="steady")
    back = replace(change, difference=-change.difference)
    assert news([back], read_alerts(store), NOW) == [back]
    assert close_alerts(store, [change, steady], read_alerts(store), NOW) == 0  # one look still finds it
    assert close_alerts(store, [steady], read_alerts(store), NOW) == 1
    assert close_alerts(store, [steady], read_alerts(store), NOW) == 0
    alerts = read_alerts(store)
    assert news([change], alerts, NOW + timedelta(days=1)) == []
    assert news([change], alerts, NOW + timedelta(days=8)) == [change]


def test_an_alert_is_told_when_every_channel_had_it(store: Store, found: tuple[Change, ...]) -> None:
    record_alerts(store, found[:1], NOW)
    mark_told(store, read_alerts(store)[0], {"webhook": True, "slack-webhook/oncall": False}, NOW)
    assert read_alerts(store)[0].told_at is None
    mark_told(store, read_alerts(store)[0], {"slack-webhook/oncall": True}, NOW)
    assert read_alerts(store)[0].told_at == NOW
