"""Form bodies, read with a limit."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from undertone.errors import UndertoneError

#: Bytes of a form that are read.
LIMIT = 20_000

#: Characters of a reason that are kept.
LONGEST = 2_000

_FIELDS = 20


class TooLarge(UndertoneError):
    """A form of more bytes than a decision needs."""


class Unreadable(UndertoneError):
    """A body that is no form."""


class Missing(UndertoneError):
    """A field that a decision needs was left empty."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form by name; of a repeated field the last counts.

    Raises:
        TooLarge: the body holds over `LIMIT` bytes.
        Unreadable: it is no form.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LIMIT:
            raise TooLarge(f"at most {LIMIT:,} bytes in a form", "more", "write a shorter reason")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind != "application/x-www-form-urlencoded":
            raise ValueError(kind)
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"))
    except ValueError as error:
        raise Unreadable(
            "a form", f"{kind or 'a body'} that is none", "open the console in a browser and decide there"
        ) from error


def reason(form: dict[str, str]) -> str:
    """The reason, which every decision needs.

    Raises:
        Missing: it is empty.
        TooLarge: it is longer than `LONGEST` characters.
    """
    text = form.get("reason", "").replace("\r\n", "\n").strip()
    if not text:
        raise Missing("a reason", "none", "say why; it is kept in the ledger")
    if len(text) > LONGEST:
        raise TooLarge(f"a reason of at most {LONGEST:,} characters", f"{len(text):,}", "write a shorter one")
    return text
