"""What training writes is what the console reads; what it does not know is missing, and stops no page."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from console import figures
from training.behaviour import Check
from training.contest import differing_rows
from training.evaluate import evaluate
from training.latency import Latency
from training.verdict import GateLine, GateVerdict, SliceLine
from undertone.tasks import SENTIMENT

NOTHING: tuple[Any, ...] = (None, [], {}, "words", 7, [None], {"slices": 3, "behaviour": [{}], "confusion": [[1]]})


def test_trainings_evaluation_and_verdict_are_read_whole() -> None:
    dice = np.random.default_rng(3)
    ours, theirs = dice.dirichlet([1, 1, 1], (2, 90))
    labels = [SENTIMENT.labels[index] for index in dice.integers(0, 3, 90)]
    frame = pd.DataFrame({"text": [f"message {n}" for n in range(90)], "label": labels, "channel": ["chat"] * 90})
    mine, other = (evaluate(answers, frame, SENTIMENT).as_dict() for answers in (ours, theirs))
    part = SliceLine("channel=chat", 90, 0.4, 0.3, 0.1, (-0.1, 0.2), 0.2, holds=True, too_few=False)
    line = GateLine("rows", True, 90, "at least 9")
    check = Check("one typo", 9, 8, ({"text": "a", "changed": "b", "answer": "x", "changed_answer": "y"},))
    verdict = GateVerdict(
        True, "better", (line,), 0.1, (0.0, 0.2), 0.5, (part,), latency=Latency(3.0, 2.0), behaviour=(check,)
    )
    judged = verdict.as_dict(texts=True)

    head, *rest = figures.metrics(mine, other, judged)
    assert None not in (head.ours, head.theirs, head.difference, head.ours_interval, head.theirs_interval)
    assert head.difference_interval == (0.0, 0.2)
    assert all(row.ours is not None and row.theirs is not None for row in rest)
    assert [row.name for row in figures.slices(mine, other, judged)] == ["channel=chat"]
    assert {row.name for row in figures.slices(mine, other, {})} == {"channel=chat", "length=short"}
    assert figures.behaviour(judged) == [figures.Check("one typo", 9, 8, pytest.approx(8 / 9), (("a → x", "b → y"),))]
    took = figures.latency(judged)
    assert took is not None
    assert (took.ours, took.theirs) == (3.0, 2.0)
    matrix = figures.matrix(mine, SENTIMENT.labels)
    assert matrix is not None
    assert [[cell.count for cell in row] for row in matrix.rows] == mine["confusion"]
    rows = differing_rows(frame, SENTIMENT.labels, ours, theirs)
    found = figures.differences(rows)
    assert len(found) == len(rows) > 9
    assert {item.outcome for item in found} == {"worse", "better", "neither"}
    assert found[0].where == "chat"


@pytest.mark.parametrize("value", NOTHING)
def test_evidence_of_another_shape_is_missing(value: Any) -> None:
    assert all(row.ours is None for row in figures.metrics(value, value, value))
    assert figures.matrix(value, SENTIMENT.labels) is None
    assert figures.slices(value, value, value) == []
    assert figures.latency(value) is None
    assert figures.differences(value) == []
    assert all(check.cases is None for check in figures.behaviour(value))
