"""Fine-tuning beside the Hugging Face examples' ways. `python -m benchmarks.training_speed --data ../shared/data`

Three ways over the same texts, base model, batch size, passes and threads, each in a process of its own, one after the
other:

- `padded`: `transformers.Trainer` as `run_glue.py` and `run_classification.py` set it up: every text padded to 128
  tokens (their `--pad_to_max_length`, on by default), learning rate 5e-5, AdamW, no warmup, all weights trained;
- `dynamic`: the same with each batch padded to its longest text (`DataCollatorWithPadding`);
- `undertone`: `training.finetune` with the `standard` effort's hyperparameters.

Each way stops the clock to look at the validation macro-F1 at the same steps. *Time to quality* is the training time
until macro-F1 first reaches what `padded` ends with, less `--slack`. Memory is the greatest resident size of the
process above what it held when libraries and texts were loaded. Ratios are of this one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

WAYS = ("padded", "dynamic", "undertone")
BATCH = 32
PADDED_TOKENS = 128


def main() -> None:
    """Run every way in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with TASK/train.csv and TASK/val.csv")
    parser.add_argument("--task", default="emotion")
    parser.add_argument("--rows", type=int, default=1_600, help="training rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--slack", type=float, default=0.01, help="macro-F1 below the padded way's end that counts as reached"
    )
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.way:
        print(json.dumps(measure(asked)))
        return
    found = {}
    for way in WAYS:
        print(f"{way} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.training_speed", *sys.argv[1:], "--way", way]
        environment = os.environ | {"OMP_NUM_THREADS": str(asked.threads), "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
    print(table(found, asked))


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """One way: its training seconds, its curve of (seconds, macro-F1), its memory in bytes."""
    import pandas as pd
    import torch

    from training import base_model
    from training.finetune import load_tokenizer
    from undertone.tasks import get_task

    torch.set_num_threads(asked.threads)
    spec = get_task(asked.task)
    base = base_model.resolve(spec.base_model).path
    train = pd.read_csv(asked.data / asked.task / "train.csv").sample(n=asked.rows, random_state=asked.seed)
    validation = pd.read_csv(asked.data / asked.task / "val.csv")
    tokenizer = load_tokenizer(base, spec.max_tokens)
    tokens = sum(map(len, tokenizer(train["text"].tolist(), truncation=True)["input_ids"]))
    clock = Clock(validation, tokenizer, spec, every=max(1, len(train) // BATCH // 4))
    with Memory() as memory:
        (_ours if asked.way == "undertone" else _theirs)(asked, train, tokenizer, spec, base, clock)
    return {"seconds": clock.seconds, "curve": clock.curve, "bytes": memory.greatest, "tokens": tokens * asked.epochs}


def _theirs(asked: argparse.Namespace, train: Any, tokenizer: Any, spec: Any, base: Path, clock: Clock) -> None:
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        default_data_collator,
        set_seed,
    )

    set_seed(asked.seed)
    padded = asked.way == "padded"
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(spec.labels))
    encoded = tokenizer(
        train["text"].tolist(),
        truncation=True,
        max_length=PADDED_TOKENS,
        padding="max_length" if padded else False,
    )
    index = spec.label_index()
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": index[label]}
        for ids, mask, label in zip(encoded["input_ids"], encoded["attention_mask"], train["label"], strict=True)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch, num_train_epochs=asked.epochs, per_device_train_batch_size=BATCH, learning_rate=5e-5,
            seed=asked.seed, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=10,
            dataloader_pin_memory=False,
        )  # fmt: skip
        collator: Any = default_data_collator if padded else DataCollatorWithPadding(tokenizer)
        trainer = Trainer(
            model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[clock.callback()]
        )
        trainer.train()


def _ours(asked: argparse.Namespace, train: Any, tokenizer: Any, spec: Any, base: Path, clock: Clock) -> None:
    from training import loop
    from training.effort import get_effort
    from training.finetune import finetune

    # the clock looks where the bar moves: a callback beside the product's own
    given = loop.Progress.on_step_end
    callback = clock.callback()

    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        given(self, args, state, control, **more)
        callback.on_step_end(args, state, control, **more)

    loop.Progress.on_step_end = on_step_end  # type: ignore[method-assign]
    begun = loop.Progress.on_train_begin

    def on_train_begin(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        begun(self, args, state, control, **more)
        callback.on_train_begin(args, state, control, **more)

    loop.Progress.on_train_begin = on_train_begin  # type: ignore[method-assign]
    effort = get_effort("standard").having({"epochs": asked.epochs, "min_steps": 0, "batch_size": BATCH})
    with tempfile.TemporaryDirectory() as scratch:
        finetune(
            train,
            train.head(1),
            spec,
            effort,
            base_model=base,
            seed=asked.seed,
            checkpoints=Path(scratch),
            progress=False,
            threads=asked.threads,
        )


class Clock:
    """Training time without the looks at validation, which stop it."""

    def __init__(self, validation: Any, tokenizer: Any, spec: Any, every: int) -> None:
        from training.evaluate import class_indices

        self.every = every
        self.curve: list[tuple[float, float]] = []
        self.seconds = 0.0
        self._truth = class_indices(validation["label"], spec)
        self._texts = validation["text"].tolist()
        self._tokenizer = tokenizer
        self._since = 0.0

    def callback(self) -> Any:
        """What the Trainer calls."""
        from transformers import TrainerCallback

        clock = self

        class Looks(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                clock._since = time.perf_counter()

            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                if state.global_step % clock.every == 0 or state.global_step == state.max_steps:
                    clock.seconds += time.perf_counter() - clock._since
                    clock.curve.append((clock.seconds, clock.look(model)))
                    clock._since = time.perf_counter()

        return Looks()

    def look(self, model: Any) -> float:
        """Macro-F1 on the validation rows."""
        from benchmarks.recipes import labels_of
        from training.evaluate import macro_f1

        model.eval()
        predicted = labels_of(model, self._tokenizer, self._texts, PADDED_TOKENS)
        model.train()
        return macro_f1(self._truth, predicted, model.config.num_labels)


class Memory:
    """Greatest resident size of this process within the block, above that at its start, in bytes."""

    def __enter__(self) -> Memory:
        self._ended = threading.Event()
        self._before = self.greatest = self._resident()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.greatest -= self._before

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            self.greatest = max(self.greatest, self._resident())

    def _resident(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ratio(ours: float | None, theirs: float | None) -> str:
    """How many times `ours` goes into `theirs`."""
    return f"{theirs / ours:.2f} x" if ours and theirs else "not reached"


def table(found: dict[str, dict[str, Any]], asked: argparse.Namespace) -> str:
    """The report, in Markdown."""
    import torch
    import transformers

    target = found["padded"]["curve"][-1][1] - asked.slack
    rows = asked.rows * asked.epochs
    reached: dict[str, float | None] = {
        way: next((seconds for seconds, score in values["curve"] if score >= target), None)
        for way, values in found.items()
    }
    whole, soonest = found["padded"]["seconds"], reached["padded"]
    lines = [
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {asked.threads} threads; Python"
        f" {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}",
        f"{asked.task}: {asked.rows} rows, {asked.epochs} passes, batches of {BATCH}, seed {asked.seed}; quality:"
        f" macro-F1 {target:.3f} on the validation file",
        "",
        "| way | rows/s | against padded | tokens/s | s to quality | against padded | memory MB | last macro-F1 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for way, values in found.items():
        there = reached[way]
        lines.append(
            f"| {way} | {rows / values['seconds']:.1f} | {ratio(values['seconds'], whole)} |"
            f" {values['tokens'] / values['seconds']:.0f} | {'never' if there is None else f'{there:.1f}'} |"
            f" {ratio(there, soonest)} | {values['bytes'] / 1e6:.0f} | {values['curve'][-1][1]:.3f} |"
        )
    rows_ratio = ratio(found["undertone"]["seconds"], found["dynamic"]["seconds"])
    time_ratio = ratio(reached["undertone"], reached["dynamic"])
    lines += ["", f"undertone against dynamic: rows {rows_ratio}, time to quality {time_ratio}."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
