"""The forms that decide. Each ends at a page that shows the ledger's new row, or says why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console.forms import read_form
from console.guard import FIELD
from console.pages import known_task, models_page, version_page
from console.people import act
from console.render import Console
from console.statuses import status_of
from undertone import governance
from undertone.errors import DecisionError, UndertoneError
from undertone.records import LedgerEntry

router = APIRouter()


async def own_form(request: Request) -> dict[str, str]:
    """The posted form, which this console must have given to this browser."""
    console: Console = request.app.state.console
    form = await read_form(request)
    console.tokens.check(request, form.get(FIELD, ""), request.state.user)
    return form


Form = Annotated[dict[str, str], Depends(own_form)]


@router.post("/models/{task}/{version:int}/approve")
def approve(request: Request, task: str, version: int, form: Form) -> Response:
    """Sign a version and make it the champion."""
    console: Console = request.app.state.console
    known_task(task)
    return _told(
        lambda: governance.approve(
            console.workspace,
            task,
            version,
            act(console.settings, request.state.user, form),
            override=form.get("override") == "yes",
        ),
        lambda error, status: version_page(
            request, task, version, refused=error, status=status, typed={"approve": form.get("reason", "")}
        ),
    )


@router.post("/models/{task}/{version:int}/reject")
def reject(request: Request, task: str, version: int, form: Form) -> Response:
    """Turn a version down."""
    console: Console = request.app.state.console
    known_task(task)
    return _told(
        lambda: governance.reject(console.workspace, task, version, act(console.settings, request.state.user, form)),
        lambda error, status: version_page(
            request, task, version, refused=error, status=status, typed={"reject": form.get("reason", "")}
        ),
    )


@router.post("/models/{task}/rollback")
def rollback(request: Request, task: str, form: Form) -> Response:
    """Put the version before the champion back, if the champion still is the one that the form showed."""
    console: Console = request.app.state.console
    known_task(task)

    def decide() -> LedgerEntry:
        champion = console.workspace.registry.champion_version(task)
        if form.get("champion") != str(champion):
            raise DecisionError(
                f"a rollback from {champion}, which serves now",
                f"one from {form.get('champion', 'nothing')[:20]}",
                "look again at what serves, then decide",
            )
        return governance.rollback(console.workspace, task, act(console.settings, request.state.user, form))

    return _told(
        decide,
        lambda error, status: models_page(
            request, task, refused=error, status=status, typed={"rollback": form.get("reason", "")}
        ),
    )


@router.post("/models/{task}/unfreeze")
def unfreeze(request: Request, task: str, form: Form) -> Response:
    """Let approvals of a task count again."""
    console: Console = request.app.state.console
    known_task(task)
    return _told(
        lambda: governance.unfreeze(console.workspace, task, act(console.settings, request.state.user, form)),
        lambda error, status: models_page(
            request, task, refused=error, status=status, typed={"unfreeze": form.get("reason", "")}
        ),
    )


def _told(decide: Callable[[], LedgerEntry], again: Callable[[UndertoneError, int], Response]) -> Response:
    try:
        row = decide()
    except UndertoneError as error:
        status = status_of(error)
        if status >= 500:  # the page itself could not be shown either
            raise
        return again(error, status)
    place = f"/models/{row.task}" + (f"/{row.version}" if row.version is not None else "")
    return RedirectResponse(f"{place}?row={row.seq}", status_code=303)
