"""Running a flow from the command line: where Prefect finds its server, and how results read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.terminal import talk
from undertone.settings import Settings, get_settings


@contextmanager
def prefect_ready(settings: Settings | None = None) -> Iterator[None]:
    """Set Prefect up for this process before it is imported.

    The server of a running `undertone up` is used where there is one, so that the run shows on its pages;
    else Prefect starts a server of its own for the time of the run.
    """
    settings = settings or get_settings()
    talk()
    make_home(settings)
    for name, value in settings.environment().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    if "PREFECT_API_URL" not in os.environ and (url := _running_server(settings)):
        os.environ["PREFECT_API_URL"] = url
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield


def make_home(settings: Settings) -> None:
    """Make the folder for Prefect's database: Prefect makes one level itself and fails silently on two."""
    Path(settings.environment()["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)


def _running_server(settings: Settings) -> str | None:
    import httpx

    url = f"http://127.0.0.1:{settings.prefect_port}/api"
    try:
        return url if httpx.get(f"{url}/health", timeout=0.5).status_code == 200 else None
    except httpx.HTTPError:
        return None


def training_text(result: dict[str, Any]) -> str:
    """A training's result for people."""
    gate = "passed" if result["passed"] else "FAILED"
    lines = [
        f"{result['task']} {result['version']}: macro-F1 {result['macro_f1']:.4f}, gate {gate} ({result['verdict']})"
    ]
    for line in result["lines"]:
        found = f"{line['found']:.4f}" if isinstance(line["found"], float) else line["found"]
        lines.append(f"  {'ok ' if line['passed'] else 'NO '} {line['name']}: {found} (required: {line['required']})")
    override = "" if result["passed"] else " --override --reason '…'"
    lines.append(f"next: undertone models approve {result['task']} {result['version']}{override}")
    return "\n".join(lines)


def watch_text(result: dict[str, Any]) -> str:
    """A watch's result for people."""
    decision = result["decision"]
    merged = f", {result['merged']} windows taken together" if result["merged"] > 1 else ""
    lines = [
        f"{result['task']} {result['version']}: {result['verdict'].replace('_', ' ')} "
        f"({result['current_rows']} of {result['total_rows']} messages against {result['reference_rows']}{merged})",
        *(
            f"  {'!' if signal['fired'] else ' '} {signal['name']}"
            f"{' in ' + signal['segment'] if signal['segment'] else ''}: {signal['effect']:.3f} "
            f"(floor {signal['floor']:.3f}, p {signal['adjusted_p']:.2g} corrected, {signal['method']})"
            for signal in result["signals"]
        ),
        *(f"  ! data quality, {item['upstream']}: {item['found']}" for item in result["quality"]),
        audit_text(result["audit"]),
        estimate_text(result["estimate"]),
        f"{'retrain' if decision['retrain'] else 'no retrain'} ({decision['rule']}): {decision['reason']}",
    ]
    if decision["ask_labels"]:
        lines.append(f"labels are wanted: undertone reviews next {result['task']}")
    if result["report_problem"]:
        lines.append(f"the report is not complete: {result['report_problem']}")
    if result["report"]:
        lines.append(f"report: {result['report']}")
    if result["retrained"]:
        lines.append(training_text(result["retrained"]))
    return "\n".join(lines)


def audit_text(audit: dict[str, Any] | None) -> str:
    """What reviewers' labels say of the answers, in one line."""
    if audit is None:
        return "audit: no label of an audit yet"
    low, high = (100 * value for value in audit["accuracy_interval"])
    state = (
        "a drop is confirmed" if audit["confirmed"] else "no drop is confirmed" if audit["complete"] else "not yet in"
    )
    return (
        f"audit: accuracy {audit['accuracy']:.3f} on {audit['rows']} of {audit['wanted']} labels, "
        f"{100 * audit['accuracy_drop']:.1f} points lost ({low:.1f} to {high:.1f}): {state}"
    )


def estimate_text(estimate: dict[str, Any] | None) -> str:
    """What calibrated confidence says of the answers, in one line that promises nothing."""
    if estimate is None:
        return "estimated, cannot see a change of concept: nothing to estimate from"
    error = estimate["error"]
    known = f", earlier estimates were off by {100 * error:.1f} points" if error is not None else ""
    return (
        f"estimated, cannot see a change of concept: accuracy {estimate['accuracy']:.3f} "
        f"({100 * estimate['accuracy_change']:+.1f} points{known})"
    )
