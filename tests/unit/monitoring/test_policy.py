"""The retrain policy keeps its cadence for any sequence of events."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.policy import decide_retrain
from undertone.records import DriftVerdict, Verdict
from undertone.tasks import TASKS, Cadence

TRAINED = datetime(2026, 3, 1, 12, tzinfo=UTC)
CADENCE = Cadence()
verdicts = st.sampled_from(["stable", "drifted", "too_few"])


def seen(verdict: Verdict, act: bool = False) -> DriftVerdict:
    return DriftVerdict(
        "sentiment", verdict, (), 1_000, 1_000, TRAINED, TRAINED, 1, "because", act and verdict == "drifted"
    )


@given(days=st.floats(0, 13.999), verdict=verdicts, act=st.booleans(), before=st.lists(verdicts, max_size=5))
def test_never_before_day_14(days: float, verdict: Verdict, act: bool, before: list[str]) -> None:
    decision = decide_retrain(
        CADENCE,
        now=TRAINED + timedelta(days=days),
        last_model_at=TRAINED,
        verdict=seen(verdict, act),
        previous=[{"verdict": name} for name in before],
    )
    assert decision.retrain is False


@given(days=st.floats(28, 4_000), verdict=st.one_of(st.none(), verdicts), act=st.booleans())
def test_always_from_day_28(days: float, verdict: Verdict | None, act: bool) -> None:
    now = TRAINED + timedelta(days=days)
    verdict_seen = seen(verdict, act) if verdict else None
    assert decide_retrain(CADENCE, now=now, last_model_at=TRAINED, verdict=verdict_seen).retrain is True
    running = decide_retrain(CADENCE, now=now, last_model_at=TRAINED, verdict=verdict_seen, retraining=True)
    assert (running.retrain, running.rule) == (False, "running")


@given(st.lists(st.tuples(verdicts, st.booleans()), min_size=60, max_size=60), st.integers(1, 3))
def test_a_year_of_watches_keeps_14_to_28_days(days: list[tuple[Verdict, bool]], every: int) -> None:
    """Retraining whenever the policy says so leaves no gap under 14 days, nor over 28 and one watch."""
    last, history, gaps = TRAINED, [], []
    for number, (verdict, act) in enumerate(days, start=1):
        now = TRAINED + timedelta(days=number * every)
        decision = decide_retrain(CADENCE, now=now, last_model_at=last, verdict=seen(verdict, act), previous=history)
        history.append({"verdict": verdict})
        if decision.retrain:
            gaps.append((now - last).days)
            last, history = now, []
    assert all(14 <= gap < 28 + every for gap in gaps)
    assert (TRAINED + timedelta(days=60 * every) - last).days < 28 + every


def at(days: float, verdict: DriftVerdict | None, *before: str) -> tuple[bool, str]:
    decision = decide_retrain(
        CADENCE,
        now=TRAINED + timedelta(days=days),
        last_model_at=TRAINED,
        verdict=verdict,
        previous=[{"verdict": name} for name in before],
    )
    assert decision.reason
    return decision.retrain, decision.rule


def test_in_between_drift_decides() -> None:
    assert at(20, seen("stable")) == (False, "stable")
    assert at(20, seen("too_few")) == (False, "too few")
    assert at(20, None) == (False, "too few")
    assert at(20, seen("drifted", act=True)) == (True, "drift")
    assert at(20, seen("drifted")) == (False, "first warning")
    assert at(20, seen("drifted"), "drifted") == (True, "lasting drift")
    assert at(20, seen("drifted"), "drifted", "stable") == (False, "first warning")


def test_the_first_and_the_last_moment() -> None:
    assert at(14, seen("drifted", act=True)) == (True, "drift")
    assert at(28, seen("stable")) == (True, "age")


def test_a_clock_before_the_model_changes_nothing() -> None:
    assert at(-1, seen("drifted", act=True)) == (False, "clock")
    assert decide_retrain(CADENCE, now=TRAINED, last_model_at=None, verdict=None).rule == "no model"


def test_daylight_saving_and_zones_do_not_move_the_days() -> None:
    berlin = ZoneInfo("Europe/Berlin")  # the clocks go forward on 29 March 2026
    trained = datetime(2026, 3, 16, 2, 30, tzinfo=berlin)
    early = datetime(2026, 3, 30, 3, 29, tzinfo=berlin)
    due = datetime(2026, 3, 30, 3, 30, tzinfo=berlin)
    drift = seen("drifted", act=True)
    assert decide_retrain(CADENCE, now=early, last_model_at=trained, verdict=drift).retrain is False
    assert decide_retrain(CADENCE, now=due, last_model_at=trained, verdict=drift).retrain is True
    naive = decide_retrain(CADENCE, now=due.astimezone(UTC).replace(tzinfo=None), last_model_at=trained, verdict=drift)
    assert naive.retrain is True


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_every_task_keeps_its_own_cadence(spec) -> None:
    for days, wanted in ((spec.cadence.min_days - 0.01, False), (spec.cadence.max_days, True)):
        now = TRAINED + timedelta(days=days)
        decision = decide_retrain(spec.cadence, now=now, last_model_at=TRAINED, verdict=seen("drifted", act=True))
        assert decision.retrain is wanted
