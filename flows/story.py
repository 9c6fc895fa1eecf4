"""What a watch tells people beside the numbers: from the ledger, the queue and the live store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flows.look import Look, most_unlike, window_texts
from monitoring.audit import AuditResult
from monitoring.estimate import Estimate
from monitoring.page import Past, Story
from monitoring.policy import Asked, RetrainDecision
from monitoring.terms import changed
from undertone.records import LEVELS, DriftVerdict, utc
from undertone.reviews import Reviews
from undertone.tasks import TaskSpec
from undertone.workspace import Workspace

#: Messages of the window whose ids the report names.
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a decision rests on beside the windows."""

    verdict: DriftVerdict
    audit: AuditResult | None
    estimate: Estimate | None


def tell(
    workspace: Workspace, spec: TaskSpec, seen: Look, evidence: Evidence, decision: RetrainDecision, now: datetime
) -> Story:
    """What the report tells beside windows and verdict."""
    promoted = workspace.ledger.champion(spec.name)
    approved = promoted if promoted is not None and promoted.version == seen.version else None
    texts = window_texts(workspace.store, spec, seen)
    asked = workspace.ledger.entries(spec.name, ["retrain_asked"])
    queue = Reviews(workspace.store).open(spec.name, now)
    return Story(
        decision=decision,
        audit=evidence.audit,
        estimate=evidence.estimate,
        history=_history(workspace, spec, seen),
        trained_at=seen.served.trained_at,
        approver=approved.actor if approved else None,
        approved_at=approved.at if approved else None,
        override=bool(approved and approved.payload.get("override")),
        overrides=tuple(Asked(row.actor, row.reason, row.at) for row in asked if row.at >= seen.served.trained_at),
        terms=changed(seen.served.terms, list(texts.values())) if seen.served.terms else (),
        examples=most_unlike(seen, EXAMPLES) if evidence.verdict.drifted else (),
        synthetic=seen.served.card.lineage.synthetic,
        asked_labels=sum(item["open"] for item in queue if item["kind"] == "audit" and item["version"] == seen.version),
    )


def _history(workspace: Workspace, spec: TaskSpec, seen: Look) -> tuple[Past, ...]:
    """Earlier watches of this version; the newest row is this watch's own."""
    rows = workspace.ledger.entries(spec.name, ["drift"], version=seen.version)[:-1]
    return tuple(
        Past(
            utc(datetime.fromisoformat(row.payload["window"][1])),
            row.payload["verdict"],
            row.payload["level"],
            row.payload["current_rows"],
            {signal["name"]: signal["effect"] for signal in row.payload["signals"] if signal["segment"] is None},
        )
        for row in rows
        if row.payload.get("level") in LEVELS
    )


def as_markdown(evidence: Evidence, decision: RetrainDecision, page: str | None) -> str:
    """The page that Prefect keeps with the run."""
    verdict = evidence.verdict
    answer = "**Retrain.**" if decision.retrain else "**No retrain.**"
    rows = "\n".join(
        f"| {s.name}{f' in {s.segment}' if s.segment else ''} | {s.effect:.3f} | {s.floor:.3f} | {s.adjusted_p:.2g} "
        f"| {s.level if s.fired else ''} |"
        for s in verdict.signals
    )
    return (
        f"# {verdict.task}, version {verdict.model_version}: {verdict.verdict.replace('_', ' ')}\n\n"
        f"{verdict.reason}\n\n"
        f"{answer} {decision.rule}: {decision.reason}\n\n| signal | effect | floor | p, corrected | level |\n"
        f"|---|---|---|---|---|\n{rows}\n\nReport: `{page or 'not written'}`\n"
    )
