"""The pages that are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from console import people, worker
from console.dossier import open_dossier
from console.overview import Standing, Version, standing
from console.render import Console, page
from undertone.errors import ConfigError, StoreError, UndertoneError
from undertone.evidence import read_evidence
from undertone.ledger import EVERY_TASK, KINDS
from undertone.reconcile import open_findings
from undertone.records import LedgerEntry
from undertone.tasks import TASKS, TaskSpec, get_task

router = APIRouter()

#: Rows of the ledger on one page.
PAGE = 50

#: How evidence is sent, by the end of its name. Nothing is sent as a page: a file must not speak for the console.
TYPES = {"png": "image/png", "json": "application/json", "md": "text/plain; charset=utf-8"}

#: Kinds of row that a form leads to.
TOLD = ("approved", "rejected", "rolled_back", "unfrozen")


class NoSuchPage(UndertoneError):
    """A task, version or file that does not exist."""


@router.get("/")
def front(request: Request) -> Response:
    """What serves now, and the queue."""
    console: Console = request.app.state.console
    state = worker.ask(console.settings)
    return page(
        request,
        "front.html",
        standings=[standing(console.workspace, spec, state) for spec in TASKS.values()],
        worker=state,
        findings=open_findings(console.workspace),
    )


@router.get("/models/{task}")
def models(request: Request, task: str, row: int | None = None) -> Response:
    """Every version of a task."""
    return models_page(request, task, row)


@router.get("/models/{task}/{version:int}")
def version(request: Request, task: str, version: int, row: int | None = None) -> Response:
    """One version with its evidence, and the forms that decide."""
    return version_page(request, task, version, row)


@router.get("/models/{task}/{version:int}/evidence/{name}")
def evidence(request: Request, task: str, version: int, name: str) -> Response:
    """One file of evidence, if it still is what the gate's row names."""
    console: Console = request.app.state.console
    _find(_standing(console, task), version)
    files = read_evidence(console.workspace, task, version).files
    if name not in files:
        raise NoSuchPage(
            f"evidence of {task} {version} ({', '.join(files) or 'there is none'})", repr(name[:80]), "look at its page"
        )
    kind = TYPES.get(name.rpartition(".")[2].lower())
    headers = {} if kind else {"Content-Disposition": "attachment"}
    return Response(files[name], media_type=kind or "application/octet-stream", headers=headers)


@router.get("/ledger")
def ledger(
    request: Request,
    task: str = "",
    kind: str = "",
    number: Annotated[int, Query(alias="page", ge=1, le=1_000_000)] = 1,
) -> Response:
    """Every decision, newest first."""
    book = request.app.state.console.workspace.ledger
    if task not in {"", *TASKS, EVERY_TASK} or kind not in {"", *KINDS}:
        raise NoSuchPage("a task and a kind that exist", f"{task[:80]!r} and {kind[:80]!r}", "choose from the lists")
    rows = book.entries(task or None, [kind] if kind else None, limit=number * PAGE + 1, newest_first=True)
    try:
        length, broken = book.verify(), None
    except StoreError as error:
        length, broken = 0, error
    first = (number - 1) * PAGE
    return page(
        request,
        "ledger.html",
        rows=rows[first : first + PAGE],
        more=len(rows) > first + PAGE,
        number=number,
        task=task,
        kind=kind,
        kinds=KINDS,
        tasks=(*TASKS, EVERY_TASK),
        length=length,
        broken=broken,
    )


def models_page(
    request: Request,
    task: str,
    row: int | None = None,
    *,
    refused: UndertoneError | None = None,
    status: int = 200,
    typed: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """The page of a task; with `refused`, what came of a form on it."""
    console: Console = request.app.state.console
    found = _standing(console, task)
    return page(
        request,
        "models.html",
        status,
        standing=found,
        notice=_notice(console, task, None, row),
        asking=people.asking(console.settings, request.state.user),
        refused=refused,
        typed=typed,
    )


def version_page(
    request: Request,
    task: str,
    version: int,
    row: int | None = None,
    *,
    refused: UndertoneError | None = None,
    status: int = 200,
    typed: Mapping[str, str] = MappingProxyType({}),
) -> Response:
    """The page of a version; with `refused`, what came of a form on it."""
    console: Console = request.app.state.console
    found = _standing(console, task)
    dossier = open_dossier(console.workspace, _find(found, version))
    return page(
        request,
        "version.html",
        status,
        standing=found,
        d=dossier,
        notice=_notice(console, task, version, row),
        asking=people.asking(console.settings, request.state.user),
        refused=refused,
        typed=typed,
    )


def known_task(task: str) -> TaskSpec:
    """The task's spec.

    Raises:
        NoSuchPage: there is no such task.
    """
    try:
        return get_task(task)
    except ConfigError as error:
        raise NoSuchPage(error.expected, error.found[:80], "start at the front page") from error


def _notice(console: Console, task: str, version: int | None, seq: int | None) -> LedgerEntry | None:
    """The decision that a form just led to: the ledger's own row, so that a link cannot tell of one that never was."""
    row = console.workspace.ledger.row(seq) if seq is not None and 0 < seq < 2**31 else None
    return row if row and row.task == task and row.version == version and row.kind in TOLD else None


def _standing(console: Console, task: str) -> Standing:
    return standing(console.workspace, known_task(task), worker.ask(console.settings))


def _find(found: Standing, version: int) -> Version:
    for item in found.versions:
        if item.version == version:
            return item
    newest = found.versions[0].version if found.versions else None
    raise NoSuchPage(
        f"a version of {found.spec.name}" + (f" (the newest is {newest})" if newest else ""),
        str(version)[:20],
        f"choose one at /models/{found.spec.name}" if newest else f"`undertone train {found.spec.name}`",
    )
