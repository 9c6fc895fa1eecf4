"""Before a model is registered: what other champions hear is joined, and where it is unsure a person is asked."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.draw import draw_risk_coverage
from training.evaluate import expected_calibration_error
from training.join import Heard, compare, fit_join, joined, sarcastic
from training.selective import choose_threshold, report, risk_coverage
from training.slices import membership
from training.sources import parts
from undertone import governance
from undertone.engine import Engine
from undertone.errors import UndertoneError
from undertone.join import EMOTION, SARCASM, SARCASTIC, SENTIMENT, Join, Partner
from undertone.model_folder import JOIN, MODEL, ModelCardData
from undertone.tasks import TaskSpec
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("undertone.training")

#: Names in the evidence folder.
REVIEW, JOINED, CURVE = "review.json", "join.json", "risk-coverage.png"


@dataclass(frozen=True)
class Answers:
    """A model's answers on a split: its rows, their true class indices [n], calibrated probabilities [n, labels]."""

    frame: DataFrame
    truth: NDArray[Any]
    probabilities: NDArray[Any]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest label is the true one, bool [n]."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.truth)

    @property
    def confidence(self) -> NDArray[Any]:
        """The largest probability [n]."""
        return np.asarray(self.probabilities.max(axis=1))

    def saying(self, probabilities: NDArray[Any]) -> Answers:
        """The same rows with other answers."""
        return Answers(self.frame, self.truth, probabilities)


def settle(
    workspace: Workspace, spec: TaskSpec, model: Path, validation: Answers, holdout: Answers, evidence: Path
) -> dict[str, float]:
    """Choose below which confidence a person is asked; for sentiment, fit the join with sarcasm first.

    All is fitted on validation and measured on the holdout. The model folder gets ``review_below`` and, with a sarcasm
    champion, the join; the evidence gets what was measured.

    Args:
        workspace: whose approved champions are heard.
        spec: the task.
        model: its folder, before it is registered.
        validation: rows to fit on.
        holdout: rows to report on.
        evidence: the folder of files that the gate's ledger row names.

    Returns:
        Metrics by name.
    """
    card = ModelCardData.read(model)
    threshold = choose_threshold(validation.confidence, validation.right, spec.review)
    card.model_copy(update={"review_below": threshold.review_below}).write(model)
    told = {"own": report(threshold, holdout.confidence, holdout.right, spec.review)}
    curve = risk_coverage(holdout.confidence, holdout.right)
    curves = {"the model": (curve.coverage, curve.risk)}
    metrics = {"holdout_aurc": curve.aurc}
    (model / JOIN).unlink(missing_ok=True)  # what an interrupted training left
    final = _hear(workspace, spec, model, card, validation, holdout, evidence)
    if final is not None:
        join, cross_validated, measured, metrics_of_join = final
        limit = choose_threshold(cross_validated.confidence, cross_validated.right, spec.review)
        join.model_copy(update={"review_below": limit.review_below}).write(model)
        metrics |= metrics_of_join
        if join.adopted:
            told["final"] = report(limit, measured.confidence, measured.right, spec.review)
            curve = risk_coverage(measured.confidence, measured.right)
            curves["sarcasm heard"] = (curve.coverage, curve.risk)
            metrics["holdout_final_aurc"] = curve.aurc
    kept = told.get("final", told["own"])["holdout"]["coverage"]
    draw_risk_coverage(curves, kept, spec.review, evidence / CURVE)
    _write(evidence / REVIEW, told)
    return metrics


def read_settled(evidence: Path) -> dict[str, Any]:
    """What `settle` left in the evidence, by name: ``review`` and, where a join was fitted, ``join``."""
    found = {}
    for key, name in (("review", REVIEW), ("join", JOINED)):
        if (evidence / name).is_file():
            found[key] = json.loads((evidence / name).read_text(encoding="utf-8"))
    return found


def _hear(
    workspace: Workspace,
    spec: TaskSpec,
    model: Path,
    card: ModelCardData,
    validation: Answers,
    holdout: Answers,
    evidence: Path,
) -> tuple[Join, Answers, Answers, dict[str, float]] | None:
    """The join, what it says on left-out folds of validation and on the holdout, and its metrics; None without one."""
    if spec.name != SENTIMENT:
        return None
    heard: dict[str, tuple[Heard, NDArray[Any]]] = {}
    cautions: list[str] = []
    for task in (SARCASM, EMOTION):
        found = _partner(workspace, task, card, validation, holdout, model.parent / "partner", cautions)
        if found is not None:
            heard[task] = found
    if SARCASM not in heard:
        log.info("%s: no sarcasm champion, so no join: sentiment alone answers", spec.name)
        return None
    fitted = fit_join(
        validation.probabilities,
        {task: item for task, (item, _) in heard.items()},
        validation.truth,
        _cues(validation.frame),
        spec.labels,
        keys=validation.frame["text"].tolist(),
        seed=card.lineage.seed,
    )
    join = fitted.join
    log.info("%s: the join with sarcasm is %s: %s", spec.name, "adopted" if join.adopted else "not adopted", join.why)
    final = holdout.saying(joined(join, holdout.probabilities, {task: values for task, (_, values) in heard.items()}))
    sarcasm = Heard(heard[SARCASM][0].partner, heard[SARCASM][1])
    signs = _cues(holdout.frame) | (sarcastic(sarcasm) >= 0.5)
    parts_of = compare(
        holdout.truth,
        holdout.probabilities.argmax(axis=1),
        final.probabilities.argmax(axis=1),
        signs,
        len(spec.labels),
        holdout.frame["text"].tolist(),
    )
    error = expected_calibration_error(final.probabilities, holdout.truth)
    _write(
        evidence / JOINED,
        {
            **fitted.report,
            "partners": {task: partner.model_dump() for task, partner in join.partners.items()},
            "holdout": parts_of,
            "ece": error,
            "cautions": cautions,
        },
    )
    metrics = {"holdout_final_macro_f1": parts_of[0]["final"], "holdout_final_ece": error}
    return join, validation.saying(fitted.probabilities), final, metrics


def _partner(
    workspace: Workspace,
    task: str,
    card: ModelCardData,
    validation: Answers,
    holdout: Answers,
    scratch: Path,
    cautions: list[str],
) -> tuple[Heard, NDArray[Any]] | None:
    """What the approved champion of `task` says of validation and holdout; None where there is none that verifies."""
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        champion = workspace.registry.champion(task)
        if champion is None:
            return None
        statement = governance.fetch(workspace, task, champion.version, scratch)
        engine = Engine(scratch / MODEL, workspace.settings.threads)
        if task == SARCASM and SARCASTIC not in engine.labels:
            log.warning("%s %s has no label %r: it is not heard", task, champion.version, SARCASTIC)
            return None
        log.info("%s: scoring the same rows with %s, version %s", card.task, task, champion.version)
        values = [engine.score(part.frame["text"].tolist()).probabilities for part in (validation, holdout)]
    except UndertoneError as error:
        log.warning("the %s champion is not heard: %s", task, error)
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if engine.card.lineage.seed != card.lineage.seed and set(parts(engine.card.lineage.source)) & set(
        parts(card.lineage.source)
    ):
        cautions.append(f"{task} {champion.version} was trained with another seed: it may know some of these rows")
        log.warning("%s: %s", card.task, cautions[-1])
    partner = Partner(version=champion.version, manifest_sha256=statement.manifest_sha256, labels=tuple(engine.labels))
    return Heard(partner, values[0]), values[1]


def _cues(frame: DataFrame) -> NDArray[np.bool_]:
    return membership(frame, ["sarcasm_cue"]).get("sarcasm_cue=yes", np.zeros(len(frame), dtype=np.bool_))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
