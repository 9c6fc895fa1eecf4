"""`undertone up`: everything starts with one command, runs by schedule, and stops with Ctrl-C."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.incidents import EVENTS
from undertone.tasks import TASKS


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_until(condition: Callable[[], Any], seconds: float, what: str, log: Path) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            found = condition()
            if found:
                return found
        time.sleep(0.2)
    pytest.fail(f"{what} did not happen within {seconds} s; the log ends:\n{log.read_text()[-3000:]}")


def ask(method: str, url: str, **body: Any) -> Any:
    """An API's answer; an error is an `httpx.HTTPError`: a busy server gives some, and `wait_until` asks again."""
    return httpx.request(method, url, timeout=20, **body).raise_for_status().json()


def act(task: str) -> dict[str, Any]:
    """Prefect's event for a drift that acts."""
    said = {"event": EVENTS["drift", "opened"], "task": task, "version": 3, "reason": "embedding over its floor"}
    return {
        "event": said["event"],
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"undertone.task.{task}"},
        "payload": said | {"incident": "sentiment-3-drift-1", "at": "2026-10-05T03:00:00+00:00"},
    }


@pytest.mark.timeout(400)
def test_up_runs_schedules_and_stops_cleanly(tmp_path: Path) -> None:
    worker_port, mlflow_port, prefect_port, console_port = free_ports(4)
    environment = os.environ | {
        "UNDERTONE_HOME": str(tmp_path),
        "UNDERTONE_PORT": str(worker_port),
        "UNDERTONE_MLFLOW_PORT": str(mlflow_port),
        "UNDERTONE_PREFECT_PORT": str(prefect_port),
        "UNDERTONE_CONSOLE_PORT": str(console_port),
    }
    environment.pop("PREFECT_API_URL", None)
    log = tmp_path / "up.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up"],
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    prefect = f"http://127.0.0.1:{prefect_port}/api"

    def runs(**state: Any) -> list[dict[str, Any]]:
        return list(ask("POST", f"{prefect}/flow_runs/filter", json={"flow_runs": state}))

    def deployment(name: str) -> str:
        return str(ask("GET", f"{prefect}/deployments/name/{name}")["id"])

    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{worker_port}/healthz").is_success, 120, "the worker", log)
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{console_port}/").is_success, 120, "the console", log)
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{mlflow_port}/health").is_success, 120, "MLflow", log)
        wait_until(lambda: httpx.get(f"{prefect}/health").is_success, 120, "Prefect", log)

        # by itself the scheduler plans a daily watch of every task
        def one_of_each() -> list[dict[str, Any]]:
            watches = {deployment(f"watch%20drift/watch-{task}") for task in TASKS}
            found = runs(state={"type": {"any_": ["SCHEDULED"]}}, deployment_id={"any_": sorted(watches)})
            return found if {run["deployment_id"] for run in found} == watches else []

        scheduled = wait_until(one_of_each, 120, "a scheduled watch of every task", log)
        assert {run["parameters"]["task"] for run in scheduled} == set(TASKS)
        assert all(run["auto_scheduled"] for run in scheduled)

        # a run that the scheduler made when its time came runs to its end: the reconciler's, brought forward
        reconcile = wait_until(lambda: deployment("reconcile/reconcile"), 60, "the reconciler", log)
        soon = datetime.now(UTC) + timedelta(seconds=15)
        often = {"interval": 60, "anchor_date": soon.isoformat()}  # a slow scheduler misses the first
        schedules = f"{prefect}/deployments/{reconcile}/schedules"
        wait_until(lambda: ask("POST", schedules, json=[{"schedule": often}]), 60, "a schedule", log)

        # a watch that is due is run: here without a champion, which it says
        by_hand = f"{prefect}/deployments/{scheduled[0]['deployment_id']}/create_flow_run"
        made = wait_until(lambda: ask("POST", by_hand, json={}), 60, "a run by hand", log)

        # and what a watch tells becomes a page of its incident
        tells = {"automations": {"name": {"any_": ["undertone tells incidents"]}}}
        wait_until(lambda: ask("POST", f"{prefect}/automations/filter", json=tells), 60, "the automation", log)
        said = act("sentiment")
        wait_until(lambda: httpx.post(f"{prefect}/events", json=[said]).is_success, 60, "an event", log)

        ended = wait_until(
            lambda: (run := ask("GET", f"{prefect}/flow_runs/{made['id']}"))["state_type"] == "FAILED" and run,
            180,
            "the run's end",
            log,
        )
        assert "a champion for" in ended["state"]["message"]

        def completed(deployment_id: str) -> list[dict[str, Any]]:
            return runs(state={"type": {"any_": ["COMPLETED"]}}, deployment_id={"any_": [deployment_id]})

        reconciled = wait_until(lambda: completed(reconcile), 150, "the scheduled reconciler's end", log)
        assert all(run["auto_scheduled"] for run in reconciled)

        page = f"{prefect}/artifacts/incident-sentiment/latest"
        assert (
            "embedding over its floor" in wait_until(lambda: ask("GET", page), 120, "the incident's page", log)["data"]
        )
    finally:
        os.kill(process.pid, signal.SIGINT)
        code = process.wait(timeout=60)
    assert code == 0, log.read_text()[-3000:]
    for port in (worker_port, mlflow_port, prefect_port, console_port):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
