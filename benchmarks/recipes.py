"""A fine-tuning recipe over several seeds on real messages.

    python -m benchmarks.recipes emotion --source ../shared/data/emotion --seeds 7 8 9 [--set NAME=VALUE …]

Reads and splits the source as a training does: the validation file is reported on and never learned from. Each seed
draws other batches, another head and other dropout on the same rows (the split keeps `--split-seed`). Prints each
seed's figures, their mean and their standard deviation. Finished seeds are kept in `--cache`, and the same command
goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from training import base_model
from training.data import Splits, load, split
from training.effort import get_effort, parse_overrides
from training.evaluate import class_indices, class_scores, confusion_matrix
from training.finetune import finetune, load_tokenizer, reading_of
from training.silence import hush
from undertone.tasks import TaskSpec, get_task

METRICS = ("macro_f1", "macro_recall", "accuracy")


def main() -> None:
    """Run what the cache does not hold and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--source", required=True)
    parser.add_argument("--base-model", help="a hub name or a folder, such as an adapted one; default: the task's")
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--split-seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "undertone-recipes")
    asked = parser.parse_args()
    spec = get_task(asked.task)
    splits = split(load(asked.source, spec), spec, asked.split_seed)
    found = [run(asked, spec, splits, seed) for seed in asked.seeds]
    print(table(asked, spec, splits, found))


def run(asked: argparse.Namespace, spec: TaskSpec, splits: Splits, seed: int) -> dict[str, Any]:
    """One seed's figures on the holdout."""
    effort = get_effort(asked.effort).having(parse_overrides(asked.overrides))
    base = base_model.resolve(asked.base_model or spec.base_model)
    with hush():
        reading = reading_of(load_tokenizer(base.path, spec.max_tokens))
    what = [effort.model_dump(), splits.data_sha256, seed, spec.name, base.sha256, reading]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    note, folder = asked.cache / f"{key[:16]}.json", asked.cache / key[:16]
    if note.is_file():
        known: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return known
    print(f"{spec.name}, seed {seed}", file=sys.stderr)
    began = time.process_time()
    model = finetune(
        splits.train,
        splits.validation,
        spec,
        effort,
        base_model=base.path,
        seed=seed,
        checkpoints=folder,
        threads=asked.threads,
    )
    spent = time.process_time() - began
    confusion = confusion_matrix(*predicted(model, splits, spec), len(spec.labels))
    _, recall, f1 = class_scores(confusion)
    made = {
        "seed": seed,
        "macro_f1": float(f1.mean()),
        "macro_recall": float(recall.mean()),
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        **{f"f1 {label}": float(score) for label, score in zip(spec.labels, f1, strict=True)},
        "cpu_s": spent,
    }
    note.write_text(json.dumps(made), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    return made


def predicted(folder: Path, splits: Splits, spec: TaskSpec) -> tuple[Any, Any]:
    """True and predicted class indices [n] of the holdout."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = labels_of(model, tokenizer, splits.holdout["text"].tolist(), spec.max_tokens)
    return class_indices(splits.holdout["label"], spec), answers


def labels_of(model: Any, tokenizer: Any, texts: list[str], max_tokens: int) -> Any:
    """The likeliest class index [n] of each text, by `model` as it is."""
    import torch

    answers = []
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], truncation=True, max_length=max_tokens, padding=True, return_tensors="pt"
            )
            answers.append(model(**batch).logits.argmax(-1).numpy())
    return np.concatenate(answers)


def table(asked: argparse.Namespace, spec: TaskSpec, splits: Splits, found: list[dict[str, Any]]) -> str:
    """The report, in Markdown."""
    import torch

    columns = [*METRICS, *(f"f1 {label}" for label in spec.labels)]
    rows = [
        [str(values["seed"]), *(f"{values[name]:.3f}" for name in columns), f"{values['cpu_s']:.0f}"]
        for values in found
    ]
    scores = {name: np.array([values[name] for values in found]) for name in columns}
    spread = {name: values.std(ddof=1) if len(values) > 1 else float("nan") for name, values in scores.items()}
    rows.append(["**mean**", *(f"**{scores[name].mean():.3f}**" for name in columns), ""])
    rows.append(["deviation", *(f"{spread[name]:.3f}" for name in columns), ""])
    changed = f" with {', '.join(asked.overrides)}" if asked.overrides else ""
    changed += f" from {asked.base_model}" if asked.base_model else ""
    return "\n".join(
        [
            f"{spec.name}, {asked.effort}{changed}, {asked.source}: {len(splits.train)} rows learned from,"
            f" {len(splits.holdout)} reported on",
            f"{platform.machine()}, {os.cpu_count()} cores, {asked.threads} threads;"
            f" Python {platform.python_version()}, torch {torch.__version__}",
            "",
            f"| seed | {' | '.join(columns)} | CPU s |",
            "| --- |" + " ---: |" * (len(columns) + 1),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


if __name__ == "__main__":
    main()
