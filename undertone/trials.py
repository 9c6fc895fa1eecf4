"""Trials of a challenger beside the champion, as the ledger tells them, and their figures in the store.

A trial runs from its `trial_started` row to the `trial_ended` row that names it, or to the next promotion of its task.
Every worker reads that from the ledger, so all agree; what each has counted is one row in ``trial_figures``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError
from sqlalchemy import delete, select

from undertone.errors import VerificationError
from undertone.lease import hold
from undertone.ledger import GENESIS, PROMOTIONS, Ledger
from undertone.records import LedgerEntry
from undertone.schema import trial_figures
from undertone.signing import TrialOrder
from undertone.store import Store
from undertone.trial_figures import Figures


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that nobody ended yet, by the row that started it."""

    row: LedgerEntry

    @property
    def number(self) -> int:
        """Of the row: it names the trial."""
        return self.row.seq

    @property
    def task(self) -> str:
        """The task."""
        return self.row.task

    @property
    def version(self) -> int | None:
        """The challenger's version."""
        return self.row.version

    def order(self) -> TrialOrder:
        """The signed order in the row; its signature is checked by `undertone.signing.verify_trial`.

        Raises:
            VerificationError: there is none, or it is for another version.
        """
        try:
            order = TrialOrder.model_validate(self.row.payload.get("order"))
        except ValidationError as error:
            raise _refused(self, "a signed order for it", f"row {self.number} of the ledger without one") from error
        if (order.task, order.version) != (self.task, self.version):
            raise _refused(self, "a signed order for it", f"one for {order.task} {order.version}")
        return order


def running(ledger: Ledger, task: str) -> Trial | None:
    """The trial of `task` that runs now."""
    newest = ledger.latest(task, ["trial_started", *PROMOTIONS])
    if newest is None or newest.kind != "trial_started":
        return None
    trial = Trial(newest)
    return None if _ended(ledger, trial) else trial


def check_order(ledger: Ledger, trial: Trial, order: TrialOrder) -> None:
    """An order is the one that was given for this trial, not one that is played back.

    Raises:
        VerificationError: it does not fit the ledger.
    """
    anchor = ledger.row(order.serial) if order.serial else None
    before = [
        row
        for row in ledger.entries(trial.task, ["trial_started", *PROMOTIONS], limit=2, newest_first=True)
        if row.seq < trial.number
    ]
    if (anchor.hash if anchor else GENESIS) != order.ledger_hash:
        raise _refused(
            trial, "the newest order for it", f"row {order.serial} of the ledger is not the one that was signed over"
        )
    if before and order.serial < before[0].seq:
        raise _refused(trial, "the newest order for it", f"serial {order.serial}, older than row {before[0].seq}")


def end(
    ledger: Ledger, trial: Trial, *, at: datetime, actor: str, reason: str, automatic: bool, also: Figures | None = None
) -> LedgerEntry | None:
    """Write that a trial ended, with its figures. None: somebody else wrote it already.

    Args:
        automatic: no person decided it.
        also: what is not in the store yet.
    """
    with hold(ledger.store, f"end trial {trial.number}", seconds=10, wait=5):
        if _ended(ledger, trial):
            return None
        figures = pooled(ledger.store, trial.number) + (also or Figures())
        return ledger.append(
            "trial_ended",
            trial.task,
            at=at,
            actor=actor,
            reason=reason,
            version=trial.version,
            payload={"trial": trial.number, "automatic": automatic, "figures": figures.model_dump(mode="json")},
        )


def ending(ledger: Ledger, trial: Trial) -> LedgerEntry | None:
    """The row that ended a trial, or None."""
    rows = ledger.entries(trial.task, ["trial_ended"], newest_first=True, version=trial.version)
    return next((row for row in rows if row.payload.get("trial") == trial.number), None)


def write_figures(store: Store, number: int, worker: str, at: datetime, figures: Figures) -> None:
    """Keep what `worker` has counted in trial `number`, in place of what it counted before."""
    row = {"trial": number, "worker": worker, "at": at, "figures": figures.model_dump(mode="json")}
    with store.transaction() as connection:
        connection.execute(
            delete(trial_figures).where(trial_figures.c.trial == number, trial_figures.c.worker == worker)
        )
        connection.execute(trial_figures.insert(), [row])


def pooled(store: Store, number: int, without: str = "") -> Figures:
    """What all workers, or all `without` one, have counted in trial `number`."""
    query = select(trial_figures.c.figures).where(trial_figures.c.trial == number, trial_figures.c.worker != without)
    total = Figures()
    with store.reading() as connection:
        for values in connection.execute(query).scalars():
            total = total + Figures.model_validate_json(json.dumps(values))
    return total


def _ended(ledger: Ledger, trial: Trial) -> bool:
    return ending(ledger, trial) is not None


def _refused(trial: Trial, expected: str, found: str) -> VerificationError:
    return VerificationError(
        f"{expected} (the trial of {trial.task} {trial.version})",
        found,
        f"do not use it; end it: `undertone models end-trial {trial.task} --reason '…'`",
    )
