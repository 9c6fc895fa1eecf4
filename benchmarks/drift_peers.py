"""What Evidently and NannyML say by default of the windows of `benchmarks.drift`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.drift_run import STEPS, Cell, Judge, read, rows_of
from benchmarks.drift_scenarios import SCENARIOS, Pool, Rows
from benchmarks.drift_texts import SPEC

#: Columns that Evidently's `DataDriftPreset` and NannyML's univariate drift are given.
CATEGORIES = ("label", "channel", "segment")
NUMBERS = ("confidence", "length", "words", "upper", "marks")
SIZE = 1_000
SETTINGS = (
    'Evidently: `DataDriftPreset()` on label, confidence and length and `ValueDrift(column="text")`, every default '
    "(Jensen-Shannon 0.1, normed Wasserstein 0.1, half of the columns, text domain classifier AUC 0.55; for 1,000 rows "
    "or fewer a side: p-values of 0.05). NannyML: `CBPE` (accuracy, F1) and `UnivariateDriftCalculator` on label, "
    "channel, segment, confidence and four numbers of form; chunks as large as a window, every default (alarms at "
    "three standard deviations of the reference's chunks, of which a reference of 4,000 messages has four)."
)


def evidently(pool: Pool, windows: Sequence[Rows]) -> list[dict[str, Any]]:
    """For each window the columns that drifted, whether the preset's data set test failed, and the text drift."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataDriftPreset

    def dataset(rows: Rows) -> Any:
        frame = pool.table.iloc[rows][["label", "confidence", "length", "text"]].reset_index(drop=True)
        roles = DataDefinition(
            text_columns=["text"], categorical_columns=["label"], numerical_columns=["confidence", "length"]
        )
        return Dataset.from_pandas(frame, data_definition=roles)

    reference = dataset(pool.reference_rows)
    report = Report(
        [DataDriftPreset(columns=["label", "confidence", "length"]), ValueDrift(column="text")], include_tests=True
    )
    answers = []
    for rows in windows:
        tests = report.run(dataset(rows), reference).dict()["tests"]
        failed = {test["name"] for test in tests if "FAIL" in str(test["status"])}
        columns = [name for name in ("label", "confidence", "length") if f"Value Drift for column {name}" in failed]
        answers.append(
            {
                "columns": columns,
                "dataset": any(name.startswith("Share of Drifted Columns") for name in failed),
                "text": "Value Drift for column text" in failed,
            }
        )
    return answers


def nannyml(pool: Pool, windows: Sequence[Rows], python: Path | None) -> list[dict[str, Any]]:
    """For each window (all of one size) the columns that drifted, whether CBPE alarmed, and its accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("reference.parquet", "windows.parquet", "out.json")]
        for rows, path in ((pool.reference_rows, paths[0]), (np.concatenate(windows), paths[1])):
            frame = pool.table.iloc[rows][["truth", *CATEGORIES, *NUMBERS]].reset_index(drop=True)
            chances = pd.DataFrame(pool.scored.probabilities[rows], columns=[f"p_{label}" for label in SPEC.labels])
            pd.concat([frame, chances], axis=1).to_parquet(path)
        script = Path(__file__).with_name("drift_nannyml.py")
        command = [python, script, paths[0], paths[1], str(len(windows[0])), paths[2]]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"NannyML ended with {done.returncode}: {done.stderr[-800:]}")
        found: list[dict[str, Any]] = json.loads(paths[2].read_text(encoding="utf-8"))["windows"]
        return found


def run(judges: Sequence[Judge], trials: int, python: Path | None, target: Path) -> None:
    """Ask both about the first `trials` trials of every scenario at `SIZE` messages; kept in `target`."""
    known = {(row["peer"], row["model"], row["seed"]) for row in read(target)}
    for judge in judges:
        asked = [
            (scenario, trial, step, rows_of(judge.pool, Cell(scenario, SIZE, trials), trial, step))
            for scenario in SCENARIOS
            for trial in range(trials)
            for step in range(STEPS)
        ]
        windows = [rows for *_, rows in asked]
        for peer in ("evidently", "nannyml") if python else ("evidently",):
            named = {"peer": peer, "model": judge.pool.scored.name, "seed": judge.pool.seed}
            if tuple(named.values()) in known:
                continue
            started = time.perf_counter()
            answers = evidently(judge.pool, windows) if peer == "evidently" else nannyml(judge.pool, windows, python)
            seconds = (time.perf_counter() - started) / len(windows)
            with target.open("a", encoding="utf-8") as file:
                for (scenario, trial, step, rows), answer in zip(asked, answers, strict=True):
                    row = named | {"scenario": scenario, "trial": trial, "step": step} | answer
                    file.write(json.dumps(row | {"truth": judge.pool.accuracy(rows), "seconds": seconds}) + "\n")
