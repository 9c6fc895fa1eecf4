"""The true share of a label, from how often a model says it: corrected for the model's errors, with a 95 % band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Where the counts of a model's errors come from: audits of what it served, its holdout, either by version, or nowhere.
ErrorSource = Literal["audit", "holdout", "mixed", "none"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What share of messages truly has a label.

    Attributes:
        rows: messages.
        observed: share that the model gave the label; None: no message.
        share: corrected for the model's errors; None: too few to tell, and `lacking` says of what.
        low: lower end of the 95 % band; None with `share`.
        high: upper end of the 95 % band; None with `share`.
        lacking: what there is too little of, in words for a reader; empty where nothing is.
    """

    rows: int
    observed: float | None
    share: float | None
    low: float | None
    high: float | None
    lacking: str = ""

    @property
    def too_few(self) -> bool:
        """Whether there is too little to tell."""
        return self.share is None
