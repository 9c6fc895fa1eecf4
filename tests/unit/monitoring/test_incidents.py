"""Incidents: people are told once that something began, and once that it is over, whatever the watches say."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.incidents import EVENTS, News, as_markdown, as_text, news, subject, undelivered
from undertone.records import LedgerEntry

START = datetime(2026, 3, 1, 3, tzinfo=UTC)
BROKEN = {"check": "empty", "upstream": "chat", "found": "12 % of messages are empty", "value": 0.12, "limit": 0.01}


@dataclass
class Told:
    """A task's ledger, and what people were told."""

    rows: list[LedgerEntry] = field(default_factory=list)
    said: list[News] = field(default_factory=list)

    def row(self, kind: str, version: int | None, payload: dict[str, Any], at: datetime) -> LedgerEntry:
        seq = len(self.rows) + 1
        digest = hashlib.sha256(str(seq).encode()).hexdigest()
        self.rows.append(LedgerEntry(seq, at, kind, "sentiment", version, "watch", "because", payload, "", digest))
        return self.rows[-1]

    def look(self, verdict: str, version: int = 1, *, broken: bool = False, at: datetime | None = None) -> None:
        """A watch is recorded, and nobody told yet."""
        payload = {"verdict": verdict, "quality": [BROKEN] if broken else []}
        self.row("drift", version, payload, at or START + timedelta(days=len(self.rows)))

    def tell(self, ask_labels: bool = False, **channels: bool) -> list[News]:
        """People are told what there is to tell."""
        fresh = list(news(self.rows, ask_labels=ask_labels))
        for item in fresh:
            payload = {"incident": item.incident, "kind": item.kind, "step": item.step, "channels": channels}
            payload["verdict"] = item.look.payload["verdict"]
            self.row(item.ledger_kind, item.version, payload, item.look.at)
        self.said += fresh
        return fresh

    def watch(self, verdict: str, version: int = 1, **given: bool) -> list[str]:
        """One watch and what it has people told."""
        ask = given.pop("ask_labels", False)
        self.look(verdict, version, **given)
        return [item.event.removeprefix("undertone.") for item in self.tell(ask)]


def test_one_alert_one_resolve() -> None:
    told = Told()
    said = [told.watch(verdict) for verdict in ("stable", "warn", "act", "act", "warn", "too_few", "stable", "stable")]
    assert said == [[], [], ["drift.act"], [], [], [], ["drift.resolved"], []]
    assert told.said[0].incident == told.said[1].incident == f"sentiment-1-drift-{told.rows[2].hash[:12]}"


def test_it_becomes_severe_once() -> None:
    told = Told()
    said = [told.watch(verdict) for verdict in ("act", "severe", "act", "severe", "stable", "severe", "severe")]
    assert said == [["drift.act"], ["drift.severe"], [], [], ["drift.resolved"], ["drift.act"], []]


def test_another_version_ends_it_and_may_begin_the_next() -> None:
    told = Told()
    said = [told.watch("act", 1), told.watch("too_few", 2), told.watch("act", 2), told.watch("severe", 3)]
    assert said == [["drift.act"], ["drift.resolved"], ["drift.act"], ["drift.resolved", "drift.act"]]
    assert [item.version for item in told.said] == [1, 1, 2, 2, 3]
    assert told.said[1].reason == "version 2 serves now"


def test_broken_messages_are_an_incident_of_their_own_whoever_serves() -> None:
    told = Told()
    said = [
        told.watch("act", broken=True),
        told.watch("too_few", broken=True),
        told.watch("too_few"),
        told.watch("warn", 2),
        told.watch("stable", 2),
    ]
    assert said == [["drift.act", "quality.failed"], [], [], ["drift.resolved", "quality.resolved"], []]
    assert told.said[1].reason == "chat: 12 % of messages are empty"


def test_labels_are_wanted_once_a_version() -> None:
    told = Told()
    said = [
        told.watch("stable", ask_labels=True),
        told.watch("act", ask_labels=True),
        told.watch("stable"),
        told.watch("stable", 2, ask_labels=True),
    ]
    assert said == [["labels.wanted"], ["drift.act"], ["drift.resolved"], ["labels.wanted"]]


def test_a_watch_that_died_before_it_told_is_made_up_for_under_the_same_name() -> None:
    told = Told()
    told.look("act", broken=True)
    (first, broken) = news(told.rows)
    told.look("too_few")
    late = told.tell()
    assert [item.incident for item in late] == [first.incident, broken.incident]
    assert late[1].reason == broken.reason
    told.look("severe", 2, broken=True)
    assert [item.step for item in news(told.rows)] == ["over", "opened"]  # and that one dies between the two
    told.row("resolved", 1, {"incident": first.incident, "kind": "drift", "step": "over"}, told.rows[-1].at)
    (opened,) = (item for item in news(told.rows) if item.kind == "drift")
    assert (opened.step, opened.version) == ("opened", 2)


def test_what_was_over_before_anybody_heard_of_it_is_not_told() -> None:
    told = Told()
    told.look("act")
    assert told.watch("stable") == []


def test_a_look_recorded_while_another_told_is_heard() -> None:
    told = Told()
    told.watch("act")
    told.look("stable")
    fresh = news(told.rows)
    told.look("act")  # recorded by a second watch before the first had written what it told
    told.row("resolved", 1, {"incident": fresh[0].incident, "kind": "drift", "step": "over"}, told.rows[-1].at)
    (again,) = told.tell()
    assert (again.step, again.incident != fresh[0].incident) == ("opened", True)


def test_a_look_at_the_past_tells_nothing() -> None:
    told = Told()
    told.watch("act")
    told.look("stable", at=START - timedelta(days=90))
    assert told.tell() == []
    assert told.watch("act") == []
    told.look("stable", at=START + timedelta(days=4_000))  # a clock that ran ahead
    assert [item.step for item in told.tell()] == ["over"]
    assert told.watch("act") == []
    assert told.watch("act") == ["drift.act"]


def test_rows_of_earlier_releases_say_nothing() -> None:
    told = Told()
    told.row("drift", 1, {"verdict": "drifted", "act": True}, START)
    assert told.tell() == []
    assert news([]) == ()


looks = st.tuples(
    st.sampled_from(["stable", "warn", "act", "severe", "too_few"]),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
    st.integers(-2, 5),
    st.booleans(),
)


@given(st.lists(looks, max_size=25))
def test_alerts_and_resolves_alternate_for_any_watches(watches: list[tuple]) -> None:
    told, at = Told(), START
    for verdict, version, broken, ask, days, dies in watches:
        at += timedelta(days=days)
        told.look(verdict, version, broken=broken, at=at)
        if dies:
            continue
        told.tell(ask)
        assert told.tell(ask) == []  # a second watch at once has nothing left to tell
    for kind in ("drift", "quality"):
        steps = [item.step for item in told.said if item.kind == kind and item.step != "worse"]
        assert steps == (["opened", "over"] * len(steps))[: len(steps)]
    keys = [(item.incident, item.step) for item in told.said]
    assert len(keys) == len(set(keys))
    assert all((item.incident, "opened") in keys for item in told.said)
    labels = [item.version for item in told.said if item.kind == "labels"]
    assert len(labels) == len(set(labels))


@given(st.lists(st.sampled_from(["stable", "warn", "too_few"]), max_size=20))
def test_without_act_and_findings_nobody_is_told(verdicts: list[str]) -> None:
    told = Told()
    assert [told.watch(verdict) for verdict in verdicts] == [[]] * len(verdicts)


def test_what_did_not_get_through_waits_until_it_does() -> None:
    told = Told()
    told.look("act")
    told.tell(webhook=False, block=True)
    told.look("stable")
    told.tell(webhook=False, block=False)
    alert, over = told.rows[1], told.rows[3]
    assert undelivered(told.rows) == [(alert, ("webhook",)), (over, ("webhook", "block"))]
    told.row("alert", 1, {"of": alert.seq, "kind": "drift", "channels": {"webhook": True}}, over.at)
    told.row("resolved", 1, {"of": over.seq, "kind": "drift", "channels": {"block": True}}, over.at)
    assert undelivered(told.rows) == [(over, ("webhook",))]
    assert told.watch("stable") == []
    assert told.watch("act") == ["drift.act"]


@pytest.mark.parametrize("event", EVENTS.values())
def test_messages_read_well(event: str) -> None:
    message = {
        "event": event,
        "task": "sentiment",
        "version": 3,
        "reason": "embedding over its floor",
        "window": ["2026-03-01", "2026-03-08"],
        "decision": {"retrain": False, "rule": "too soon", "reason": "5 days"},
        "report": "/reports/page.html",
        "run": None,
        "incident": "sentiment-3-drift-abc",
        "at": "2026-03-08",
    }
    assert subject(message).startswith("sentiment, version 3: ")
    text, page = as_text(message), as_markdown(message)
    assert "No retrain (too soon): 5 days" in text
    assert "Report: /reports/page.html" in page
    assert "{" not in text + page
    assert ("## Next" in page) == (not event.endswith("resolved"))
