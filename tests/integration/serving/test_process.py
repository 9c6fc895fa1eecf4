"""`python -m serving` as a process: it starts from disk, drains on a signal, survives a kill, and stays light."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
TRAINING = {"torch", "transformers", "prefect", "evidently", "sklearn", "datasets", "pandas"}


def loaded(log):
    """Top-level packages that a process started with ``-X importtime`` has imported so far."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_starts_serves_and_stops_with_0(ready, process, stored_ids, tmp_path, stop):
    log = tmp_path / "log"
    with process(ready, log, "-X", "importtime") as worker:
        assert worker.score({"id": "m-1", "text": "good"}).status_code == 200
        at_first = loaded(log)
        worker.child.send_signal(stop)
        assert worker.child.wait(60) == 0, log.read_text()[-2_000:]
    assert stored_ids(ready) == ["m-1"]
    assert "Traceback" not in log.read_text()
    assert "onnxruntime" in at_first, "the check would see what is loaded"
    assert not at_first & (TRAINING | {"mlflow", "fastapi"})
    assert not loaded(log) & (TRAINING | {"mlflow"}), "nor later"


def test_a_new_home_fetches_what_is_approved_in_a_process_that_ends(shelf, process, until, tmp_path):
    """Where the worker's own process does not load MLflow, another one fetches: all of it is gone at the end."""
    shelf.publish()
    with process(shelf.workspace.settings, tmp_path / "log") as worker:
        assert worker.score({"id": "m-1", "text": "good"}).status_code == 200
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(worker.child.pid)], capture_output=True, text=True)
        assert worker.stop() == 0
        for child in children.stdout.split():
            until(lambda child=child: not Path(f"/proc/{child}").exists(), "its children are gone")


@contextmanager
def load(worker, clients=4):
    """Clients that ask without a pause, each time on a new connection, until nobody listens any more.

    Gives what was acknowledged, what came in place of an acknowledgement, and how many were turned away at the door.
    """
    acknowledged, failures, refused, stop, numbers = [], [], [], threading.Event(), count()
    address = httpx.URL(worker.url)

    def ask():
        while not stop.is_set():
            name = f"m-{next(numbers):06}"
            connection = HTTPConnection(address.host, address.port, timeout=60)
            try:
                connection.connect()
            except OSError as error:
                refused.append(error)
                return
            try:
                connection.request("POST", "/v1/score", json.dumps({"id": name, "text": "good parcel"}))
                answer = connection.getresponse()
                answer.read()
                (acknowledged if answer.status == 200 else failures).append(name)
            except (OSError, HTTPException) as error:
                failures.append(f"{name}: {error!r}")
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged, failures, refused
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_kill_9_in_the_middle_of_load_loses_nothing_that_was_acknowledged(ready, process, rows, until, tmp_path):
    with process(ready, tmp_path / "one") as worker, load(worker) as (acknowledged, _, _):
        until(lambda: len(acknowledged) > 200, "a load")
        worker.child.send_signal(signal.SIGKILL)
        worker.child.wait()
    before = rows(ready)[0]
    spool = ready.state_dir / "spool"
    with process(ready, tmp_path / "two") as worker:
        until(lambda: not [*spool.iterdir()], "the spool is drained")
        assert worker.stop() == 0
    messages, predictions = rows(ready)
    stored, scored = [row["id"] for row in messages], [row["message_id"] for row in predictions]
    assert set(acknowledged) <= set(stored)
    assert len(before) < len(stored), "the kill came too late to matter"
    assert sorted(scored) == sorted(stored) == sorted(set(stored))


def test_a_killed_workers_answers_outlive_a_store_that_was_away(ready, process, stored_ids, until, tmp_path):
    blocked = ready.state_dir / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    down = ready.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    names = [f"m-{number}" for number in range(10)]
    with process(down, tmp_path / "one") as worker:
        for name in names:
            assert worker.score({"id": name, "text": "good"}).status_code == 200
        worker.child.send_signal(signal.SIGKILL)
        worker.child.wait()
    blocked.unlink()
    with process(down, tmp_path / "two") as worker:
        until(lambda: not [*(ready.state_dir / "spool").iterdir()], "the spool is drained")
        assert worker.stop() == 0
    assert stored_ids(down) == names


def test_sigterm_under_load_answers_every_request_that_came_in(ready, process, stored_ids, until, tmp_path):
    with process(ready, tmp_path / "log") as worker, load(worker, clients=8) as (acknowledged, failures, refused):
        until(lambda: len(acknowledged) > 100, "a load")
        assert worker.stop() == 0
    assert failures == []
    assert len(refused) == 8, "each client ends with a connection that is refused"
    assert stored_ids(ready) == sorted(acknowledged)


def test_a_request_under_way_is_answered_before_the_end(ready, process, until, tmp_path):
    with process(ready, tmp_path / "log") as worker:
        body = b'{"text": "good"}'
        address = httpx.URL(worker.url)
        with socket.create_connection((address.host, address.port)) as client:
            head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(head.encode())
            assert b"100 Continue" in client.recv(1_000)  # the worker reads this request now
            worker.child.terminate()
            until(lambda: re.search("Shutting down", (tmp_path / "log").read_text()), "the end begins")
            client.sendall(body)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert worker.child.wait(60) == 0


def test_a_start_while_the_store_is_locked_serves_at_once(ready, process, tmp_path):
    lock = sqlite3.connect(ready.state_dir / "undertone.db", isolation_level=None)
    lock.execute("begin exclusive")
    with process(ready, tmp_path / "log") as worker:
        assert worker.score({"id": "m-1", "text": "good"}).status_code == 200
        lock.execute("rollback")
        lock.close()
        assert worker.stop() == 0


def test_the_app_and_an_engine_load_no_training_library_no_mlflow_and_no_framework(shelf, settings):
    folder = shelf.folder(shelf.register())
    heavy = TRAINING | {"mlflow", "fastapi", "sqlalchemy"}
    code = f"""
import sys
from pathlib import Path
import serving.app
from undertone.engine import Engine
from undertone.settings import get_settings

serving.app.create_app(get_settings())
engine = Engine(Path({str(folder)!r}))
assert engine.score(["good"]).probabilities.shape == (1, 3)
assert "onnxruntime" in sys.modules
sys.exit(", ".join(sorted({heavy!r} & set(sys.modules))) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | settings.environment(), check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
