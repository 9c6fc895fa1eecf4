from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from training.contest import DIFFERENCES, differing_rows, hold_contest
from training.evaluate import evaluate
from training.evidence import digests, holdout_sha256, write_evidence
from training.fidelity import Fidelity
from undertone.tasks import GatePolicy, TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad"), praise_label="glad")
POLICY = GatePolicy(floor=0.5, max_ece=1.0, min_negation=0.9, max_latency_ratio=100)
FRAME = pd.DataFrame(
    {
        "text": [f"message {number} is {'good' if number % 2 else 'bad'}" for number in range(300)],
        "label": ["glad" if number % 2 else "sad" for number in range(300)],
        "channel": ["chat", "email", None] * 100,
    }
)


class Toy:
    """Reads good, bad, praise and not; mistakes every message whose number ends as told."""

    def __init__(self, wrong: str = "never", labels: tuple[str, ...] = SPEC.labels) -> None:
        self.labels, self.wrong = labels, wrong

    def score(self, texts):
        glad = np.array([self._glad(text) for text in texts])
        return SimpleNamespace(probabilities=np.column_stack([1 - glad, glad]))

    def _glad(self, text: str) -> float:
        if " not " in text:
            return 0.3
        glad = 0.1 if " bad" in text else 0.9
        return 1 - glad if f"{self.wrong} is" in text else glad


def contest(challenger: Toy, champion: Toy | None, **changes):
    probabilities = challenger.score(FRAME["text"]).probabilities
    arguments = {
        "evaluation": evaluate(probabilities, FRAME, SPEC),
        "probabilities": probabilities,
        "fidelity": Fidelity("onnx-int8", 0.98, 0.8, 0.8),
        "challenger": challenger,
        "champion": champion,
        "champion_labels": champion.labels if champion else None,
    }
    return hold_contest(FRAME, SPEC, POLICY, **arguments | changes)


def test_a_better_challenger_wins_and_the_differences_are_shown():
    found = contest(Toy(), Toy("7"))
    assert found.verdict.passed, found.verdict.lines
    assert found.verdict.verdict == "better"
    assert found.champion.accuracy == pytest.approx(0.9)
    assert len(found.differences) == 30
    assert found.differences[0]["text"] == "message 7 is good"
    assert found.differences[0]["challenger"] == found.differences[0]["label"] == "glad"
    assert found.differences[0]["champion"] == "sad"
    assert {row["channel"] for row in found.differences} == {"chat", "email", None}


def test_the_first_model_is_timed_and_checked_alone():
    found = contest(Toy(), None)
    assert (found.verdict.verdict, found.verdict.passed) == ("first", True)
    assert found.champion is found.differences is None


@pytest.mark.parametrize("labels", [(), ("glad", "sad")])
def test_a_champion_that_cannot_be_compared_refuses(labels):
    champion = Toy(labels=labels) if labels else None
    found = contest(Toy(), champion, champion_labels=labels)
    assert not found.verdict.passed
    assert found.champion is None


def test_differences_are_capped_and_the_most_confident_come_first():
    frame = pd.DataFrame({"text": [str(n) for n in range(500)], "label": ["sad"] * 500})
    ours = np.column_stack([np.linspace(0.5, 1, 500), np.linspace(0.5, 0, 500)])
    rows = differing_rows(frame, SPEC.labels, ours, ours[:, ::-1])
    assert len(rows) == DIFFERENCES
    assert rows[0]["text"] == "499"
    assert rows[0]["segment"] is None


def test_evidence_is_complete_plain_and_named_by_its_digests(tmp_path):
    found = contest(Toy(), Toy("7"))
    evaluation = evaluate(Toy().score(FRAME["text"]).probabilities, FRAME, SPEC)
    write_evidence(tmp_path, found, evaluation, POLICY)
    named = digests(tmp_path)
    assert sorted(named) == ["champion.json", "differences.json", "gate.json", "gate.png", "holdout.json"]
    for name, digest in named.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert json.loads((tmp_path / "gate.json").read_text()) == found.verdict.as_dict(texts=True)
    assert (tmp_path / "gate.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_models_evidence_has_no_champion(tmp_path):
    write_evidence(tmp_path, contest(Toy(), None), evaluate(np.eye(2)[[0, 1] * 150], FRAME, SPEC), POLICY)
    assert sorted(digests(tmp_path)) == ["gate.json", "gate.png", "holdout.json"]


def test_the_holdouts_fingerprint_does_not_depend_on_order():
    assert holdout_sha256(FRAME) == holdout_sha256(FRAME.iloc[::-1])
    assert holdout_sha256(FRAME) != holdout_sha256(FRAME.iloc[1:])
