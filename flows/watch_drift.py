"""The drift watch: reference window against current window, a verdict, and the retrain policy's answer.

Every answer is a row in the ledger, "no" included. The clock is an argument, so months can be replayed.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE

from flows.artifacts import publish
from flows.retrain import retrain
from monitoring.drift import judge as judge_windows
from monitoring.policy import RetrainDecision, decide_retrain
from monitoring.report import ReportFiles, write_report
from monitoring.windows import Window, current_window, read_reference
from undertone import model_folder
from undertone.errors import RegistryError
from undertone.model_folder import ModelCardData
from undertone.records import DriftVerdict, utc
from undertone.registry import ModelVersion
from undertone.tasks import TaskSpec, get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.monitoring")


@dataclass(frozen=True, slots=True)
class Windows:
    """What one watch compares."""

    champion: ModelVersion
    card: ModelCardData
    reference: Window
    current: Window
    start: datetime
    end: datetime


@prefect.flow(name="watch drift", flow_run_name="watch {task}")
def watch(
    task: str,
    now: datetime | None = None,
    days: float = 7.0,
    effort: str = "standard",
    start_retrain: bool = True,
) -> dict[str, Any]:
    """Compare what the champion saw in the last `days` with its reference, decide, and retrain if told to.

    Args:
        now: the clock, end of the current window; empty: this moment.
        days: length of the current window.
        effort: of the training that may follow.
        start_retrain: False only records the decision.

    Returns:
        verdict, signals, decision, the report's paths and, where a retrain ran, its result.
    """
    workspace, spec = Workspace(), get_task(task)
    now = utc(now) if now else datetime.now(UTC)
    windows = read_windows(workspace, spec, now, days)
    verdict = compare(spec, windows)
    decision = decide(workspace, spec, windows, verdict, now)
    folder = workspace.settings.state_dir / "reports" / task / f"{now:%Y-%m-%dT%H%M}"
    record(workspace, verdict, decision, folder, now)
    log.info("%s %s: %s. %s", task, verdict.model_version, verdict.verdict.replace("_", " "), verdict.reason)
    log.info("%s (%s): %s", "retrain" if decision.retrain else "no retrain", decision.rule, decision.reason)
    report = write(workspace, spec, windows, verdict, decision, folder)
    publish(f"drift-{task}", _markdown(verdict, decision, report))
    result = _result(verdict, decision, report)
    if decision.retrain and start_retrain:
        made_from = windows.card.lineage
        result["retrained"] = retrain(
            task,
            source=_source(workspace, windows.card),
            effort=effort,
            seed=made_from.seed,
            now=now,
            text_column=made_from.text_column,
            label_column=made_from.label_column,
            base_model=made_from.base_model,
            trainer="retrain-policy",
        )
    return result


@prefect.task(name="read windows", cache_policy=NO_CACHE)
def read_windows(workspace: Workspace, spec: TaskSpec, now: datetime, days: float) -> Windows:
    """The champion's reference and what it scored in the last `days`.

    Raises:
        RegistryError: the task has no champion.
    """
    champion = workspace.registry.champion(spec.name)
    if champion is None:
        raise RegistryError(
            f"a champion for {spec.name!r}",
            "none",
            f"train and approve one: `undertone train {spec.name}`, `undertone models approve {spec.name} VERSION`",
        )
    start = now - timedelta(days=days)
    with tempfile.TemporaryDirectory(prefix="undertone-watch-") as scratch:
        for name in (model_folder.METADATA, model_folder.REFERENCE):
            workspace.registry.download_file(spec.name, champion.version, name, Path(scratch))
        card = ModelCardData.read(Path(scratch))
        reference = read_reference(Path(scratch), spec)
    current = current_window(workspace.store, spec, start, now, model_version=champion.version)
    return Windows(champion, card, reference, current, start, now)


@prefect.task(name="compare", cache_policy=NO_CACHE)
def compare(spec: TaskSpec, windows: Windows) -> DriftVerdict:
    """The drift verdict."""
    return judge_windows(
        spec,
        windows.reference,
        windows.current,
        model_version=windows.champion.version,
        start=windows.start,
        end=windows.end,
    )


@prefect.task(name="decide", cache_policy=NO_CACHE)
def decide(
    workspace: Workspace, spec: TaskSpec, windows: Windows, verdict: DriftVerdict, now: datetime
) -> RetrainDecision:
    """The retrain policy's answer, from the ledger's history and the clock."""
    earlier = [
        row.payload
        for row in workspace.ledger.entries(spec.name, ["drift"])
        # daily windows of a week overlap: a watch counts as an earlier one only if half of its window is older
        if row.version == windows.champion.version and row.at <= now - (windows.end - windows.start) / 2
    ]
    trained = [row.at for row in workspace.ledger.entries(spec.name, ["registered"])]
    last_model_at = max([windows.card.lineage.trained_at, *trained])
    return decide_retrain(spec.cadence, now=now, last_model_at=last_model_at, verdict=verdict, previous=earlier)


@prefect.task(name="write report", cache_policy=NO_CACHE)
def write(
    workspace: Workspace,
    spec: TaskSpec,
    windows: Windows,
    verdict: DriftVerdict,
    decision: RetrainDecision,
    folder: Path,
) -> ReportFiles:
    """Evidently's report and our page, on disk and with the champion's MLflow run."""
    report = write_report(
        spec,
        windows.reference,
        windows.current,
        verdict,
        folder,
        decision=decision,
        synthetic=windows.card.lineage.synthetic,
    )
    for path in report.paths():
        workspace.registry.put_file(windows.champion.run_id, path, f"drift/{folder.name}")
    return report


@prefect.task(name="record", cache_policy=NO_CACHE)
def record(workspace: Workspace, verdict: DriftVerdict, decision: RetrainDecision, folder: Path, now: datetime) -> None:
    """Two rows in the ledger: what was seen, and what was decided. Before the report: a full disk loses no decision."""
    seen = {
        "verdict": verdict.verdict,
        "act": verdict.act,
        "signals": [asdict(signal) for signal in verdict.signals],
        "reference_rows": verdict.reference_rows,
        "current_rows": verdict.current_rows,
        "window": [verdict.window_start.isoformat(), verdict.window_end.isoformat()],
        "report": str(folder),
    }
    common: dict[str, Any] = {"at": now, "actor": "drift-watch", "version": verdict.model_version}
    workspace.ledger.append("drift", verdict.task, reason=verdict.reason, payload=seen, **common)
    workspace.ledger.append(
        "retrain",
        verdict.task,
        reason=decision.reason,
        payload={"retrain": decision.retrain, "rule": decision.rule, "days_since": decision.days_since},
        **common,
    )


def _source(workspace: Workspace, card: ModelCardData) -> str:
    """What the champion was trained on, with the labels that people gave since."""
    parts = card.lineage.source.split("+")
    if "feedback" not in parts and workspace.store.labelled(card.task):
        parts.append("feedback")
    return "+".join(parts)


def _markdown(verdict: DriftVerdict, decision: RetrainDecision, report: ReportFiles) -> str:
    answer = "**Retrain.**" if decision.retrain else "**No retrain.**"
    rows = "\n".join(
        f"| {s.name} | {s.method} | {s.effect:.3f} | {s.floor:.3f} | {s.p_value:.2g} | {'yes' if s.fired else ''} |"
        for s in verdict.signals
    )
    return (
        f"# {verdict.task}, version {verdict.model_version}: {verdict.verdict}\n\n{verdict.reason}\n\n"
        f"{answer} {decision.reason}\n\n| signal | method | effect | floor | p | fired |\n|---|---|---|---|---|---|\n"
        f"{rows}\n\nReport: `{report.page}`\n"
    )


def _result(verdict: DriftVerdict, decision: RetrainDecision, report: ReportFiles) -> dict[str, Any]:
    return {
        "task": verdict.task,
        "version": verdict.model_version,
        "verdict": verdict.verdict,
        "act": verdict.act,
        "reason": verdict.reason,
        "signals": [asdict(signal) for signal in verdict.signals],
        "reference_rows": verdict.reference_rows,
        "current_rows": verdict.current_rows,
        "decision": {"retrain": decision.retrain, "rule": decision.rule, "reason": decision.reason},
        "report": str(report.page),
        "evidently": str(report.html) if report.html else None,
        "retrained": None,
    }
