"""The retrain policy: a pure function of the clock, the drift verdict, the audit and what was tried before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from monitoring.audit import AuditResult
from undertone.records import DriftVerdict, utc
from undertone.tasks import AuditPolicy, Cadence
from undertone.text import sha256_of

#: Every rule, in the order in which they are asked: the first that fits decides.
RULES = {
    "no model": "there is no model to follow: a person trains the first one",
    "clock": "the clock stands before the last model or the watch before: nothing is decided by it",
    "running": "a training of the task is under way",
    "resume": "a retrain was decided and killed: it goes on from its checkpoint, within the budget",
    "override": "a person asked for a retrain, whatever cooldown, budget, age and data quality say",
    "cooldown": "a training failed, or a challenger was refused, days ago",
    "budget": "trainings or processor hours of the last `max_days` are used up",
    "age": "`max_days` are over: a challenger comes, whatever the drift",
    "data quality": "an upstream is broken: what drift says about its messages is no reason to learn from them",
    "severe, audited": "before `min_days`: severe drift, and an audit that confirms a drop",
    "too early": "before `min_days`",
    "drift, audited": "lasting drift, and an audit that confirms a drop",
    "audited, no drop": "lasting drift, and a complete audit that shows no drop: the model still does its work",
    "drift, labelled": "lasting drift, and enough new labels to learn from; no complete audit yet",
    "labels wanted": "lasting drift, but nothing new to learn from: people are asked, the model's own answers are not",
    "first warning": "this window alone would act: the next one tells whether it lasts",
    "warned": "a difference too small to act on: it buys an audit, no retrain",
    "too few": "too few messages to tell",
    "stable": "no drift",
}

#: Clocks of two watches that overlap, or of two machines, may differ by this without anybody having set one back.
SLACK = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A person's order to retrain whatever the cadence says; it is spent by the next training."""

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a retrain decision looks at.

    Attributes:
        now: the clock.
        last_model_at: when the last model of the task was trained, whether or not it was let through; None: there is
            none.
        last_watch_at: of the watch before this one; a clock that stands before it decides nothing.
        verdict: of this watch; None: there is none.
        audit: of the champion, over this incident's windows; None: none was drawn, or no label came.
        fresh_labels: labels that people gave since the last model was trained, without those the model suggested.
        retraining: a training of the task is under way now.
        unfinished_at: a retrain was decided then and ended neither in a model nor in a failure: it was killed.
        failed_at: when a training of the policy last failed, or the gate or a person last refused its challenger.
        trainings: when trainings that the watch started began, any order, overrides and resumed ones too.
        cpu_hours: processor hours of trainings in the last `Cadence.max_days`.
        asked: a person's override that no training has spent yet.
    """

    now: datetime
    last_model_at: datetime | None
    verdict: DriftVerdict | None = None
    audit: AuditResult | None = None
    fresh_labels: int = 0
    retraining: bool = False
    unfinished_at: datetime | None = None
    failed_at: datetime | None = None
    trainings: tuple[datetime, ...] = ()
    cpu_hours: float = 0.0
    asked: Asked | None = None
    last_watch_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RetrainDecision:
    """Yes or no, the rule that fired, and why in words.

    Attributes:
        rule: one of `RULES`.
        ask_labels: people should be asked for labels: what there is does not carry a retrain.
        policy_sha256: of the cadence and audit policies that decided, and of the rules' order.
    """

    retrain: bool
    rule: str
    reason: str
    days_since: float | None
    ask_labels: bool = False
    policy_sha256: str = ""


class _Answer(NamedTuple):
    retrain: bool
    rule: str
    reason: str
    ask_labels: bool = False


def decide_retrain(cadence: Cadence, audit: AuditPolicy, situation: Situation) -> RetrainDecision:
    """Whether to train a challenger now. Pure: the same arguments give the same answer.

    What holds for any sequence of events (``tests/unit/monitoring/test_policy.py``):

    - before day `min_days` only severe drift that an audit confirmed, a person, or the resumption of a killed retrain;
    - from day `max_days` on yes at the first watch. It waits only while a training runs, for a clock that was set
      back (one watch), for the cooldown after a failure or a refusal, and for the budget: a task whose trainings all
      fail is tried `budget_trainings` times, `cooldown_days` apart, and then once the oldest try is `max_days` old;
    - never two at once, and never over the budget without a person.

    A challenger that the gate or a person refused counts as the last model: the next one learns from days of new
    labels, not from the same rows again. A person who wants it sooner asks for it.
    """
    sha256 = policy_sha256(cadence, audit)
    if situation.last_model_at is None:
        return RetrainDecision(
            False, "no model", "there is no model yet: a person trains the first one", None, False, sha256
        )
    day = _days(utc(situation.now) - utc(situation.last_model_at))
    answer = _standstill(situation, day) or _next_training(cadence, audit, situation, day)
    return RetrainDecision(answer.retrain, answer.rule, answer.reason, day, answer.ask_labels, sha256)


@lru_cache(maxsize=64)
def policy_sha256(cadence: Cadence, audit: AuditPolicy) -> str:
    """One SHA-256 of every number that a retrain decision compares with, and of the rules' order."""
    numbers = {"cadence": cadence.model_dump(mode="json"), "audit": audit.model_dump(mode="json"), "rules": list(RULES)}
    return sha256_of(numbers)


def _standstill(situation: Situation, day: float) -> _Answer | None:
    """Why nothing at all is decided now, or None."""
    if day < -_days(SLACK):
        return _Answer(
            False,
            "clock",
            f"the last model was trained {-day:.1f} days after this clock; if that time is wrong, train one by hand",
        )
    if situation.last_watch_at is not None:
        behind = utc(situation.last_watch_at) - utc(situation.now)
        if behind > SLACK:
            return _Answer(
                False,
                "clock",
                f"this clock stands {_days(behind):.1f} days before the last watch; the next watch takes it as it is",
            )
    if situation.retraining:
        return _Answer(False, "running", "a training of this task is under way")
    return None


def _next_training(cadence: Cadence, audit: AuditPolicy, situation: Situation, day: float) -> _Answer:
    """The answer while no training runs and the clock is sound."""
    few = situation.fresh_labels < audit.fresh_labels
    answer = _held_over(cadence, situation) or _held_back(cadence, situation)
    if answer is None and day >= cadence.max_days:
        answer = _age(cadence, audit, situation, day)
    if answer is None and situation.verdict is not None and situation.verdict.quality:
        names = ", ".join(finding.upstream for finding in situation.verdict.quality)
        answer = _Answer(False, "data quality", f"day {day:.1f}: first repair what is broken upstream: {names}")
    if answer is None and day < cadence.min_days:
        answer = _early(cadence, situation, day)
    if answer is None:
        answer = _between(audit, situation, day)
    return answer._replace(ask_labels=answer.ask_labels or (few and day >= cadence.ask_days))


def _held_over(cadence: Cadence, situation: Situation) -> _Answer | None:
    """A retrain that was decided before: by this policy and killed, or by a person."""
    unfinished, asked = situation.unfinished_at, situation.asked
    resumable = timedelta(days=max(1, cadence.min_days))  # an older one would learn from rows as old: it starts anew
    if unfinished is not None and _apart(situation.now, unfinished) < resumable and not _spent(cadence, situation):
        return _Answer(True, "resume", f"the retrain of {utc(unfinished):%Y-%m-%d %H:%M}Z was killed: it goes on")
    if asked is not None:
        return _Answer(True, "override", f"{asked.actor} asked for it: {asked.reason}")
    return None


def _held_back(cadence: Cadence, situation: Situation) -> _Answer | None:
    """Why no training may start yet, whatever asks for one."""
    failed = situation.failed_at
    if failed is not None and _apart(situation.now, failed) < timedelta(days=cadence.cooldown_days):
        return _Answer(
            False,
            "cooldown",
            f"the last training failed, or its challenger was refused, at {utc(failed):%Y-%m-%d %H:%M}Z;"
            f" {cadence.cooldown_days:g} days must pass",
        )
    spent = _spent(cadence, situation)
    return _Answer(False, "budget", f"{spent}; a person may ask for one all the same") if spent else None


def _spent(cadence: Cadence, situation: Situation) -> str:
    """What of the budget is used up, in words; empty: there is some left."""
    longest = timedelta(days=cadence.max_days)
    started = sum(_apart(situation.now, began) < longest for began in situation.trainings)
    if started >= cadence.budget_trainings:
        return f"{started} trainings were started within {cadence.max_days} days, {cadence.budget_trainings} may be"
    hours = cadence.budget_cpu_hours
    if hours is not None and situation.cpu_hours >= hours:
        return f"{situation.cpu_hours:.1f} processor hours were used within {cadence.max_days} days, {hours:g} may be"
    return ""


def _age(cadence: Cadence, audit: AuditPolicy, situation: Situation, day: float) -> _Answer:
    reason = f"day {day:.1f}: {cadence.max_days} days are the longest without a challenger"
    if situation.fresh_labels < audit.fresh_labels:
        reason += (
            f"; it learns from the reference and {situation.fresh_labels} new labels, fewer than the"
            f" {audit.fresh_labels} wanted, and never from the model's own answers"
        )
    if situation.verdict is not None and situation.verdict.quality:
        reason += "; messages of the broken window are left out"
    return _Answer(True, "age", reason)


def _early(cadence: Cadence, situation: Situation, day: float) -> _Answer:
    verdict, audit = situation.verdict, situation.audit
    severe = verdict is not None and verdict.verdict == "severe"
    if severe and audit is not None and audit.confirmed and situation.fresh_labels:
        return _Answer(True, "severe, audited", f"day {day:.1f}: severe drift, and {_drop(audit)}")
    why = f"day {day:.1f}: sooner than {cadence.min_days} days only for severe drift that an audit confirms"
    if severe and audit is not None and audit.complete and not audit.confirmed:
        why += f"; {_drop(audit)}"
    elif severe:
        why += "; the audit is not in yet"
    return _Answer(False, "too early", why)


def _between(policy: AuditPolicy, situation: Situation, day: float) -> _Answer:
    verdict, audit, fresh = situation.verdict, situation.audit, situation.fresh_labels
    if verdict is None or verdict.verdict == "too_few":
        return _Answer(False, "too few", f"day {day:.1f}: too few messages to tell")
    if verdict.verdict == "stable":
        return _Answer(False, "stable", f"day {day:.1f}: no drift")
    if verdict.verdict == "warn":
        return _warned(situation, verdict, day)
    if audit is not None and audit.confirmed and fresh:
        return _Answer(True, "drift, audited", f"day {day:.1f}: lasting drift, and {_drop(audit)}")
    if audit is not None and audit.complete and not audit.confirmed:
        return _Answer(False, "audited, no drop", f"day {day:.1f}: lasting drift, but {_drop(audit)}")
    if fresh >= policy.fresh_labels:
        return _Answer(True, "drift, labelled", f"day {day:.1f}: lasting drift, and {fresh} new labels to learn from")
    if audit is None:
        state = "no audited label came yet"
    elif audit.confirmed:
        state = f"{_drop(audit)}, but no label came since the last training: it would learn the same again"
    else:
        state = f"{audit.rows} of {audit.wanted} audited labels came"
    return _Answer(
        False,
        "labels wanted",
        f"day {day:.1f}: lasting drift; {state}; {fresh} of {policy.fresh_labels} new labels."
        " A retrain now would learn from the model's own answers",
        ask_labels=True,
    )


def _warned(situation: Situation, verdict: DriftVerdict, day: float) -> _Answer:
    audit = situation.audit
    if verdict.level in {"act", "severe"}:
        return _Answer(False, "first warning", f"day {day:.1f}: the first window that would act; the next ones tell")
    reason = f"day {day:.1f}: a difference, too small to act on; it buys an audit"
    if audit is not None and audit.complete:
        reason += f": {_drop(audit)}"
        if audit.confirmed:
            reason += "; a person may ask for a retrain now"
    return _Answer(False, "warned", reason)


def _drop(audit: AuditResult) -> str:
    """What a complete audit says, in words."""
    low, high = audit.accuracy_interval
    if audit.confirmed:
        points = f"{100 * audit.accuracy_drop:.1f} points of accuracy ({100 * low:.1f} to {100 * high:.1f})"
        return f"an audit confirms a drop of {points} on {audit.rows} labels"
    change = f"{-100 * audit.accuracy_drop:+.1f} points ({-100 * high:+.1f} to {-100 * low:+.1f})"
    return f"an audit confirms no drop: accuracy changed by {change} on {audit.rows} labels"


def _days(span: timedelta) -> float:
    return span / timedelta(days=1)


def _apart(one: datetime, other: datetime) -> timedelta:
    """Time between two moments. Either way: a clock that was set back makes nothing undone."""
    return abs(utc(one) - utc(other))
