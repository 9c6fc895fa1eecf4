"""Messages through Kafka into the store, in one run: `python -m benchmarks.stream FILE --speed 100 --hours 1`

Two phases over librdkafka's mock cluster and real `undertone stream` processes: first a part of the file at a multiple
of its real pace (messages a second, lag, time to insight), then as many messages as asked for without a pause (messages
a second, and a core-second). The part is the file's busiest, unless `--from` names another. The time of a message is
that at which it is due to be sent, so a producer that is late counts against the result.

The store is the home's, on SQLite: its ledger says who may serve. `benchmarks.stream_store` has PostgreSQL beside it.
The home needs approved champions: `--home`, or the three tasks' home of `benchmarks.serving_home`, made if missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import func, select, text

from benchmarks.serving_home import environment, fresh_state
from benchmarks.serving_processes import Tree, busy_s, spawned
from benchmarks.serving_run import free_ports
from flows.replay import replay_into
from undertone import views
from undertone.schema import messages, predictions
from undertone.settings import Settings
from undertone.store import Store

LIBRARIES = ("confluent-kafka", "onnxruntime", "tokenizers", "sqlalchemy", "numpy")
STEPS = ("read", "score", "store", "send", "commit")
#: Seconds between two looks at the lag.
LOOK_S = 0.25
#: Messages before anything is measured.
WARM = 100
LIMIT_S = 600.0


@dataclass
class Readers:
    """The processes that score, and what their pages say."""

    ports: list[int]
    trees: list[Tree]
    logs: list[Path]
    lags: list[float] = field(default_factory=list)

    def figure(self, name: str, **labels: str) -> float:
        """The sum over all readers; 0 before the first message."""
        return sum(value for port in self.ports for value in _figures(port, name, labels))

    def wait_done(self, count: float) -> None:
        """Until `count` messages are acknowledged."""
        deadline = time.monotonic() + LIMIT_S
        while self.figure("undertone_stream_messages_total") < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count:.0f} messages; the log ends:\n{self.logs[0].read_text()[-2000:]}")
            time.sleep(0.1)

    def steps(self) -> dict[str, float]:
        """Seconds of each step so far."""
        return {name: self.figure("undertone_stream_step_seconds_total", step=name) for name in STEPS}

    def cpu_s(self) -> float:
        """Of all readers."""
        return sum(tree.cpu_s() for tree in self.trees)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the lag for the block."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_S):
                self.lags.append(self.figure("undertone_stream_lag_messages"))

        self.lags.clear()
        thread = threading.Thread(target=look)
        thread.start()
        yield
        over.set()
        thread.join()


def _figures(port: int, name: str, labels: dict[str, str]) -> list[float]:
    try:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
    except httpx.TransportError:
        return []  # it starts
    return [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def busiest(frame: pd.DataFrame, hours: float) -> datetime:
    """Start of the span of `hours` with most messages."""
    times = frame["created_at"].to_numpy()
    ends = np.searchsorted(times, times + np.timedelta64(int(hours * 3_600), "s"))
    return pd.Timestamp(times[int(np.argmax(ends - np.arange(len(times))))], tz="UTC").to_pydatetime()


def part(path: Path, hours: float, start: str, folder: Path) -> tuple[Path, pd.DataFrame]:
    """The file's messages of `hours`, as a file."""
    frame = pd.read_csv(path, dtype={"message_id": str})
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True).dt.tz_localize(None)
    frame = frame.sort_values("created_at", kind="stable")
    first = pd.Timestamp(start).tz_localize(None) if start else pd.Timestamp(busiest(frame, hours)).tz_localize(None)
    within = frame[frame["created_at"].between(first, first + pd.Timedelta(hours=hours), inclusive="left")]
    within.assign(created_at=within["created_at"].dt.tz_localize("UTC").map(lambda at: at.isoformat())).to_csv(
        folder / "part.csv", index=False
    )
    return folder / "part.csv", within


def main() -> None:
    """Measure, and print one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="CSV with created_at and text")
    parser.add_argument("--speed", type=float, default=100.0)
    parser.add_argument("--hours", type=float, default=1.0, help="of the file's time")
    parser.add_argument("--from", dest="start", default="", help="where the part begins; default: the busiest")
    parser.add_argument("--flat", type=int, default=1_000, help="messages without a pause; 0: leave that out")
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="engine threads of a reader; 0: one a core")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--sentiment", type=Path, default=Path("../shared/data/sentiment/train.csv"))
    parser.add_argument("--cache", type=Path, default=Path("/tmp/bench-serving"), help="where that home is kept")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="undertone-stream-") as folder:
        found = measure(asked, Path(folder))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2, default=str) + "\n", encoding="utf-8")
    print(page(found))


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures of one run."""
    home = asked.home or _home(asked.sentiment, asked.cache)
    file, rows = part(asked.file, asked.hours, asked.start, folder)
    state = fresh_state(home, folder / "state")
    settings = Settings(home=home, state_dir=state)
    told = os.environ | environment(home, state) | {"UNDERTONE_ENGINE_THREADS": str(asked.threads)}
    cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 3, "log_level": 0})
    hosts = ",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=10).brokers.values())
    store = Store.open(settings)
    empty = size_of(store)
    with ExitStack() as running:
        readers = Readers(free_ports(asked.readers), [], [])
        sent = 0
        for number, port in enumerate(readers.ports):
            log = folder / f"reader-{number}.log"
            command = [
                sys.executable, "-m", "flows.cli", "stream", "--source", f"kafka://{hosts}/messages",
                "--sink", f"kafka://{hosts}/scores", "--dead-letters", f"kafka://{hosts}/dead",
                "--batch", asked.batch, "--metrics-port", port,
            ]  # fmt: skip
            readers.trees.append(running.enter_context(spawned(command, told, log))[1])
            readers.logs.append(log)
            warmed = 0  # the first fetches the models, the others find them; each must have its share of partitions
            while not sum(_figures(port, "undertone_stream_messages_total", {})):
                _flat(folder, file, f"kafka://{hosts}/messages", WARM, f"warm-{number}-{warmed}")
                warmed += WARM
                sent += WARM
                readers.wait_done(sent)
        paced = _paced(asked, readers, store, file, f"kafka://{hosts}/messages", len(rows))
        flat = _burst(asked, readers, folder, file, f"kafka://{hosts}/messages") if asked.flat else None
    with store.reading() as connection:
        stored = connection.execute(select(func.count()).select_from(messages)).scalar_one()
        answers = connection.execute(select(func.count()).select_from(predictions)).scalar_one()
    grown = size_of(store) - empty
    store.engine.dispose()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load": os.getloadavg(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "readers": asked.readers,
        "threads": asked.threads,
        "batch": asked.batch,
        "store": store.url.get_backend_name(),
        "from": rows["created_at"].iloc[0].isoformat(),
        "hours": asked.hours,
        "speed": asked.speed,
        "paced": paced,
        "flat": flat,
        "stored": stored,
        "tasks": round(answers / stored, 2),
        "bytes_a_message": round(grown / stored),
        "text_bytes": round(float(rows["text"].str.encode("utf-8").str.len().mean()), 1),
    }


def _home(sentiment: Path, cache: Path) -> Path:
    command = [sys.executable, "-m", "benchmarks.serving_home", sentiment, cache]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(json.loads(made)["three"])


def _flat(folder: Path, file: Path, url: str, count: int, name: str) -> None:
    """`count` messages without a pause: the part's texts over and over, under ids of their own."""
    frame = pd.read_csv(file)
    frame = pd.concat([frame] * (count // len(frame) + 1), ignore_index=True).head(count)
    frame = frame.assign(message_id=[f"{name}-{number}" for number in range(count)])
    frame.to_csv(folder / f"{name}.csv", index=False)
    replay_into(str(folder / f"{name}.csv"), url, 0.0)


def _paced(
    asked: argparse.Namespace, readers: Readers, store: Store, file: Path, url: str, count: int
) -> dict[str, Any]:
    before, cpu, steps, busy = (
        readers.figure("undertone_stream_messages_total"),
        readers.cpu_s(),
        readers.steps(),
        busy_s(),
    )
    began, clock = datetime.now(UTC), time.perf_counter()
    with readers.watched():
        sent = replay_into(str(file), url, asked.speed)
        readers.wait_done(before + count)
    seconds = time.perf_counter() - clock
    view = views.get_view("messages").table(store.engine.dialect.name)
    with store.reading() as connection:
        waits = connection.execute(
            select(view.c.seconds_to_insight, view.c.seconds_to_store).where(view.c.event_at >= began)
        ).all()
    insight, own = (np.array(column, dtype=float) for column in zip(*waits, strict=True))
    return {
        "messages": count,
        "seconds": round(seconds, 1),
        "per_second": round(count / seconds, 2),
        "cpu_s": round(readers.cpu_s() - cpu, 2),
        "machine_busy": round((busy_s() - busy) / seconds / (os.cpu_count() or 1), 2),
        "producer_late_at_most_s": sent["late_at_most_s"],
        "lag_max": max(readers.lags, default=0.0),
        "lag_mean": round(float(np.mean(readers.lags or [0.0])), 2),
        "insight_s": _spread(insight),
        "own_part_s": _spread(own),
        "steps_s": _since(readers.steps(), steps),
    }


def _burst(asked: argparse.Namespace, readers: Readers, folder: Path, file: Path, url: str) -> dict[str, Any]:
    before, cpu, steps, busy = (
        readers.figure("undertone_stream_messages_total"),
        readers.cpu_s(),
        readers.steps(),
        busy_s(),
    )
    clock = time.perf_counter()
    _flat(folder, file, url, asked.flat, "flat")
    readers.wait_done(before + asked.flat)
    seconds, spent = time.perf_counter() - clock, readers.cpu_s() - cpu
    return {
        "messages": asked.flat,
        "seconds": round(seconds, 2),
        "per_second": round(asked.flat / seconds, 1),
        "cpu_s": round(spent, 2),
        "per_core_second": round(asked.flat / spent, 1),
        "machine_busy": round((busy_s() - busy) / seconds / (os.cpu_count() or 1), 2),
        "steps_s": _since(readers.steps(), steps),
    }


def _since(now: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: round(value - before[name], 2) for name, value in now.items()}


def _spread(values: Any) -> dict[str, float]:
    return {name: round(float(np.quantile(values, q)), 3) for name, q in {"p50": 0.5, "p99": 0.99, "max": 1.0}.items()}


def size_of(store: Store) -> int:
    """Size of the database, indexes and all."""
    with store.reading() as connection:
        if connection.dialect.name == "postgresql":
            return int(connection.execute(text("select pg_database_size(current_database())")).scalar_one())
    with closing(sqlite3.connect(str(store.url.database))) as file:
        file.execute("pragma wal_checkpoint(truncate)")
    return os.path.getsize(str(store.url.database))


def page(found: dict[str, Any]) -> str:
    """The figures for people, in Markdown."""
    paced, flat = found["paced"], found["flat"]
    lines = [
        f"{found['at']}; {found['machine']}; load {found['load'][0]:.1f} at the end; "
        + ", ".join(f"{name} {value}" for name, value in found["libraries"].items()),
        f"{found['readers']} reader(s), {found['threads'] or 'a lane a core'} threads, batches of {found['batch']},"
        f" {found['tasks']:g} tasks, store {found['store']}, texts of {found['text_bytes']} bytes on average",
        "",
        "| phase | messages | seconds | a second | CPU-seconds | machine busy |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| {found['hours']:g} h from {found['from']} at {found['speed']:g} times | {paced['messages']} |"
        f" {paced['seconds']} | {paced['per_second']} | {paced['cpu_s']} | {paced['machine_busy']:.0%} |",
    ]
    if flat:
        lines.append(
            f"| flat out | {flat['messages']} | {flat['seconds']} | {flat['per_second']} | {flat['cpu_s']} |"
            f" {flat['machine_busy']:.0%} |"
        )
    lines += [
        "",
        f"Paced: lag {paced['lag_max']:.0f} messages at most, {paced['lag_mean']} on average; time to insight"
        f" p50 {paced['insight_s']['p50']} s, p99 {paced['insight_s']['p99']} s, at most {paced['insight_s']['max']} s"
        f" (from receipt to store p50 {paced['own_part_s']['p50']} s, p99 {paced['own_part_s']['p99']} s).",
    ]
    if flat:
        total = sum(flat["steps_s"].values())
        shares = ", ".join(f"{name} {value / total:.1%}" for name, value in flat["steps_s"].items())
        lines.append(f"Flat out: {flat['per_core_second']} messages a core-second; time went to {shares}.")
    lines.append(f"The store grew by {found['bytes_a_message']} bytes a message, embeddings and indexes included.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
