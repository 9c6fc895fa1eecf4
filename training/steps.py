"""The steps of a training, one verb each, over a work folder. Plain functions: the flow wraps them.

Each step leaves its result on disk, in MLflow or in the ledger, and does nothing when the result is already there,
which is all that resuming takes, wherever a kill came.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training import base_model, lineage, spent, track
from training.calibrate import fit_temperature
from training.card import card
from training.contest import hold_contest
from training.data import Splits, load, split, summary
from training.distributed import Launch
from training.evaluate import Evaluation, class_indices, draw_calibration, draw_confusion, write_reference
from training.evaluate import evaluate as evaluate_scores
from training.evidence import digests, holdout_sha256, write_evidence
from training.feedback import FEEDBACK
from training.fidelity import Fidelity, compare_engines
from training.gate import GateVerdict
from training.partners import Answers, read_settled, settle
from training.subsample import subsample
from training.trunk import OWN, freeze
from training.verdict import show
from training.work import Request, Work, open_work, whole
from undertone import governance
from undertone.card_description import description
from undertone.confusions import record_confusions
from undertone.engine import Engine, Scores, calibrated
from undertone.errors import UndertoneError, VerificationError
from undertone.evidence import FOLDER
from undertone.model_folder import (
    CARD,
    EXACT,
    INT8,
    Lineage,
    ModelCardData,
    digest,
    graphs_of,
    manifest,
    refuse_code,
)
from undertone.records import utc
from undertone.registry import ModelVersion
from undertone.tasks import get_task
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame


log = logging.getLogger("undertone.training")

#: Splits that the model never trained on.
_UNSEEN = ("validation", "holdout")


def prepare(workspace: Workspace, request: Request, root: Path | None = None) -> Work:
    """Load, check and split the data, and open the work folder on it, in `root` or where trainings have theirs."""
    spec = get_task(request.task)
    base = base_model.resolve(request.base_model or spec.base_model)
    base.require_room(spec.max_tokens, spec.name)
    log.info("%s: reading %s", request.task, request.source)
    table = load(
        request.source,
        spec,
        text_column=request.text_column,
        label_column=request.label_column,
        store=workspace.store,
        until=request.now,
        rows_until=request.rows_until,
    )
    splits = split(table, spec, request.seed)
    told = _summary(splits)
    log.info("%s", told)
    return open_work(root or workspace.settings.state_dir / "work", request, splits, base.sha256, told)


def begin(workspace: Workspace, work: Work) -> str:
    """Open (or reopen) the MLflow run of this training; gives its id."""
    effort, request = work.request.hyperparameters, work.request
    asked = {"task": request.task, "source": request.source, "seed": request.seed, "data_sha256": work.data_sha256}
    parameters = {f"effort.{key}": value for key, value in effort.model_dump().items()} | asked
    parameters |= {f"feedback.{key}": value for key, value in FEEDBACK.model_dump().items()}
    parameters["threads"] = workspace.settings.threads
    return track.open_run(workspace.registry, work, parameters)


def finetune(workspace: Workspace, work: Work, run_id: str) -> Path:
    """Fine-tune the base model; goes on from the last checkpoint where there is one."""
    from training.finetune import finetune as fit

    if work.finetuned.is_file():
        return Path(work.finetuned.read_text())
    spec, request = get_task(work.request.task), work.request
    base = base_model.resolve(request.base_model or spec.base_model).path
    effort = request.hyperparameters
    folder = fit(
        work.rows_of("train"),
        work.rows_of("validation"),
        spec,
        freeze(effort, base) if request.trunk not in (None, OWN) else effort,
        base_model=base,
        seed=request.seed,
        checkpoints=work.checkpoints,
        log=track.curves(workspace.registry, run_id),
        threads=workspace.settings.threads,
        launch=Launch(
            workspace.settings.train_processes, workspace.settings.train_nodes, workspace.settings.train_rendezvous
        ),
    )
    with whole(work.finetuned) as fresh:
        fresh.write_text(str(folder))
    return folder


def export(work: Work, finetuned: Path) -> Path:
    """Build the model folder: MLflow's flavour, the engine's graph, the tokenizer."""
    from training.export import assemble

    if work.scores.is_file():
        return work.model
    log.info("%s: exporting the model folder", work.request.task)
    shutil.rmtree(work.model, ignore_errors=True)  # a half-built folder of an interrupted export
    return assemble(finetuned, get_task(work.request.task), work.model, split=work.request.trunk is not None)


def score(workspace: Workspace, work: Work) -> Path:
    """Score validation and holdout, once, and choose the engine that serves: all that follows uses its answers.

    The exact engine's holdout logits are kept beside them, for the gate.
    """
    if work.scores.is_file():
        return work.scores
    log.info("%s: scoring validation and holdout", work.request.task)
    card = _card(work)
    card.write(work.model)
    engine = Engine(work.model, workspace.settings.threads, engine=EXACT)
    validation, holdout = (engine.score(_capped(work, part)["text"].tolist()) for part in _UNSEEN)
    exact = holdout.logits
    if (faster := _faster_engine(workspace, work, validation)) is not None:
        engine, validation, agreement = faster
        holdout = engine.score(_capped(work, "holdout")["text"].tolist())
        card.model_copy(update={"engine": engine.name, "agreement": agreement}).write(work.model)
    with whole(work.scores) as fresh:
        np.savez(
            fresh,
            validation_logits=validation.logits,
            validation_embeddings=validation.embeddings,
            holdout_logits=holdout.logits,
            holdout_embeddings=holdout.embeddings,
            holdout_exact_logits=exact,
        )
    return work.scores


def calibrate(work: Work, scores: Path) -> float:
    """Fit the temperature on the validation rows and write it into the model's card."""
    if work.settled.is_file():
        return ModelCardData.read(work.model).temperature
    spec = get_task(work.request.task)
    truth = class_indices(_capped(work, "validation")["label"], spec)
    temperature = fit_temperature(np.load(scores)["validation_logits"], truth)
    ModelCardData.read(work.model).model_copy(update={"temperature": temperature}).write(work.model)
    return temperature


def evaluate(workspace: Workspace, work: Work, scores: Path, run_id: str) -> Evaluation:
    """Measure the calibrated model on the holdout; keep metrics and pictures, and write the reference window."""
    spec = get_task(work.request.task)
    frame = _capped(work, "holdout")
    probabilities = _probabilities(work, scores, "holdout")
    evaluation = evaluate_scores(probabilities, frame, spec)
    if work.settled.is_file():
        return evaluation
    write_reference(work.model, *_unseen(work, scores), spec)
    shutil.rmtree(_evidence(work))  # what an interrupted training left
    folder = _evidence(work)
    draw_confusion(evaluation, spec, folder / "confusion.png")
    draw_calibration(probabilities, class_indices(frame["label"], spec), folder / "calibration.png")
    track.log_evaluation(workspace.registry, run_id, evaluation, folder)
    return evaluation


def join(workspace: Workspace, work: Work, scores: Path, run_id: str) -> None:
    """Join sentiment with what the champions of sarcasm and emotion hear, and choose when a person is asked."""
    if work.settled.is_file():
        return
    spec = get_task(work.request.task)
    validation, holdout = (
        Answers(frame, class_indices(frame["label"], spec), _probabilities(work, scores, part))
        for part, frame in ((part, _capped(work, part)) for part in _UNSEEN)
    )
    metrics = settle(workspace, spec, work.model, validation, holdout, _evidence(work))
    for name, value in metrics.items():
        workspace.registry.client.log_metric(run_id, name, value)


def register(workspace: Workspace, work: Work, run_id: str, evaluation: Evaluation) -> ModelVersion:
    """Register the model folder, byte for byte, as the task's next version, and say so in the ledger.

    A version that the run made before a kill is taken up as it is, and what the ledger lacks of it is added.
    """
    request = work.request
    work.settled.touch()
    refuse_code(work.model)
    manifest_sha256 = digest(manifest(work.model))
    cost = spent.read(work.spent)
    claim = governance.claim(workspace, request.task, manifest_sha256, work.data_sha256, request.trainer)
    made = workspace.registry.made_by(run_id, request.task, manifest_sha256) or workspace.registry.create(
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
    record_confusions(workspace.store, get_task(request.task), made.version, evaluation.confusion)
    if workspace.ledger.latest(request.task, ["registered"], made.version) is not None:
        return made
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
            "spent": {"cpu_s": round(cost.cpu_s, 1), "wall_s": round(cost.wall_s, 1)},
            "claim": claim.model_dump() if claim else None,
        },
    )
    return made


def judge(workspace: Workspace, work: Work, scores: Path, made: ModelVersion, evaluation: Evaluation) -> GateVerdict:
    """Run the gate on what evaluation measured, against the champion's own bytes on the same holdout.

    The verdict goes on the version (a tag and the description) and into the ledger, with the digests of the evidence
    that goes into the run. A champion that cannot be scored is a requirement not met: the gate fails closed. A verdict
    that stands in the ledger is not given a second time.
    """
    judged = workspace.ledger.latest(work.request.task, ["gate"], made.version)
    if judged is not None and judged.payload.get("manifest_sha256") == made.tags["undertone.manifest_sha256"]:
        return GateVerdict.of(judged.payload)
    spec, policy = get_task(work.request.task), workspace.settings.gate_policy(work.request.task)
    champion = workspace.registry.champion(work.request.task)
    log.info("%s: the gate, against %s", spec.name, f"version {champion.version}" if champion else "its policy alone")
    with _champion_engine(workspace, work, champion) as engine:
        contest = hold_contest(
            _capped(work, "holdout"),
            spec,
            policy,
            evaluation=evaluation,
            probabilities=_probabilities(work, scores, "holdout"),
            fidelity=_served_fidelity(work, scores),
            challenger=Engine(work.model, workspace.settings.threads),
            champion=engine,
            champion_labels=engine.labels if engine else None if champion is None else (),
        )
    write_evidence(_evidence(work), contest, evaluation, policy)
    write_card(work, made, evaluation, contest.verdict)
    _record(workspace, work, made, contest.verdict, champion)
    return contest.verdict


def outcome(made: ModelVersion, evaluation: Evaluation, verdict: GateVerdict) -> dict[str, Any]:
    """What a training came to, as JSON-ready values."""
    return {
        "task": made.task,
        "version": made.version,
        "run_id": made.run_id,
        "macro_f1": evaluation.macro_f1,
        "evaluation": evaluation.as_dict(),
        **verdict.as_dict(),
    }


def _summary(splits: Splits) -> str:
    """What goes into logs and MLflow: names of files, but no customer's words, for nobody could erase them there."""
    kept = {"unused_file", "unused_split"}
    repairs = (item if item.name in kept else replace(item, example="") for item in splits.repairs)
    return summary(replace(splits, repairs=tuple(repairs)))


@contextmanager
def _champion_engine(workspace: Workspace, work: Work, champion: ModelVersion | None) -> Iterator[Engine | None]:
    """An engine on the champion's registered bytes; None where there is no champion or it does not load."""
    folder = work.folder / "champion"
    shutil.rmtree(folder, ignore_errors=True)
    engine = None
    try:
        if champion is not None:
            workspace.registry.download(champion.task, champion.version, folder)
            engine = Engine(folder, workspace.settings.threads)
    except UndertoneError as error:
        log.warning("the champion %s cannot be scored: %s", champion, error)
    try:
        yield engine
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _record(
    workspace: Workspace, work: Work, made: ModelVersion, verdict: GateVerdict, champion: ModelVersion | None
) -> None:
    registry, request, folder = workspace.registry, work.request, _evidence(work)
    holdout, evidence = _capped(work, "holdout"), digests(folder)
    registry.client.log_artifacts(made.run_id, str(folder), FOLDER)
    registry.tag(made.task, made.version, {"undertone.gate": "passed" if verdict.passed else "failed"})
    registry.describe(made.task, made.version, description((folder / CARD).read_text(encoding="utf-8")))
    refused = "; ".join(
        f"{line.name} {show(line.found)}, required {line.required}" for line in verdict.lines if not line.passed
    )
    workspace.ledger.append(
        "gate",
        request.task,
        at=request.now,
        actor="gate",
        reason=refused or f"every requirement holds ({verdict.verdict})",
        version=made.version,
        payload={
            **verdict.as_dict(),
            "manifest_sha256": made.tags["undertone.manifest_sha256"],
            "champion": champion.version if champion else None,
            "policy": workspace.settings.gate_policy(request.task).model_dump(),
            "holdout_sha256": holdout_sha256(holdout),
            "holdout_rows": len(holdout),
            "evidence": evidence,
        },
    )


def write_card(work: Work, made: ModelVersion, evaluation: Evaluation, verdict: GateVerdict) -> Path:
    """Write the model card among the evidence."""
    base = base_model.resolve(work.request.base_model or get_task(work.request.task).base_model)
    path = _evidence(work) / CARD
    text = card(
        get_task(work.request.task),
        ModelCardData.read(work.model).lineage,
        evaluation.as_dict(),
        verdict.as_dict(),
        spent.read(work.spent),
        work.summary,
        version=made.version,
        licence=base.licence,
        **read_settled(path.parent),
    )
    path.write_text(text, encoding="utf-8")
    return path


def _evidence(work: Work) -> Path:
    """The folder of files that the gate's ledger row names by digest."""
    folder = work.folder / "evidence"
    folder.mkdir(exist_ok=True)
    return folder


def _faster_engine(workspace: Workspace, work: Work, exact: Scores) -> tuple[Engine, Scores, float] | None:
    """The int8 engine, its answers on validation and their agreement with the `exact` ones, where it may serve.

    Where it may not, its graph leaves the model folder.
    """
    graphs, task = graphs_of(work.model, INT8), work.request.task
    if not all(graph.is_file() for graph in graphs):
        return None
    try:
        engine = Engine(work.model, workspace.settings.threads, engine=INT8)
        answers = engine.score(_capped(work, "validation")["text"].tolist())
        fidelity = _fidelity(work, "validation", INT8, answers.logits, exact.logits)
        if fidelity.holds(workspace.settings.gate_policy(task)):
            log.info("%s: served by %s", task, fidelity)
            return engine, answers, fidelity.agreement
        log.warning("%s: served by the exact engine, for on validation %s", task, fidelity)
    except VerificationError as error:
        log.warning("%s: served by the exact engine, for the other does not load: %s", task, error)
    for graph in graphs:
        graph.unlink()
    return None


def _fidelity(work: Work, part: str, engine: str, logits: NDArray[Any], exact: NDArray[Any]) -> Fidelity:
    truth = class_indices(_capped(work, part)["label"], get_task(work.request.task))
    return compare_engines(engine, logits, exact, truth)


def _served_fidelity(work: Work, scores: Path) -> Fidelity:
    """The engine that serves beside the exact one, on the holdout."""
    arrays, engine = np.load(scores), ModelCardData.read(work.model).engine
    return _fidelity(work, "holdout", engine, arrays["holdout_logits"], arrays["holdout_exact_logits"])


def _card(work: Work) -> ModelCardData:
    """What is known of the model before anything is measured."""
    spec, request = get_task(work.request.task), work.request
    base = base_model.resolve(request.base_model or spec.base_model)
    return ModelCardData(
        task=spec.name,
        labels=spec.labels,
        max_tokens=spec.max_tokens,
        temperature=1.0,
        newest_label_at=work.newest_at,
        lineage=Lineage(
            source=request.source,
            text_column=request.text_column,
            label_column=request.label_column,
            data_sha256=work.data_sha256,
            rows=work.rows,
            commit=lineage.commit(),
            lock_sha256=lineage.lock_sha256(),
            trainer=request.trainer,
            trained_at=utc(request.now),
            rows_until=utc(request.rows_until) if request.rows_until else None,
            seed=request.seed,
            effort=request.effort,
            overrides=dict(request.overrides),
            base_model=request.base_model or spec.base_model,
            base_model_sha256=base.sha256,
            base_model_origin=base.origin,
            base_model_licence=base.licence,
            base_model_family=base.family,
            base_model_max_tokens=base.max_tokens,
            tokenizer=base.tokenizer,
            trunk=request.trunk,
            synthetic=work.synthetic,
        ),
    )


def _capped(work: Work, part: str) -> DataFrame:
    """The rows of a split that the effort looks at; of the recent holdout all, up to half of them.

    It is small beside the frozen one: an even sample would leave too few rows to judge it by.
    """
    import pandas as pd

    request, frame = work.request, work.rows_of(part)
    spec, limit = get_task(request.task), request.hyperparameters.max_eval_rows
    recent = frame["holdout"] == "recent" if "holdout" in frame else pd.Series(False, index=frame.index)
    if limit is None or len(frame) <= limit or not recent.any() or recent.all():
        return subsample(frame, spec, limit, request.seed)
    new = subsample(frame[recent], spec, max(limit // 2, limit - int((~recent).sum())), request.seed)
    old = subsample(frame[~recent], spec, limit - len(new), request.seed)
    return pd.concat([old, new]).sort_index()


def _probabilities(work: Work, scores: Path, part: str) -> NDArray[Any]:
    return calibrated(np.load(scores)[f"{part}_logits"], ModelCardData.read(work.model).temperature)


def _unseen(work: Work, scores: Path) -> tuple[DataFrame, Scores]:
    """Validation and holdout together, with their calibrated scores: rows the model never trained on."""
    import pandas as pd

    arrays = np.load(scores)
    frame = pd.concat([_capped(work, part) for part in _UNSEEN], ignore_index=True)
    logits = np.concatenate([arrays[f"{part}_logits"] for part in _UNSEEN])
    return frame, Scores(
        logits=logits,
        probabilities=calibrated(logits, ModelCardData.read(work.model).temperature),
        embeddings=np.concatenate([arrays[f"{part}_embeddings"] for part in _UNSEEN]),
        truncated=np.zeros(len(frame), dtype=np.bool_),
    )
