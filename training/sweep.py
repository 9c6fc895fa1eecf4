"""Trials of a sweep: each is a training judged by macro-F1 on validation; the median pruner ends hopeless ones early.

Several processes may be at work on one study. Who is about to begin a trial holds the study's lease, so that no trial
too many begins; a process holds a file lock in its own folder for as long as it lives, so that the others see at once
when it was killed.
"""

from __future__ import annotations

import logging
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import base_model, failures, steps, track
from training import study as studies
from training.effort import Effort, get_effort
from training.silence import hush
from training.space import Space, as_json, draw, own_values
from training.study import ERROR, PROCESS, RUN, SECONDS
from training.work import Request, Work
from undertone.errors import ConfigError, TrainingError
from undertone.lease import hold
from undertone.registry import Registry
from undertone.tasks import get_task
from undertone.text import sha256_of
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger("undertone.training")

#: What a trial reports after each pass, and by the best of which it is judged.
SCORE = "validation_macro_f1"

#: MLflow's mark of a nested run, and ours of the sweep that a run or a version belongs to.
PARENT, SWEEP, SWEEP_RUN = "mlflow.parentRunId", "undertone.sweep", "undertone.sweep_run"

#: Seconds to wait while other processes begin trials.
_WAIT_S = 300.0

#: Failed trials in a row after which something else than their hyperparameters is to blame.
FAILURES = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a person asked to be searched.

    Attributes:
        request: the training that every trial is, with the hyperparameters that are fixed.
        space: those that are searched.
        trials: how many in all, those of earlier commands and of other processes included.
        study: name of the study; it also names a folder.
    """

    request: Request
    space: Space
    trials: int
    study: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.study):
            raise ConfigError("a study named by letters, digits, . _ or -", repr(self.study), "use another --study")
        if self.trials < 1:
            raise ConfigError("one trial at least", str(self.trials), "use --trials 20")
        if not self.space:
            raise ConfigError("a hyperparameter to search", "none: --set fixes them all", "name one with --space")
        if both := sorted(set(self.space) & set(self.request.overrides)):
            raise ConfigError("hyperparameters fixed or searched", f"both: {', '.join(both)}", "drop --set or --space")

    @property
    def effort(self) -> Effort:
        """The effort with what is fixed."""
        return self.request.hyperparameters


@dataclass(frozen=True, slots=True)
class Sweep:
    """One process at work on a study: its data, the parent run of all trials, its folder, and how many rows train."""

    workspace: Workspace
    plan: Plan
    study: Study
    work: Work
    run_id: str
    folder: Path
    rows: int

    def overrides(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """The hyperparameters of a trial, to give `retrain`: then it trains what the trial trained.

        Where the effort does not evaluate each pass, a trial does, and keeps the best pass.
        """
        chosen = dict(self.plan.request.overrides) | drawn
        effort = get_effort(self.plan.request.effort).having(chosen)
        return chosen if effort.patience else chosen | {"patience": self.passes(effort)}

    def passes(self, effort: Effort) -> int:
        """Passes over the training rows."""
        return effort.passes(min(self.rows, effort.max_train_rows or self.rows))


@contextmanager
def opened(workspace: Workspace, plan: Plan) -> Iterator[Sweep]:
    """Open the study of `plan`, new or old, with its data and its parent run.

    Raises:
        ConfigError: the study was made for other data, another space or another effort.
    """
    registry, root = workspace.registry, workspace.settings.state_dir / "sweeps" / plan.study
    with ExitStack() as stack:
        with _turn(workspace, plan):
            lost = _lost(registry)
            study = stack.enter_context(studies.opened(workspace.settings, plan.study, lost, plan.request.seed))
            plan = replace(plan, request=replace(plan.request, now=_first_clock(study, plan.request.now)))
            folder = stack.enter_context(_own_folder(root))
        work = steps.prepare(workspace, plan.request, folder)
        with _turn(workspace, plan):
            studies.claim(study, _identity(plan, work))
            if not study.get_trials(deepcopy=False):
                study.enqueue_trial(own_values(plan.space, plan.effort))
            run_id = _parent_run(registry, plan, study, work)
            studies.revive(study, lambda process: _alive(root / process), lost)
            _sweep_out(root)
        with _status(registry, study, run_id):
            yield Sweep(workspace, plan, study, work, run_id, folder, rows=len(work.rows_of("train")))


def one_more(sweep: Sweep) -> FrozenTrial | None:
    """Run the next trial; None where all have begun. A training that fails is a failed trial, and the sweep goes on."""
    study, plan, ran = sweep.study, sweep.plan, []
    lost = _lost(sweep.workspace.registry)
    with ExitStack() as turn:
        turn.enter_context(_turn(sweep.workspace, plan))
        studies.revive(study, lambda process: _alive(sweep.folder.parent / process), lost)
        if not studies.wanting(study, plan.trials):
            return None
        studies.seeded(study, plan.request.seed)

        def objective(trial: Trial) -> float:
            ran.append(trial.number)
            trial.set_user_attr(PROCESS, sweep.folder.name)
            drawn = draw(plan.space, trial)
            turn.close()
            return run_trial(sweep, trial, drawn)

        try:
            study.optimize(objective, n_trials=1, catch=(TrainingError,))
        except BaseException:  # Ctrl-C, or what no hyperparameter is to blame for: the trial is run again
            trial = study.get_trials()[ran[0]] if ran else None
            if trial and trial.state.name == "FAIL":
                studies.again(study, trial, lost)
            raise
    trial = study.get_trials()[ran[0]]
    _tell(sweep, trial)
    if trial.state.name == "FAIL":
        _stop_where_all_fail(study)
    return trial


def run_trial(sweep: Sweep, trial: Trial, drawn: dict[str, Any]) -> float:
    """Train with the hyperparameters `drawn`, in an MLflow run of its own; gives the best macro-F1 on validation.

    Raises:
        optuna.TrialPruned: it did worse than the median of the others at the same share of their training.
        TrainingError: no model came of it.
    """
    from optuna import TrialPruned

    from training.finetune import finetune

    request, client, began = sweep.plan.request, sweep.workspace.registry.client, time.monotonic()
    overrides = sweep.overrides(drawn)
    effort = get_effort(request.effort).having(overrides)
    spec = get_task(request.task)
    run_id = _trial_run(sweep, trial, effort, drawn)
    trial.set_user_attr(RUN, run_id)
    log.info("trial %d of %s, %d in all: %s", trial.number, sweep.plan.study, sweep.plan.trials, _listed(drawn))
    judge = Judge(trial, sweep.passes(effort), lambda values, step: track.log_curve(registry, run_id, values, step))
    registry, folder = sweep.workspace.registry, sweep.folder / f"trial-{trial.number}"
    state, tag = "FINISHED", "complete"
    try:
        with failures.explained(request, sweep.folder, sweep.workspace.settings.mlflow_home):
            finetune(
                sweep.work.rows_of("train"),
                sweep.work.rows_of("validation"),
                spec,
                effort,
                base_model=base_model.resolve(request.base_model or spec.base_model).path,
                seed=request.seed,
                checkpoints=folder,
                log=judge,
                threads=sweep.workspace.settings.threads,
            )
    except TrialPruned:
        state, tag = "KILLED", "pruned"
        raise
    except TrainingError as error:
        state, tag = "FAILED", "failed"
        trial.set_user_attr(ERROR, str(error)[:2_000])
        client.set_tag(run_id, "undertone.error", str(error)[:2_000])
        raise
    except BaseException:
        state, tag = "KILLED", "stopped"
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        seconds = round(time.monotonic() - began, 1)
        trial.set_user_attr(SECONDS, seconds)
        client.log_metric(run_id, "seconds", seconds)
        if judge.best is not None:
            client.log_metric(run_id, f"best_{SCORE}", judge.best)
        client.set_tag(run_id, "undertone.trial_state", tag)
        client.set_terminated(run_id, state)
    if judge.best is None:
        raise TrainingError("a score on validation", "no validation rows", "look at the source's splits")
    return judge.best


@dataclass
class Judge:
    """The curve of a training, reported to its trial, and the end of it where the pruner says so.

    Scores are compared at equal percentages of a training, not at equal passes: the learning rate of a training of two
    passes has fallen to half where that of one pass has fallen to zero.

    Args:
        trial: what is reported to.
        passes: after this many scores the training has ended, and is not pruned any more.
        log: gets every value and its step.
    """

    trial: Trial
    passes: int
    log: Callable[[dict[str, float], int], None]
    best: float | None = None
    seen: int = field(default=0, init=False)

    def __call__(self, values: dict[str, float], step: int) -> None:
        """Take the values logged at an optimizer step.

        Raises:
            optuna.TrialPruned: the training is to end.
        """
        from optuna import TrialPruned

        self.log(values, step)
        score = values.get(SCORE)
        if score is None:
            return
        self.seen += 1
        self.best = score if self.best is None else max(self.best, score)
        self.trial.report(score, round(100 * self.seen / self.passes))
        if self.seen < self.passes and self.trial.should_prune():
            raise TrialPruned


def _stop_where_all_fail(study: Study) -> None:
    last = studies.ended(study)[-FAILURES:]
    if len(last) == FAILURES and all(trial.state.name == "FAIL" for trial in last):
        raise TrainingError(
            f"one trial in {FAILURES} that ends well",
            f"{FAILURES} failed in a row, the last one: {last[-1].user_attrs.get(ERROR)}",
            "mend that, or search another space under another --study; the same command goes on with the next trial",
        )


def best(study: Study) -> FrozenTrial:
    """The complete trial with the highest score, the earliest of equals.

    Raises:
        TrainingError: none is complete.
    """
    complete = [trial for trial in studies.ended(study) if trial.state.name == "COMPLETE"]
    if not complete:
        errors = {trial.user_attrs.get(ERROR) for trial in studies.ended(study)} - {None}
        raise TrainingError(
            f"a trial of {study.study_name} that ended well",
            "; ".join(sorted(map(str, errors))) or "none",
            "search another space under another --study",
        )
    return max(complete, key=lambda trial: trial.value or 0.0)


def _turn(workspace: Workspace, plan: Plan) -> AbstractContextManager[str]:
    return hold(workspace.store, f"sweep {plan.study}", wait=_WAIT_S)


def _first_clock(study: Study, now: datetime) -> datetime:
    """The clock of the command that began the study: rows sent since are not part of its data."""
    if "now" not in study.user_attrs:
        study.set_user_attr("now", now.isoformat())
    return datetime.fromisoformat(study.user_attrs["now"])


def _identity(plan: Plan, work: Work) -> dict[str, Any]:
    from training.finetune import load_tokenizer, reading_of

    request, spec = plan.request, get_task(plan.request.task)
    base = base_model.resolve(request.base_model or spec.base_model)
    with hush():
        tokenizer = load_tokenizer(base.path, spec.max_tokens)
    kept = {name: value for name, value in plan.effort.model_dump().items() if name not in plan.space}
    return {
        "task": request.task,
        "data_sha256": work.data_sha256,
        "effort": request.effort,
        "seed": request.seed,
        "base_model_sha256": base.sha256,
        "space": as_json(plan.space),
        "fixed hyperparameters": dict(sorted(request.overrides.items())),
        # another release may have another effort of that name, or another cleaning
        "recipe_sha256": sha256_of(kept),
        "tokenizer_sha256": reading_of(tokenizer),
    }


def _parent_run(registry: Registry, plan: Plan, study: Study, work: Work) -> str:
    if known := study.user_attrs.get("run_id"):
        work.run_file.write_text(known)
    request = plan.request
    asked = {"task": request.task, "source": request.source, "seed": request.seed, "data_sha256": work.data_sha256}
    searched = {f"space.{name}": str(part) for name, part in plan.space.items()}
    fixed = {
        f"effort.{name}": value for name, value in plan.effort.model_dump().items() if name not in plan.space
    }  # as the runs of trainings name them, so that MLflow shows both in one column
    run_id = track.open_run(registry, work, asked | searched | fixed)
    if run_id != known:
        registry.client.set_tag(run_id, "mlflow.runName", f"sweep {plan.study}")
        study.set_user_attr("run_id", run_id)
    for key, value in {SWEEP: plan.study, "undertone.trials": plan.trials}.items():
        registry.client.set_tag(run_id, key, value)
    return run_id


def _trial_run(sweep: Sweep, trial: Trial, effort: Effort, drawn: dict[str, Any]) -> str:
    registry, request = sweep.workspace.registry, sweep.plan.request
    tags = {
        PARENT: sweep.run_id,
        SWEEP: sweep.plan.study,
        "undertone.trial": str(trial.number),
        "undertone.task": request.task,
        "undertone.trainer": request.trainer,
        "undertone.data_sha256": sweep.work.data_sha256,
        "undertone.searched": ", ".join(drawn),
    }
    run = registry.client.create_run(
        registry.experiment_id(), run_name=f"{sweep.plan.study} trial {trial.number}", tags=tags
    )
    for key, value in {f"effort.{key}": value for key, value in effort.model_dump().items()}.items():
        registry.client.log_param(run.info.run_id, key, value)
    return str(run.info.run_id)


def _tell(sweep: Sweep, trial: FrozenTrial) -> None:
    """The curve of the sweep on its parent run, and a line for who watches."""
    client, state = sweep.workspace.registry.client, trial.state.name
    if state == "COMPLETE" and trial.value is not None:
        client.log_metric(sweep.run_id, SCORE, trial.value, step=trial.number)
    with suppress(TrainingError):
        found = best(sweep.study)
        client.log_metric(sweep.run_id, f"best_{SCORE}", found.value or 0.0, step=trial.number)
        client.set_tag(sweep.run_id, "undertone.best_trial", str(found.number))
        score = f"macro-F1 {trial.value:.4f}" if state == "COMPLETE" else state.lower()
        log.info("trial %d: %s; best %.4f, of trial %d", trial.number, score, found.value, found.number)


def _lost(registry: Registry) -> studies.Lost:
    """Marks the MLflow run of a trial whose process is gone."""

    def mark(trial: FrozenTrial) -> None:
        log.info("trial %d was stopped before its end", trial.number)
        if run_id := trial.user_attrs.get(RUN):
            registry.client.set_tag(run_id, "undertone.trial_state", "stopped")
            registry.client.set_terminated(run_id, "KILLED")

    return mark


@contextmanager
def _status(registry: Registry, study: Study, run_id: str) -> Iterator[None]:
    """The parent run's state when this process ends: running for as long as another one has a trial."""
    try:
        yield
    except BaseException as error:
        if not studies.running(study):
            registry.client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    if not studies.running(study):
        registry.client.set_terminated(run_id, "FINISHED")


@contextmanager
def _own_folder(root: Path) -> Iterator[Path]:
    """A new folder of this process, with a lock in it that is held until the block ends; then it is removed."""
    from filelock import FileLock

    folder = root / uuid.uuid4().hex[:12]
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _alive(folder: Path) -> bool | None:
    """Whether the process lives whose folder this is; None: the folder is gone, or on another machine."""
    from filelock import FileLock, Timeout

    if not folder.is_dir():
        return None
    try:
        with FileLock(folder / "lock", blocking=False):
            return False
    except Timeout:
        return True


def _sweep_out(root: Path) -> None:
    """Remove what processes left that were killed."""
    for folder in root.iterdir():
        if _alive(folder) is False:
            shutil.rmtree(folder, ignore_errors=True)


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
