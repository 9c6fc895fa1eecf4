"""Two sentiment models for `benchmarks.drift`, trained by the product's own steps on rows that nothing else sees."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from training import steps
from training.effort import EFFORTS, Effort
from training.work import Request
from undertone.settings import Settings
from undertone.workspace import Workspace

#: Fixes which rows each model trains on and which are left for windows.
ROWS_SEED = 2026
#: Rows a model is given; 70 % are trained on, the rest is its validation and holdout.
ROWS = 8_600


@dataclass(frozen=True)
class Recipe:
    """How one model is trained, and on which of the shuffled rows."""

    name: str
    seed: int
    first: int
    effort: Effort


RECIPES = (
    # one pass, two frozen layers, no dropout: `smoke` on three times the rows
    Recipe(
        "A", 11, 0,
        Effort(
            name="drift-a", epochs=1, learning_rate=3e-4, batch_size=16, frozen_layers=2, dropout=0.0,
            max_train_rows=6_000, max_eval_rows=1_290,
        ),
    ),
    # fewer and other rows, every layer, the base model's dropout, a lower learning rate
    Recipe(
        "B", 29, ROWS,
        Effort(name="drift-b", epochs=1, learning_rate=2e-4, batch_size=16, max_train_rows=4_000, max_eval_rows=1_290),
    ),
)  # fmt: skip


def shuffled(source: Path) -> pd.DataFrame:
    """The labelled tweets, without repeated texts, in the order that `ROWS_SEED` gives."""
    frame = pd.read_csv(source, dtype={"text": str, "label": str}).dropna()
    frame = frame[frame["text"].str.strip() != ""].drop_duplicates("text")
    return frame.sample(frac=1.0, random_state=ROWS_SEED).reset_index(drop=True)


def unused(source: Path) -> pd.DataFrame:
    """Rows that no model was given."""
    return shuffled(source).iloc[len(RECIPES) * ROWS :].reset_index(drop=True)


def model_folder(recipe: Recipe, source: Path, cache: Path, threads: int) -> Path:
    """The model folder of `recipe`, trained where `cache` does not hold it yet."""
    target = cache / f"model-{recipe.name}"
    if (target / "benchmark.txt").is_file():
        return target
    started = time.perf_counter()
    EFFORTS[recipe.effort.name] = recipe.effort
    rows = cache / f"rows-{recipe.name}.csv"
    shuffled(source).iloc[recipe.first : recipe.first + ROWS].to_csv(rows, index=False)
    workspace = Workspace(Settings(home=cache / "home", engine_threads=threads))
    asked = Request("sentiment", str(rows), recipe.effort.name, recipe.seed, datetime.now(UTC), "benchmark")
    work = steps.prepare(workspace, asked)
    run_id = steps.begin(workspace, work)
    steps.export(work, steps.finetune(workspace, work, run_id))
    scores = steps.score(workspace, work)
    temperature = steps.calibrate(work, scores)
    evaluation = steps.evaluate(workspace, work, scores, run_id)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(work.model, target)
    line = (
        f"macro-F1 {evaluation.macro_f1:.3f}, accuracy {evaluation.accuracy:.3f}, ECE {evaluation.ece:.3f} on "
        f"{evaluation.rows} rows, temperature {temperature:.2f}, {time.perf_counter() - started:.0f} s"
    )
    (target / "benchmark.txt").write_text(line, encoding="utf-8")
    logging.getLogger("undertone").info("model %s: %s", recipe.name, line)
    return target


def facts(cache: Path) -> list[str]:
    """One line about each trained model."""
    return [
        f"model {recipe.name}: seed {recipe.seed}, {recipe.effort.epochs} epoch(s), learning rate "
        f"{recipe.effort.learning_rate:g}, {recipe.effort.frozen_layers} frozen layers: "
        + (cache / f"model-{recipe.name}" / "benchmark.txt").read_text(encoding="utf-8")
        for recipe in RECIPES
    ]
