"""Workers that answer on a port, in this process or in their own, over homes with real parts: SQLite MLflow, a store,
signed orders, and the small models of `tests/integration/conftest.py`."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import select

from serving.app import create_app
from serving.patience import PatientProtocol
from serving.worker import Worker
from undertone import governance
from undertone.governance import Act
from undertone.join import Feature, Join, Partner, names
from undertone.model_folder import ModelCardData
from undertone.registry import ModelVersion
from undertone.schema import messages, predictions
from undertone.settings import Settings
from undertone.store import Store
from undertone.tasks import TASKS
from undertone.workspace import Workspace

ROOT = Path(__file__).parents[3]
ACT = Act("ann", "test", datetime(2026, 10, 7, tzinfo=UTC))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """What `condition` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture(scope="session", autouse=True)
def at_once() -> Iterator[None]:
    """Workers of this process look at the registry and the store as soon as they start, and at the store often."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("follower", "recorder"):
            patch.setattr(f"serving.{module}.SETTLE_S", 0.0)
        patch.setattr("serving.recorder.PAUSE_S", 0.05)
        yield


# what is approved ---------------------------------------------------------------------------


@dataclass
class Shelf:
    """The registry as trainers and approvers see it."""

    workspace: Workspace
    make: Callable[..., ModelVersion]
    scratch: Path
    copies: dict[tuple[str, int], Path] = field(default_factory=dict)

    @property
    def registry(self) -> Any:
        return self.workspace.registry

    def register(self, task: str = "sentiment", **how: Any) -> int:
        return self.make(task, **how).version

    def approve(self, version: int, task: str = "sentiment", act: Act = ACT) -> int:
        governance.approve(self.workspace, task, version, act)
        return version

    def publish(self, task: str = "sentiment", **how: Any) -> int:
        """One more version, approved."""
        return self.approve(self.register(task, **how), task)

    def roll_back(self, task: str = "sentiment") -> int:
        return int(governance.rollback(self.workspace, task, ACT).version or 0)

    def folder(self, version: int, task: str = "sentiment") -> Path:
        """A copy of a version's model folder."""
        if (task, version) not in self.copies:
            self.copies[task, version] = self.registry.download(task, version, self.scratch / f"{task}-{version}")
        return self.copies[task, version]


@pytest.fixture
def settings(workspace: Workspace) -> Settings:
    return workspace.settings


@pytest.fixture
def shelf(workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path) -> Shelf:
    return Shelf(workspace, register, tmp_path / "copies")


# workers in this process ----------------------------------------------------------------------


@dataclass
class Served:
    """A running worker, and how to talk to it."""

    client: httpx.Client
    worker: Worker
    settings: Settings

    def score(self, *items: Any, status: int = 200) -> Any:
        answer = self.client.post(
            "/v1/score", json={"messages": [item if isinstance(item, dict) else {"text": item} for item in items]}
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def version(self, task: str = "sentiment") -> int:
        """Of the model that answers."""
        return int(self.score("good")["messages"][0]["tasks"][task]["version"])

    def ready(self) -> dict[str, Any]:
        return dict(self.client.get("/readyz").json())

    def task(self, name: str = "sentiment") -> dict[str, Any]:
        return dict(self.ready()["tasks"][name])

    def metric(self, name: str, **labels: str) -> float:
        """A figure of `/metrics`; 0 where it was never counted."""
        return self.worker.metrics.registry.get_sample_value(f"undertone_{name}", labels) or 0

    def wait_version(self, version: int, task: str = "sentiment") -> None:
        wait_until(lambda: self.task(task)["version"] == version, f"{task} {version} serves")

    def wait_refused(self, version: int, task: str = "sentiment") -> dict[str, Any]:
        wait_until(lambda: (self.task(task)["refused"] or {}).get("version") == version, f"{task} {version} is refused")
        return dict(self.task(task)["refused"])

    def wait_stored(self) -> None:
        wait_until(
            lambda: (now := self.ready())["store_backlog"] == 0 and not now["store_problem"], "the store caught up"
        )

    def look(self) -> None:
        """Wait until the follower has looked once more, from beginning to end."""
        seen = self.worker.follower._looks
        wait_until(lambda: self.worker.follower._looks >= seen + 2, "two more looks at the aliases")

    def dial(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((self.client.base_url.host, self.client.base_url.port), timeout=30)


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """A worker on a port of its own, in this process, until the block ends."""
    app = create_app(settings)
    config = uvicorn.Config(
        app, http=PatientProtocol, host="127.0.0.1", port=0, log_config=None, lifespan="on", backlog=2048
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the worker listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Served(client, app.state.worker, settings)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the worker did not stop"


@pytest.fixture(scope="session")
def serve() -> Callable[[Settings], AbstractContextManager[Served]]:
    """Starts a worker for a `with` block."""
    return serving


@pytest.fixture
def served(ready: Settings) -> Iterator[Served]:
    """A worker that serves sentiment 1, and nothing else."""
    with serving(ready) as made:
        yield made


@pytest.fixture
def followed(shelf: Shelf) -> Iterator[Served]:
    """A worker that serves sentiment 1 of `shelf`, and what is published there later."""
    with serving(shelf.workspace.settings) as made:
        made.wait_version(shelf.publish())
        yield made


def hear_sarcasm(folder: Path) -> None:
    """Give a toy sentiment model a join that turns praise as far as sarcasm is heard, and limits of confidence."""
    labels, sarcasm = TASKS["sentiment"].labels, TASKS["sarcasm"].labels
    told = names(labels, {"sarcasm": sarcasm})
    product = told.index("sarcasm heard x P(positive)")
    weights = [[float(place == row) for place in range(len(told))] for row in range(len(labels))]
    weights[0][product], weights[-1][product] = 1.0, -1.0
    Join(
        labels=labels,
        partners={"sarcasm": Partner(version=7, manifest_sha256="a" * 64, labels=sarcasm)},
        adopted=True,
        why="made by hand",
        features=tuple(Feature(name=name, mean=0.0, scale=1.0) for name in told),
        weights=tuple(tuple(row) for row in weights),
        bias=(0.0,) * len(labels),
        review_below=0.7,
    ).write(folder)
    ModelCardData.read(folder).model_copy(update={"review_below": 0.6}).write(folder)


@pytest.fixture(scope="session")
def hearing() -> Callable[[Path], None]:
    """What makes a toy sentiment model hear sarcasm."""
    return hear_sarcasm


@dataclass
class Desk:
    """A worker with a champion of every task that tests share: they may score, not publish."""

    served: Served
    settings: Settings
    shelf: Shelf


@pytest.fixture(scope="session")
def desk(
    tmp_path_factory: pytest.TempPathFactory,
    empty_home: Path,
    registering: Callable[[Workspace, Path], Callable[..., ModelVersion]],
) -> Iterator[Desk]:
    shelf = fresh_shelf(tmp_path_factory.mktemp("desk"), empty_home, registering)
    for task in TASKS:
        edit = hear_sarcasm if task == "sentiment" else None
        shelf.folder(shelf.publish(task, edit=edit), task)  # now: MLflow's client speaks to one registry at a time
    with serving(shelf.workspace.settings) as made:
        for task in TASKS:
            made.wait_version(1, task)
        yield Desk(made, shelf.workspace.settings, shelf)


@pytest.fixture(scope="session")
def home_that_serves(
    tmp_path_factory: pytest.TempPathFactory,
    empty_home: Path,
    registering: Callable[[Workspace, Path], Callable[..., ModelVersion]],
) -> Path:
    """A home whose worker served sentiment 1 and was stopped."""
    shelf = fresh_shelf(tmp_path_factory.mktemp("served"), empty_home, registering)
    shelf.publish()
    with serving(shelf.workspace.settings) as made:
        made.wait_version(1)
    shelf.workspace.store.engine.dispose()
    return shelf.workspace.settings.home


@pytest.fixture
def ready(tmp_path: Path, home_that_serves: Path) -> Settings:
    """Settings of a home of the test's own, whose workers serve sentiment 1 from disk at once.

    MLflow's artifacts stay where they were made: tests read them and do not touch them.
    """
    shutil.copytree(home_that_serves, tmp_path / "ready", ignore=shutil.ignore_patterns("artifacts"))
    return home_settings(tmp_path / "ready")


def fresh_shelf(
    folder: Path, empty_home: Path, registering: Callable[[Workspace, Path], Callable[..., ModelVersion]]
) -> Shelf:
    shutil.copytree(empty_home, folder / "home")
    workspace = Workspace(home_settings(folder / "home"))
    return Shelf(workspace, registering(workspace, folder), folder / "copies")


def home_settings(home: Path) -> Settings:
    return Settings(home=home, actor="ann", follow_seconds=0.2, engine_threads=1)


# workers in a process of their own ------------------------------------------------------------


@dataclass
class Process:
    """`python -m serving` on a port of its own."""

    child: subprocess.Popen[bytes]
    url: str
    log: Path

    def score(self, *items: dict[str, Any]) -> httpx.Response:
        """On a connection of its own."""
        return httpx.post(f"{self.url}/v1/score", json={"messages": items}, timeout=60)

    def wait_ready(self) -> None:
        def answers() -> bool:
            if self.child.poll() is not None:
                pytest.fail(f"the worker ended with {self.child.returncode}:\n{self.log.read_text()[-3000:]}")
            try:
                return httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, "the worker serves", 120)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.child.terminate()
        return self.child.wait(60)


@contextmanager
def own_process(settings: Settings, log: Path, *flags: str) -> Iterator[Process]:
    """A worker's process that serves, until the block ends; then it is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | settings.environment() | {"UNDERTONE_PORT": str(port), "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, *flags, "-m", "serving"], cwd=ROOT, env=environment, stdout=stream, stderr=stream
        )
    try:
        made = Process(child, f"http://127.0.0.1:{port}", log)
        made.wait_ready()
        yield made
    finally:
        child.kill()
        child.wait()


@pytest.fixture(scope="session")
def process() -> Callable[..., AbstractContextManager[Process]]:
    """Starts a worker's process for a `with` block."""
    return own_process


# what reached the store -----------------------------------------------------------------------


def read_rows(settings: Settings) -> tuple[list[Any], list[Any]]:
    store = Store(settings.database_url)
    try:
        with store.reading() as connection:
            rows = connection.execute(select(messages).order_by(messages.c.id)).mappings().all()
            answers = connection.execute(select(predictions).order_by(predictions.c.message_id)).mappings().all()
    finally:
        store.engine.dispose()
    return list(rows), list(answers)


@pytest.fixture(scope="session")
def rows() -> Callable[[Settings], tuple[list[Any], list[Any]]]:
    """Reads messages and predictions from a store."""
    return read_rows


@pytest.fixture(scope="session")
def stored_ids() -> Callable[[Settings], list[str]]:
    """Ids of the messages in a store, in order."""
    return lambda settings: [row["id"] for row in read_rows(settings)[0]]
