"""Months of daily watches in a minute: what the watch would have said and decided over what the store holds.

Nothing is written: no ledger, no audit, no request for labels. A retrain that the policy would have started counts as
done: the cadence begins anew, and the champion of that time goes on being watched. So does it with a champion that was
really trained meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from flows.audits import audited_answers, read_audit
from flows.floors import known_floors, unset_floors
from flows.look import Served, look, read_champion, read_version
from flows.situation import fresh_labels
from flows.terminal import say, table
from monitoring.audit import opened
from monitoring.drift import earlier_levels
from monitoring.policy import Asked, RetrainDecision, Situation, decide_retrain
from undertone.errors import ConfigError
from undertone.records import DriftVerdict, LedgerEntry, utc
from undertone.tasks import Floor, TaskSpec, get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.monitoring")


@dataclass(slots=True)
class _Played:
    """What the replayed watches would have left in the ledger."""

    last_model_at: datetime
    drift: list[LedgerEntry] = field(default_factory=list)
    started: list[datetime] = field(default_factory=list)
    last_watch_at: datetime | None = None


def replay(
    task: str,
    first: datetime,
    last: datetime,
    *,
    days: float | None = None,
    rows: int = 1_000,
    workspace: Workspace | None = None,
    tell: Callable[[str], None] = say,
) -> dict[str, Any]:
    """Play one watch a day at `first`'s hour (UTC), from `first` to `last`.

    Args:
        days: length of a window; None: the settings' watch_days.
        rows: messages a side that a watch looks at; counts are of all. Fewer than the watch's make it faster and a
            little less sharp.
        tell: gets a line of progress now and then.

    Returns:
        task, rows, days (one dict a watch: at, version, verdict, level, rows, quality, retrain, rule, reason) and note.

    Raises:
        ConfigError: `last` is not after `first`.
        RegistryError: there is no champion, or a version of that time is gone.
    """
    workspace, spec = workspace or Workspace(), get_task(task)
    first, last = utc(first), utc(last)
    if last < first:
        raise ConfigError("a replay's times in order, FROM TO", f"{first:%Y-%m-%d} and {last:%Y-%m-%d}", "swap them")
    spec = _capped(spec, rows)
    length = days or workspace.settings.watch_days
    versions = _Versions(workspace, spec)
    played = _Played(_last_model_at(workspace, spec, first) or min(versions.at(first).trained_at, first))
    count = (last - first) // timedelta(days=1) + 1
    found: list[dict[str, Any]] = []
    for number in range(count):
        now = first + timedelta(days=number)
        found.append(_watch(workspace, spec, versions, played, now, length))
        if number % 10 == 9 or number == count - 1:
            tell(f"{number + 1} of {count} watches, {now:%Y-%m-%d}: {found[-1]['verdict'].replace('_', ' ')}")
    return {
        "task": task,
        "rows": rows,
        "days": found,
        "retrains": len(played.started),
        "note": f"at most {rows} messages a side; a retrain counts as done, the champion of that time is watched on",
    }


def text(result: dict[str, Any]) -> str:
    """A replay for people: a line a day."""
    lines = [
        {
            "day": f"{day['at'][:10]}",
            "version": day["version"],
            "verdict": day["verdict"].replace("_", " "),
            "level": day["level"],
            "rows": day["rows"],
            "quality": ", ".join(day["quality"]),
            "decision": "retrain" if day["retrain"] else "no",
            "rule": day["rule"],
        }
        for day in result["days"]
    ]
    shown = table(lines, ["day", "version", "verdict", "level", "rows", "quality", "decision", "rule"])
    return f"{shown}\n\n{result['retrains']} retrains in {len(lines)} watches; {result['note']}"


def _watch(
    workspace: Workspace, spec: TaskSpec, versions: _Versions, played: _Played, now: datetime, days: float
) -> dict[str, Any]:
    served = versions.at(now)
    if served.trained_at <= now:
        played.last_model_at = max(played.last_model_at, served.trained_at)
    seen = look(workspace.store, spec, served, now, days)
    own = [row for row in played.drift if row.version == seen.version]
    verdict = seen.judge(spec, versions.floors(served), earlier_levels(own, seen.end, seen.length, spec.drift.memory))
    answers = audited_answers(workspace.store, spec, seen.version, now, opened(own, verdict, now))
    situation = Situation(
        now=now,
        last_model_at=played.last_model_at,
        last_watch_at=played.last_watch_at,
        verdict=verdict,
        audit=read_audit(spec, seen.version, seen.reference, answers) if answers else None,
        fresh_labels=fresh_labels(workspace.store, spec.name, played.last_model_at, now),
        trainings=tuple(played.started),
        asked=_asked(workspace, spec, played, now),
    )
    decision = decide_retrain(spec.cadence, spec.audit, situation)
    _remember(played, verdict, decision, now)
    return {
        "at": now.isoformat(),
        "version": seen.version,
        "verdict": verdict.verdict,
        "level": verdict.level,
        "rows": verdict.total_rows,
        "quality": [finding.upstream for finding in verdict.quality],
        "retrain": decision.retrain,
        "rule": decision.rule,
        "reason": decision.reason,
        "drift": verdict.reason,
    }


def _remember(played: _Played, verdict: DriftVerdict, decision: RetrainDecision, now: datetime) -> None:
    window = [verdict.window_start.isoformat(), verdict.window_end.isoformat()]
    payload = {"verdict": verdict.verdict, "level": verdict.level, "window": window}
    number = len(played.drift) + 1
    played.drift.append(
        LedgerEntry(number, now, "drift", verdict.task, verdict.model_version, "replay", verdict.reason, payload)
    )
    played.last_watch_at = now
    if decision.retrain:
        played.started.append(now)
        played.last_model_at = now


def _asked(workspace: Workspace, spec: TaskSpec, played: _Played, now: datetime) -> Asked | None:
    """The newest order of a person by `now` that no retrain of the replay has spent."""
    row = workspace.ledger.latest(spec.name, ["retrain_asked"], until=now)
    if row is None or row.at <= played.last_model_at:
        return None
    return Asked(row.actor, row.reason, row.at)


def _last_model_at(workspace: Workspace, spec: TaskSpec, first: datetime) -> datetime | None:
    row = workspace.ledger.latest(spec.name, ["registered"], until=first)
    return row.at if row else None


def _capped(spec: TaskSpec, rows: int) -> TaskSpec:
    """The spec, looking at no more than `rows` messages a side."""
    least = spec.drift.min_rows
    if rows < least:
        raise ConfigError(
            f"at least {least} rows a side, the fewest on which a verdict is given", str(rows), "use more"
        )
    drift = spec.drift.model_copy(update={"max_rows": min(rows, spec.drift.max_rows)})
    return spec.model_copy(update={"drift": drift})


class _Versions:
    """Which version served when, each read once."""

    def __init__(self, workspace: Workspace, spec: TaskSpec) -> None:
        self.workspace, self.spec = workspace, spec
        self.read: dict[int, Served] = {}
        self.known: dict[int, dict[str, Floor]] = {}
        self.today: Served | None = None

    def at(self, now: datetime) -> Served:
        """The version that served then; before the first promotion the champion of today."""
        row = self.workspace.ledger.champion(self.spec.name, now)
        if row is None or row.version is None:
            self.today = self.today or read_champion(self.workspace, self.spec)
            return self.today
        if row.version not in self.read:
            version = self.workspace.registry.get(self.spec.name, row.version)
            self.read[row.version] = read_version(self.workspace, self.spec, version)
        return self.read[row.version]

    def floors(self, served: Served) -> dict[str, Floor]:
        """Its floors: those of the ledger, else calibrated here and kept nowhere."""
        number = served.version.version
        if number not in self.known:
            known = known_floors(self.workspace, get_task(self.spec.name), number)
            self.known[number] = known or unset_floors(self.spec, served)
        return self.known[number]
