"""What serves now, and which versions wait for a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from console.figures import interval, number
from console.worker import WorkerState
from undertone.governance import frozen
from undertone.records import LedgerEntry
from undertone.registry import ModelVersion
from undertone.tasks import TaskSpec
from undertone.workspace import Workspace

#: Rows of the ledger that tell what became of a version.
DECISIONS = ("approved", "rejected", "rolled_back")
_ABOUT_VERSIONS = ("registered", "gate", *DECISIONS)


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version with what the ledger says about it.

    Attributes:
        gate: the newest verdict; None: it was never judged.
        decided: the newest decision of a person; None: it waits for one.
        trainer: who asked for the training.
        macro_f1: on the holdout, as training wrote it into the ledger.
    """

    task: str
    version: int
    registered_at: datetime
    champion: bool
    gate: LedgerEntry | None
    decided: LedgerEntry | None
    trainer: str
    macro_f1: float | None

    @property
    def passed(self) -> bool:
        """Whether the gate passed it."""
        return self.gate is not None and self.gate.payload.get("passed") is True

    @property
    def difference(self) -> float | None:
        """Macro-F1 less the champion's of then."""
        return number(self.gate.payload.get("difference")) if self.gate else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the difference."""
        return interval(self.gate.payload.get("interval")) if self.gate else None


@dataclass(frozen=True, slots=True)
class Standing:
    """One task: what should serve, what does, and what waits.

    Attributes:
        alias: the version that MLflow's alias names.
        in_force: the ledger's row by which a version serves.
        served: the version that the worker says it serves.
        refused: a version that the worker will not serve, with the reason.
        frozen: the row that froze the task.
        versions: all of them, newest first.
    """

    spec: TaskSpec
    alias: int | None
    in_force: LedgerEntry | None
    served: int | None
    refused: dict[str, Any] | None
    frozen: LedgerEntry | None
    versions: tuple[Version, ...]

    @property
    def moved(self) -> bool:
        """Whether the alias names another version than the ledger."""
        return self.alias != (self.in_force.version if self.in_force else None)

    @property
    def champion(self) -> Version | None:
        """The version that the alias names."""
        return next((item for item in self.versions if item.version == self.alias), None)

    @property
    def waiting(self) -> tuple[Version, ...]:
        """Versions newer than the champion on which nobody decided."""
        return tuple(item for item in self.versions if item.decided is None and item.version > (self.alias or 0))


def standing(workspace: Workspace, spec: TaskSpec, worker: WorkerState) -> Standing:
    """Where `spec`'s task stands.

    Raises:
        RegistryError: MLflow is out of reach.
        StoreError: the store is.
    """
    rows = workspace.ledger.entries(spec.name, _ABOUT_VERSIONS)
    found = workspace.registry.versions(spec.name)
    return Standing(
        spec=spec,
        alias=next((item.version for item in found if item.champion), None),
        in_force=workspace.ledger.champion(spec.name),
        served=worker.version(spec.name),
        refused=worker.refused(spec.name),
        frozen=frozen(workspace, spec.name),
        versions=tuple(_version(item, rows) for item in found),
    )


def _version(item: ModelVersion, rows: Sequence[LedgerEntry]) -> Version:
    mine = [row for row in rows if row.version == item.version]
    registered = _last(mine, ("registered",))
    return Version(
        task=item.task,
        version=item.version,
        registered_at=registered.at if registered else item.created_at,
        champion=item.champion,
        gate=_last(mine, ("gate",)),
        decided=_last(mine, DECISIONS),
        trainer=registered.actor if registered else item.tags.get("undertone.trainer", ""),
        macro_f1=number(registered.payload.get("macro_f1")) if registered else None,
    )


def _last(rows: Sequence[LedgerEntry], kinds: Sequence[str]) -> LedgerEntry | None:
    return next((row for row in reversed(rows) if row.kind in kinds), None)
