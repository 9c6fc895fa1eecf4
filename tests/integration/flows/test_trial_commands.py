"""A challenger's trial at the command line, over a real registry."""

from collections.abc import Callable
from typing import Any

import pytest

from undertone import trials
from undertone.errors import DecisionError
from undertone.registry import ModelVersion
from undertone.trial_figures import Figures
from undertone.workspace import Workspace

Undertone = Callable[..., Any]


def test_from_a_shadow_to_an_approval(
    undertone: Undertone, workspace: Workspace, register: Callable[..., ModelVersion]
) -> None:
    register()
    undertone("models", "approve", "sentiment", "1")
    assert undertone("models", "trial", "sentiment", "--json") is None
    register(against=1)
    assert "sentiment 2 trial started by ann" in undertone("models", "shadow", "sentiment", "2", "--share", "0.2")
    seen = Figures(
        compared=40, disagreed=4, difference=2.0, timed=4, champion_s=0.02, challenger_s=0.01,
        champion_labels={"positive": 40}, challenger_labels={"positive": 36, "neutral": 4},
        slices={"channel=email": (40, 4)},
    )  # fmt: skip
    row = workspace.ledger.head()[0]
    trials.write_figures(workspace.store, row, "a worker", workspace.ledger.entries(limit=1)[0].at, seen)
    shown = undertone("models", "trial", "sentiment", "--json")
    assert (shown["kind"], shown["version"], shown["champion"], shown["running"]) == ("shadow", 2, 1, True)
    assert (shown["figures"]["agreement"], shown["figures"]["challenger_ms"]) == (0.9, 2.5)
    assert 0 < shown["figures"]["disagreement_at_least"] < 0.1
    text = undertone("models", "trial", "sentiment")
    assert "shadow of sentiment 2 beside 1" in text
    assert "channel=email" in text

    undertone("models", "canary", "sentiment", "2", "--share", "0.05", "--max-disagreement", "0.3")
    shown = undertone("models", "trial", "sentiment", "--json")
    assert (shown["kind"], shown["policy"]["max_disagreement"], shown["figures"]["compared"]) == ("canary", 0.3, 0)
    with pytest.raises(DecisionError, match="a reason for the end of a trial"):
        undertone("models", "end-trial", "sentiment")
    assert "trial ended by ann: rude" in undertone("models", "end-trial", "sentiment", "--reason", "rude")
    assert "by ann: rude" in undertone("models", "trial", "sentiment")
    undertone("models", "canary", "sentiment", "2")
    undertone("models", "approve", "sentiment", "2")
    shown = undertone("models", "trial", "sentiment", "--json")
    assert shown["running"] is False
    assert shown["ended"]["reason"].startswith("version 2 was approved")
    kinds = [entry["kind"] for entry in undertone("ledger", "show", "--json")]
    assert kinds.count("trial_started") == kinds.count("trial_ended") == 3
