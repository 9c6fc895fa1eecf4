"""What the drift watches saw and decided, from the ledger, with the reports that they left on this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from console import charts
from console.charts import Dot, Hover, Line
from console.figures import number
from console.pages import NoSuchPage, known_task
from console.render import Console, figure, page
from console.sheets import Column, Sheet
from undertone.records import LedgerEntry
from undertone.tasks import TASKS

router = APIRouter(prefix="/drift")

#: Watches on a task's page, the newest.
MOST = 60
#: Files of a report, and what each is. They are sent to be kept, never shown: a file must not speak for the console.
FILES = {"index.html": "the report", "evidently.html": "Evidently's report", "report.json": "every number"}


@dataclass(frozen=True, slots=True)
class Watch:
    """One look at a task.

    Attributes:
        seen: the ledger's row of the verdict.
        decided: its row of what followed; None: none was written.
        signals: those that fired, or, where none did, the one that came nearest to its floor.
        strength: the largest effect as a multiple of the floor from which it warns; None: too few messages.
        files: of the report, those that lie on this machine.
    """

    seen: LedgerEntry
    decided: LedgerEntry | None
    signals: tuple[dict[str, Any], ...]
    strength: float | None
    files: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """stable, warn, act, severe or too_few."""
        return str(self.seen.payload.get("verdict", "missing"))

    @property
    def retrain(self) -> bool | None:
        """Whether a retrain was decided; None: nothing was."""
        return None if self.decided is None else self.decided.payload.get("retrain") is True


@router.get("")
def front(request: Request) -> Response:
    """Where every task stands."""
    console: Console = request.app.state.console
    return page(request, "drift.html", watches=[(task, _watches(console, task, 1)) for task in TASKS])


@router.get("/{task}.csv")
def of_task_csv(request: Request, task: str) -> Response:
    """The watches of a task as CSV, newest first."""
    known_task(task)
    names = ("row", "at", "version", "verdict", "messages", "strongest", "why", "retrain", "rule", "decision")
    rows = [
        {
            "row": watch.seen.seq,
            "at": watch.seen.at,
            "version": watch.seen.version,
            "verdict": watch.verdict,
            "messages": number(watch.seen.payload.get("total_rows")),
            "strongest": watch.strength,
            "why": watch.seen.reason,
            "retrain": watch.retrain,
            "rule": watch.decided.payload.get("rule") if watch.decided else None,
            "decision": watch.decided.reason if watch.decided else None,
        }
        for watch in _watches(request.app.state.console, task, MOST)
    ]
    return Sheet(f"drift-{task}", "", [Column(name, name) for name in names], rows).csv()


@router.get("/{task}")
def of_task(request: Request, task: str) -> Response:
    """The watches of a task, newest first."""
    console: Console = request.app.state.console
    known_task(task)
    found = _watches(console, task, MOST)
    return page(request, "drift_task.html", task=task, watches=found, chart=_chart(task, found), files=FILES, most=MOST)


@router.get("/{task}/{seq:int}/{name}")
def report(request: Request, task: str, seq: int, name: str) -> Response:
    """One file of a watch's report, as a download."""
    console: Console = request.app.state.console
    known_task(task)
    row = console.workspace.ledger.row(seq) if 0 < seq < 2**31 else None
    if row is None or row.kind != "drift" or row.task != task:
        raise NoSuchPage(f"the row of a watch of {task}", str(seq)[:20], f"choose one at /drift/{task}")
    path = _file(console, row, name)
    if path is None:
        raise NoSuchPage(
            f"a report of row {seq} ({', '.join(FILES)})",
            f"{name[:40]!r} is not on this machine",
            "look on the machine that watched, or at the champion's run in MLflow",
        )
    return FileResponse(
        path, media_type="application/octet-stream", filename=f"drift-{task}-{seq}-{name}",
        content_disposition_type="attachment",
    )  # fmt: skip


def _watches(console: Console, task: str, most: int) -> list[Watch]:
    rows = console.workspace.ledger.entries(task, ["drift"], limit=most, newest_first=True)
    decided = {
        row.payload.get("drift_row"): row
        for row in console.workspace.ledger.entries(task, ["retrain"], limit=2 * most, newest_first=True)
    }
    return [_watch(console, row, decided.get(row.seq)) for row in rows]


def _watch(console: Console, row: LedgerEntry, decided: LedgerEntry | None) -> Watch:
    told = row.payload.get("signals")
    signals = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    ranked = sorted(signals, key=lambda one: -(_strength(one) or 0.0))
    fired = [one for one in ranked if one.get("fired") is True]
    files = tuple(name for name in FILES if _file(console, row, name))
    strengths = [strength for one in signals if one.get("segment") is None and (strength := _strength(one)) is not None]
    return Watch(row, decided, tuple(fired or ranked[:1]), max(strengths, default=None), files)


def _strength(signal: dict[str, Any]) -> float | None:
    effect, floor = number(signal.get("effect")), number(signal.get("floor"))
    if effect is None or not floor or not math.isfinite(effect / floor):
        return None
    return abs(effect) / floor


def _file(console: Console, row: LedgerEntry, name: str) -> Path | None:
    """A file of a row's report, if it lies where watches write reports: the row's word is not enough."""
    if name not in FILES:
        return None
    home = (console.settings.state_dir / "reports" / row.task).resolve()
    path = (Path(str(row.payload.get("report", ""))) / name).resolve()
    return path if path.is_relative_to(home) and path.is_file() else None


def _ends(watch: Watch) -> datetime:
    """End of the window that it looked at."""
    try:
        return datetime.fromisoformat(watch.seen.payload["window"][1])
    except (KeyError, IndexError, TypeError, ValueError):
        return watch.seen.at


def _chart(task: str, watches: Sequence[Watch]) -> Any:
    """How strong the strongest signal was, watch by watch."""
    ordered = sorted(watches, key=_ends)
    if not any(watch.strength is not None for watch in ordered):
        return None
    dots = tuple(Dot(_ends(watch), watch.strength) for watch in ordered)
    start, end = dots[0].at, dots[-1].at
    room = max((end - start) / 60, timedelta(hours=1))
    hovers = [
        Hover(
            dot.at - room / 2,
            dot.at + room / 2,
            f"{dot.at:%Y-%m-%d %H:%M}: {watch.verdict.replace('_', ' ')}"
            + ("" if watch.strength is None else f", {figure(watch.strength, 2)} of its floor"),
            watch.strength is None,
        )
        for dot, watch in zip(dots, ordered, strict=True)
    ]
    top = max(1.25, *(watch.strength for watch in ordered if watch.strength is not None))
    return charts.over_time(
        "drift",
        f"Strongest drift signal of {task}, as a multiple of its floor",
        f"{len(ordered)} watches, the newest {ordered[-1].verdict.replace('_', ' ')}. From 1 on a signal warns.",
        [Line("strongest", dots, "a")],
        charts.numbers(top),
        (start - room, end + room),
        hovers=hovers,
        limits=[(1.0, "from here on it warns")],
    )
