"""Workers on a port of their own, in this process, over the workspace of `tests/integration/conftest.py`."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn

from serving.app import create_app
from undertone import governance
from undertone.governance import Act
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

ACT = Act("ann", "test", datetime(2026, 10, 6, tzinfo=UTC))


def _wait_until(condition: Callable[[], Any], seconds: float = 30, what: str = "the condition") -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


@dataclass
class Running:
    """A worker that answers, and what tests ask of it."""

    client: httpx.Client
    settings: Settings

    def score(self, *texts: str, id: str | None = None) -> httpx.Response:
        items = [{"text": text} | ({"id": id} if id else {}) for text in texts]
        return self.client.post("/v1/score", json={"messages": items})

    def state(self, task: str = "sentiment") -> dict[str, Any]:
        return self.client.get("/readyz").json()["tasks"][task]

    def wait_for(self, version: int, task: str = "sentiment") -> None:
        _wait_until(lambda: self.state(task)["version"] == version, what=f"{task} {version} serves")

    def wait_for_refusal(self, version: int, task: str = "sentiment") -> dict[str, Any]:
        _wait_until(lambda: (self.state(task)["refused"] or {}).get("version") == version, what=f"{version} is refused")
        return self.state(task)["refused"]


@contextmanager
def _running(settings: Settings) -> Iterator[Running]:
    server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        _wait_until(lambda: server.started or not thread.is_alive(), what="the worker listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Running(client, settings)
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return _wait_until


@pytest.fixture
def running() -> Callable[[Settings], AbstractContextManager[Running]]:
    """Starts a worker for a `with` block."""
    return _running


@pytest.fixture
def approve(workspace: Workspace, register: Callable[..., ModelVersion]) -> Callable[..., int]:
    """Register and approve one more version; gives its number."""

    def make(task: str = "sentiment") -> int:
        version = register(task).version
        governance.approve(workspace, task, version, ACT)
        return version

    return make


@pytest.fixture
def worker(workspace: Workspace) -> Iterator[Running]:
    """A worker without a champion."""
    with _running(workspace.settings) as made:
        yield made


@pytest.fixture
def serving_one(workspace: Workspace, approve: Callable[..., int], worker: Running) -> Running:
    """A worker that serves version 1 of sentiment."""
    version = approve()
    worker.wait_for(version)
    return worker
