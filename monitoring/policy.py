"""The retrain policy: a pure function of the clock, the last model's time and the drift verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from undertone.records import DriftVerdict, utc
from undertone.tasks import Cadence

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class RetrainDecision:
    """Yes or no, the rule that fired, and why in words."""

    retrain: bool
    rule: str
    reason: str
    days_since: float | None


def decide_retrain(
    cadence: Cadence,
    *,
    now: datetime,
    last_model_at: datetime | None,
    verdict: DriftVerdict | None,
    previous: Sequence[Mapping[str, Any]] = (),
    retraining: bool = False,
) -> RetrainDecision:
    """Whether to train a challenger now.

    Never before ``cadence.min_days`` after the last model, always from ``cadence.max_days`` on; in between when drift
    acts now, or was found now and at the watch before. Days are 86,400 elapsed seconds: daylight saving plays no part.

    Args:
        now: the clock.
        last_model_at: when the last model of the task was trained; None: there is none.
        verdict: of this watch.
        previous: payloads of this model's earlier verdicts, oldest first.
        retraining: a retrain of the task is under way.
    """
    if last_model_at is None:
        return RetrainDecision(
            False, "no model", "there is no model to compare with: train the first one by hand", None
        )
    days = (utc(now) - utc(last_model_at)).total_seconds() / DAY_S

    def decided(retrain: bool, rule: str, reason: str) -> RetrainDecision:
        return RetrainDecision(retrain, rule, reason, days)

    if days < 0:
        return decided(False, "clock", f"the clock stands {-days:.1f} days before the last model: check it")
    if retraining:
        return decided(False, "running", "a retrain is under way")
    if days < cadence.min_days:
        return decided(False, "too early", f"day {days:.1f}; a retrain is considered from day {cadence.min_days}")
    if days >= cadence.max_days:
        return decided(True, "age", f"day {days:.1f}; from day {cadence.max_days} a new model is always trained")
    if verdict is None or verdict.verdict == "too_few":
        return decided(
            False, "too few", f"day {days:.1f}; too few messages to tell, and day {cadence.max_days} is not reached"
        )
    if verdict.verdict == "stable":
        return decided(False, "stable", f"day {days:.1f}; no drift was found")
    if verdict.act:
        return decided(True, "drift", f"day {days:.1f}; drift strong enough to act on: {verdict.reason}")
    if previous and previous[-1].get("verdict") == "drifted":
        return decided(
            True, "lasting drift", f"day {days:.1f}; drift at this watch and the one before: {verdict.reason}"
        )
    return decided(
        False, "first warning", f"day {days:.1f}; drift now and not at the watch before, too weak to act on at once"
    )
