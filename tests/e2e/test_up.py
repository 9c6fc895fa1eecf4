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


def deployment(prefect: str, name: str) -> str:
    found: str = httpx.get(f"{prefect}/deployments/name/{name}").json()["id"]
    return found


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
        found: list[dict[str, Any]] = httpx.post(f"{prefect}/flow_runs/filter", json={"flow_runs": state}).json()
        return found

    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{worker_port}/healthz").is_success, 120, "the worker", log)
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{console_port}/").is_success, 120, "the console", log)
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{mlflow_port}/health").is_success, 120, "MLflow", log)
        wait_until(lambda: httpx.get(f"{prefect}/health").is_success, 120, "Prefect", log)

        # by itself the scheduler plans a daily watch of every task
        def one_of_each() -> list[dict[str, Any]]:
            found = [run for run in runs(state={"type": {"any_": ["SCHEDULED"]}}) if "task" in run["parameters"]]
            return found if len({run["deployment_id"] for run in found}) == len(TASKS) else []

        scheduled = wait_until(one_of_each, 120, "a scheduled watch of every task", log)
        assert {run["parameters"]["task"] for run in scheduled} == set(TASKS)
        assert all(run["auto_scheduled"] for run in scheduled)

        # a run that the scheduler made when its time came runs to its end: the reconciler's, brought forward
        reconcile = deployment(prefect, "reconcile/reconcile")
        soon = datetime.now(UTC) + timedelta(seconds=10)
        once = {"rrule": f"DTSTART:{soon:%Y%m%dT%H%M%SZ}\nRRULE:FREQ=YEARLY;COUNT=1"}
        httpx.post(f"{prefect}/deployments/{reconcile}/schedules", json=[{"schedule": once}]).raise_for_status()

        # a watch that is due is run: here without a champion, which it says
        made = httpx.post(f"{prefect}/deployments/{scheduled[0]['deployment_id']}/create_flow_run", json={}).json()

        # and what a watch tells becomes a page of its incident
        httpx.post(f"{prefect}/events", json=[act("sentiment")]).raise_for_status()

        ended = wait_until(
            lambda: (run := httpx.get(f"{prefect}/flow_runs/{made['id']}").json())["state_type"] == "FAILED" and run,
            180,
            "the run's end",
            log,
        )
        assert "a champion for" in ended["state"]["message"]

        def completed(deployment_id: str) -> list[dict[str, Any]]:
            return runs(state={"type": {"any_": ["COMPLETED"]}}, deployment_id={"any_": [deployment_id]})

        assert all(
            run["auto_scheduled"]
            for run in wait_until(lambda: completed(reconcile), 120, "the scheduled reconciler's end", log)
        )

        page = wait_until(
            lambda: (found := httpx.get(f"{prefect}/artifacts/incident-sentiment/latest")).is_success and found.json(),
            120,
            "the incident's page",
            log,
        )
        assert "embedding over its floor" in page["data"]
        assert len(completed(deployment(prefect, "tell/tell"))) == 1
    finally:
        os.kill(process.pid, signal.SIGINT)
        code = process.wait(timeout=60)
    assert code == 0, log.read_text()[-3000:]
    for port in (worker_port, mlflow_port, prefect_port, console_port):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/", timeout=2)
