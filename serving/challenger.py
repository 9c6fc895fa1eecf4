"""A version on trial in this worker: its engine, whom it scores, and what is counted of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.metrics import Metrics
from serving.model_slot import ModelSlot, Served
from serving.trial import Comparison, takes_part, verdict
from undertone import signing
from undertone.engine import Engine
from undertone.errors import UndertoneError
from undertone.records import Message
from undertone.signing import TrialOrder, TrialStatement
from undertone.trial_figures import Figures

log = logging.getLogger("undertone.serving")


def finite(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """`probabilities`, if they are numbers.

    Raises:
        ValueError: they are not: nobody can use such an answer.
    """
    if not np.isfinite(probabilities).all():
        raise ValueError(f"probabilities that are no numbers: {probabilities.tolist()}")
    return probabilities


@dataclass(eq=False)
class Challenger:
    """A verified, loaded challenger.

    Attributes:
        number: of the ledger's row that began the trial.
        others: what the other workers have counted, as last read.
        returned: why the champion has everybody back; None while the trial goes on.
    """

    number: int
    engine: Engine
    order: TrialOrder
    statement: TrialStatement
    fingerprint: str
    since: datetime
    comparison: Comparison = field(default_factory=Comparison)
    others: Figures = field(default_factory=Figures)
    returned: str | None = None

    @property
    def version(self) -> int:
        """The version on trial."""
        return self.order.version

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest."""
        return self.order.manifest_sha256

    @property
    def canary(self) -> bool:
        """Whether its answers go to the customers in its share."""
        return self.order.kind == "canary"

    def runs_beside(self, champion: Served) -> bool:
        """Whether the trial goes on, beside the very champion that it is compared with."""
        return self.returned is None and champion.version == self.order.champion

    def takes(self, message: Message) -> bool:
        """Whether the message's customer is in its share."""
        return takes_part(self.order.task, message, self.order.share)

    def figures(self) -> Figures:
        """What all workers have counted."""
        return self.comparison.figures() + self.others

    def fail(self, messages: int, error: Exception, metrics: Metrics) -> None:
        """Count messages that it could not answer."""
        self.comparison.fail(messages)
        metrics.trial_messages.labels(self.order.task, self.order.kind, "error").inc(messages)
        log.warning("%s %s cannot score %d messages: %s", self.order.task, self.version, messages, error)
        self.judge()

    def judge(self) -> None:
        """End the trial in this worker as soon as the figures say so; the follower tells the ledger."""
        if self.returned is None:
            self.returned = verdict(self.figures(), self.order.policy).reason
            if self.returned is not None:
                log.warning("%s %s gives its share back: %s", self.order.task, self.version, self.returned)

    def check_standing(self, slot: ModelSlot) -> None:
        """Check that approval and order still count.

        Raises:
            VerificationError: they do not.
        """
        signing.check_standing(self.statement, self.order, self.fingerprint, slot.trust)

    def state(self) -> dict[str, Any]:
        """For `/readyz`."""
        return {
            "row": self.number,
            "kind": self.order.kind,
            "version": self.version,
            "digest": self.digest,
            "share": self.order.share,
            "champion": self.order.champion,
            "ordered_by": self.order.approver,
            "since": self.since.isoformat(),
            "returned": self.returned,
            "figures": self.figures().summary(),
        }


@dataclass(frozen=True, slots=True)
class NoTrial:
    """A trial that the ledger knows and this worker refuses, and why."""

    number: int
    version: int | None
    error: dict[str, str]
    at: datetime

    def state(self) -> dict[str, Any]:
        """For `/readyz`."""
        return {"row": self.number, "version": self.version, "refused": {"at": self.at.isoformat(), **self.error}}


def refuse(number: int, version: int | None, error: UndertoneError) -> NoTrial:
    """A trial refused now."""
    return NoTrial(number, version, error.as_dict(), datetime.now(UTC))
