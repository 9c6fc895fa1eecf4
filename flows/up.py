"""`undertone up`: MLflow, Prefect, the schedules, the serving worker and the console as one group of processes.

honcho runs them: it starts each, labels its output, and when one ends or Ctrl-C comes it stops all.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping

from honcho.manager import Manager

from flows.running import make_home
from flows.terminal import say
from undertone.settings import Settings, get_settings

#: honcho's codes after SIGINT and SIGTERM
STOPPED = (130, 143)
#: Seconds between two signs of life of a run: the least that Prefect takes.
HEARTBEAT_SECONDS = 30


def commands(settings: Settings) -> dict[str, list[str]]:
    """The command line of every process, by name."""
    mlflow = [
        *("mlflow", "server", "--host", "127.0.0.1", "--port", str(settings.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", settings.mlflow_uri, "--default-artifact-root", settings.artifact_root),
    ]
    prefect_server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(settings.prefect_port)]
    wait = [sys.executable, "-m", "flows.wait", f"http://127.0.0.1:{settings.prefect_port}/api/health"]
    return {
        "mlflow": [sys.executable, "-m", *mlflow],
        "prefect": [sys.executable, "-m", *prefect_server],
        "schedules": [*wait, sys.executable, "-m", "flows.schedules"],
        "serving": [sys.executable, "-m", "serving"],
        "console": [sys.executable, "-m", "flows.cli", "console", "--host", "127.0.0.1"],
    }


def environment(settings: Settings) -> dict[str, str]:
    """What every process gets beside this one's environment."""
    return settings.environment() | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PREFECT_API_URL": f"http://127.0.0.1:{settings.prefect_port}/api",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "undertone",
        "PYTHONUNBUFFERED": "1",
    }


def prepare(settings: Settings) -> None:
    """Make the databases before several processes open them at once."""
    from undertone.task_files import tasks_in
    from undertone.workspace import Workspace

    tasks_in(settings.tasks_dir)  # a wrong file is told once, before every process tells it
    workspace = Workspace(settings)
    workspace.store.ping()
    workspace.registry.experiment_id()


def run(settings: Settings | None = None) -> int:
    """Start everything and wait. Gives 0 after Ctrl-C, 1 when a process ended by itself."""
    settings = settings or get_settings()
    make_home(settings)
    prepare(settings)
    manager = Manager()
    env: Mapping[str, str] = os.environ | environment(settings)
    without = {name: value for name, value in env.items() if name != "UNDERTONE_PASSPHRASE"}
    for name, command in commands(settings).items():
        # the schedules train and sign what they register; nobody else needs a key opened
        manager.add_process(name, shlex.join(command), env=dict(env if name == "schedules" else without))
    say(f"MLflow    http://127.0.0.1:{settings.mlflow_port}")
    say(f"Prefect   http://127.0.0.1:{settings.prefect_port}")
    say(f"Undertone http://{settings.host}:{settings.port}/docs")
    say(f"Console   http://127.0.0.1:{settings.console_port}")
    say("Ctrl-C stops them all\n")
    started = time.monotonic()
    manager.loop()
    ended_by_itself = manager.returncode not in STOPPED
    if ended_by_itself:
        say(f"a process ended by itself after {time.monotonic() - started:.0f} s; its last lines are above")
    return int(ended_by_itself)
