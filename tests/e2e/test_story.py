"""One story through every room: train, approve, serve, feedback, shift the text, drift, retrain, swap, roll back.

The model is a toy, everything else is real: Prefect, MLflow, signatures, the worker as a process of its own, the store,
Evidently.
"""

import contextlib
import csv
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from undertone import governance
from undertone.errors import DecisionError
from undertone.governance import Act
from undertone.records import Feedback
from undertone.reviews import Reviews
from undertone.settings import Settings, get_settings
from undertone.workspace import Workspace

START = datetime(2026, 9, 7, tzinfo=UTC)
TRAINED = START + timedelta(days=28)
WORDS = {
    "negative": ["hate", "awful", "late", "broken", "angry", "bad", "terrible", "worst"],
    "neutral": ["okay", "fine", "tuesday", "arrived", "asked", "question"],
    "positive": ["love", "great", "happy", "thanks", "perfect", "lovely", "good", "glad"],
}
QUIET = ["parcel", "refund", "order", "delivery", "price", "team"]
SHIFTED = ["invoice", "support", "app", "answer", "tomorrow", "user"]


def messages(count: int, start: datetime, things: list[str], prefix: str) -> list[dict[str, Any]]:
    chooser = random.Random(f"{prefix}{count}")
    rows = []
    for number in range(count):
        label = chooser.choices(list(WORDS), weights=[3, 3, 4])[0]
        words = [
            *chooser.choices(WORDS[label], k=3),
            *chooser.choices(things, k=4),
            *chooser.choices(["the", "my", "was", "and", "so"], k=3),
        ]
        chooser.shuffle(words)
        rows.append(
            {
                "message_id": f"{prefix}-{number}",
                "text": " ".join(words),
                "label": label,
                "channel": chooser.choice(["chat", "email"]),
                "segment": chooser.choice(["starter", "growth"]),
                "sent_at": (start + timedelta(minutes=number * 8)).isoformat(),
            }
        )
    return rows


@dataclass
class Worker:
    url: str

    def served(self, task: str = "sentiment") -> int | None:
        state = httpx.get(f"{self.url}/readyz", timeout=5).json()["tasks"].get(task) or {}
        version: int | None = state.get("version")
        return version


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return time.monotonic() - started
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {seconds} s")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    monkeypatch.setenv("UNDERTONE_HOME", str(tmp_path))
    monkeypatch.setenv("UNDERTONE_ACTOR", "ann")
    monkeypatch.setenv("UNDERTONE_FOLLOW_SECONDS", "0.5")
    # the toy's messages have no `not` in them, and a typo leaves it few words it knows: the gate rightly says so
    monkeypatch.setenv("UNDERTONE_GATE", '{"sentiment": {"min_negation": 0, "min_invariance": 0.5}}')
    get_settings.cache_clear()
    yield Workspace(get_settings())
    get_settings.cache_clear()


@pytest.fixture
def worker(workspace: Workspace) -> Iterator[Worker]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings: Settings = workspace.settings
    environment = os.environ | settings.environment() | {"UNDERTONE_PORT": str(port)}
    with (settings.home / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "serving"], env=environment, stdout=log, stderr=log)
        made = Worker(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: httpx.get(f"{made.url}/healthz").is_success, 60, "the worker's start")
            yield made
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0


@pytest.fixture
def toy_effort(monkeypatch: pytest.MonkeyPatch) -> str:
    from training.effort import EFFORTS, Effort

    monkeypatch.setitem(EFFORTS, "toy", Effort(name="toy", epochs=4, learning_rate=3e-3, batch_size=32))
    return "toy"


@pytest.mark.usefixtures("prefect_api")
def test_the_loop(workspace: Workspace, worker: Worker, toy_effort: str, tiny_base_model: Path, tmp_path: Path) -> None:
    from flows.replay import send
    from flows.retrain import retrain
    from flows.watch_drift import watch

    history = messages(1_800, START, QUIET, "history")
    with (tmp_path / "history.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)

    # train and approve
    first = retrain(
        "sentiment",
        source=str(tmp_path / "history.csv"),
        effort=toy_effort,
        now=TRAINED,
        base_model=str(tiny_base_model),
    )
    assert (first["version"], first["passed"], first["verdict"]) == (1, True, "first")
    assert first["macro_f1"] > 0.9
    assert httpx.post(f"{worker.url}/v1/score", json={"text": "love it"}).status_code == 503
    governance.approve(workspace, "sentiment", 1, Act("ann", "first", TRAINED))
    wait_until(lambda: worker.served() == 1, 60, "version 1 served")

    # a quiet week: no drift, too early anyway
    quiet = messages(700, TRAINED, QUIET, "quiet")
    sent = send(_wire(quiet), worker.url)
    assert sent["failed_requests"] == 0
    week = TRAINED + timedelta(days=7)
    wait_until(lambda: workspace.store.count("sentiment", START, week) == 700, 30, "700 rows stored")
    seen = watch("sentiment", now=week)
    assert seen["verdict"] == "stable", seen["reason"]
    assert seen["decision"]["retrain"] is False

    # the text shifts: the first window warns and draws an audit, and it is too early anyway
    shifted = messages(900, week, SHIFTED, "shifted")
    assert send(_wire(shifted), worker.url)["failed_requests"] == 0
    day_13, day_17 = TRAINED + timedelta(days=13), TRAINED + timedelta(days=17)
    wait_until(lambda: workspace.store.count("sentiment", START, day_17) == 1_600, 30, "1,600 rows stored")
    early = watch("sentiment", now=day_13, start_retrain=False)
    assert (early["verdict"], early["decision"]["rule"]) == ("warn", "too early"), early["reason"]
    assert sum(row["open"] for row in Reviews(workspace.store).open("sentiment")) > 0

    # people label; the drift lasts, and on day 17 the policy starts a retrain
    later = messages(900, TRAINED + timedelta(days=12), SHIFTED, "later")
    assert send(_wire(later), worker.url)["failed_requests"] == 0
    wait_until(lambda: workspace.store.count("sentiment", START, day_17) == 2_500, 30, "2,500 rows stored")
    workspace.store.add_feedback(
        [Feedback(row["message_id"], "sentiment", row["label"], "bo", day_13) for row in shifted[:500]]
    )
    late = watch("sentiment", now=day_17, effort=toy_effort)
    assert late["verdict"] in {"act", "severe"}, late["reason"]
    assert late["decision"]["rule"] == "drift, labelled", late["decision"]
    assert Path(late["report"]).is_file()
    second = late["retrained"]
    assert second["version"] == 2
    assert second["passed"], [line for line in second["lines"] if not line["passed"]]
    assert workspace.registry.get("sentiment", 2).gate == "passed"

    # the alias moved by hand changes nothing; the approval does
    workspace.registry.set_champion("sentiment", 2)
    wait_until(lambda: httpx.get(f"{worker.url}/readyz").text.count("approval") > 0, 30, "the refusal shown")
    assert worker.served() == 1
    governance.approve(workspace, "sentiment", 2, Act("ann", "learned the new words", day_17))
    wait_until(lambda: worker.served() == 2, 60, "version 2 served")
    answer = httpx.post(f"{worker.url}/v1/score", json={"text": "love great happy app support"}).json()["messages"][0]
    assert answer["tasks"]["sentiment"]["label"] == "positive"
    assert answer["tasks"]["sentiment"]["version"] == 2

    # and back
    governance.rollback(workspace, "sentiment", Act("ann", "customers complained", day_17))
    wait_until(lambda: worker.served() == 1, 60, "version 1 served again")
    with pytest.raises(DecisionError):
        governance.rollback(workspace, "sentiment", Act("ann", "again", day_17))
    kinds = [row.kind for row in workspace.ledger.entries("sentiment")]
    assert kinds == [
        *("registered", "gate", "approved", "drift", "retrain"),
        *("audit_drawn", "drift", "retrain", "drift", "retrain", "alert"),
        *("registered", "gate", "approved", "rolled_back", "frozen"),
    ]
    assert workspace.ledger.verify() == len(kinds)


def _wire(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {"message_id": "id", "sent_at": "sent_at", "text": "text", "channel": "channel", "segment": "segment"}
    return [{names[key]: value for key, value in row.items() if key in names} for row in rows]
