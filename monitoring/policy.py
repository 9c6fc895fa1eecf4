"""The retrain policy: a pure function of the clock, the drift verdict, the audit and what was tried before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from monitoring.audit import AuditResult
from undertone.records import DriftVerdict


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
        last_model_at: when the last model of the task was trained; None: there is none.
        last_watch_at: the newest earlier watch; a clock that stands before it decides nothing.
        verdict: of this watch; None: there is none.
        audit: of the champion, over this incident's windows; None: none was drawn, or no label came.
        fresh_labels: labels that people gave since the last model was trained, without those the model suggested.
        retraining: a training of the task is under way now.
        unfinished_at: a retrain was decided then and ended neither in a model nor in a failure: it was killed.
        failed_at: when a training last failed, or the gate or a person last refused a challenger.
        trainings: when trainings that the policy started began, any order.
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
        ask_labels: people should be asked for labels: what there is does not carry a retrain.
        policy_sha256: of the cadence and audit policies that decided.
    """

    retrain: bool
    rule: str
    reason: str
    days_since: float | None
    ask_labels: bool = False
    policy_sha256: str = ""
