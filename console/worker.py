"""What the serving worker says it serves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from undertone.settings import Settings

TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """The worker's answer, or why there is none.

    Attributes:
        url: where it was asked.
        tasks: task to what `/readyz` says about it.
        problem: why it could not be asked; None: it answered.
    """

    url: str
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    problem: str | None = None

    def version(self, task: str) -> int | None:
        """The version it serves of `task`."""
        found = self.tasks.get(task, {}).get("version")
        return found if isinstance(found, int) else None

    def refused(self, task: str) -> dict[str, Any] | None:
        """The version of `task` that it will not serve, and why."""
        found = self.tasks.get(task, {}).get("refused")
        return found if isinstance(found, dict) else None


def ask(settings: Settings) -> WorkerState:
    """Ask the worker on the settings' host and port. A worker out of reach is an answer too."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    try:
        tasks = httpx.get(f"{url}/readyz", timeout=TIMEOUT_S, trust_env=False).json()["tasks"]
        if not all(isinstance(state, dict) for state in tasks.values()):
            raise TypeError("tasks")
    except httpx.HTTPError as error:
        return WorkerState(url, problem=f"out of reach ({type(error).__name__})")
    except (ValueError, KeyError, TypeError, AttributeError):
        return WorkerState(url, problem="something that is no serving worker answers there")
    return WorkerState(url, tasks)
