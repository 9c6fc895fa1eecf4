"""The watch on a real store, ledger and MLflow: it decides once, whoever runs beside it and whatever breaks."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from flows import watch_drift
from flows.cli import app
from flows.look import look
from flows.running import watch_text
from flows.situation import TRAINER, ask_retrain, lease, read_situation
from flows.watch_drift import watch
from flows.watch_replay import replay
from flows.watch_replay import text as replayed_text
from undertone import governance
from undertone.errors import DataError, DecisionError, RegistryError
from undertone.form import form, languages
from undertone.governance import Act
from undertone.lease import hold
from undertone.model_folder import REFERENCE, ModelCardData
from undertone.records import Message, Prediction, ScoredMessage
from undertone.registry import ModelVersion
from undertone.reviews import Reviews
from undertone.settings import get_settings
from undertone.tasks import get_task
from undertone.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_api")

SPEC = get_task("sentiment")
TRAINED = datetime(2026, 10, 5, tzinfo=UTC)
DAY = timedelta(days=1)
OLD = ["parcel", "refund", "order", "delivery", "price", "team", "the", "was", "late", "fine"]
NEW = ["invoice", "support", "app", "answer", "tomorrow", "user", "my", "is", "very", "slow"]


def answers(count: int, seed: int, words: list[str] = OLD, shift: float = 0.0) -> list[dict[str, Any]]:
    """Made-up messages with a model's answers; `shift` moves their embeddings."""
    chooser, numbers = random.Random(seed), np.random.default_rng(seed)
    chances = numbers.dirichlet([0.4, 0.4, 0.4], size=count)
    vectors = (numbers.normal(size=(count, 16)) + shift).astype("<f2")
    return [
        {
            "message_id": f"{seed}-{number}",
            "text": " ".join(chooser.choices(words, k=chooser.randint(6, 14))),
            "label": SPEC.labels[int(chance.argmax())],
            "probabilities": [float(value) for value in chance],
            "confidence": float(chance.max()),
            "channel": chooser.choice(["chat", "email"]),
            "segment": chooser.choice(["starter", "growth"]),
            "embedding": vector.tobytes(),
        }
        for number, (chance, vector) in enumerate(zip(chances, vectors, strict=True))
    ]


def write_reference(folder: Path, rows: int) -> None:
    made = answers(rows, seed=1)
    chooser = random.Random(2)
    told = languages([row["text"] for row in made])
    frame = pd.DataFrame(
        [
            row
            | form(row["text"])
            | {"language": language, "truth": row["label"] if chooser.random() < 0.8 else chooser.choice(SPEC.labels)}
            for row, language in zip(made, told, strict=True)
        ]
    )
    frame.drop(columns=["text", "message_id"]).to_parquet(folder / REFERENCE)


def score(workspace: Workspace, count: int, start: datetime, seed: int, days: float = 7, **how: Any) -> list[str]:
    """Messages that version 1 scored, evenly over `days`; gives their ids."""
    rows = answers(count, seed, **how)
    workspace.store.record(
        [
            ScoredMessage(
                Message(row["message_id"], row["text"], row["channel"], row["segment"], None, sent, sent),
                (
                    Prediction(
                        row["message_id"], "sentiment", row["label"], tuple(row["probabilities"]), 1, "d" * 64, sent,
                        row["embedding"],
                    ),
                ),
            )
            for number, row in enumerate(rows)
            for sent in [start + days * DAY * number / count]
        ]
    )  # fmt: skip
    return [row["message_id"] for row in rows]


def write_messages(path: Path) -> Path:
    chooser = random.Random(3)
    words = {"negative": ["hate", "awful"], "neutral": ["okay", "fine"], "positive": ["love", "great"]}
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(700):
            label = chooser.choice(list(words))
            picked = [*chooser.choices(words[label], k=2), *chooser.choices(OLD, k=5)]
            chooser.shuffle(picked)
            writer.writerow([" ".join(picked), label])
    return path


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """The workspace that flows of this process work in."""
    monkeypatch.setenv("UNDERTONE_HOME", str(workspace.settings.home))
    monkeypatch.setenv("UNDERTONE_ACTOR", "ann")
    get_settings.cache_clear()
    yield workspace
    get_settings.cache_clear()


@pytest.fixture
def reference_rows() -> int:
    """Too few for floors of its own, which take seconds to calibrate."""
    return 900


@pytest.fixture
def champion(
    here: Workspace,
    register: Callable[..., ModelVersion],
    tmp_path: Path,
    tiny_base_model: Path,
    reference_rows: int,
) -> ModelVersion:
    """Version 1, approved. Its retrains fail at once: the file with its messages is not there."""

    def edit(folder: Path) -> None:
        write_reference(folder, reference_rows)
        card = ModelCardData.read(folder)
        made_from = {"source": str(tmp_path / "messages.csv"), "base_model": str(tiny_base_model)}
        card.model_copy(update={"lineage": card.lineage.model_copy(update=made_from)}).write(folder)

    made = register(edit=edit)
    governance.approve(here, "sentiment", 1, Act("ann", "first", TRAINED))
    return made


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An effort that trains in seconds, with the messages that the champion's retrains want."""
    from training.effort import EFFORTS, Effort

    monkeypatch.setitem(EFFORTS, "toy", Effort(name="toy", epochs=1, learning_rate=3e-3, batch_size=64))
    write_messages(tmp_path / "messages.csv")
    return "toy"


def kinds(workspace: Workspace) -> list[str]:
    """What the ledger has after the champion's approval; the chain holds."""
    workspace.ledger.verify()
    return [row.kind for row in workspace.ledger.entries("sentiment")][2:]


def decisions(workspace: Workspace) -> list[tuple[str, bool]]:
    rows = workspace.ledger.entries("sentiment", ["retrain"])
    return [(row.payload["rule"], row.payload["started"]) for row in rows]


# what a watch leaves ----------------------------------------------------------------------------


@pytest.mark.parametrize("reference_rows", [1_200])
@pytest.mark.usefixtures("champion")
def test_a_quiet_week_is_told_and_kept(here: Workspace) -> None:
    score(here, 700, TRAINED, seed=5)
    result = watch("sentiment", now=TRAINED + 7 * DAY)
    assert (result["verdict"], result["level"]) == ("stable", "none"), result["reason"]
    assert (result["decision"]["rule"], result["decision"]["started"]) == ("too early", False)
    assert result["estimate"]["accuracy"] == pytest.approx(0.85, abs=0.1)
    assert result["audit"] is None
    assert Path(result["report"]).is_file()
    assert result["report_problem"] is None
    assert kinds(here) == ["calibrated", "drift", "retrain"]
    drift, decided = here.ledger.entries("sentiment", ["drift", "retrain"])
    assert drift.payload["window"] == [TRAINED.isoformat(), (TRAINED + 7 * DAY).isoformat()]
    assert drift.payload["estimate"]["accuracy"] == result["estimate"]["accuracy"]
    assert decided.payload["drift_row"] == drift.seq
    assert len(decided.payload["policy_sha256"]) == 64
    assert json.loads(json.dumps(result, default=str))["task"] == "sentiment"


@pytest.mark.usefixtures("champion")
def test_drift_buys_an_audit_and_asks_for_labels_once(here: Workspace) -> None:
    for week in range(3):
        score(here, 700, TRAINED + 7 * week * DAY, seed=10 + week, words=NEW, shift=1.0)
    results = [watch("sentiment", now=TRAINED + days * DAY, start_retrain=False) for days in (7, 14, 21)]
    assert [result["level"] for result in results] == ["severe"] * 3
    assert [result["verdict"] for result in results] == ["warn", "severe", "severe"]
    assert [result["decision"]["rule"] for result in results] == ["too early", "labels wanted", "labels wanted"]
    told = kinds(here)
    assert told.count("labels_asked") == 1
    assert told.count("audit_drawn") >= 2
    assert sum(item["open"] for item in Reviews(here.store).open("sentiment")) > 300
    texts = json.loads((Path(results[-1]["report"]).parent / "report.json").read_text())["story"]
    assert texts["examples"]
    assert not any(word in json.dumps(texts["examples"]) for word in NEW)


@pytest.mark.usefixtures("champion")
def test_labels_of_the_audit_decide(here: Workspace) -> None:
    for week in (0, 1):
        score(here, 700, TRAINED + 7 * week * DAY, seed=10 + week, words=NEW, shift=1.0)
        watch("sentiment", now=TRAINED + 7 * (week + 1) * DAY, start_retrain=False)
    queue, now = Reviews(here.store), TRAINED + 15 * DAY
    for item in queue.next("sentiment", "bo", now, count=1_000):
        queue.label(item["id"], "neutral", "bo", now)  # whatever the model said: it is wrong most of the time
    result = watch("sentiment", now=now, start_retrain=False)
    assert result["audit"]["confirmed"], result["audit"]
    assert result["decision"]["rule"] == "drift, audited", result["decision"]
    assert kinds(here).count("audit") == 1
    assert "a drop is confirmed" in watch_text(result)


# never two at once ------------------------------------------------------------------------------


@pytest.mark.usefixtures("champion")
def test_two_watches_at_once_start_one_retrain(here: Workspace, toy: str) -> None:
    now = TRAINED + 28 * DAY
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: watch("sentiment", now=now, effort=toy), range(2)))
    assert sorted(decisions(here)) == [("age", True), ("running", False)]
    assert [result["retrained"] is not None for result in results].count(True) == 1
    assert kinds(here).count("registered") == 1
    assert here.store.holder(lease("sentiment")) is None
    assert watch("sentiment", now=now + DAY)["decision"]["rule"] == "cooldown", "the gate refused the toy"


KILLED = """
import sys, time
from datetime import datetime
from flows import retrain, watch_drift
from training.effort import EFFORTS, Effort

def load_and_split(workspace, request):
    print("training", flush=True)
    time.sleep(300)

EFFORTS["toy"] = Effort(name="toy", epochs=1, learning_rate=3e-3, batch_size=64)
retrain.load_and_split = load_and_split
watch_drift.watch("sentiment", now=datetime.fromisoformat(sys.argv[1]), effort="toy")
"""


@pytest.mark.usefixtures("champion")
def test_a_killed_retrain_goes_on_once(here: Workspace, toy: str, prefect_api: str) -> None:
    now = TRAINED + 28 * DAY
    environment = os.environ | {"PREFECT_API_URL": prefect_api}
    command = [sys.executable, "-c", KILLED, now.isoformat()]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "training\n" in iter(process.stdout.readline, "")
        # while it trains, another watch starts nothing
        assert watch("sentiment", now=now, effort=toy)["decision"]["rule"] == "running"
        process.send_signal(signal.SIGKILL)
    situation, killed = read_situation(here, SPEC, now=now)
    assert killed is not None
    assert (situation.retraining, situation.unfinished_at) == (False, now)
    assert kinds(here).count("registered") == 0

    with ThreadPoolExecutor(2) as pool:  # and after the restart two watches at once
        results = list(pool.map(lambda _: watch("sentiment", now=now + DAY, effort="thorough"), range(2)))
    assert decisions(here)[:2] == [("age", True), ("running", False)]
    assert sorted(decisions(here)[2:]) == [("resume", True), ("running", False)]
    (made,) = here.ledger.entries("sentiment", ["registered"])
    assert (made.at, made.version) == (now, 2), "it goes on with the clock that it began with"
    assert [result["retrained"]["version"] for result in results if result["retrained"]] == [2]
    trained = [row.payload["training"] for row in here.ledger.entries("sentiment", ["retrain"])]
    assert [item for item in trained if item] == [killed.training] * 2
    assert watch("sentiment", now=now + 2 * DAY)["decision"]["rule"] == "cooldown", "the gate refused the toy"


@pytest.mark.usefixtures("champion")
def test_a_training_by_hand_that_begins_meanwhile_is_not_doubled(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any, **named: Any) -> Any:
        found = read_situation(*arguments, **named)
        taken.enter_context(hold(here.store, lease("sentiment")))  # `undertone train sentiment`, this very moment
        return found

    monkeypatch.setattr(watch_drift, "read_situation", read)
    with ExitStack() as taken:
        assert watch("sentiment", now=TRAINED + 28 * DAY)["decision"]["rule"] == "running"
    assert kinds(here) == ["drift", "retrain"]


@pytest.mark.usefixtures("champion")
def test_a_watch_waits_for_its_turn_and_says_so(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_drift, "TURN_S", 0.2)
    with hold(here.store, "decide sentiment"), pytest.raises(DecisionError, match="nobody else at work"):
        watch("sentiment", now=TRAINED + DAY)
    assert kinds(here) == []


# what a person asks for -------------------------------------------------------------------------


@pytest.mark.usefixtures("champion")
def test_an_override_is_spent_by_one_training_that_failed_and_cools_the_policy_down(here: Workspace) -> None:
    now = TRAINED + 3 * DAY
    with pytest.raises(DecisionError, match="a reason"):
        ask_retrain(here, "sentiment", Act("ann", " ", now))
    ask_retrain(here, "sentiment", Act("ann", "the shop changed", now))
    with pytest.raises(DataError, match=r"messages\.csv"):  # nothing to train on
        watch("sentiment", now=now)
    late = TRAINED + 28 * DAY
    assert watch("sentiment", now=now + DAY)["decision"]["rule"] == "cooldown"
    assert watch("sentiment", now=now + 4 * DAY)["decision"]["rule"] == "too early"
    assert watch("sentiment", now=now)["decision"]["rule"] == "clock"
    assert watch("sentiment", now=late, start_retrain=False)["decision"]["rule"] == "age"
    assert watch("sentiment", now=late, start_retrain=False)["decision"]["rule"] == "age"  # nothing began, nothing runs
    assert decisions(here)[0] == ("override", True)
    failed = here.ledger.latest("sentiment", ["training_failed"])
    assert failed is not None
    assert (failed.actor, failed.at) == (TRAINER, now)
    assert kinds(here).count("training_failed") == 1


# what breaks ------------------------------------------------------------------------------------


def test_no_champion_is_told(here: Workspace) -> None:
    with pytest.raises(RegistryError, match="a champion for 'sentiment'"):
        watch("sentiment", now=TRAINED)
    assert here.ledger.entries() == []


def test_a_missing_reference_is_told(here: Workspace, register: Callable[..., ModelVersion]) -> None:
    register()
    governance.approve(here, "sentiment", 1, Act("ann", "first", TRAINED))
    with pytest.raises((RegistryError, DataError), match="reference"):
        watch("sentiment", now=TRAINED + 28 * DAY)
    assert kinds(here) == []


@pytest.mark.usefixtures("champion")
def test_mlflow_out_of_reach_is_told(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("UNDERTONE_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    get_settings.cache_clear()
    with pytest.raises(RegistryError, match="check that MLflow is up"):
        watch("sentiment", now=TRAINED + 28 * DAY)
    assert kinds(here) == []


@pytest.mark.usefixtures("champion")
def test_a_version_deleted_under_the_watch_changes_nothing_that_was_decided(
    here: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked(*arguments: Any) -> Any:
        seen = look(*arguments)
        here.registry.client.delete_model_version("sentiment", "1")
        return seen

    monkeypatch.setattr(watch_drift, "look", looked)
    result = watch("sentiment", now=TRAINED + 7 * DAY)
    assert (result["verdict"], result["decision"]["rule"]) == ("too_few", "too early")
    with pytest.raises(RegistryError, match="a champion"):
        watch("sentiment", now=TRAINED + 8 * DAY)
    assert kinds(here) == ["drift", "retrain"]


@pytest.mark.usefixtures("champion")
def test_a_report_that_cannot_be_written_stops_no_decision(here: Workspace) -> None:
    reports = here.settings.state_dir / "reports"
    reports.parent.mkdir(parents=True, exist_ok=True)
    reports.write_text("a file where a folder should be")
    result = watch("sentiment", now=TRAINED + 7 * DAY)
    assert result["decision"]["rule"] == "too early"
    assert result["report"] is None
    assert "Error" in result["report_problem"]
    assert kinds(here) == ["drift", "retrain"]
    assert "the report is not complete" in watch_text(result)


@pytest.mark.usefixtures("champion")
def test_rows_of_a_broken_window_are_not_learned_from(here: Workspace) -> None:
    score(here, 600, TRAINED + 21 * DAY, seed=7)
    with here.store.transaction() as connection:
        connection.exec_driver_sql("update messages set text = ''")
    now = TRAINED + 28 * DAY
    with pytest.raises(DataError):  # nothing to train on
        watch("sentiment", now=now)
    row = here.ledger.latest("sentiment", ["retrain"])
    assert row is not None
    assert row.payload["rule"] == "age"
    assert row.payload["training"]["rows_until"] == (TRAINED + 21 * DAY).isoformat()
    kinds(here)


# months in seconds ------------------------------------------------------------------------------


@pytest.mark.usefixtures("champion")
def test_a_replay_writes_nothing_and_says_what_the_watches_would(here: Workspace) -> None:
    for week in range(4):
        changed = {"words": NEW, "shift": 1.0} if week >= 2 else {}
        score(here, 600, TRAINED + 7 * week * DAY, seed=20 + week, **changed)
    head, files = here.ledger.head(), sorted(here.settings.home.rglob("*"))
    told: list[str] = []
    result = replay("sentiment", TRAINED + 13 * DAY, TRAINED + 29 * DAY, rows=600, workspace=here, tell=told.append)
    assert here.ledger.head() == head
    assert sorted(here.settings.home.rglob("*")) == files
    days = {datetime.fromisoformat(day["at"]): day for day in result["days"]}
    assert len(days) == 17
    assert [days[TRAINED + day * DAY]["verdict"] for day in (13, 14, 28)] == ["stable", "stable", "severe"]
    assert days[TRAINED + 27 * DAY]["rule"] == "labels wanted"
    assert [at for at, day in days.items() if day["retrain"]] == [TRAINED + 28 * DAY]
    assert days[TRAINED + 28 * DAY]["rule"] == "age"
    assert days[TRAINED + 29 * DAY]["rule"] == "too early"
    assert told[-1].startswith("17 of 17 watches")
    assert "1 retrains in 17 watches" in replayed_text(result)


# at the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("reference_rows", [1_200])
@pytest.mark.usefixtures("champion")
def test_drift_commands(here: Workspace, tmp_path: Path) -> None:
    def undertone(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == code, done.output
        return done.stdout

    score(here, 600, TRAINED, seed=5)
    ids = score(here, 600, TRAINED + 7 * DAY, seed=6, words=NEW, shift=1.0)
    made = json.loads(undertone("drift", "calibrate", "sentiment", "--healthy", "2026-10-05/2026-10-12", "--json"))
    assert (made["version"], made["stored"], made["resampled"]) == (1, 1, 30)
    found = json.loads(undertone("drift", "examples", "sentiment", "--now", "2026-10-19", "--count", "5", "--json"))
    assert len(found) == 5
    assert {row["message_id"] for row in found} <= set(ids)
    with here.store.transaction() as connection:  # erased messages are gone from here too
        connection.exec_driver_sql("delete from messages where id = ?", (found[0]["message_id"],))
    assert found[0]["message_id"] not in undertone("drift", "examples", "sentiment", "--now", "2026-10-19")
    assert "asked by ann: new shop" in undertone("drift", "retrain", "sentiment", "--reason", "new shop")
    out = tmp_path / "replay.json"
    table = undertone("watch", "sentiment", "--replay", "2026-10-12", "2026-10-13", "--rows", "600", "--out", str(out))
    assert "2026-10-12" in table
    assert len(json.loads(out.read_text())["days"]) == 2
    shown = json.loads(undertone("drift", "show", "sentiment", "--json"))
    assert [row["what"] for row in shown] == ["calibrated", "retrain asked"]
