"""After a real training on a customer's messages: everything that it left is free of them once they are erased."""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.retention import retain
from flows.retrain import retrain
from undertone.evidence import read_evidence
from undertone.records import Feedback, Message, ScoredMessage
from undertone.settings import get_settings
from undertone.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_api")

NOW = datetime(2026, 10, 5, tzinfo=UTC)
LABELS = ("negative", "neutral", "positive")
CUSTOMER, SECRET = "customer-erase-me-77", "zebrawick"


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace that flows of this process work in, with labelled messages, every third of the one customer."""
    monkeypatch.setenv("UNDERTONE_HOME", str(workspace.settings.home))
    get_settings.cache_clear()
    drawn, items = random.Random(1), []
    for number in range(300):
        own, at = number % 3 == 0, NOW - timedelta(hours=number + 1)
        text = " ".join(drawn.choices(["parcel", "late", "fine", "love", "refund", "app", "team"], k=9))
        # a word of one message: those of five and more are in the signed model, which nobody can change
        word = SECRET + "".join(chr(ord("a") + int(digit)) for digit in str(number))
        text = f"{text} {word} is not good" if own else f"{text} {number} was very good"
        items.append(Message(f"m{number}", text, "chat", None, CUSTOMER if own else "somebody", at, at))
    workspace.store.record([ScoredMessage(message, ()) for message in items])
    workspace.store.add_feedback(
        [Feedback(f"m{n}", "sentiment", LABELS[(n // 3) % 3], "rae", NOW - timedelta(hours=1)) for n in range(300)]
    )
    yield workspace
    get_settings.cache_clear()


def hits(home: Path) -> list[str]:
    words = (CUSTOMER.encode(), SECRET.encode())
    files = (path for path in home.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(home)) for path in files if any(word in path.read_bytes() for word in words))


def test_a_customer_is_erased_from_what_a_training_left(
    here: Workspace, undertone: Callable[..., Any], tiny_base_model: Path, tmp_path: Path
) -> None:
    home = here.settings.home
    made = retrain("sentiment", source="feedback", effort="smoke", now=NOW, base_model=str(tiny_base_model))
    assert hits(home)
    found = undertone("privacy", "find", CUSTOMER, "--json")
    # which texts the gate shows depends on what the model gets wrong: none of a toy's, perhaps
    assert {step["place"] for step in found["places"]} >= {"the store"}

    receipt = undertone("privacy", "erase", CUSTOMER, "--yes", "--out", str(tmp_path / "receipt.json"), "--json")

    assert hits(home) == []
    assert receipt == json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["models"] == [{"task": "sentiment", "version": made["version"], "labels": 100}]
    assert read_evidence(here, "sentiment", made["version"]).problems == ()
    assert undertone("ledger", "verify", "--json")["unbroken"]
    assert undertone("privacy", "find", CUSTOMER, "--json")["found"] is False
    assert len(here.store.labelled("sentiment")) == 200


def test_the_flow_removes_what_the_settings_say(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert retain(now=NOW) == {"days": 0}
    monkeypatch.setenv("UNDERTONE_RETENTION_DAYS", "5")
    get_settings.cache_clear()
    result = retain(now=NOW)
    assert (result["texts"], result["days"]) == (sum(n + 1 > 120 for n in range(300)), 5)
    assert here.store.labelled_without_text("sentiment") == result["texts"]
    assert here.ledger.entries(kinds=["erased"])[0].payload["removed"]["texts"] == result["texts"]
