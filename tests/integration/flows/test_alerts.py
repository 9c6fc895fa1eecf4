"""Alerts reach a real webhook once each, wait where it is down, and never end a watch."""

import json
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prefect
import pytest

from flows import channels
from flows.alerts import notify, tell
from monitoring.policy import RetrainDecision
from tests.receiver import SECRET, Receiver
from undertone.records import DriftVerdict, LedgerEntry, Verdict
from undertone.settings import Settings
from undertone.tasks import TASKS
from undertone.workspace import Workspace

SENTIMENT = TASKS["sentiment"]
START = datetime(2026, 10, 5, 3, tzinfo=UTC)
NO = RetrainDecision(False, "too soon", "5 days since version 1", 5.0)


class Watches:
    """A workspace in which watches say what a test wants, a day apart, and tell people."""

    def __init__(self, workspace: Workspace, **settings: Any) -> None:
        given = workspace.settings.model_dump() | settings
        self.workspace = Workspace(Settings(**given))
        self.day = 0

    def look(self, verdict: Verdict) -> tuple[DriftVerdict, datetime]:
        self.day += 1
        now = START + timedelta(days=self.day)
        seen = DriftVerdict("sentiment", verdict, (), 1_000, 1_000, now - timedelta(days=7), now, 1, "text moved")
        window = [seen.window_start.isoformat(), seen.window_end.isoformat()]
        payload = {"verdict": verdict, "window": window, "quality": [], "report": "/reports/of-the-day"}
        self.workspace.ledger.append(
            "drift", "sentiment", at=now, actor="drift-watch", reason=seen.reason, version=1, payload=payload
        )
        return seen, now

    def watch(self, verdict: Verdict, decision: RetrainDecision = NO, page: Path | None = None) -> None:
        seen, now = self.look(verdict)
        notify(self.workspace, SENTIMENT, seen, decision, page, now)

    def rows(self) -> list[LedgerEntry]:
        return self.workspace.ledger.entries("sentiment", ["alert", "resolved"])


@pytest.fixture
def watches(workspace: Workspace, receiver: Receiver) -> Watches:
    return Watches(workspace, webhook_url=receiver.url)


def test_an_incident_is_told_once_and_resolved_once(
    watches: Watches, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for verdict in ("warn", "act", "act", "severe", "stable", "stable"):
        watches.watch(verdict, page=Path("/reports/page.html"))
    assert receiver.events == ["drift.act", "drift.severe", "drift.resolved"]
    first, _, last = receiver.got
    opened = START + timedelta(days=2)
    assert first == {
        "event": "undertone.drift.act",
        "id": f"{first['incident']}/opened",
        "incident": first["incident"],
        "kind": "drift",
        "step": "opened",
        "task": "sentiment",
        "version": 1,
        "verdict": "act",
        "reason": "text moved",
        "decision": {"retrain": False, "rule": "too soon", "reason": "5 days since version 1"},
        "window": [(opened - timedelta(days=7)).isoformat(), opened.isoformat()],
        "report": "/reports/page.html",
        "run": None,
        "at": opened.isoformat(),
    }
    assert last["incident"] == first["incident"]
    assert [(row.kind, row.payload["channels"]) for row in watches.rows()] == [
        ("alert", {"webhook": True}),
        ("alert", {"webhook": True}),
        ("resolved", {"webhook": True}),
    ]
    assert SECRET not in caplog.text
    assert all(SECRET not in json.dumps(row.payload) + row.reason for row in watches.rows())
    assert watches.workspace.ledger.verify()


def test_what_a_dead_webhook_missed_comes_later_in_order_and_once(
    watches: Watches, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500] * 3
    watches.watch("act")
    receiver.statuses = [404]  # not tried again, and what comes after it not tried at all
    watches.watch("stable")
    assert receiver.got == []
    assert "webhook at 127.0.0.1 did not take undertone.drift.act: HTTP status 500" in caplog.text
    assert SECRET not in caplog.text
    watches.watch("stable")
    watches.watch("stable")
    assert receiver.events == ["drift.act", "drift.resolved"]
    said = [(row.kind, row.payload.get("of"), row.payload["channels"]["webhook"]) for row in watches.rows()]
    alert, over = (row.seq for row in watches.rows()[:2])
    assert said == [
        ("alert", None, False),
        ("resolved", None, False),
        ("alert", alert, True),
        ("resolved", over, True),
    ]


def test_a_webhook_that_stumbles_gets_three_tries(watches: Watches, receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    watches.watch("act")
    assert receiver.events == ["drift.act"]
    assert watches.rows()[0].payload["channels"] == {"webhook": True}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/T0K3N", "https://[broken/T0K3N", "ftp://files.example/T0K3N", "T0K3N"]
)
def test_no_webhook_ends_a_watch_or_shows_its_secret(
    workspace: Workspace, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(channels, "PAUSES", (0.0, 0.0))
    watches = Watches(workspace, webhook_url=url)
    watches.watch("severe")
    (row,) = watches.rows()
    assert row.payload["channels"] == {"webhook": False}
    assert "did not take" in caplog.text
    assert SECRET not in caplog.text + json.dumps(row.payload)


def test_without_channels_the_ledger_still_tells(workspace: Workspace) -> None:
    watches = Watches(workspace)
    watches.watch("act")
    watches.watch("stable")
    assert [(row.kind, row.payload["channels"]) for row in watches.rows()] == [("alert", {}), ("resolved", {})]


def test_two_watches_at_once_tell_once(watches: Watches, receiver: Receiver) -> None:
    receiver.pause = 0.3  # the first is still sending when the second comes
    looks = [watches.look("act"), watches.look("act")]
    threads = [
        threading.Thread(target=notify, args=(Workspace(watches.workspace.settings), SENTIMENT, seen, NO, None, now))
        for seen, now in looks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert receiver.events == ["drift.act"]
    assert len(watches.rows()) == 1


def test_labels_are_asked_for_once_with_the_reason(watches: Watches, receiver: Receiver) -> None:
    asks = RetrainDecision(False, "no labels", "300 labels are needed, 12 came", 29.0, ask_labels=True)
    watches.watch("stable", asks)
    watches.watch("stable", asks)
    assert receiver.events == ["labels.wanted"]
    assert receiver.got[0]["reason"] == "300 labels are needed, 12 came"


def test_a_store_out_of_reach_ends_no_watch(
    watches: Watches, workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen, now = watches.look("act")
    gone = Workspace(workspace.settings.model_copy(update={"store_url": f"sqlite:///{tmp_path}/none/such.db"}))
    (tmp_path / "none").write_text("a file where a folder should be")
    notify(gone, SENTIMENT, seen, NO, None, now)
    assert "people are told at the next watch" in caplog.text


@pytest.mark.usefixtures("prefect_api")
def test_notification_blocks_and_events_by_a_real_server(workspace: Workspace, receiver: Receiver) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.client.orchestration import get_client

    block = CustomWebhookNotificationBlock(
        name="oncall", url=receiver.url, json_data={"event": "{{subject}}", "text": "{{body}}"}
    )
    block.save("oncall", overwrite=True)
    channels = ("custom-webhook/oncall", "custom-webhook/nobody")
    watches = Watches(workspace, notification_blocks=channels)

    @prefect.flow
    def a_watch() -> None:
        watches.watch("act")
        tell({**watches.rows()[0].payload})

    a_watch()
    (row,) = watches.rows()
    assert row.payload["channels"] == {"custom-webhook/oncall": True, "custom-webhook/nobody": False}
    assert receiver.got[0]["event"] == "sentiment, version 1: the messages have drifted"
    assert "No retrain (too soon)" in receiver.got[0]["text"]

    with get_client(sync_client=True) as client:

        def seen() -> list[dict[str, Any]]:
            wanted = {"filter": {"event": {"name": [row.payload["event"]]}}}
            every = client._client.post("/events/filter", json=wanted).json()["events"]  # other tests' too
            return [event for event in every if event["payload"]["incident"] == row.payload["incident"]]

        deadline = time.monotonic() + 30
        while not seen() and time.monotonic() < deadline:
            time.sleep(0.1)
        (event,) = seen()
        assert event["resource"]["prefect.resource.id"] == "undertone.task.sentiment"
        found = client._client.get("/artifacts/incident-sentiment/latest").json()
        assert found["data"].startswith("# sentiment, version 1: the messages have drifted")
