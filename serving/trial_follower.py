"""Follows the trials of the ledger: a challenger is fetched, verified and loaded, its figures written, its end told.

Runs in the follower's thread. The ledger is the truth: what it calls a running trial is tried, whatever else is on
disk, and a trial that this worker gave back in memory ends for everybody with one row.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from serving.challenger import Challenger, NoTrial, refuse
from serving.fetching import Fetcher
from serving.metrics import Metrics
from serving.model_slot import STAGING, ModelSlot, exclusive
from undertone import signing
from undertone.errors import UndertoneError, VerificationError
from undertone.model_folder import MODEL
from undertone.settings import Settings
from undertone.signing import SIGNATURE, TrialOrder
from undertone.trial_figures import Figures

if TYPE_CHECKING:
    from undertone.ledger import Ledger
    from undertone.trials import Trial

log = logging.getLogger("undertone.serving")

#: Looks between two tries of a trial whose bytes or signatures were refused.
PATIENCE = 10

#: In the ledger, where a worker ended a trial.
ACTOR = "serving worker"


class TrialFollower:
    """One look after the other at the trials of all tasks.

    Args:
        settings: name the folder of this home's copies.
        fetcher: copies files out of MLflow.
        metrics: which version is on trial goes there.
        begin: called before the first trial: whoever compares wakes up.
    """

    def __init__(self, settings: Settings, fetcher: Fetcher, metrics: Metrics, begin: Callable[[], None]) -> None:
        self._folder = settings.state_dir / "trials"
        self._fetcher = fetcher
        self._metrics = metrics
        self._begin = begin
        self._worker = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._head = -1
        self._running: dict[str, Trial | None] = {}
        self._written: dict[int, Figures] = {}
        self._looks = 0
        self._refused: dict[str, tuple[int, int]] = {}

    def look(self, ledger: Ledger, slots: Iterable[ModelSlot]) -> None:
        """One look at every task.

        Raises:
            StoreError: the ledger cannot be read: the trials go on as they are.
        """
        from undertone import trials

        head = ledger.head()[0]
        self._looks += 1
        for slot in slots:
            task = slot.spec.name
            if head != self._head:
                self._running[task] = trials.running(ledger, task)
            self._look_at(ledger, slot, self._running.get(task))
        self._head = head

    def _look_at(self, ledger: Ledger, slot: ModelSlot, trial: Trial | None) -> None:
        mine = slot.trial
        if mine is not None and (trial is None or trial.number != mine.number):
            self._leave(ledger, slot)
            mine = None
        if trial is None:
            return
        if isinstance(mine, Challenger):
            self._tend(ledger, slot, trial, mine)
        elif self._worth_a_try(slot.spec.name, trial):
            self._try(ledger, slot, trial)

    def _worth_a_try(self, task: str, trial: Trial) -> bool:
        number, again = self._refused.get(task, (0, 0))
        return number != trial.number or self._looks >= again

    def _try(self, ledger: Ledger, slot: ModelSlot, trial: Trial) -> None:
        """Put a challenger on trial, or say why not."""
        from undertone import trials

        task = slot.spec.name
        try:
            order = trial.order()
            trials.check_order(ledger, trial, order)
            challenger = self._load(slot, trial, order)
        except UndertoneError as error:
            if isinstance(error, VerificationError):
                self._refused[task] = (trial.number, self._looks + PATIENCE)
            self._refuse(slot, trial, error)
        except OSError as error:
            full = UndertoneError(
                "room on disk for a challenger", str(error), f"check disk and rights of {self._folder}"
            )
            self._refuse(slot, trial, full)
        else:
            if challenger is None:  # another worker of this home fetches it: the next look finds its copy
                return
            self._begin()
            slot.trial = challenger
            self._show(slot)
            log.info("%s %s: a %s of %g begins", task, trial.version, order.kind, order.share)

    def _load(self, slot: ModelSlot, trial: Trial, order: TrialOrder) -> Challenger | None:
        home = self._folder / slot.spec.name
        copy = home / str(trial.number)
        with exclusive(home) as mine:
            if not mine:
                return None
            if copy.is_dir():
                try:
                    return self._verified(slot, copy, trial, order)
                except VerificationError:
                    shutil.rmtree(copy, ignore_errors=True)  # fetched again; if that fails too, the reason is shown
            return self._fetched(slot, home / STAGING, copy, trial, order)

    def _fetched(self, slot: ModelSlot, staging: Path, copy: Path, trial: Trial, order: TrialOrder) -> Challenger:
        """What was signed comes first: it is small, and without it there is nothing to download."""
        shutil.rmtree(staging, ignore_errors=True)
        try:
            self._fetcher.trial(order.task, order.version, staging)
            self._fetcher.model(order.task, order.version, staging / MODEL)
            challenger = self._verified(slot, staging, trial, order)
            os.rename(staging, copy)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        for old in copy.parent.iterdir():
            if old.is_dir() and old != copy:
                shutil.rmtree(old, ignore_errors=True)
        return challenger

    def _verified(self, slot: ModelSlot, folder: Path, trial: Trial, order: TrialOrder) -> Challenger:
        with slot.reading(folder):
            statement = signing.verify_trial(folder / MODEL, folder / SIGNATURE, order, slot.trust)
            approver = slot.trust.approver(statement.approver)
            engine = slot.open_engine(folder / MODEL)
        fingerprint = approver.fingerprint if approver else ""
        return Challenger(trial.number, engine, order, statement, fingerprint, datetime.now(UTC))

    def _tend(self, ledger: Ledger, slot: ModelSlot, trial: Trial, mine: Challenger) -> None:
        """Whether it still counts; its figures to the store, the others' from there; its end to the ledger."""
        from undertone import trials

        try:
            mine.check_standing(slot)
        except UndertoneError as error:
            mine.returned = mine.returned or "its approval does not count any more"
            self._refused[slot.spec.name] = (trial.number, self._looks + PATIENCE)
            self._refuse(slot, trial, error)
            return
        self._write(ledger, mine)
        mine.others = trials.pooled(ledger.store, mine.number, without=self._worker)
        mine.judge()
        if mine.returned is not None:
            trials.end(ledger, trial, at=datetime.now(UTC), actor=ACTOR, reason=mine.returned, automatic=True)

    def _leave(self, ledger: Ledger, slot: ModelSlot) -> None:
        """The ledger says that the trial of this slot is over."""
        mine = slot.trial
        if isinstance(mine, Challenger):
            mine.returned = mine.returned or "the trial ended"
        if mine is not None:
            shutil.rmtree(self._folder / slot.spec.name / str(mine.number), ignore_errors=True)
        slot.trial = None
        self._show(slot)
        if isinstance(mine, Challenger):
            self._write(ledger, mine)
            self._written.pop(mine.number, None)
            log.info("%s %s is on trial no more", slot.spec.name, mine.version)

    def _write(self, ledger: Ledger, mine: Challenger) -> None:
        from undertone import trials

        figures = mine.comparison.figures()
        if figures != self._written.get(mine.number, Figures()):
            trials.write_figures(ledger.store, mine.number, self._worker, datetime.now(UTC), figures)
            self._written[mine.number] = figures

    def _refuse(self, slot: ModelSlot, trial: Trial, error: UndertoneError) -> None:
        before = slot.trial
        told = isinstance(before, NoTrial) and before.error["found"] == error.found
        next_step = error.next_step
        if isinstance(error, VerificationError):
            next_step = f"end it: `undertone models end-trial {slot.spec.name} --reason '…'`"
        shown = type(error)(error.expected, error.found, next_step)
        slot.trial = refuse(trial.number, trial.version, shown)
        if not told:
            self._metrics.refusals.labels(slot.spec.name).inc()
            log.warning("the trial of %s %s does not run here: %s", slot.spec.name, trial.version, shown)
        self._show(slot)

    def _show(self, slot: ModelSlot) -> None:
        for kind in ("shadow", "canary"):
            on = isinstance(slot.trial, Challenger) and slot.trial.order.kind == kind
            version = slot.trial.version if on and slot.trial else None
            self._metrics.trial.labels(slot.spec.name, kind).set(version or 0)
