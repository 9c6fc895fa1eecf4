"""What the store takes, and how it grows: `python -m benchmarks.stream_store FILE --store URL --writers 1 2`

Texts of the file, three tasks' answers, with and without embeddings, written by `Store.record` as a stream does; one
process a writer. The store must be empty and the benchmark's own. Without `--store` it is SQLite in a temporary folder.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from benchmarks.stream import size_of
from undertone.records import Message, Prediction, ScoredMessage
from undertone.store import Store
from undertone.tasks import BUILT_IN

BATCH = 200
#: Bytes of an embedding: 384 numbers of two bytes.
EMBEDDING = 768


def scored(text: str, id: str, now: datetime, embedded: bool) -> ScoredMessage:
    """A message with an answer of every task."""
    message = Message(id, text, "social", "United", "customer-1", now, now)
    answers = tuple(
        Prediction(
            id, name, spec.labels[0], tuple(random.random() for _ in spec.labels), 1, "ab" * 32, now,
            random.randbytes(EMBEDDING) if embedded else None, False,
        )
        for name, spec in BUILT_IN.items()
    )  # fmt: skip
    reason = "sentiment alone: its version was trained without a sarcasm model"
    return ScoredMessage(message, answers, "negative", reason, 0.9, False)


def write(url: str, texts: list[str], first: int, count: int, embedded: bool) -> float:
    """Seconds that one writer takes for `count` messages."""
    store, now = Store(url), datetime.now(UTC)
    items = [scored(texts[number % len(texts)], f"m-{first + number}", now, embedded) for number in range(count)]
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        store.record(items[start : start + BATCH])
    seconds = time.perf_counter() - began
    store.engine.dispose()
    return seconds


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--store", default="")
    parser.add_argument("--messages", type=int, default=10_000, help="of each line of the table")
    parser.add_argument("--writers", type=int, nargs="+", default=[1])
    asked = parser.parse_args()
    texts = pd.read_csv(asked.file)["text"].astype(str).tolist()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores\n")
    print("| store | embeddings | writers | messages a second | bytes a message |\n| --- | --- | --- | --- | --- |")
    first = 0
    with ExitStack() as things:
        folder = things.enter_context(tempfile.TemporaryDirectory())
        url = asked.store or f"sqlite:///{folder}/undertone.db"
        store = Store(url)
        store.migrate()
        for embedded in (True, False):
            for writers in asked.writers:
                before, share = size_of(store), asked.messages // writers
                store.engine.dispose()
                with ProcessPoolExecutor(writers, multiprocessing.get_context("spawn")) as pool:
                    runs = [
                        pool.submit(write, url, texts, first + number * share, share, embedded)
                        for number in range(writers)
                    ]
                    seconds = max(run.result() for run in runs)
                first += writers * share
                grown = (size_of(store) - before) / (writers * share)
                print(
                    f"| {store.url.get_backend_name()} | {'yes' if embedded else 'no'} | {writers} |"
                    f" {writers * share / seconds:,.0f} | {grown:,.0f} |",
                    flush=True,
                )
        store.engine.dispose()


if __name__ == "__main__":
    main()
