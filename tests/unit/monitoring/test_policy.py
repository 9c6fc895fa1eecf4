"""The retrain policy keeps its cadence for any sequence of events."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.audit import AuditResult
from monitoring.policy import RULES, SLACK, Asked, RetrainDecision, Situation, decide_retrain, policy_sha256
from undertone.records import DriftVerdict, Finding, Level, Verdict
from undertone.tasks import TASKS, AuditPolicy, Cadence

TRAINED = datetime(2026, 3, 1, 12, tzinfo=UTC)
CADENCE, AUDIT = Cadence(), AuditPolicy()
DAY = timedelta(days=1)
BROKEN = (Finding("duplicates", "the message feed", "half of them", 0.5, 0.15),)
VERDICTS: tuple[Verdict, ...] = ("stable", "warn", "act", "severe", "too_few")


def seen(verdict: Verdict, level: Level = "none", quality: tuple[Finding, ...] = ()) -> DriftVerdict:
    return DriftVerdict(
        "sentiment", verdict, (), 1_000, 1_000, TRAINED, TRAINED, 1, "because", level=level, quality=quality
    )


def audited(drop: float, *, rows: int = 400, confirmed: bool | None = None) -> AuditResult:
    return AuditResult(
        "sentiment", 1, rows, 400, rows >= 400, 0.8 - drop, 0.8 - drop, 0.8, 0.8,
        drop, (drop - 0.05, drop + 0.05), drop, (drop - 0.05, drop + 0.05),
        rows >= 400 and drop > 0.05 if confirmed is None else confirmed,
    )  # fmt: skip


DROP, NO_DROP, PARTIAL = audited(0.10), audited(0.0), audited(0.10, rows=120)


def decide(cadence: Cadence = CADENCE, policy: AuditPolicy = AUDIT, **situation: Any) -> RetrainDecision:
    return decide_retrain(cadence, policy, Situation(**({"last_model_at": TRAINED} | situation)))


def at(days: float, verdict: Verdict | DriftVerdict | None = None, **rest: Any) -> tuple[bool, str]:
    found = seen(verdict) if isinstance(verdict, str) else verdict
    decision = decide(now=TRAINED + timedelta(days=days), verdict=found, **rest)
    assert decision.reason
    assert decision.rule in RULES
    return decision.retrain, decision.rule


# any sequence of events -------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """What happens until one watch, and what becomes of the training that it may start."""

    hours: float
    verdict: DriftVerdict | None
    audit: AuditResult | None
    labels: int
    asked: bool
    refused: bool
    outcome: str
    hours_of_work: float


SEEN = [seen("stable"), seen("too_few"), seen("warn"), seen("warn", "act"), seen("act"), seen("severe")]
#: What may happen, by the name of the event's field; what stands twice is twice as likely.
CHANCES: dict[str, list[Any]] = {
    "hours": [*[24] * 12, 0, 1, 20, 25, 50, 80, 200, 300, -0.5, -30],
    "verdict": [None, *SEEN, seen("act"), seen("severe"), seen("severe", "severe", BROKEN)],
    "audit": [None, PARTIAL, NO_DROP, DROP],
    "labels": [0, 0, 50, 400],
    "asked": [*[False] * 19, True],
    "refused": [*[False] * 19, True],
    "outcome": ["model", "model", "refused", "fails", "killed", "lasts"],
    "hours_of_work": [1, 10, 40],
}
events = st.builds(Event, **{name: st.sampled_from(values) for name, values in CHANCES.items()})


def many(seed: int, count: int) -> list[Event]:
    """Events without hypothesis' bookkeeping: long sequences at little cost."""
    chooser = Random(seed)
    return [Event(**{name: chooser.choice(values) for name, values in CHANCES.items()}) for _ in range(count)]


@dataclass
class World:
    """What ledger and store would say; it follows the decisions."""

    cadence: Cadence
    now: datetime = TRAINED
    model: datetime = TRAINED
    watch: datetime | None = None
    fresh: int = 0
    cpu: list[tuple[datetime, float]] = field(default_factory=list)
    started: list[tuple[datetime, str]] = field(default_factory=list)
    failed: datetime | None = None
    unfinished: datetime | None = None
    asked: Asked | None = None
    running: bool = False

    def watched(self, event: Event) -> tuple[Situation, RetrainDecision]:
        self.now += timedelta(hours=event.hours)
        self.fresh += event.labels
        if event.asked:
            self.asked = Asked("ann", "the shop changed", self.now)
        if event.refused:
            self.failed = self.now
        longest = timedelta(days=self.cadence.max_days)
        situation = Situation(
            now=self.now,
            last_model_at=self.model,
            verdict=event.verdict,
            audit=event.audit,
            fresh_labels=self.fresh,
            retraining=self.running,
            unfinished_at=self.unfinished,
            failed_at=self.failed,
            trainings=tuple(at for at, _ in self.started),
            cpu_hours=sum(hours for at, hours in self.cpu if abs(self.now - at) < longest),
            asked=self.asked,
            last_watch_at=self.watch,
        )
        decision = decide_retrain(self.cadence, AUDIT, situation)
        self.watch = self.now
        if self.running:  # it ended after this watch
            self.running = False
            self._ended("model", self.now, 1.0)
        elif decision.retrain:
            self._start(decision, event)
        return situation, decision

    def _start(self, decision: RetrainDecision, event: Event) -> None:
        clock = self.unfinished if decision.rule == "resume" and self.unfinished else self.now
        self.started.append((self.now, decision.rule))
        self.asked = None
        if event.outcome == "lasts":
            self.running, self.unfinished = True, None
        elif event.outcome == "killed":
            self.unfinished = clock
        else:
            self._ended(event.outcome, clock, event.hours_of_work)

    def _ended(self, outcome: str, clock: datetime, hours: float) -> None:
        self.unfinished = None
        self.cpu.append((self.now, hours))
        if outcome in {"fails", "refused"}:
            self.failed = self.now
        if outcome in {"model", "refused"}:
            self.model, self.fresh = clock, 0


CADENCES = [
    CADENCE,
    Cadence(min_days=0, ask_days=2, max_days=5, cooldown_days=1, budget_trainings=2),
    Cadence(budget_cpu_hours=50, cooldown_days=0, budget_trainings=9),
]
cadences = st.sampled_from(CADENCES)


@given(cadence=cadences, history=st.lists(events, min_size=1, max_size=40))
def test_the_cadence_holds_for_any_sequence_of_events(cadence: Cadence, history: list[Event]) -> None:
    check(cadence, history)


def test_the_cadence_holds_for_years_of_events_and_meets_every_rule() -> None:
    met: set[str] = set()
    for seed in range(30):
        met |= check(CADENCES[seed % 3], many(seed, 250))
    assert met == set(RULES) - {"no model"}


def check(cadence: Cadence, history: list[Event]) -> set[str]:
    """Play the events, hold every decision against what was promised, and give the rules that fired."""
    world, met = World(cadence), set()
    longest, cooldown = timedelta(days=cadence.max_days), timedelta(days=cadence.cooldown_days)
    for event in history:
        started = list(world.started)
        situation, decision = world.watched(event)
        now, rule = situation.now, decision.rule
        met.add(rule)
        assert rule in RULES
        assert decision == decide_retrain(cadence, AUDIT, situation)
        day = decision.days_since
        assert day is not None
        behind = situation.last_watch_at is not None and now < situation.last_watch_at - SLACK

        if decision.retrain:
            assert not situation.retraining
            assert not behind
            assert day >= -SLACK / DAY
            if day < cadence.min_days and rule not in {"override", "resume"}:
                assert event.verdict is not None
                assert event.verdict.verdict == "severe"
                assert event.audit is not None
                assert event.audit.confirmed
            if day < cadence.max_days and rule not in {"override", "resume"}:
                assert event.verdict is not None
                assert event.verdict.verdict in {"act", "severe"}
                assert not event.verdict.quality
                assert situation.fresh_labels > 0, "it would learn from nothing but itself"
            if rule == "override":
                assert situation.asked is not None
            else:  # the policy never exceeds the budget by itself
                assert sum(abs(now - began) < longest for began, _ in started) < cadence.budget_trainings
                if cadence.budget_cpu_hours is not None:
                    assert situation.cpu_hours < cadence.budget_cpu_hours
            if rule == "resume":
                assert situation.unfinished_at is not None
                assert abs(now - situation.unfinished_at) < timedelta(days=max(1, cadence.min_days))
            elif rule != "override" and situation.failed_at is not None:
                assert abs(now - situation.failed_at) >= cooldown
        else:
            assert rule not in {"resume", "override", "age"}
            if day >= cadence.max_days or situation.asked is not None:
                assert rule in {"running", "clock", "cooldown", "budget"}
                assert situation.asked is None or rule in {"running", "clock"}
            if rule == "clock":
                assert behind or day < -SLACK / DAY
            elif rule == "running":
                assert situation.retraining
            elif rule == "cooldown":
                assert situation.failed_at is not None
                assert abs(now - situation.failed_at) < cooldown
            if rule not in {"running", "clock"} and day >= cadence.ask_days and situation.fresh_labels < 300:
                assert decision.ask_labels
    return met


@pytest.mark.parametrize("every", [1, 2, 3])
def test_years_of_watches_keep_14_to_28_days(every: int) -> None:
    """Where trainings end in models and nobody interferes, no two models are further apart than 28 days and a watch."""
    world, gaps = World(CADENCE), []
    for event in many(every, 700):
        calm = replace(event, hours=24 * every, asked=False, refused=False, outcome="model")
        before = world.model
        situation, decision = world.watched(calm)
        if decision.retrain:
            gaps.append((situation.now - before) / DAY)
            assert gaps[-1] >= 14 or decision.rule == "severe, audited"
    assert all(gap < 28 + every for gap in gaps)
    assert (world.now - world.model) / DAY < 28 + every


@pytest.mark.parametrize("failures", range(7))
def test_trainings_that_fail_delay_a_challenger_by_the_cooldown_until_the_budget_is_spent(failures: int) -> None:
    world, days, number = World(CADENCE), [], 0
    quiet = Event(24, seen("stable"), None, 0, asked=False, refused=False, outcome="fails", hours_of_work=1)
    for _ in range(100):
        _, decision = world.watched(quiet if number < failures else replace(quiet, outcome="model"))
        if decision.retrain:
            number += 1
            days.append((world.now - TRAINED).days)
    assert days[: failures + 1] == [28, 31, 34, 37, 56, 59, 62][: failures + 1]
    assert days[failures + 1] - days[failures] == 28


@given(days=st.floats(0, 13.999), verdict=st.sampled_from(VERDICTS), audit=st.sampled_from([None, PARTIAL, NO_DROP]))
def test_never_before_day_14_without_an_audited_drop(days: float, verdict: Verdict, audit: AuditResult | None) -> None:
    assert at(days, verdict, audit=audit, fresh_labels=5_000) == (False, "too early")


@given(days=st.floats(28, 4_000), verdict=st.one_of(st.none(), st.sampled_from(VERDICTS)))
def test_always_from_day_28(days: float, verdict: Verdict | None) -> None:
    assert at(days, verdict) == (True, "age")
    assert at(days, verdict, retraining=True) == (False, "running")


# each rule --------------------------------------------------------------------------------------


def test_in_between_the_audit_decides() -> None:
    assert at(20, "stable") == (False, "stable")
    assert at(20, "too_few") == at(20) == (False, "too few")
    assert at(20, "warn", audit=DROP, fresh_labels=500) == (False, "warned")
    assert at(20, verdict=seen("warn", level="act")) == (False, "first warning")
    for verdict in ("act", "severe"):
        assert at(20, verdict) == (False, "labels wanted")
        assert at(20, verdict, audit=PARTIAL, fresh_labels=120) == (False, "labels wanted")
        assert at(20, verdict, audit=PARTIAL, fresh_labels=300) == (True, "drift, labelled")
        assert at(20, verdict, audit=DROP, fresh_labels=1) == (True, "drift, audited")
        assert at(20, verdict, audit=NO_DROP, fresh_labels=5_000) == (False, "audited, no drop")


def test_a_drop_without_new_labels_would_be_learned_from_the_same_rows() -> None:
    assert at(20, "act", audit=DROP, fresh_labels=0) == (False, "labels wanted")
    assert at(5, "severe", audit=DROP, fresh_labels=0) == (False, "too early")


def test_the_first_and_the_last_moment() -> None:
    assert at(14, "act", audit=DROP, fresh_labels=400) == (True, "drift, audited")
    assert at(13.9999, "act", audit=DROP, fresh_labels=400) == (False, "too early")
    assert at(28, "stable") == (True, "age")


def test_severe_and_audited_comes_at_once() -> None:
    assert at(1, "severe", audit=DROP, fresh_labels=400) == (True, "severe, audited")
    assert at(1, "severe", audit=PARTIAL, fresh_labels=400) == (False, "too early")
    assert at(1, "act", audit=DROP, fresh_labels=400) == (False, "too early")


def test_a_broken_upstream_blocks_what_drift_asks_for_and_not_age() -> None:
    broken = seen("severe", "severe", BROKEN)
    assert at(5, verdict=broken, audit=DROP, fresh_labels=400) == (False, "data quality")
    assert at(20, verdict=broken, audit=DROP, fresh_labels=400) == (False, "data quality")
    late = decide(now=TRAINED + 28 * DAY, verdict=broken)
    assert (late.retrain, late.rule) == (True, "age")
    assert "left out" in late.reason
    assert "the message feed" in decide(now=TRAINED + 5 * DAY, verdict=broken).reason


def test_labels_are_asked_for_rather_than_learned_from_the_model_itself() -> None:
    asks = {
        (days, verdict, fresh): decide(
            now=TRAINED + timedelta(days=days), verdict=seen(verdict), fresh_labels=fresh
        ).ask_labels
        for days in (5, 15, 21, 28)
        for verdict in ("stable", "act")
        for fresh in (0, 300)
    }
    assert {key for key, asked in asks.items() if asked} == {
        (15, "act", 0), (21, "stable", 0), (21, "act", 0), (28, "stable", 0), (28, "act", 0),
    }  # fmt: skip


def test_a_person_passes_everything_but_a_running_training_and_a_wrong_clock() -> None:
    asked = Asked("ann", "the shop changed", TRAINED)
    full = tuple(TRAINED + timedelta(days=day) for day in range(4))
    rest = {"asked": asked, "failed_at": TRAINED + 4 * DAY, "trainings": full}
    assert at(5, "stable", **rest) == (True, "override")
    assert at(5, "stable", **rest, retraining=True) == (False, "running")
    assert at(5, "stable", **rest, last_watch_at=TRAINED + 6 * DAY) == (False, "clock")
    assert "ann asked for it: the shop changed" in decide(now=TRAINED + 5 * DAY, **rest).reason


def test_cooldown_and_budget() -> None:
    failed = {"failed_at": TRAINED + 27 * DAY}
    assert at(28, "severe", **failed) == (False, "cooldown")
    assert at(30, "severe", **failed) == (True, "age")
    started = tuple(TRAINED + timedelta(days=day) for day in (20, 23, 26, 29))
    assert at(32, "act", trainings=started) == (False, "budget")
    assert at(48, "act", trainings=started) == (True, "age")
    thrifty = Cadence(budget_cpu_hours=2)
    assert decide(thrifty, now=TRAINED + 28 * DAY, cpu_hours=2.0).rule == "budget"
    assert decide(thrifty, now=TRAINED + 28 * DAY, cpu_hours=1.9).rule == "age"


def test_a_killed_retrain_goes_on_within_the_budget_and_while_its_rows_are_young() -> None:
    killed = {"unfinished_at": TRAINED + 20 * DAY}
    assert at(20.1, "stable", **killed) == (True, "resume")
    assert at(20.1, "stable", **killed, retraining=True) == (False, "running")
    assert at(35, "stable", **killed) == (True, "age")
    four = tuple(TRAINED + timedelta(days=20, minutes=minute) for minute in range(4))
    assert at(20.1, "stable", **killed, trainings=four) == (False, "budget")


def test_clocks_that_were_set_back_decide_nothing_once() -> None:
    assert at(-1, "severe", audit=DROP) == (False, "clock")
    assert at(30, last_watch_at=TRAINED + 31 * DAY) == (False, "clock")
    assert at(30, last_watch_at=TRAINED + 30 * DAY + SLACK) == (True, "age")
    assert at(-0.01, "stable") == (False, "too early")
    assert decide(now=TRAINED, last_model_at=None).rule == "no model"


def test_daylight_saving_and_zones_do_not_move_the_days() -> None:
    berlin = ZoneInfo("Europe/Berlin")  # the clocks go forward on 29 March 2026
    trained = datetime(2026, 3, 16, 2, 30, tzinfo=berlin)
    early = datetime(2026, 3, 30, 3, 29, tzinfo=berlin)
    due = datetime(2026, 3, 30, 3, 30, tzinfo=berlin)
    drift = {"last_model_at": trained, "verdict": seen("act"), "fresh_labels": 300}
    assert decide(now=early, **drift).retrain is False
    assert decide(now=due, **drift).retrain is True
    naive = due.astimezone(UTC).replace(tzinfo=None)
    assert decide(now=naive, **drift | {"last_watch_at": early}).retrain is True


def test_the_hash_covers_every_number() -> None:
    known = policy_sha256(CADENCE, AUDIT)
    assert known == policy_sha256(Cadence(), AuditPolicy()) == decide(now=TRAINED).policy_sha256
    for name, value in CADENCE.model_dump().items():
        other = {"min_days": 13, "max_days": 29, "ask_days": 22}.get(name, 7 if value is None else value + 1)
        assert policy_sha256(CADENCE.model_copy(update={name: other}), AUDIT) != known
    for name, value in AUDIT.model_dump().items():
        assert policy_sha256(CADENCE, AUDIT.model_copy(update={name: value / 2 if value < 1 else value + 1})) != known


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_every_task_keeps_its_own_cadence(spec) -> None:
    for days, wanted in ((spec.cadence.min_days - 0.01, False), (spec.cadence.max_days, True)):
        now = TRAINED + timedelta(days=days)
        decision = decide(spec.cadence, spec.audit, now=now, verdict=seen("act"), audit=DROP, fresh_labels=1_000)
        assert decision.retrain is wanted
