"""The watch of what customers say: a real shift reaches a real webhook once; and where error counts come from."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from flows.watch_insights import fill_errors, keep, look, notify
from insights.alerts import read_alerts
from insights.counts import read_errors
from tests.insight_rows import SHARES, add_holdout, fill
from tests.receiver import Receiver
from undertone.confusions import fill_confusions, record_confusions
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.tasks import get_task
from undertone.workspace import Workspace

START = datetime(2026, 10, 1, tzinfo=UTC)
NOW = START + timedelta(days=36, minutes=5)
SENTIMENT = {"sentiment": SHARES["sentiment"]}
COUNTS = [[80, 15, 5], [10, 80, 10], [4, 16, 80]]


@pytest.fixture
def shifted(workspace: Workspace, receiver: Receiver) -> Workspace:
    """Five steady weeks, then a day on which chat is much angrier; alerts go to the receiver."""
    made = Workspace(Settings(**workspace.settings.model_dump() | {"webhook_url": receiver.url}))
    fill(made.store, START, days=35, rows=3_000, shares=SENTIMENT)
    angry = {"chat": {"sentiment": (0.80, 0.15, 0.05)}}
    fill(
        made.store, START + timedelta(days=35), days=1, rows=500, shares=SENTIMENT, by_channel=angry, prefix="n", seed=1
    )
    add_holdout(made.store, "sentiment", 3_000)
    return made


def watch(workspace: Workspace, now: datetime) -> int:
    """The flow's steps, without a Prefect server; gives how many alerts were new."""
    fresh = keep.fn(workspace, look.fn(workspace, now), now)
    notify.fn(workspace, now)
    return len(fresh)


def test_a_shift_is_told_once(shifted: Workspace, receiver: Receiver) -> None:
    assert watch(shifted, NOW) > 0
    (told,) = receiver.got
    assert told["event"] == "undertone.insight.changed"
    chat = next(change for change in told["changes"] if (change["label"], change["value"]) == ("negative", "chat"))
    assert chat["words"].startswith("negative in chat rose from 2")
    assert chat["low"] > 0.05
    assert chat["examples"]
    assert "message n" not in json.dumps(told)  # ids, no customer's words
    assert all(alert.told_at == NOW for alert in read_alerts(shifted.store))
    assert watch(shifted, NOW + timedelta(hours=4)) == 0
    assert len(receiver.got) == 1


def test_what_the_webhook_missed_is_told_later(shifted: Workspace, receiver: Receiver) -> None:
    receiver.status = 503
    watch(shifted, NOW)
    assert all(alert.told_at is None for alert in read_alerts(shifted.store))
    receiver.status = 200
    later = NOW + timedelta(hours=4)
    assert watch(shifted, later) == 0
    (told,) = receiver.got
    assert len(told["changes"]) == len(read_alerts(shifted.store))
    assert all(alert.told_at == later for alert in read_alerts(shifted.store))


def test_error_counts_come_from_the_training(
    workspace: Workspace, register: Callable[..., ModelVersion], caplog: pytest.LogCaptureFixture
) -> None:
    spec = get_task("sentiment")
    made = register(evidence={"holdout.json": json.dumps({"confusion": COUNTS}).encode()})
    without = register()
    versions = [made.version, without.version]
    assert fill_confusions(workspace, spec, versions) == (made.version,)
    assert read_errors(workspace.store, spec)[made.version].counts.tolist() == COUNTS
    assert f"sentiment {without.version}: no error counts" in caplog.text
    assert fill_confusions(workspace, spec, versions) == ()
    record_confusions(workspace.store, spec, made.version, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert read_errors(workspace.store, spec)[made.version].rows == 3


def test_the_watch_fills_what_served_lately(workspace: Workspace, register: Callable[..., ModelVersion]) -> None:
    made = register(evidence={"holdout.json": json.dumps({"confusion": COUNTS}).encode()})
    fill(workspace.store, START + timedelta(days=30), days=2, rows=50, shares=SENTIMENT, version=made.version)
    fill_errors.fn(workspace, NOW)
    assert list(read_errors(workspace.store, get_task("sentiment"))) == [made.version]
