"""The console as an application: routes, walls, and errors told as pages."""

from __future__ import annotations

import logging

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from console import acts, drift, insights, pages, people, reviews
from console.guard import Guard, Tokens, hosts
from console.opening import SharedWorkspace
from console.render import HERE, Console, page
from console.statuses import status_of
from undertone import __version__
from undertone.errors import UndertoneError
from undertone.settings import Settings

log = logging.getLogger("undertone.console")

_NO_PAGE = UndertoneError("a page of the console", "an address without one", "start at the front page")


def create_app(settings: Settings, listening: str = "127.0.0.1") -> FastAPI:
    """The console's application. Nothing is opened before the first page asks.

    Args:
        settings: where things live, and who acts.
        listening: address that the process listens on; its name is answered to.
    """
    app = FastAPI(
        title="Undertone console",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        middleware=[
            Middleware(Guard),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts(settings, listening), www_redirect=False),
        ],
    )
    app.state.console = Console(settings, SharedWorkspace(settings), Tokens())
    for router in (pages.router, acts.router, drift.router, insights.router, reviews.router):
        app.include_router(router, dependencies=[Depends(known)])
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.add_api_route("/healthz", healthz)
    app.add_exception_handler(UndertoneError, told)
    app.add_exception_handler(RequestValidationError, not_understood)
    app.add_exception_handler(HTTPException, no_page)
    app.add_exception_handler(Exception, failed)
    return app


def known(request: Request) -> None:
    """Find out who asks, before anything is shown."""
    request.state.user = None
    request.state.user = people.user(request, request.app.state.console.settings)


async def healthz() -> JSONResponse:
    """The process is alive."""
    return JSONResponse({"alive": True})


async def told(request: Request, error: Exception) -> Response:
    """A known error, in three parts."""
    assert isinstance(error, UndertoneError)
    status = status_of(error)
    if status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return page(request, "error.html", status, people.CHALLENGE if status == 401 else None, error=error)


async def not_understood(request: Request, error: Exception) -> Response:
    """A query that is no number where one belongs."""
    found = UndertoneError(
        "numbers where the address has numbers", str(request.url.query)[:80], "follow a link instead"
    )
    return page(request, "error.html", 422, error=found)


async def no_page(request: Request, error: Exception) -> Response:
    """No such address, or not with this method."""
    assert isinstance(error, HTTPException)
    return page(request, "error.html", error.status_code, error.headers, error=_NO_PAGE)


async def failed(request: Request, error: Exception) -> Response:
    """An error that nobody foresaw: its traceback goes to the log, its name to the page."""
    found = UndertoneError("a page", type(error).__name__, "read the console's log, then try again")
    return page(request, "error.html", 500, error=found)
