"""`python -m serving` as a process: it starts from disk, drains on a signal, and stays light."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[4]


@contextmanager
def process(settings, log, *flags):
    """A worker process on a free port; gives it and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | settings.environment() | {"UNDERTONE_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, *flags, "-m", "serving"], cwd=ROOT, env=environment, stdout=stream, stderr=stream
        )
    try:
        yield child, f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


def answers(url, path="/readyz"):
    try:
        return httpx.get(f"{url}{path}", timeout=5)
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_starts_serves_and_stops_with_0(settings, shelf, rows, until, tmp_path, stop):
    shelf.publish()
    log = tmp_path / "log"
    with process(settings, log, "-X", "importtime") as (child, url):
        until(lambda: (found := answers(url)) is not None and found.status_code == 200, "it serves", 60)
        assert httpx.post(f"{url}/v1/score", json={"id": "m-1", "text": "good"}).status_code == 200
        child.send_signal(stop)
        assert child.wait(20) == 0, log.read_text()[-2_000:]
    assert [row["id"] for row in rows(settings)[0]] == ["m-1"]
    said = log.read_text()
    assert "Traceback" not in said
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in said.splitlines() if "import time:" in line}
    assert {"mlflow", "onnxruntime"} <= loaded, "the check would see what is loaded"
    assert not loaded & {"torch", "transformers", "prefect", "evidently", "sklearn", "datasets"}


def test_a_killed_workers_answers_are_stored_by_the_next(settings, shelf, serve, rows, until, tmp_path):
    shelf.publish()
    with serve(settings) as served:
        served.wait_version(1)
    blocked = settings.state_dir / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    down = settings.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    with process(down, tmp_path / "one") as (child, url):
        until(lambda: (found := answers(url)) is not None and found.status_code == 200, "it serves", 60)
        for number in range(10):
            assert httpx.post(f"{url}/v1/score", json={"id": f"m-{number}", "text": "good"}).status_code == 200
        child.send_signal(signal.SIGKILL)
        child.wait()
    blocked.unlink()
    spool = settings.state_dir / "spool"
    assert [*spool.iterdir()]
    with process(down, tmp_path / "two") as (child, url):
        until(lambda: not [*spool.iterdir()], "the spool is drained", 60)
        child.terminate()
        assert child.wait(20) == 0
    assert [row["id"] for row in rows(down)[0]] == [f"m-{number}" for number in range(10)]


def test_a_request_under_way_is_answered_before_the_end(settings, shelf, until, tmp_path):
    shelf.publish()
    with process(settings, tmp_path / "log") as (child, url):
        until(lambda: (found := answers(url)) is not None and found.status_code == 200, "it serves", 60)
        body = b'{"text": "good"}'
        with socket.create_connection((url.split("/")[2].split(":")[0], int(url.rsplit(":", 1)[1]))) as client:
            head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
            client.sendall(head.encode())
            assert b"100 Continue" in client.recv(1_000)  # the worker reads this request now
            child.terminate()
            until(lambda: re.search("Shutting down", (tmp_path / "log").read_text()), "the end begins")
            client.sendall(body)
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert child.wait(20) == 0


def test_the_app_and_an_engine_load_no_training_library_and_no_mlflow(shelf, settings):
    """What a worker needs before its first answer; MLflow comes later, in the follower's thread."""
    shelf.register()
    heavy = {"torch", "transformers", "prefect", "evidently", "sklearn", "datasets", "pandas", "mlflow"}
    code = f"""
import sys
from pathlib import Path
import serving.app
from undertone.engine import Engine
from undertone.settings import get_settings

serving.app.create_app(get_settings())
engine = Engine(Path({str(shelf.folders["sentiment", 1])!r}))
assert engine.score(["good"]).probabilities.shape == (1, 3)
assert "onnxruntime" in sys.modules
sys.exit(", ".join(sorted({heavy!r} & set(sys.modules))) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | settings.environment(), check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
