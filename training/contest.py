"""Challenger against champion: both engines on the same rows, timed and checked, then judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.behaviour import check_behaviour
from training.evaluate import Evaluation, class_indices, evaluate
from training.fidelity import Fidelity
from training.gate import GateVerdict, Paired, decide
from training.latency import measure_latency
from training.slices import membership
from undertone.engine import Engine
from undertone.tasks import GatePolicy, TaskSpec

if TYPE_CHECKING:
    from pandas import DataFrame

#: Rows of the holdout shown where challenger and champion differ.
DIFFERENCES = 200


@dataclass(frozen=True)
class Contest:
    """What came of it.

    Attributes:
        verdict: the gate's.
        champion: the champion's evaluation; None where there is none, or it cannot be compared.
        differences: rows on which the two differ, as `differing_rows` gives them; None without a comparison.
    """

    verdict: GateVerdict
    champion: Evaluation | None
    differences: list[dict[str, Any]] | None


def hold_contest(
    frame: DataFrame,
    spec: TaskSpec,
    policy: GatePolicy,
    *,
    evaluation: Evaluation,
    probabilities: NDArray[Any],
    fidelity: Fidelity | None,
    challenger: Engine,
    champion: Engine | None,
    champion_labels: Sequence[str] | None,
) -> Contest:
    """Score, time and check both models, and let the gate decide.

    Args:
        frame: the holdout.
        spec: the task.
        policy: the gate's limits.
        evaluation: the challenger's, on `frame`.
        probabilities: the challenger's calibrated answers [n, labels].
        fidelity: the challenger's engine beside the exact one, on `frame`.
        challenger: its engine.
        champion: its engine; None where there is none, or its bytes do not load.
        champion_labels: None where there is no champion; empty where its bytes do not load.
    """
    texts = frame["text"].tolist()
    theirs, rival, paired = None, None, None
    if champion is not None and champion.labels == spec.labels:
        theirs = champion.score(texts).probabilities
        rival = evaluate(theirs, frame, spec)
        paired = Paired(
            truth=class_indices(frame["label"], spec),
            challenger=probabilities.argmax(axis=1),
            champion=theirs.argmax(axis=1),
            keys=texts,
            slices=membership(frame, spec.slices),
        )
    verdict = decide(
        evaluation,
        rival,
        policy,
        challenger_labels=spec.labels,
        champion_labels=champion_labels,
        paired=paired,
        fidelity=fidelity,
        latency=measure_latency(texts, challenger.score, champion.score if champion else None),
        behaviour=check_behaviour(
            lambda asked: challenger.score(asked).probabilities, texts, spec.labels, spec.praise_label
        ),
    )
    return Contest(
        verdict, rival, None if theirs is None else differing_rows(frame, spec.labels, probabilities, theirs)
    )


def differing_rows(
    frame: DataFrame, labels: Sequence[str], ours: NDArray[Any], theirs: NDArray[Any]
) -> list[dict[str, Any]]:
    """The rows on which the two models' labels differ, the challenger's most confident first, `DIFFERENCES` at most.

    Args:
        frame: n rows with ``text`` and ``label``.
        labels: label words in the order of the probabilities.
        ours: the challenger's probabilities [n, labels].
        theirs: the champion's.
    """
    answers, rivals = ours.argmax(axis=1), theirs.argmax(axis=1)
    differing = np.flatnonzero(answers != rivals)
    differing = differing[np.argsort(-ours.max(axis=1)[differing], kind="stable")][:DIFFERENCES]
    rows = frame.iloc[differing].to_dict("records")
    return [
        {
            "text": row["text"],
            "label": row["label"],
            "challenger": labels[answers[at]],
            "challenger_confidence": round(float(ours[at].max()), 4),
            "champion": labels[rivals[at]],
            "champion_confidence": round(float(theirs[at].max()), 4),
            **{name: _word(row.get(name)) for name in ("channel", "segment")},
        }
        for row, at in zip(rows, differing.tolist(), strict=True)
    ]


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None
