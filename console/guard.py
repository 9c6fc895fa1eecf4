"""What stands before every request: the host it was sent to, where it comes from, and headers that switch scripts off.

A page elsewhere must not act through a visitor's browser. Three walls, each enough alone: the browser's own word on
where a request comes from (``Sec-Fetch-Site``, ``Origin``), a cookie that browsers send to the console's own pages only
(``SameSite=Strict``), and a token in every form that only this process can make (OWASP, *Cross-Site Request Forgery
Prevention*: signed double submit). The host check keeps a name that was pointed at this machine (DNS rebinding) from
reading pages.
"""

from __future__ import annotations

import hmac
import re
import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undertone.errors import UndertoneError
from undertone.settings import Settings

COOKIE = "undertone_console"
FIELD = "token"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})


class Forged(UndertoneError):
    """A form that did not come from one of the console's own pages."""


class Guard:
    """ASGI middleware: refuses what other sites send, and puts `HEADERS` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a foreign form with 403; hand everything else on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["method"] not in _SAFE and (found := _foreign(Headers(scope=scope))):
            error = Forged("a form sent from the console's own page", found, "open the console and decide there")
            await PlainTextResponse(f"{error}\n", status_code=403)(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)


def hosts(settings: Settings, listening: str) -> list[str]:
    """Host names that the console answers to."""
    named = {"127.0.0.1", "localhost", "[::1]", *settings.console_hosts}
    named |= {_bracketed(name) for name in (settings.host, listening) if name not in _EVERYWHERE}
    return sorted(named)


class Tokens:
    """The hidden field of every form: an HMAC of the visitor's cookie, with a secret that ends with this process."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def cookie(self, request: Request) -> str:
        """The visitor's cookie, a new one where they have none."""
        sent = request.cookies.get(COOKIE, "")
        return sent if _COOKIE.fullmatch(sent) else secrets.token_urlsafe(32)

    def token(self, cookie: str, user: str | None) -> str:
        """The token for that cookie and, where people log in, that user."""
        return hmac.new(self._secret, f"{cookie}\n{user or ''}".encode(), "sha256").hexdigest()

    def keep(self, response: Response, cookie: str) -> None:
        """Have the browser keep the cookie until it closes."""
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path="/")

    def check(self, request: Request, sent: str, user: str | None) -> None:
        """Raise `Forged` unless `sent` is the token of this visitor."""
        cookie = request.cookies.get(COOKIE, "")
        expected = self.token(cookie, user)
        if not _COOKIE.fullmatch(cookie) or not hmac.compare_digest(expected.encode(), sent.encode()):
            raise Forged(
                "a form that this console gave to this browser",
                "one from another session, or from before the console started anew",
                "go back, load the page again, and send the form from there",
            )


def _foreign(headers: Headers) -> str | None:
    site = headers.get("sec-fetch-site")
    if site not in {None, "same-origin", "none"}:
        return f"one that the browser calls {site!r}"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        return f"one from {origin!r}"
    return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
