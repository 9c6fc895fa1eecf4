"""The label audit that a drift buys: drawn at each watch that warns, read once its labels are in."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from flows.situation import WATCH
from monitoring.audit import AuditResult, assess, audit_size, draw, measured, opened
from monitoring.windows import Window
from undertone.errors import DataError
from undertone.records import DriftVerdict, utc
from undertone.review_picks import Pick, Reason, find_candidates, pick
from undertone.reviews import AuditedAnswer, Reviews
from undertone.shares import sample_key
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.monitoring")

#: Stands for the accuracy of a model whose reference has no true labels, where the size of an audit is chosen.
UNKNOWN_ACCURACY = 0.75


def draw_audit(workspace: Workspace, spec: TaskSpec, verdict: DriftVerdict, reference: Window, now: datetime) -> int:
    """Where `verdict` warns at least, top its version's audit up with random messages of its window.

    An audit is pooled over the windows of one incident (`monitoring.audit.opened`): what was drawn since it began, and
    in the last ``max_age_days``, counts; at most ``per_window`` come from one window, and a window that was drawn from
    is not drawn from again. Open items of audits before that are withdrawn. Leaves a ledger row "audit_drawn".

    Returns:
        How many messages went to the reviewers.
    """
    if not verdict.drifted:
        return 0
    now, version, queue = utc(now), verdict.model_version, Reviews(workspace.store)
    since = _since(workspace, spec, version, verdict, now)
    batch = f"{spec.name}-{version}-{verdict.window_end:%Y-%m-%d}"
    wanted = wanted_labels(spec, reference)
    there = queue.drawn(spec.name, version, since, now)
    picks, new = queue.batch(spec.name, batch), 0
    if not picks:
        count = min(wanted - there, spec.audit.per_window)
        if count <= 0:
            return 0
        rows = queue.candidates(spec.name, version, verdict.window_start, verdict.window_end)
        picks = draw(rows, count, seed=sample_key(batch))
        new = queue.add(spec.name, batch, "audit", picks, version=version, asked_at=now)
        if not new:  # an empty window, or another watch that was first
            return 0
        queue.withdraw(spec.name, version, since, now)
    # also for a batch whose watch was killed between the queue and the ledger
    told = workspace.ledger.entries(spec.name, ["audit_drawn"], version=version)
    if all(row.payload["batch"] != batch for row in told):
        workspace.ledger.append(
            "audit_drawn",
            spec.name,
            at=now,
            actor=WATCH,
            version=version,
            reason=f"{len(picks)} random messages of the window go to the reviewers, {there + new} of {wanted} now",
            payload={
                "batch": batch,
                "drawn": len(picks),
                "asked": there + new,
                "wanted": wanted,
                "strata": _strata(picks),
                "window": [verdict.window_start.isoformat(), verdict.window_end.isoformat()],
            },
        )
    return new


def audit_of(
    workspace: Workspace,
    spec: TaskSpec,
    version: int,
    reference: Window,
    now: datetime,
    verdict: DriftVerdict | None = None,
) -> AuditResult | None:
    """What the audited labels of `version` say at `now`; complete for the first time, it goes into the ledger.

    The ledger row "audit" holds the result, its batches, and how far the newest estimate without labels was off.

    Args:
        verdict: of the watch that asks, where the ledger does not have it yet.
    """
    now = utc(now)
    since = _since(workspace, spec, version, verdict, now)
    answers = audited_answers(workspace.store, spec, version, now, since)
    result = read_audit(spec, version, reference, answers)
    if result is not None and result.complete:
        _record(workspace, result, sorted({answer.batch for answer in answers}), now)
    return result


def audited_answers(
    store: Store, spec: TaskSpec, version: int, now: datetime, since: datetime | None = None
) -> list[AuditedAnswer]:
    """Labelled audit items of `version`, pooled over windows drawn at `since` or later, never ``max_age_days`` ago."""
    oldest = _oldest(spec, utc(now))
    return Reviews(store).audited(spec.name, version, max(since or oldest, oldest), now)


def read_audit(spec: TaskSpec, version: int, reference: Window, answers: list[AuditedAnswer]) -> AuditResult | None:
    """What these answers say. Writes nothing, but a warning where the reference has no true labels to compare with."""
    if answers and measured(spec, reference) is None:
        log.warning(
            "%s",
            DataError(
                f"true labels in the reference of {spec.name} {version}",
                "none: it was trained before references kept them, so no audit can show a drop",
                f"train it again: `undertone train {spec.name}`",
            ),
        )
    return assess(spec, reference, answers, wanted=wanted_labels(spec, reference), version=version)


def wanted_labels(spec: TaskSpec, reference: Window) -> int:
    """Labels that an audit against this reference needs."""
    matrix = measured(spec, reference)
    accuracy = UNKNOWN_ACCURACY if matrix is None else float(np.trace(matrix) / matrix.sum())
    return audit_size(spec.audit, accuracy)


def estimate_error(workspace: Workspace, task: str, until: datetime | None = None) -> float | None:
    """How far estimates of accuracy were from the audits that came later: mean absolute difference; None: no audit."""
    rows = workspace.ledger.entries(task, ["audit"], until=until)
    errors = [row.payload["estimate_error"] for row in rows if row.payload.get("estimate_error") is not None]
    return sum(errors) / len(errors) if errors else None


def queue_picks(
    workspace: Workspace, task: str, count: int, now: datetime, days: float, reason: Reason | None = None
) -> int:
    """Put up to `count` answers of the champion whose label would teach most into the review queue, once a day.

    From the messages of the last `days`, without those that were asked before. Gives their number.

    Args:
        reason: what they are picked for, where it is not their own.
    """
    spec, now, queue = get_task(task), utc(now), workspace.reviews
    champion = workspace.ledger.champion(task, now)
    if champion is None or champion.version is None:
        raise DataError(
            f"a champion of {task} whose answers to review", "none", f"approve one: `undertone models list {task}`"
        )
    start, since = now - timedelta(days=days), queue.picked_at(task)
    rows = find_candidates(workspace.store, task, champion.version, start, now, limit=spec.drift.max_rows, since=since)
    batch = f"{reason or 'review'}-{task}-{champion.version}-{now:%Y-%m-%d}"
    picks = pick(rows, count, seed=sample_key(batch), reason=reason)
    return queue.add(task, batch, "review", picks, version=champion.version, asked_at=now)


def _record(workspace: Workspace, result: AuditResult, batches: list[str], now: datetime) -> None:
    told = workspace.ledger.entries(result.task, ["audit"], version=result.version)
    if any(row.payload["batches"] == batches for row in told):
        return
    estimated = _estimated(workspace, result, now)
    off = None if estimated is None else abs(estimated - result.accuracy)
    low, high = (100 * value for value in result.accuracy_interval)
    verdict = "a drop is confirmed" if result.confirmed else "no drop is confirmed"
    workspace.ledger.append(
        "audit",
        result.task,
        at=now,
        actor=WATCH,
        version=result.version,
        reason=f"{verdict}: accuracy {result.accuracy:.3f} on {result.rows} audited labels,"
        f" {100 * result.accuracy_drop:+.1f} points lost ({low:+.1f} to {high:+.1f})",
        payload=result.as_dict() | {"batches": batches, "estimated_accuracy": estimated, "estimate_error": off},
    )


def _estimated(workspace: Workspace, result: AuditResult, now: datetime) -> float | None:
    """The newest estimate of this version's accuracy that a watch wrote down before now."""
    rows = workspace.ledger.entries(
        result.task, ["drift"], limit=100, newest_first=True, version=result.version, until=now
    )
    for row in rows:
        found: Any = (row.payload.get("estimate") or {}).get("accuracy")
        if found is not None:
            return float(found)
    return None


def _since(workspace: Workspace, spec: TaskSpec, version: int, verdict: DriftVerdict | None, now: datetime) -> datetime:
    """From when on drawn messages count."""
    looks = workspace.ledger.entries(spec.name, ["drift"], version=version, until=now)
    return max(opened(looks, verdict, now) or _oldest(spec, now), _oldest(spec, now))


def _oldest(spec: TaskSpec, now: datetime) -> datetime:
    return now - timedelta(days=spec.audit.max_age_days)


def _strata(picks: list[Pick]) -> list[dict[str, Any]]:
    drawn = Counter(pick.stratum for pick in picks)
    rows = {pick.stratum: round(pick.weight * drawn[pick.stratum]) for pick in picks}
    return [{"segment": name, "drawn": drawn[name], "rows": rows[name]} for name in sorted(drawn, key=str)]
