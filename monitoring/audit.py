"""The label audit: how many random labels, which messages, and what the labels say of the model's answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What audited labels of one model version say, against its reference (the holdout it was registered with).

    Drops are reference minus audit, so a positive drop is a loss; intervals are of the drop, two-sided 90 % (so that
    their lower end is a one-sided test at 5 %).

    Attributes:
        rows: audited labels that count; `wanted` is what the power asked for.
        complete: `rows` reaches `wanted`; an audit that is not proves no drop, lest looking daily finds one by chance.
        confirmed: complete, and the lower end of the accuracy or the macro-F1 drop is above zero.
        first_at, newest_at: when the audited messages were labelled.
    """

    task: str
    version: int
    rows: int
    wanted: int
    complete: bool
    accuracy: float
    macro_f1: float
    reference_accuracy: float
    reference_macro_f1: float
    accuracy_drop: float
    accuracy_interval: tuple[float, float]
    macro_f1_drop: float
    macro_f1_interval: tuple[float, float]
    confirmed: bool
    first_at: datetime | None = None
    newest_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        from dataclasses import asdict

        return asdict(self) | {
            "first_at": self.first_at.isoformat() if self.first_at else None,
            "newest_at": self.newest_at.isoformat() if self.newest_at else None,
        }
