"""Webhooks that their sender signed: HMAC-SHA-256 of the body, under a secret that both sides know."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from serving.errors import Stranger
from undertone.settings import Settings


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a tool signs: ``sha256=`` and the digest, in a header of its own.

    Attributes:
        header: in lower case.
        write: the digest as the tool writes it.
        source: where the tool says so.
    """

    header: str
    write: Callable[[bytes], str]
    source: str


SCHEMES: Mapping[str, Scheme] = {
    "typeform": Scheme(
        "typeform-signature",
        lambda digest: base64.b64encode(digest).decode(),
        "https://www.typeform.com/developers/webhooks/secure-your-webhooks/",
    ),
    "delighted": Scheme(
        "x-delighted-webhook-signature", lambda digest: digest.hex(), "https://app.delighted.com/docs/api/webhooks"
    ),
}


class Signatures:
    """The tools whose secret the settings name."""

    def __init__(self, settings: Settings) -> None:
        secrets = {"typeform": settings.typeform_secret, "delighted": settings.delighted_secret}
        self._secrets = {
            tool: secret.get_secret_value().encode() for tool, secret in secrets.items() if secret is not None
        }

    def asked_of(self, tool: str) -> bool:
        """Whether what `tool` sends must be signed."""
        return tool in self._secrets

    def claimed(self, headers: Mapping[str, str]) -> str | None:
        """The tool whose signature a request bears, where its secret is known; the signature is not looked at."""
        return next((tool for tool in self._secrets if SCHEMES[tool].header in headers), None)

    def check(self, tool: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `Stranger` unless the request bears a signature of `tool` that holds."""
        scheme = SCHEMES[tool]
        signature = sign(tool, self._secrets[tool], body)
        given = headers.get(scheme.header, "")
        if not hmac.compare_digest(signature.encode(), given.encode("utf-8", "replace")):
            raise Stranger(
                f"a signature of {tool} that holds, in {scheme.header}",
                "another" if given else "none",
                f"compare the secret that {tool} has with UNDERTONE_{tool.upper()}_SECRET",
            )


def sign(tool: str, secret: bytes, body: bytes) -> str:
    """The header's value, as `tool` writes it."""
    return f"sha256={SCHEMES[tool].write(hmac.new(secret, body, hashlib.sha256).digest())}"
