"""All that a person should see before deciding on a version."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console import figures
from console.overview import Version
from undertone.errors import UndertoneError
from undertone.evidence import Evidence, read_evidence
from undertone.model_folder import METADATA, ModelCardData
from undertone.records import LedgerEntry
from undertone.tasks import get_task
from undertone.workspace import Workspace

CARD = "card.md"
_READ = ("gate.json", "holdout.json", "champion.json", "differences.json")

#: Pictures and what they show.
PICTURES = {
    "gate.png": "what the gate compared",
    "confusion.png": "what is confused with what",
    "calibration.png": "whether confidence can be believed",
}


@dataclass(frozen=True, slots=True)
class Dossier:
    """A version with its evidence as tables.

    Attributes:
        verdict: the gate's row's payload; empty where it was never judged.
        rival: the champion that it was compared with.
        problems: a sentence for everything that is not as the ledger says.
        card: the model card's text.
        model: ``undertone/model.json`` as registered.
        registered: the ledger's row of the registration.
        history: every row about it, oldest first.
        serves: the version that the ledger's newest promotion names.
    """

    version: Version
    evidence: Evidence
    verdict: dict[str, Any]
    rival: int | None
    lines: list[dict[str, Any]]
    metrics: list[figures.Comparison]
    slices: list[figures.Comparison]
    ours: figures.Matrix | None
    theirs: figures.Matrix | None
    behaviour: list[figures.Check]
    latency: figures.Comparison | None
    differences: list[figures.Difference]
    pictures: dict[str, str]
    card: str
    model: ModelCardData | None
    registered: LedgerEntry | None
    history: list[LedgerEntry]
    problems: list[str]
    serves: int | None

    def differing(self, outcome: str) -> list[figures.Difference]:
        """Messages on which they differ with that outcome."""
        return [item for item in self.differences if item.outcome == outcome]

    @property
    def reach(self) -> float:
        """How far from zero the slices' intervals reach, with room: the scale on which they are drawn."""
        ends = [abs(end) for row in self.slices if row.difference_interval for end in row.difference_interval]
        return 1.1 * max([*ends, 0.01])

    @property
    def margin(self) -> float | None:
        """Macro-F1 that the gate's policy lets a challenger lose."""
        policy = self.verdict.get("policy")
        return figures.number(policy.get("margin")) if isinstance(policy, dict) else None

    @property
    def needs_override(self) -> str | None:
        """Why approving needs an override; None: it does not."""
        if self.verdict.get("passed") is not True:
            return "the gate refused it"
        rejected = self.version.decided if self.version.decided and self.version.decided.kind == "rejected" else None
        if rejected:
            return f"{rejected.actor} rejected it"
        if self.verdict.get("champion", self.serves) != self.serves:
            now = f"version {self.serves}" if self.serves else "nothing"
            return f"the gate compared it with version {self.rival}, and {now} serves now"
        return None


def open_dossier(workspace: Workspace, version: Version) -> Dossier:
    """Everything about `version`.

    Raises:
        RegistryError: MLflow is out of reach.
        StoreError: the store is.
    """
    evidence = read_evidence(workspace, version.task, version.version)
    problems = list(evidence.problems)
    files = {name: _parsed(evidence, name, problems) for name in _READ}
    ours, theirs = files["holdout.json"], files["champion.json"]
    verdict = evidence.gate.payload if evidence.gate else {}
    history = [
        row for row in workspace.ledger.entries(version.task) if row.version == version.version and row.kind != "drift"
    ]
    row = workspace.ledger.champion(version.task)
    registered = next((row for row in history if row.kind == "registered"), None)
    model = _model(workspace, version, registered, problems)
    labels = get_task(version.task).labels
    return Dossier(
        version=version,
        evidence=evidence,
        verdict=verdict,
        rival=verdict.get("champion"),
        lines=_rows(verdict.get("lines")),
        metrics=figures.metrics(ours, theirs, verdict),
        slices=figures.slices(ours, theirs, verdict),
        ours=figures.matrix(ours, labels),
        theirs=figures.matrix(theirs, labels),
        behaviour=figures.behaviour(files["gate.json"]) or figures.behaviour(verdict),
        latency=figures.latency(verdict),
        differences=figures.differences(files["differences.json"]),
        pictures={name: text for name, text in PICTURES.items() if name in evidence.files},
        card=evidence.files.get(CARD, b"").decode("utf-8", "replace"),
        model=model,
        registered=registered,
        history=history,
        problems=problems,
        serves=row.version if row else None,
    )


def _parsed(evidence: Evidence, name: str, problems: list[str]) -> Any:
    try:
        return evidence.json(name)
    except ValueError:
        problems.append(f"{name} is no JSON")
        return None


def _model(
    workspace: Workspace, version: Version, registered: LedgerEntry | None, problems: list[str]
) -> ModelCardData | None:
    try:
        with tempfile.TemporaryDirectory(prefix="undertone-console-") as scratch:
            workspace.registry.download_file(version.task, version.version, METADATA, Path(scratch))
            model = ModelCardData.read(Path(scratch))
    except UndertoneError as error:
        problems.append(f"{METADATA} cannot be read ({error.found})")
        return None
    if registered and registered.payload.get("data_sha256") not in {None, model.lineage.data_sha256}:
        problems.append(f"{METADATA} names other data than the ledger's row {registered.seq}")
    return model


def _rows(value: Any) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
