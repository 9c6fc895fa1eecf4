"""One chain, whoever writes it: several processes at once, and one that is killed while it writes."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undertone.ledger import Ledger
from undertone.store import Store

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)

#: Writes rows, as many as told, once a line arrives; told "hang", it stops between its insert and its commit.
WRITER = """
import sys, threading
from datetime import UTC, datetime
from sqlalchemy import event
from undertone.ledger import Ledger
from undertone.store import Store

url, name, rows = sys.argv[1:]
store = Store(url)
ledger = Ledger(store)
if rows == "hang":
    def hang(_):
        print("inside", flush=True)
        threading.Event().wait()
    event.listen(store.engine, "commit", hang)
print("ready", flush=True)
sys.stdin.readline()
for number in range(1 if rows == "hang" else int(rows)):
    ledger.append("gate", "sentiment", at=datetime.now(UTC), actor=name, reason="r" * 200, version=number)
    print(number, flush=True)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    url = (
        f"sqlite:///{tmp_path / 'store.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres").store()
    )
    store = Store(url)
    store.migrate()
    yield Ledger(store)
    store.engine.dispose()


def start(ledger: Ledger, name: str, rows: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, ledger.store.url.render_as_string(hide_password=False), name, rows]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read(writer: subprocess.Popen[str]) -> str:
    assert writer.stdout is not None
    return writer.stdout.readline().strip()


def go(*writers: subprocess.Popen[str]) -> None:
    for writer in writers:
        assert read(writer) == "ready"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()


def end(*writers: subprocess.Popen[str]) -> None:
    for writer in writers:
        writer.kill()
        writer.communicate()


def test_four_processes_write_one_chain_and_a_fifth_is_killed(ledger: Ledger) -> None:
    writers = [start(ledger, f"writer {number}", "100") for number in range(4)]
    doomed = start(ledger, "doomed", "1000000")
    try:
        go(*writers, doomed)
        said = [read(doomed) for _ in range(5)]  # it is in full swing
        doomed.kill()
        assert [writer.wait(60) for writer in writers] == [0] * 4
    finally:
        end(*writers, doomed)
    rows = ledger.entries()
    assert ledger.verify() == len(rows)
    assert len({row.previous_hash for row in rows}) == len(rows)
    for number in range(4):
        assert [row.version for row in rows if row.actor == f"writer {number}"] == list(range(100))
    kept = [row.version for row in rows if row.actor == "doomed"]
    assert kept == list(range(len(kept)))  # everything it was told was written, and no half row
    assert len(kept) >= len(said)
    assert len(rows) == 400 + len(kept)
    writers_in_order = [actor for actor, _ in itertools.groupby(row.actor for row in rows)]
    assert len(writers_in_order) > 5  # they did take turns


def test_a_writer_killed_before_its_commit_leaves_no_row_and_no_lock(ledger: Ledger) -> None:
    ledger.append("gate", "sentiment", at=NOW, actor="ann", reason="before")
    writer = start(ledger, "doomed", "hang")
    try:
        go(writer)
        assert read(writer) == "inside"
        assert [row.actor for row in ledger.entries()] == ["ann"]  # readers do not wait for it
    finally:
        end(writer)
    ledger.append("gate", "sentiment", at=NOW, actor="ann", reason="after")
    assert [row.reason for row in ledger.entries()] == ["before", "after"]
    assert ledger.verify() == 2
