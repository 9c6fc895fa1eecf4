"""Ctrl-C or kill -9 in a training: the same command goes on from the checkpoint, in the same MLflow run."""

import csv
import json
import os
import random
import re
import shutil
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


#: Forks trainings from one process that has everything imported, each to be killed before or after the call of a
#: function that is named on the command line; the last one is left alone.
FORKS = """
import importlib, json, os, signal, sys
import flows.retrain, training.export, training.finetune, training.loop  # what takes long, before the forks

def kill_at(where, moment, call):
    module, _, path = where.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real, calls = getattr(owner, name), []
    def wrapped(*arguments, **named):
        calls.append(1)
        if len(calls) == call and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*arguments, **named)
        if len(calls) == call and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(owner, name, wrapped)

for home, point in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        os.environ["UNDERTONE_HOME"] = home
        if point:
            kill_at(*point)
        from flows.cli import main
        sys.argv = ["undertone", *sys.argv[2:]]
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        os._exit(code)
    print("ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""

#: Points of a training at which it is killed, one after the other, each time further on.
KILLS = {
    "between the run and its id": ("training.track:_log_dataset", "before", 1),
    "in the middle of the second checkpoint": ("torch:save", "after", 4),
    "registered in MLflow, not in the ledger": ("undertone.registry:Registry.create", "after", 1),
    "the verdict stands, the run is still open": ("training.steps:_record", "after", 1),
}


@pytest.mark.timeout(400)
def test_killed_at_every_point_it_ends_as_if_it_had_never_been(
    messages: Path, tmp_path: Path, empty_home: Path, tiny_base_model: Path, prefect_api: str
) -> None:
    rows = messages.read_text().splitlines(keepends=True)[:301]
    messages.write_text("".join(rows))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for home in (killed, whole):
        shutil.copytree(empty_home, home)
    (line, environment) = command(killed, messages, tiny_base_model, prefect_api)
    settings = ["--set", "save_steps=3", "--set", "frozen_layers=0", "--set", "learning_rate=0.01"]
    plan = [(str(killed), point) for point in (*KILLS.values(), None)] + [(str(whole), None)]
    done = subprocess.run(
        [sys.executable, "-c", FORKS, json.dumps(plan), *line[3:], *settings],
        env=environment, capture_output=True, text=True, timeout=380,
    )  # fmt: skip
    codes = [int(code) for code in re.findall(r"ended with (-?\d+)", done.stderr)]
    assert codes == [-signal.SIGKILL] * len(KILLS) + [0, 0], done.stderr[-3000:]

    runs = []
    for home in (killed, whole):
        here = Workspace(Settings(home=home))
        (run,) = here.registry.client.search_runs([here.registry.experiment_id()])
        assert run.info.status == "FINISHED"
        assert [(found.version, found.run_id) for found in here.registry.versions("sentiment")] == [
            (1, run.info.run_id)
        ]
        assert [row.kind for row in here.ledger.entries()] == ["registered", "gate"]
        assert len(here.registry.client.search_logged_models([here.registry.experiment_id()])) == 1
        assert here.store.holder("train sentiment") is None
        assert not list((here.settings.state_dir / "work").iterdir())
        curve = here.registry.client.get_metric_history(run.info.run_id, "loss")
        runs.append((run.data.metrics, [(point.step, point.value) for point in curve]))
    assert runs[0] == runs[1], "metrics and curves, to the last digit"
