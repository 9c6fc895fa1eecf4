"""A sweep by two processes on one study, one of them killed; then the same command once more, which registers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from flows.sweep import sweep, text
from training import study as studies
from undertone.errors import ConfigError
from undertone.settings import get_settings
from undertone.workspace import Workspace

WORDS = {"negative": ["hate", "awful"], "neutral": ["okay", "fine"], "positive": ["love", "great"]}
THINGS = ["parcel", "refund", "order", "delivery", "price", "team", "app", "support", "invoice", "answer"]
SPACE = ["learning_rate=8e-3..2e-2", "balance=0..1"]
FIXED = {"epochs": "2", "frozen_layers": "0"}
TRIALS = 4


def rows(path: Path, count: int) -> Path:
    chooser = random.Random(3)
    lines = ["text,label"]
    for _ in range(count):
        label = chooser.choice(list(WORDS))
        lines.append(f"{' '.join(chooser.choices(WORDS[label], k=2) + chooser.choices(THINGS, k=5))},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.timeout(400)
def test_two_processes_share_a_study_and_one_is_killed(
    workspace: Workspace, tmp_path: Path, tiny_base_model: Path, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = rows(tmp_path / "rows.csv", 150)
    words = ["--source", str(source), "--effort", "smoke", "--base-model", str(tiny_base_model)]
    words += [f"--set={name}={value}" for name, value in FIXED.items()]
    line = [sys.executable, "-m", "flows.cli", "sweep", "sentiment", "--trials", str(TRIALS), *words]
    line += [*(f"--space={part}" for part in SPACE), "--now", "2026-10-05", "--no-retrain", "--json"]
    owner = {"UNDERTONE_HOME": str(workspace.settings.home), "UNDERTONE_ENGINE_THREADS": "1"}
    environment = os.environ | owner | {"PREFECT_API_URL": prefect_api}
    with (tmp_path / "killed.log").open("wb") as first, (tmp_path / "other.log").open("wb") as second:
        killed = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=first)
        other = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=second)
    deadline = time.monotonic() + 240
    while (tmp_path / "killed.log").read_bytes().count(b"in all:") < 1:  # it is in a trial
        assert killed.poll() is None, (tmp_path / "killed.log").read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    answer, _ = other.communicate(timeout=300)
    assert other.returncode == 0, (tmp_path / "other.log").read_text()[-3000:]
    told = json.loads(answer)
    assert (told["running"], told["model"]) == (0, None)

    for name, value in owner.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    asked = {"source": str(source), "trials": TRIALS, "effort": "smoke", "base_model": str(tiny_base_model)}
    asked |= {"overrides": FIXED, "space": SPACE}
    try:
        result = sweep("sentiment", **asked)
        rows(source, 151)
        with pytest.raises(ConfigError, match="data sha256 that study 'sentiment-smoke' was made for"):
            sweep("sentiment", **asked)
    finally:
        get_settings.cache_clear()
    assert result["trials"] == told["trials"], "all had run: nothing was left to do but to train the best"
    assert (result["run_id"], len(result["trials"])) == (told["run_id"], TRIALS)

    with studies.opened(workspace.settings, "sentiment-smoke", lambda trial: None) as study:
        trials = study.get_trials()
        (dead,) = [trial for trial in trials if trial.state.name == "FAIL"]
        (retry,) = [trial for trial in trials if trial.system_attrs.get("retry_history")]
        assert (retry.params, retry.system_attrs["retry_history"]) == (dead.params, [dead.number])
        assert len(trials) == TRIALS + 1
    root = workspace.settings.state_dir / "sweeps" / "sentiment-smoke"
    assert not list(root.iterdir()), "folders of the processes are left"

    registry = workspace.registry
    runs = registry.client.search_runs([registry.experiment_id()], f"tags.`mlflow.parentRunId` = '{result['run_id']}'")
    states = Counter((run.data.tags["undertone.trial_state"], run.info.status) for run in runs)
    assert states.pop(("stopped", "KILLED")) == 1
    assert sum(states.values()) == TRIALS
    assert set(states) <= {("complete", "FINISHED"), ("pruned", "KILLED")}
    for run in runs:
        assert {"effort.learning_rate", "effort.balance", "effort.epochs"} <= set(run.data.params)
    parent = registry.client.get_run(result["run_id"])
    assert parent.info.status == "FINISHED", "a command that was refused has no say"
    published = {part.path for part in registry.client.list_artifacts(result["run_id"], "sweep")}
    assert {f"sweep/{name}" for name in ("trials.csv", "best.json", "history.png")} <= published

    made = registry.get("sentiment", result["model"]["version"])
    assert made.tags["undertone.sweep"] == "sentiment-smoke"
    assert made.tags["undertone.sweep_run"] == result["run_id"]
    assert made.gate in {"passed", "failed"}
    curve = registry.client.get_metric_history(made.run_id, "validation_macro_f1")
    assert max(point.value for point in curve) == result["best"]["macro_f1"], "the trial's training, once more"
    assert f"--set learning_rate={result['best']['set']['learning_rate']!r}" in text(result)
