"""The retrain flow: from messages to a registered version with the gate's verdict.

Reads as a page. Every step is a plain function of `training.steps`, wrapped so that Prefect shows
and times it; with the decorators removed it still runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE

from flows import situation
from flows.artifacts import publish
from training import failures, steps, track
from training.base_model import located as base_model_located
from training.evaluate import Evaluation
from training.gate import GateVerdict
from training.spent import measure
from training.trunk import OWN, checkpoint
from training.work import Request, Work, asked
from undertone import identity
from undertone.lease import hold
from undertone.registry import ModelVersion
from undertone.workspace import Workspace


@prefect.flow(name="retrain", flow_run_name="retrain {task}")
def retrain(
    task: str,
    source: str = "",
    effort: str = "standard",
    seed: int | None = None,
    now: datetime | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    base_model: str | None = None,
    trainer: str = "",
    rows_until: datetime | None = None,
    lease: str | None = None,
    trunk: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a challenger, register it and let the gate judge it.

    Args:
        source: as `undertone train --help` explains; empty: the task's own.
        now: the clock; empty: this moment. Rows sent later are not used.
        trainer: who asked; empty: the settings' actor.
        rows_until: rows sent from then on are not used, an upstream being broken since; empty: `now`.
        lease: what the caller's hold of the task's training lease gave; empty: the flow takes the lease itself.
        trunk: the model on whose frozen layers a head is trained; ``base_model`` is its checkpoint, empty: found.
            ``own``: the new model's own layers may become a trunk.
        overrides: hyperparameters in place of the effort's own, as `training.effort.Effort` names them.

    Returns:
        task, version, run_id, macro_f1, and the gate's passed, verdict and lines.
    """
    workspace = Workspace()
    trunk = base_model_located(trunk) if trunk and trunk != OWN else trunk
    if trunk and trunk != OWN and not base_model:
        base_model = checkpoint(trunk, workspace.registry, workspace.settings.state_dir / "trunks")
    request = asked(
        workspace.settings,
        task,
        source=source,
        effort=effort,
        seed=seed,
        now=now,
        trainer=trainer,
        text_column=text_column,
        label_column=label_column,
        base_model=base_model,
        rows_until=rows_until,
        trunk=trunk,
        overrides=overrides,
    )
    with (
        hold(workspace.store, situation.lease(task), holder=lease),
        failure_in_ledger(workspace, request),
        failures.explained(request, workspace.settings.state_dir / "work", workspace.settings.mlflow_home),
    ):
        identity.trainer(workspace.settings, request.trainer)  # told before hours of training, not after
        work = load_and_split(workspace, request)
        run_id = steps.begin(workspace, work)
        with track.run_status(workspace.registry, run_id):
            with measure(work.spent):
                finetuned = finetune(workspace, work, run_id)
                export(work, finetuned)
                scores = score(workspace, work)
                calibrate(work, scores)
                evaluation = evaluate(workspace, work, scores, run_id)
                join(workspace, work, scores, run_id)
            version = register(workspace, work, run_id, evaluation)
            verdict = judge(workspace, work, scores, version, evaluation)
        work.remove()
    publish(f"gate-{task}", verdict.as_markdown())
    return steps.outcome(version, evaluation, verdict)


@prefect.task(name="load and split", cache_policy=NO_CACHE)
def load_and_split(workspace: Workspace, request: Request) -> Work:
    """Read, check, repair, split and fingerprint the messages."""
    return steps.prepare(workspace, request)


@prefect.task(name="finetune", cache_policy=NO_CACHE)
def finetune(workspace: Workspace, work: Work, run_id: str) -> Path:
    """Fine-tune the base model, or go on from the last checkpoint."""
    return steps.finetune(workspace, work, run_id)


@prefect.task(name="export", cache_policy=NO_CACHE)
def export(work: Work, finetuned: Path) -> Path:
    """Build the folder that will be registered and served."""
    return steps.export(work, finetuned)


@prefect.task(name="score", cache_policy=NO_CACHE)
def score(workspace: Workspace, work: Work) -> Path:
    """Score unseen rows with the engine that will serve."""
    return steps.score(workspace, work)


@prefect.task(name="calibrate", cache_policy=NO_CACHE)
def calibrate(work: Work, scores: Path) -> float:
    """Fit the temperature on validation rows."""
    return steps.calibrate(work, scores)


@prefect.task(name="evaluate", cache_policy=NO_CACHE)
def evaluate(workspace: Workspace, work: Work, scores: Path, run_id: str) -> Evaluation:
    """Measure on the holdout and keep the reference window."""
    return steps.evaluate(workspace, work, scores, run_id)


@prefect.task(name="join", cache_policy=NO_CACHE)
def join(workspace: Workspace, work: Work, scores: Path, run_id: str) -> None:
    """Hear other champions where that helps, and choose when a person is asked."""
    steps.join(workspace, work, scores, run_id)


@prefect.task(name="register", cache_policy=NO_CACHE)
def register(workspace: Workspace, work: Work, run_id: str, evaluation: Evaluation) -> ModelVersion:
    """Register the bytes as the next version."""
    return steps.register(workspace, work, run_id, evaluation)


@prefect.task(name="judge", cache_policy=NO_CACHE)
def judge(workspace: Workspace, work: Work, scores: Path, version: ModelVersion, evaluation: Evaluation) -> GateVerdict:
    """Let the gate compare the challenger with the floor and the champion."""
    return steps.judge(workspace, work, scores, version, evaluation)


@contextmanager
def failure_in_ledger(workspace: Workspace, request: Request) -> Iterator[None]:
    """Leave a row in the ledger when training ends without a model, then let the error go on.

    Ctrl-C is told as ``stopped``: a retrain that the policy decided goes on at the next watch.
    """
    began = time.process_time()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:  # the edge of the flow: recorded here, raised again
        workspace.ledger.append(
            "training_failed",
            request.task,
            at=request.now,
            actor=request.trainer,
            reason=f"{type(error).__name__}: {error}"[:2_000],
            payload={
                "source": request.source,
                "effort": request.effort,
                "seed": request.seed,
                "stopped": isinstance(error, KeyboardInterrupt),
                "spent": {"cpu_s": round(time.process_time() - began, 1)},
            },
        )
        raise
