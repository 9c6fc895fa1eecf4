"""What the card says of sarcasm and of unsure answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from training.card import card
from training.evaluate import evaluate
from training.join import compare
from training.selective import choose_threshold, report
from training.spent import Spent
from training.verdict import GateVerdict
from undertone.model_folder import Lineage
from undertone.tasks import DEFAULT_BASE_MODEL, ReviewPolicy, get_task

SPEC = get_task("sentiment")


def rendered(**changes: Any) -> str:
    frame = pd.DataFrame({"text": [f"word {number}" for number in range(90)], "label": list(SPEC.labels) * 30})
    evaluation = evaluate(np.tile(np.eye(3) * 0.7 + 0.1, (30, 1)), frame, SPEC)
    lineage = Lineage(
        source="s", data_sha256="d", rows=9, commit="c", lock_sha256="e", trainer="tom", seed=7, effort="smoke",
        trained_at=datetime(2026, 10, 5, tzinfo=UTC), base_model=DEFAULT_BASE_MODEL, base_model_sha256="f",
    )  # fmt: skip
    spent = Spent(wall_s=1.0, cpu_s=1.0, peak_memory_bytes=1, energy_wh=0.1, sessions=1)
    verdict = GateVerdict(True, "first", ()).as_dict()
    return card(SPEC, lineage, evaluation.as_dict(), verdict, spent, "| s | a | all |", version=1, **changes)


def reviewed(max_error: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, 2_000)
    right, policy = rng.random(2_000) < confidence, ReviewPolicy(max_error=max_error)
    return report(
        choose_threshold(confidence[:1_000], right[:1_000], policy), confidence[1_000:], right[1_000:], policy
    )


def joined(*, adopted: bool) -> dict[str, Any]:
    truth = np.arange(90) % 3
    parts = compare(truth, np.where(truth == 0, 2, truth), truth, np.arange(90) < 45, 3)
    return {
        "adopted": adopted, "why": "it gains", "partners": {"sarcasm": {"version": 4}}, "holdout": parts, "ece": 0.02,
        "rows": 1_092, "validation": parts, "emotion": None, "cautions": ["sarcasm 4 may know some of these rows"],
    }  # fmt: skip


def test_without_either_the_card_has_no_such_section() -> None:
    text = rendered()
    assert "## Sarcasm" not in text
    assert "## When a person is asked" not in text


@pytest.mark.parametrize("adopted", [True, False])
def test_sarcasm_is_heard_or_not_and_measured_in_three_parts(adopted: bool) -> None:
    text = rendered(join=joined(adopted=adopted))
    assert ("joins this model with sarcasm 4" in text) == adopted
    assert ("sentiment alone answers" in text) != adopted
    for name in ("all messages", "with a sign of sarcasm", "the rest"):
        assert f"| {name} | " in text
    assert "- sarcasm 4 may know some of these rows" in text


def test_the_curve_stands_in_a_table_beside_the_models_own() -> None:
    text = rendered(review={"own": reviewed(0.2), "final": reviewed(0.2)})
    section = text.partition("## When a person is asked")[2].partition("\n## ")[0]
    assert "That was not reached" not in section
    assert [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")][2:] == [
        "100%", "90%", "80%", "70%", "50%",
    ]  # fmt: skip
    assert {line.count("|") for line in section.splitlines() if line.startswith("|")} == {4}
    assert "[risk-coverage.png](risk-coverage.png)" in section


def test_a_target_out_of_reach_is_said() -> None:
    section = rendered(review={"own": reviewed(0.01)}).partition("## When a person is asked")[2]
    assert "That was not reached" in section
