"""Fine-tuning on a GPU: `python -m benchmarks.gpu_training TASK --source FOLDER [--batch 32 256] [--rows N]`

Runs `training.finetune` with the `standard` effort on the first CUDA device (bf16 where it can), once for each batch
size, and prints for each:

- rows and tokens a second over the whole training, from the first step to the last;
- the share of the device's bf16 peak: six operations a trained encoder weight and token (Kaplan et al., 2020,
  https://arxiv.org/abs/2001.08361; attention's own products, a few percent on short texts, left out) against a large
  matrix product timed on the same device just before;
- the share of the time that the loop waited for its next batch (data-loading stalls);
- the greatest memory torch held, and macro-F1 on the rows that are reported on (`training.data.split`).

Without a GPU it says so and ends.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.recipes import labels_of
from undertone.errors import ConfigError


def main() -> None:
    """Train once for each batch size and print the table."""
    import torch

    from training.data import load, split
    from training.effort import get_effort
    from training.finetune import load_tokenizer
    from undertone.tasks import get_task

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--source", required=True)
    parser.add_argument("--base-model", type=Path, help="folder; the task's own unless given")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--rows", type=int, help="training rows; all unless given")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(str(ConfigError("a CUDA device", "none", "run benchmarks.training_speed, which needs none")))
    spec = get_task(asked.task)
    if asked.base_model is None:
        from training import base_model

        asked.base_model = base_model.resolve(spec.base_model).path
    splits = split(load(asked.source, spec), spec, asked.seed)
    train = splits.train.sample(n=asked.rows, random_state=asked.seed) if asked.rows else splits.train
    tokenizer = load_tokenizer(asked.base_model, spec.max_tokens)
    tokens = sum(map(len, tokenizer(train["text"].tolist(), truncation=True)["input_ids"]))
    peak = matmul_peak()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {asked.task}: {len(train)} rows, {tokens} tokens"
        f" a pass; bf16 matrix product {peak / 1e12:.0f} TFLOP/s\n\n"
        "| batch | rows/s | tokens/s | of peak | waiting for data | memory MB | macro-F1 |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for batch in asked.batch:
        effort = get_effort("standard").having({"batch_size": batch, "save_steps": 100_000, "r_drop": 0})
        got = measure(train, splits.holdout, spec, effort, asked)
        passes = effort.passes(len(train))
        rate = tokens * passes / got["seconds"]
        print(
            f"| {batch} | {len(train) * passes / got['seconds']:,.0f} | {rate:,.0f}"
            f" | {6 * got['weights'] * rate / peak:.2%} | {got['waited'] / got['seconds']:.1%}"
            f" | {got['memory'] / 2**20:,.0f} | {got['macro_f1']:.3f} |",
            flush=True,
        )


def measure(train: Any, holdout: Any, spec: Any, effort: Any, asked: argparse.Namespace) -> dict[str, float]:
    """One training: its seconds, the seconds in which it waited for batches, its memory in bytes, its macro-F1."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from training.evaluate import class_indices, macro_f1
    from training.finetune import finetune
    from training.loop import LengthTrainer

    clock = {"waited": 0.0, "seconds": 0.0}
    fetch, loop = LengthTrainer.get_batch_samples, LengthTrainer.train

    def timed_fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return fetch(self, *args, **kwargs)
        finally:
            clock["waited"] += time.perf_counter() - began

    def timed_loop(self: Any, *args: Any, **kwargs: Any) -> Any:
        torch.cuda.synchronize()
        began = time.perf_counter()
        try:
            return loop(self, *args, **kwargs)
        finally:
            torch.cuda.synchronize()
            clock["seconds"] = time.perf_counter() - began

    torch.cuda.reset_peak_memory_stats()
    LengthTrainer.get_batch_samples, LengthTrainer.train = timed_fetch, timed_loop  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = finetune(
                train,
                holdout,
                spec,
                effort,
                base_model=asked.base_model,
                seed=asked.seed,
                checkpoints=Path(folder) / "run",
                progress=False,
            )
            memory = torch.cuda.max_memory_allocated()
            model = AutoModelForSequenceClassification.from_pretrained(made).eval()
            answers = labels_of(model, AutoTokenizer.from_pretrained(made), holdout["text"].tolist(), spec.max_tokens)
    finally:
        LengthTrainer.get_batch_samples, LengthTrainer.train = fetch, loop  # type: ignore[method-assign]
    weights = sum(value.numel() for name, value in model.named_parameters() if "embeddings" not in name)
    score = macro_f1(class_indices(holdout["label"], spec), answers, len(spec.labels))
    return {**clock, "memory": memory, "weights": weights, "macro_f1": score}


def matmul_peak(size: int = 8192, repeats: int = 20) -> float:
    """Floating-point operations a second of a bf16 product of two random square matrices."""
    import torch

    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        left @ right
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
