"""A worker on a home of its own, for `benchmarks.serving_soak` and `benchmarks.serving_swaps`.

The sentiment model of `benchmarks.serving_home` is registered as often as asked for, each time with another line in its
card, so that the versions differ and score alike.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import serving_client
from benchmarks.serving_processes import Tree, spawned
from benchmarks.serving_run import free_ports
from undertone import governance
from undertone.governance import Act
from undertone.model_folder import STATEMENT, ModelCardData, digest, manifest
from undertone.settings import Settings
from undertone.workspace import Workspace

TASK = "sentiment"
ACTOR = "benchmark"
START_LIMIT_S = 180.0


@dataclass(frozen=True)
class Scratch:
    """A home with registered versions of which the first is approved, its worker's processes, and texts to send."""

    workspace: Workspace
    port: int
    tree: Tree
    texts: list[str]

    def plan(self, clients: int, seconds: float, *, warm_s: float, first: int = 0) -> serving_client.Plan:
        """A phase of single messages."""
        bodies = [{"messages": [{"text": text}]} for text in self.texts]
        requests = [serving_client.request(self.port, "/v1/score", body) for body in bodies]
        return serving_client.Plan(
            self.port, requests, clients, seconds, warm_s=warm_s, first=first, root=self.tree.root
        )  # fmt: skip

    def ready(self) -> dict[str, Any]:
        """What `/readyz` says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/readyz")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found
        finally:
            connection.close()

    def version(self) -> int | None:
        """That serves."""
        found: int | None = self.ready()["tasks"][TASK]["version"]
        return found

    def order(self, version: int) -> None:
        """A person's order to serve version 1 or 2: a rollback where the other one serves, else an approval."""
        act = Act(ACTOR, "benchmark of swaps", datetime.now(UTC))
        champion = self.workspace.registry.champion_version(TASK) or 0
        if version < champion:
            governance.rollback(self.workspace, TASK, act)
        else:
            if governance.frozen(self.workspace, TASK):
                governance.unfreeze(self.workspace, TASK, act)
            governance.approve(self.workspace, TASK, version, act, override=True)


@contextmanager
def scratch(source: Path, cache: Path, versions: int, follow_seconds: float) -> Iterator[Scratch]:
    """The home and its worker, until the block ends; then both are gone."""
    home_script = [sys.executable, "-m", "benchmarks.serving_home", source, cache]
    kept = json.loads(subprocess.run(home_script, stdout=subprocess.PIPE, text=True, check=True).stdout)
    with tempfile.TemporaryDirectory(prefix="undertone-serving-") as folder:
        home = Path(folder)
        workspace = Workspace(Settings(home=home / "home", actor=ACTOR, follow_seconds=follow_seconds))
        for number in range(versions):
            _register(workspace, Path(kept["model"]), home / f"version-{number}", number)
        (port,) = free_ports(1)
        environment = os.environ | workspace.settings.environment() | {"UNDERTONE_PORT": str(port)}
        with spawned([sys.executable, "-m", "serving"], environment, home / "log") as (_, tree):
            made = Scratch(workspace, port, tree, kept["texts"])
            made.order(1)
            wait_for(lambda: made.version() == 1, "version 1 serves", home / "log")
            yield made


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every benchmark on such a home may be asked."""
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--sentiment", type=Path, default=Path("../shared/data/sentiment/train.csv"))
    parser.add_argument("--cache", type=Path, default=Path("/tmp/bench-serving"), help="where the model is kept")
    parser.add_argument("--wait", type=float, default=0, help="minutes to wait for idle cores")
    parser.add_argument("--json", type=Path, help="keep the figures here, in detail")


def wait_for(condition: Any, what: str, log: Path | None = None, seconds: float = START_LIMIT_S) -> None:
    """Wait until `condition` holds; a connection that is refused counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            told = f"; its log ends:\n{log.read_text(encoding='utf-8')[-2000:]}" if log else ""
            raise TimeoutError(f"not within {seconds:.0f} s: {what}{told}")
        time.sleep(0.05)


def _register(workspace: Workspace, model: Path, folder: Path, number: int) -> None:
    shutil.copytree(model, folder)
    for approved in folder.rglob(Path(STATEMENT).name):
        approved.unlink()
    card = ModelCardData.read(folder)
    card.model_copy(update={"lineage": card.lineage.model_copy(update={"seed": number})}).write(folder)
    registry = workspace.registry
    run = registry.client.create_run(registry.experiment_id())
    made = registry.create(TASK, folder, run.info.run_id, {})
    workspace.ledger.append(
        "gate", TASK, at=datetime.now(UTC), actor=ACTOR, reason="benchmark", version=made.version,
        payload={"passed": True, "manifest_sha256": digest(manifest(folder))},
    )  # fmt: skip
    shutil.rmtree(folder)
