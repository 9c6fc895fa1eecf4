"""The steps of a training, one verb each, over a work folder. Plain functions: the flow wraps them.

Each step leaves its result on disk and does nothing when the result is already there, which is
all that resuming takes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training import base_model, lineage, track
from training.data import load, split, summary
from training.effort import get_effort
from training.evaluate import Evaluation, draw_calibration, draw_confusion, write_reference
from training.evaluate import evaluate as evaluate_scores
from training.gate import GateVerdict, decide
from training.work import Request, Work, open_work
from undertone.engine import Engine
from undertone.errors import UndertoneError
from undertone.model_folder import Lineage, ModelCardData, digest, manifest, refuse_code
from undertone.records import utc
from undertone.registry import ModelVersion
from undertone.tasks import TaskSpec, get_task
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to."""

    task: str
    version: int
    run_id: str
    evaluation: Evaluation
    verdict: GateVerdict


def prepare(workspace: Workspace, request: Request) -> Work:
    """Load, check and split the data, and open the work folder on it."""
    spec = get_task(request.task)
    table = load(
        request.source,
        spec,
        text_column=request.text_column,
        label_column=request.label_column,
        store=workspace.store,
        until=request.now,
    )
    splits = split(table, spec, request.seed)
    base = base_model.resolve(request.base_model or spec.base_model)
    return open_work(workspace.settings.state_dir / "work", request, splits, base.sha256, summary(splits))


def begin(workspace: Workspace, work: Work) -> str:
    """Open (or reopen) the MLflow run of this training; gives its id."""
    effort, request = get_effort(work.request.effort), work.request
    asked = {"task": request.task, "source": request.source, "seed": request.seed, "data_sha256": work.data_sha256}
    parameters = {f"effort.{key}": value for key, value in effort.model_dump().items()} | asked
    return track.open_run(workspace.registry, work, parameters)


def finetune(workspace: Workspace, work: Work, run_id: str) -> Path:
    """Fine-tune the base model; goes on from the last checkpoint where there is one."""
    from training.finetune import finetune as fit

    if work.finetuned.is_file():
        return Path(work.finetuned.read_text())
    spec, request = get_task(work.request.task), work.request
    folder = fit(
        work.rows_of("train"),
        work.rows_of("validation"),
        spec,
        get_effort(request.effort),
        base_model=base_model.resolve(request.base_model or spec.base_model).path,
        seed=request.seed,
        checkpoints=work.checkpoints,
        log=lambda values, step: track.log_curve(workspace.registry, run_id, values, step),
        threads=workspace.settings.threads,
    )
    work.finetuned.write_text(str(folder))
    return folder


def export(work: Work, finetuned: Path) -> Path:
    """Build the model folder: MLflow's flavour, the engine's graph, the tokenizer."""
    from training.export import assemble

    shutil.rmtree(work.model, ignore_errors=True)  # a half-built folder of an interrupted export
    return assemble(finetuned, get_task(work.request.task), work.model)


def score(workspace: Workspace, work: Work) -> Path:
    """Score validation and holdout with the exported engine, once; calibration and evaluation share the result."""
    target = work.folder / "scores.npz"
    _card(work, temperature=1.0).write(work.model)
    engine = Engine(work.model, workspace.settings.threads)
    arrays: dict[str, Any] = {}
    for part in ("validation", "holdout"):
        scores = engine.score(_capped(work, part)["text"].tolist())
        arrays |= {f"{part}_logits": scores.logits, f"{part}_embeddings": scores.embeddings}
    np.savez(target, **arrays)
    return target


def calibrate(work: Work, scores: Path) -> float:
    """Fit the temperature on the validation rows and write it into the model's card."""
    spec = get_task(work.request.task)
    truth = _indices(_capped(work, "validation")["label"].tolist(), spec)
    temperature = fit_temperature(np.load(scores)["validation_logits"], truth)
    _card(work, temperature).write(work.model)
    return temperature


def evaluate(workspace: Workspace, work: Work, scores: Path, run_id: str) -> Evaluation:
    """Measure the calibrated model on the holdout; keep metrics and pictures, and write the reference window."""
    spec = get_task(work.request.task)
    frame = _capped(work, "holdout")
    probabilities = _probabilities(work, scores, "holdout")
    evaluation = evaluate_scores(probabilities, frame, spec)
    write_reference(work.model, *_unseen(work, scores), spec)
    work.pictures.mkdir(exist_ok=True)
    draw_confusion(evaluation, spec, work.pictures / "confusion.png")
    draw_calibration(probabilities, _indices(frame["label"].tolist(), spec), work.pictures / "calibration.png")
    track.log_evaluation(workspace.registry, run_id, evaluation, work.pictures)
    return evaluation


def register(workspace: Workspace, work: Work, run_id: str, evaluation: Evaluation) -> ModelVersion:
    """Register the model folder, byte for byte, as the task's next version, and say so in the ledger."""
    request = work.request
    refuse_code(work.model)
    manifest_sha256 = digest(manifest(work.model))
    made = workspace.registry.create(
        request.task,
        work.model,
        run_id,
        tags={
            "undertone.manifest_sha256": manifest_sha256,
            "undertone.data_sha256": work.data_sha256,
            "undertone.trainer": request.trainer,
            "undertone.macro_f1": f"{evaluation.macro_f1:.4f}",
            "undertone.synthetic": str(work.synthetic).lower(),
        },
    )
    workspace.ledger.append(
        "registered",
        request.task,
        at=request.now,
        actor=request.trainer,
        reason=f"{request.effort} training on {request.source}",
        version=made.version,
        payload={
            "run_id": run_id,
            "manifest_sha256": manifest_sha256,
            "data_sha256": work.data_sha256,
            "rows": work.rows,
            "macro_f1": evaluation.macro_f1,
        },
    )
    return made


def judge(workspace: Workspace, work: Work, scores: Path, made: ModelVersion, evaluation: Evaluation) -> GateVerdict:
    """Run the gate on the bytes that evaluation scored, against the champion on the same holdout."""
    spec = get_task(work.request.task)
    frame = _capped(work, "holdout")
    champion = workspace.registry.champion(work.request.task)
    if champion is None:
        verdict = decide(
            evaluation, None, spec.gate, challenger_labels=spec.labels, champion_labels=None, paired=None
        )
    else:
        rival = _champion_scores(workspace, work, champion, frame, spec)
        verdict = _compare(workspace, work, evaluation, rival, frame, spec)
    _record_verdict(workspace, work, made, verdict, champion)
    return verdict


def _champion_scores(
    workspace: Workspace, work: Work, champion: ModelVersion, frame: DataFrame, spec: TaskSpec
) -> tuple[Sequence[str], Any] | UndertoneError:
    folder = work.folder / "champion"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        engine = Engine(workspace.registry.download(champion.task, champion.version, folder), workspace.settings.threads)
        return engine.labels, engine.score(frame["text"].tolist()).probabilities
    except UndertoneError as error:
        return error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
