"""Ctrl-C in the middle of training: the same command goes on from the checkpoint, in the same MLflow run."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from undertone.settings import Settings
from undertone.workspace import Workspace

WORDS = {
    "negative": ["hate", "awful", "late"],
    "neutral": ["okay", "fine", "arrived"],
    "positive": ["love", "great", "happy"],
}
THINGS = ["parcel", "refund", "order", "delivery", "price", "team", "app", "support", "invoice", "answer"]


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    chooser = random.Random(3)
    path = tmp_path / "messages.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for _ in range(3_000):
            label = chooser.choice(list(WORDS))
            words = [*chooser.choices(WORDS[label], k=2), *chooser.choices(THINGS, k=6)]
            chooser.shuffle(words)
            writer.writerow([" ".join(words), label])
    return path


def command(home: Path, source: Path, base: Path, prefect_api: str) -> tuple[list[str], dict[str, str]]:
    arguments = ["train", "sentiment", "--source", str(source), "--effort", "smoke", "--base-model", str(base)]
    line = [sys.executable, "-m", "flows.cli", *arguments, "--now", "2026-10-05", "--json"]
    return line, os.environ | {"UNDERTONE_HOME": str(home), "PREFECT_API_URL": prefect_api}


def finish(home: Path, source: Path, base: Path, prefect_api: str) -> dict[str, Any]:
    line, environment = command(home, source, base, prefect_api)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.timeout(400)
def test_ctrl_c_then_the_same_command(messages: Path, tmp_path: Path, tiny_base_model: Path, prefect_api: str) -> None:
    home = tmp_path / "stopped"
    line, environment = command(home, messages, tiny_base_model, prefect_api)
    log = tmp_path / "first.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(line, env=environment, stdout=stream, stderr=stream)
    deadline = time.monotonic() + 120
    while not re.search(rb"fine-tune: .*\| [1-9]\d*/", log.read_bytes()):  # the first step is done
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, log.read_text()[-3000:]
    assert "the same command goes on" in log.read_text()

    workspace = Workspace(Settings(home=home))
    client, experiment = workspace.registry.client, workspace.registry.experiment_id()
    (stopped,) = client.search_runs([experiment])
    assert stopped.info.status == "KILLED"
    assert list((workspace.settings.state_dir / "work").glob("*/checkpoints/checkpoint-*"))
    assert [row.kind for row in workspace.ledger.entries()] == ["training_failed"]
    assert workspace.store.holder("train sentiment") is None

    resumed = finish(home, messages, tiny_base_model, prefect_api)
    (run,) = client.search_runs([experiment])
    assert (run.info.run_id, run.info.status) == (stopped.info.run_id, "FINISHED")
    assert resumed["run_id"] == run.info.run_id
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
    assert steps == sorted(set(steps)), "a step was trained twice"
    assert not list((workspace.settings.state_dir / "work").iterdir())

    whole = finish(tmp_path / "whole", messages, tiny_base_model, prefect_api)
    assert resumed["evaluation"] == whole["evaluation"]
