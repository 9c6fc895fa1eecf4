"""The drift watch: reference window against current window, a verdict, the audit that it buys, and the retrain policy.

Every answer is a row in the ledger, "no" included. Decisions of a task queue on a lease, and a yes takes the training's
lease before the next watch may decide: two watches at once start one retrain.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE

from flows.alerts import notify
from flows.artifacts import publish
from flows.audits import audit_of, draw_audit, estimate_error, queue_picks
from flows.floors import floors_of
from flows.look import Look, look, read_champion
from flows.retrain import retrain
from flows.situation import TRAINER, WATCH, Killed, fresh_labels, lease, read_situation
from flows.story import Evidence, as_markdown, tell
from monitoring.drift import earlier_levels
from monitoring.estimate import estimate
from monitoring.policy import RetrainDecision, decide_retrain
from monitoring.report import ReportFiles, write_report
from undertone.errors import DataError, DecisionError
from undertone.lease import hold
from undertone.records import DriftVerdict, LedgerEntry, utc
from undertone.tasks import Floor, TaskSpec, get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.monitoring")

#: Seconds that a watch waits for another one of its task to decide.
TURN_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision and, where a training starts, its arguments and the lease under which it runs."""

    decision: RetrainDecision
    training: dict[str, Any] | None = None
    lease: str | None = None


@prefect.flow(name="watch drift", flow_run_name="watch {task}")
def watch(
    task: str,
    now: datetime | None = None,
    days: float | None = None,
    effort: str = "standard",
    start_retrain: bool = True,
) -> dict[str, Any]:
    """Compare what the champion saw in the last `days` with its reference, decide, and retrain if told to.

    Args:
        now: the clock, end of the current window; empty: this moment.
        days: length of the current window; empty: the settings' watch_days.
        effort: of the training that may follow.
        start_retrain: False only records the decision.

    Returns:
        verdict, signals, audit, estimate, decision, the report's paths and, where a retrain ran, its result.
    """
    workspace, spec = Workspace(), get_task(task)
    now = utc(now) if now else datetime.now(UTC)
    seen = read_windows(workspace, spec, now, days or workspace.settings.watch_days)
    floors = read_floors(workspace, spec, seen, now)
    verdict = compare(workspace, spec, seen, floors)
    with ExitStack() as training:
        with hold(workspace.store, f"decide {task}", wait=TURN_S):
            evidence = audit(workspace, spec, seen, verdict, now)
            plan = decide(workspace, spec, seen, evidence, now, effort, training if start_retrain else None)
            folder, row = record(workspace, spec, seen, evidence, plan, now)
        result = _result(evidence, plan, folder)
        result |= report(workspace, spec, seen, evidence, plan, folder, now)
        notify(workspace, spec, verdict, plan.decision, Path(result["report"]) if result["report"] else None, now)
        if plan.training is not None:
            result["retrained"] = start(workspace, spec, plan, row)
    return result


@prefect.task(name="read windows", cache_policy=NO_CACHE)
def read_windows(workspace: Workspace, spec: TaskSpec, now: datetime, days: float) -> Look:
    """The champion's reference and what it scored in the last `days`."""
    return look(workspace.store, spec, read_champion(workspace, spec), now, days)


@prefect.task(name="read floors", cache_policy=NO_CACHE)
def read_floors(workspace: Workspace, spec: TaskSpec, seen: Look, now: datetime) -> dict[str, Floor]:
    """The version's calibrated floors; its first watch, and the first under another policy, sets them."""
    return floors_of(workspace, spec, seen.served, now, WATCH)


@prefect.task(name="compare", cache_policy=NO_CACHE)
def compare(workspace: Workspace, spec: TaskSpec, seen: Look, floors: dict[str, Floor]) -> DriftVerdict:
    """The drift verdict, beside the windows before this one."""
    rows = workspace.ledger.entries(spec.name, ["drift"], version=seen.version)
    verdict = seen.judge(spec, floors, earlier_levels(rows, seen.end, seen.length, spec.drift.memory))
    log.info("%s %s: %s. %s", spec.name, seen.version, verdict.verdict.replace("_", " "), verdict.reason)
    return verdict


@prefect.task(name="audit", cache_policy=NO_CACHE)
def audit(workspace: Workspace, spec: TaskSpec, seen: Look, verdict: DriftVerdict, now: datetime) -> Evidence:
    """Draw the audit that a drift buys, read what its labels say so far, and estimate what they do not say yet."""
    drawn = draw_audit(workspace, spec, verdict, seen.reference, now)
    if drawn:
        log.info("%s: %d random messages of the window wait for labels: `undertone reviews next`", spec.name, drawn)
    audited = audit_of(workspace, spec, seen.version, seen.reference, now, verdict)
    error = estimate_error(workspace, spec.name, until=now)
    return Evidence(verdict, audited, estimate(seen.reference, seen.current, spec, error=error))


@prefect.task(name="decide", cache_policy=NO_CACHE)
def decide(
    workspace: Workspace,
    spec: TaskSpec,
    seen: Look,
    evidence: Evidence,
    now: datetime,
    effort: str,
    training: ExitStack | None,
) -> Plan:
    """The retrain policy's answer. A yes takes the training's lease until `training` ends; None starts nothing."""
    situation, killed = read_situation(
        workspace,
        spec,
        now=now,
        trained_at=seen.served.trained_at,
        verdict=evidence.verdict,
        audit=evidence.audit,
    )
    decision = decide_retrain(spec.cadence, spec.audit, situation)
    plan = Plan(decision)
    if decision.retrain and training is not None:
        try:
            holder = training.enter_context(hold(workspace.store, lease(spec.name)))
            plan = Plan(decision, _training(workspace, spec, seen, evidence, decision, killed, now, effort), holder)
        except DecisionError:  # a training by hand began since the situation was read
            plan = Plan(decide_retrain(spec.cadence, spec.audit, replace(situation, retraining=True)))
    yes = "retrain" if plan.decision.retrain else "no retrain"
    log.info("%s (%s): %s", yes, plan.decision.rule, plan.decision.reason)
    return plan


@prefect.task(name="record", cache_policy=NO_CACHE)
def record(
    workspace: Workspace, spec: TaskSpec, seen: Look, evidence: Evidence, plan: Plan, now: datetime
) -> tuple[Path, LedgerEntry]:
    """Rows in the ledger: what was seen, and what was decided. Before the report: a full disk loses no decision."""
    verdict, decision = evidence.verdict, plan.decision
    number = workspace.ledger.head()[0] + 1  # two watches within a minute keep two reports
    folder = workspace.settings.state_dir / "reports" / spec.name / f"{now:%Y-%m-%dT%H%M}-{number}"
    common: dict[str, Any] = {"at": now, "actor": WATCH, "version": verdict.model_version}
    drift = workspace.ledger.append(
        "drift",
        spec.name,
        reason=verdict.reason,
        payload=_seen(verdict)
        | {
            "estimate": asdict(evidence.estimate) if evidence.estimate else None,
            "days": seen.length.total_seconds() / 86_400,
            "report": str(folder),
        },
        **common,
    )
    row = workspace.ledger.append(
        "retrain",
        spec.name,
        reason=decision.reason,
        payload=asdict(decision)
        | {
            "drift_row": drift.seq,
            "audit": evidence.audit.as_dict() if evidence.audit else None,
            "started": plan.training is not None,
            "training": plan.training,
        },
        **common,
    )
    if decision.ask_labels:
        _ask_labels(workspace, spec, seen, decision, now)
    return folder, row


@prefect.task(name="report", cache_policy=NO_CACHE)
def report(
    workspace: Workspace, spec: TaskSpec, seen: Look, evidence: Evidence, plan: Plan, folder: Path, now: datetime
) -> dict[str, Any]:
    """The page and Evidently's report: on disk, with the champion's MLflow run, on Prefect's page of this run.

    What was decided stands without them: whatever stops them is told in the result.
    """
    files: ReportFiles | None = None
    problem = ""
    try:
        files = write_report(
            spec,
            seen.reference,
            seen.current,
            evidence.verdict,
            folder,
            story=tell(workspace, spec, seen, evidence, plan.decision, now),
            evidently_workspace=workspace.settings.state_dir / "evidently",
            texts=seen.texts,
        )
        for path in files.paths():
            workspace.registry.put_file(seen.served.version.run_id, path, f"drift/{folder.name}")
    except Exception as error:  # noqa: BLE001 - what is decided stands: a page must not stop a retrain
        problem = f"{type(error).__name__}: {error}"
        log.warning("%s: the report is not complete: %s", spec.name, problem)
    page = str(files.page) if files else None
    publish(f"drift-{spec.name}", as_markdown(evidence, plan.decision, page))
    evidently = str(files.html) if files and files.html else None
    return {"report": page, "evidently": evidently, "report_problem": problem or None}


def start(workspace: Workspace, spec: TaskSpec, plan: Plan, row: LedgerEntry) -> dict[str, Any]:
    """Run the retrain that was decided in `row`."""
    arguments = dict(plan.training or {})
    for name in ("now", "rows_until"):
        arguments[name] = datetime.fromisoformat(arguments[name]) if arguments[name] else None
    try:
        made: dict[str, Any] = retrain(**arguments, trainer=TRAINER, lease=plan.lease)
        return made
    except Exception as error:  # whatever it is, the ledger says that this training ended; then it goes on
        failed = workspace.ledger.latest(spec.name, ["training_failed"])
        if failed is None or failed.seq < row.seq:  # it ended before it could say so itself
            workspace.ledger.append(
                "training_failed",
                spec.name,
                at=row.at,
                actor=TRAINER,
                reason=f"{type(error).__name__}: {error}"[:2_000],
            )
        raise


def _training(
    workspace: Workspace,
    spec: TaskSpec,
    seen: Look,
    evidence: Evidence,
    decision: RetrainDecision,
    killed: Killed | None,
    now: datetime,
    effort: str,
) -> dict[str, Any]:
    """Arguments of the retrain, as the ledger keeps them: a killed one goes on with its own, to find its checkpoint."""
    if decision.rule == "resume" and killed is not None:
        return killed.training
    made_from = seen.served.card.lineage
    # rows that a broken upstream sent are not learned from
    broken_since = evidence.verdict.window_start if evidence.verdict.quality else None
    return {
        "task": spec.name,
        "source": _source(workspace, spec, made_from.source),
        "effort": effort,
        "seed": made_from.seed,
        "now": now.isoformat(),
        "rows_until": broken_since.isoformat() if broken_since else None,
        "text_column": made_from.text_column,
        "label_column": made_from.label_column,
        "base_model": made_from.base_model,
        "trunk": made_from.trunk,
    }


def _source(workspace: Workspace, spec: TaskSpec, source: str) -> str:
    """What the champion was trained on, with the labels that people gave since."""
    parts = source.split("+")
    if "feedback" not in parts and workspace.store.labelled(spec.name):
        parts.append("feedback")
    return "+".join(parts)


def _ask_labels(workspace: Workspace, spec: TaskSpec, seen: Look, decision: RetrainDecision, now: datetime) -> None:
    """Once per model: say that labels are wanted, and put messages that would teach most into the review queue."""
    if workspace.ledger.latest(spec.name, ["labels_asked"], version=seen.version):
        return
    fresh = fresh_labels(workspace.store, spec.name, seen.served.trained_at, now)
    wanted = max(spec.audit.fresh_labels - fresh, 0)
    try:
        queued = queue_picks(workspace, spec.name, wanted, now, seen.length.total_seconds() / 86_400, "drift")
    except DataError as error:  # a champion by an alias that nobody approved: the request stands without a queue
        log.warning("%s: no messages were queued for review: %s", spec.name, error)
        queued = 0
    workspace.ledger.append(
        "labels_asked",
        spec.name,
        at=now,
        actor=WATCH,
        version=seen.version,
        reason=f"{fresh} of {spec.audit.fresh_labels} new labels; {queued} messages wait for review",
        payload={"fresh": fresh, "wanted": spec.audit.fresh_labels, "queued": queued, "rule": decision.rule},
    )


def _seen(verdict: DriftVerdict) -> dict[str, Any]:
    """A verdict in types that JSON has."""
    return {
        "verdict": verdict.verdict,
        "level": verdict.level,
        "signals": [asdict(signal) | {"fired": signal.fired} for signal in verdict.signals],
        "quality": [asdict(finding) for finding in verdict.quality],
        "reference_rows": verdict.reference_rows,
        "current_rows": verdict.current_rows,
        "total_rows": verdict.total_rows,
        "merged": verdict.merged,
        "window": [verdict.window_start.isoformat(), verdict.window_end.isoformat()],
        "new_segments": list(verdict.new_segments),
        "vanished_segments": list(verdict.vanished_segments),
        "policy_sha256": verdict.policy_sha256,
    }


def _result(evidence: Evidence, plan: Plan, folder: Path) -> dict[str, Any]:
    verdict = evidence.verdict
    return {
        "task": verdict.task,
        "version": verdict.model_version,
        "reason": verdict.reason,
        **_seen(verdict),
        "audit": evidence.audit.as_dict() if evidence.audit else None,
        "estimate": asdict(evidence.estimate) if evidence.estimate else None,
        "decision": asdict(plan.decision) | {"started": plan.training is not None},
        "folder": str(folder),
        "retrained": None,
    }
