"""How fast the ledger takes rows, from one process and from four, and how fast its chain is checked.

    python benchmarks/ledger.py                                             SQLite in a temporary folder
    python benchmarks/ledger.py postgresql+psycopg://me@127.0.0.1/empty     an empty database on a server

Every figure is the median of three runs with its range. The rows stay in a database that is named here.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from undertone.ledger import Ledger
from undertone.store import Store

ROWS = 1_000
WRITERS = 4
PAYLOAD = {"passed": True, "manifest_sha256": "a" * 64, "metrics": {f"slice {number}": 0.8125 for number in range(10)}}


def write(url: str, rows: int) -> None:
    """Append `rows` typical rows."""
    ledger = Ledger(Store(url))
    for number in range(rows):
        ledger.append(
            "gate", "sentiment", at=datetime.now(UTC), actor="gate", version=number, payload=PAYLOAD,
            reason="not worse than the champion by more than 1 %",
        )  # fmt: skip


def write_together(url: str, rows: int) -> float:
    """Append from several processes; gives the seconds from the moment that all of them are ready."""
    command = [sys.executable, __file__, "--write", url, str(rows // WRITERS)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(WRITERS)]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    began = time.perf_counter()
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    return time.perf_counter() - began


def seconds(act: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def report(what: str, took: list[float], rows: int) -> None:
    """One line of the table: rows a second."""
    rates = sorted(rows / value for value in took)
    print(f"| {what} | {statistics.median(rates):,.0f} | {rates[0]:,.0f} to {rates[-1]:,.0f} |")


def measure(url: str) -> None:
    """The table for one database."""
    store = Store(url)
    store.migrate()
    ledger = Ledger(store)
    print(f"| {store.url.get_backend_name()} | rows/s, median of 3 | range |\n| --- | --- | --- |")
    report("append, one process", [seconds(lambda: write(url, ROWS)) for _ in range(3)], ROWS)
    report(f"append, {WRITERS} processes", [write_together(url, ROWS) for _ in range(3)], ROWS)
    count = ledger.verify()
    report(f"verify, {count:,} rows", [seconds(ledger.verify) for _ in range(3)], count)
    took = [seconds(lambda: ledger.latest("sentiment", ["gate"])) for _ in range(3)]
    print(f"\nlatest() with {count:,} rows: {statistics.median(took) * 1000:.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        print("ready", flush=True)
        sys.stdin.readline()
        write(sys.argv[2], int(sys.argv[3]))
    elif len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(f"sqlite:///{Path(folder) / 'store.db'}")
