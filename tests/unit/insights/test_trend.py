"""Labels over time, by channel, segment and version: no message is lost, and true shares are found."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from insights.counts import AUDIT_ROWS, read_counts, read_errors
from insights.period import Period
from insights.trend import trends
from tests.insight_rows import ERRORS, SHARES, add_audit, add_holdout, fill
from undertone.errors import ConfigError
from undertone.store import Store
from undertone.tasks import get_task

START = datetime(2026, 10, 1, tzinfo=UTC)
SENTIMENT = {"sentiment": SHARES["sentiment"]}


def test_every_step_counts_its_messages(store: Store) -> None:
    filled = fill(store, START + timedelta(hours=5), days=3, rows=300, shares=SENTIMENT)
    for step, seconds in (("hour", 3_600), ("day", 86_400), ("week", 604_800)):
        period = Period(START, START + timedelta(days=4, hours=2), step)
        (trend,) = trends(store, "sentiment", period)
        at = [int((moment - START).total_seconds() // seconds) for moment in filled.event_at]
        assert [point.rows for point in trend.points] == np.bincount(at, minlength=len(trend.points)).tolist()
        assert [(point.start, point.end) for point in trend.points] == list(period.steps())


def test_a_series_for_each_value_and_for_none(store: Store) -> None:
    channels = {"chat": 0.6, "email": 0.4}
    fill(store, START, days=2, rows=200, shares=SENTIMENT, channels=channels)
    fill(store, START, days=2, rows=20, shares=SENTIMENT, channels={"chat": 1.0}, prefix="n", version=2)
    with store.transaction() as connection:
        connection.exec_driver_sql("update messages set channel = null where id like 'n%'")
    period = Period(START, START + timedelta(days=2))
    everything, *parts = trends(store, "sentiment", period, "channel")
    assert [part.name for part in parts] == ["chat", "email", "no channel"]
    assert everything.rows == sum(part.rows for part in parts) == 220
    assert parts[-1].rows == 20
    assert [part.name for part in trends(store, "sentiment", period, "model_version")[1:]] == ["version 1", "version 2"]
    alone = Period(START, START + timedelta(days=2), model_version=2)
    assert trends(store, "sentiment", alone)[0].rows == 20


def test_true_shares_lie_in_the_bands(store: Store) -> None:
    add_holdout(store, "sentiment", 3_000)
    shares = {"sentiment": (0.6, 0.3, 0.1)}
    filled = fill(store, START, days=7, rows=2_000, shares=SENTIMENT, by_channel={"social": shares})
    for trend in trends(store, "sentiment", Period(START, START + timedelta(days=7)), "channel"):
        where = None if trend.cut is None else filled.channel == trend.value
        for label, estimate in trend.whole.items():
            assert estimate.low - 0.01 <= filled.share("sentiment", label, where) <= estimate.high + 0.01
        assert (trend.error_source, trend.error_rows) == ("holdout", 3_000)


def test_without_error_counts_nothing_is_told_but_what_the_model_said(store: Store) -> None:
    fill(store, START, days=1, rows=100, shares=SENTIMENT)
    (trend,) = trends(store, "sentiment", Period(START, START + timedelta(days=1)))
    assert trend.error_source == "none"
    assert all(estimate.too_few and estimate.observed > 0 for estimate in trend.whole.values())


def test_audits_replace_the_holdout_once_there_are_enough(store: Store) -> None:
    add_holdout(store, "sentiment", 1_000)
    filled = fill(store, START, days=2, rows=400, shares=SENTIMENT)
    spec = get_task("sentiment")
    add_audit(store, "sentiment", filled, AUDIT_ROWS // 2)
    assert read_errors(store, spec)[1].source == "holdout"
    add_audit(store, "sentiment", filled, AUDIT_ROWS, seed=1)
    assert read_errors(store, spec)[1].source == "audit"
    assert read_errors(store, spec)[1].rows == AUDIT_ROWS + AUDIT_ROWS // 2


def test_rows_of_other_tasks_and_times_are_not_counted(store: Store) -> None:
    fill(store, START, days=2, rows=300)
    spec, day = get_task("emotion"), Period(START, START + timedelta(days=1))
    inside = read_counts(store, spec, day).rows.sum()
    outside = read_counts(store, spec, Period(day.end, day.end + timedelta(days=1))).rows.sum()
    assert inside + outside == 300
    assert read_counts(store, spec, day.before()).rows.sum() == 0


def test_an_unknown_task_is_an_error(store: Store) -> None:
    with pytest.raises(ConfigError):
        trends(store, "colour", Period(START, START + timedelta(days=1)))


def test_the_generator_draws_what_it_is_told(store: Store) -> None:
    filled = fill(store, START, days=2, rows=4_000, shares=SENTIMENT)
    for i, label in enumerate(get_task("sentiment").labels):
        assert filled.share("sentiment", label) == pytest.approx(SHARES["sentiment"][i], abs=0.03)
        said = np.bincount(filled.predicted["sentiment"][filled.true["sentiment"] == i], minlength=3)
        assert said / said.sum() == pytest.approx(np.array(ERRORS["sentiment"][i]), abs=0.05)


def test_the_time_before_has_the_same_hours_and_does_not_meet_the_period() -> None:
    noon = START + timedelta(hours=12)
    week, day_and_half = Period(START, START + timedelta(days=7)), Period(START, START + timedelta(hours=36))
    assert (week.before().start, week.before().end) == (START - timedelta(days=7), START)
    assert (day_and_half.before().start, day_and_half.before().end) == (
        START - timedelta(days=2),
        noon - timedelta(days=1),
    )
