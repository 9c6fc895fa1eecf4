"""Pages from templates. Every value is escaped; there is no script on any of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from console.guard import COOKIE, HEADERS, Tokens
from undertone import __version__
from undertone.records import utc
from undertone.settings import Settings
from undertone.tasks import TASKS
from undertone.workspace import Workspace

HERE = Path(__file__).parent
MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Console:
    """What every page needs; found as ``app.state.console``."""

    settings: Settings
    workspace: Workspace
    tokens: Tokens


def page(
    request: Request, template: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """`template` as an answer, with a token for its forms."""
    console: Console = request.app.state.console
    user: str | None = getattr(request.state, "user", None)
    cookie = console.tokens.cookie(request)
    html = _TEMPLATES.get_template(template).render(
        token=console.tokens.token(cookie, user),
        here=request.url.path,
        status=status,
        settings=console.settings,
        user=user,
        **values,
    )
    response = HTMLResponse(html, status, HEADERS | dict(headers or {}))
    if request.cookies.get(COOKIE) != cookie:
        console.tokens.keep(response, cookie)
    return response


def figure(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign, or the word that there is none."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """A difference: its sign always stands."""
    return MISSING if value is None else f"{value:+.{digits}f}".replace("-", "−")


def found(value: Any) -> str:
    """What a gate line found: a number, words, or nothing."""
    if isinstance(value, float):
        return figure(value, 4)
    return MISSING if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def share(value: Any) -> str:
    """A fraction of 1 as a percentage."""
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else MISSING


def points(value: float | None) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return MISSING if value is None else f"{100 * value:+.1f}".replace("-", "−")


def lasting(seconds: float | None) -> str:
    """A duration in the unit that people would use."""
    if seconds is None:
        return MISSING
    sign, length = "−" if seconds < 0 else "", abs(seconds)
    if length < 0.9995:
        return f"{sign}{1000 * length:.0f} ms"
    for most, size, unit in ((120.0, 1.0, "s"), (7_200.0, 60.0, "min"), (172_800.0, 3_600.0, "h")):
        if length < most:
            return f"{sign}{length / size:.1f} {unit}"
    return f"{sign}{length / 86_400:,.1f} days"


def pretty(value: Any) -> str:
    """A payload as people read JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def when(moment: datetime) -> tuple[str, str]:
    """A moment as people write it: the day, and the time in UTC."""
    return f"{utc(moment):%Y-%m-%d}", f"{utc(moment):%H:%M} UTC"


def sentence(text: str) -> str:
    """`text` with a capital first letter and one full stop."""
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}" if text else ""


def words(name: str) -> str:
    """A name from code as words."""
    return name.replace("_", " ")


_FILTERS = (figure, signed, found, share, points, lasting, pretty, when, sentence, words)


def _environment() -> Environment:
    made = Environment(
        autoescape=True,
        loader=FileSystemLoader(HERE / "templates"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {name.__name__: name for name in _FILTERS}
    made.globals |= {"TASKS": TASKS, "release": __version__}
    return made


_TEMPLATES = _environment()
