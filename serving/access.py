"""Who may come in, and how often: API keys, a reverse proxy's word for a person, rate limits.

Without keys and without being asked for any, the worker lets everyone in: it listens on 127.0.0.1 by default.
"""

from __future__ import annotations

import ipaddress
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import api_keys
from serving.api_keys import ApiKey
from serving.errors import NoKeys, Stranger, TooOften
from serving.http import Call
from serving.metrics import Metrics
from serving.signatures import Signatures
from undertone.errors import ConfigError
from undertone.settings import Settings

log = logging.getLogger("undertone.serving")

#: Seconds between two looks at the file of keys.
LOOK_S = 1.0

#: Where a survey tool's signature stands for a key.
SIGNED = "/v1/surveys"

#: Most characters of an identity that a proxy names.
IDENTITY_CHARS = 200


class KeyRing:
    """The keys in a file, read again when it changes.

    What was read once stays in force: a file that breaks or goes away later opens the door to nobody.
    """

    def __init__(self, path: Path, look_s: float = LOOK_S) -> None:
        self._path = path
        self._look_s = look_s
        self._looked = -look_s
        self._stamp: tuple[int, int, int] | None = None
        self._by_hash: dict[str, ApiKey] = {}
        self._exists = False
        self._problem: ConfigError | None = None

    @property
    def exists(self) -> bool:
        """Whether anybody was ever given a key, be it revoked since."""
        self._look()
        return self._exists

    def find(self, key: str) -> ApiKey | None:
        """Whose `key` it is, if it counts. The time that takes says nothing about the keys: only hashes are compared.

        Raises:
            NoKeys: the file could never be read.
        """
        self._look()
        found = self._by_hash.get(api_keys.hashed(key))
        if found is None and self._problem is not None and not self._by_hash:
            raise NoKeys(self._problem.expected, self._problem.found, "tell whoever runs the worker")
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < self._look_s:
            return
        self._looked = now
        try:
            at = self._path.stat()
            stamp = (at.st_mtime_ns, at.st_ino, at.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            keys = api_keys.read(self._path)
        except FileNotFoundError:
            if self._exists and self._stamp is not None:
                self._stamp = None
                log.error("%s is gone; the keys that were in it count on until the worker restarts", self._path)
            return
        except (OSError, ConfigError) as error:
            self._exists = True
            self._problem = (
                error
                if isinstance(error, ConfigError)
                else ConfigError(f"API keys in {self._path}", str(error), "see to its rights")
            )
            log.error("API keys cannot be read, those read before count on: %s", error)
            return
        self._by_hash = {key.sha256: key for key in keys if key.revoked is None}
        self._exists = self._exists or bool(keys)
        self._problem = None


@dataclass
class Limiter:
    """Requests per caller, by a sliding window in this process's memory."""

    rate: str
    _limiter: Any = field(init=False, default=None)
    _items: dict[str, Any] = field(init=False, default_factory=dict)

    def count(self, who: str, rate: str | None) -> None:
        """Count a request of `who`.

        Raises:
            TooOften: it is one more than `rate`, or the settings' rate, allows.
        """
        wanted = rate or self.rate
        if not wanted:
            return
        if self._limiter is None:  # imported where a rate is set: it takes 0.2 s
            from limits.storage import MemoryStorage
            from limits.strategies import SlidingWindowCounterRateLimiter

            self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        item = self._items.get(wanted)
        if item is None:
            from limits import parse

            item = self._items[wanted] = parse(wanted)
        if not self._limiter.hit(item, who):
            after = self._limiter.get_window_stats(item, who).reset_time - time.time()
            raise TooOften(f"at most {wanted} requests from {who}", "more", "send fewer, larger requests", after)


class Access:
    """Asked before a request is read. Gives the caller's name, or says why not."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._ring = KeyRing(api_keys.path_of(settings))
        self._required = settings.require_api_key
        self._header = settings.proxy_identity_header.lower()
        self._proxies = [ipaddress.ip_network(address, strict=False) for address in settings.proxy_addresses]
        self._limiter = Limiter(settings.rate_limit)
        self._signatures = Signatures(settings)
        self._callers = metrics.callers

    @property
    def asks(self) -> bool:
        """Whether callers must say who they are."""
        return self._required or bool(self._header) or self._ring.exists

    def admit(self, call: Call) -> str | None:
        """The caller's name; None where nobody is asked.

        Raises:
            Stranger: a key is asked for, and this is none that counts.
            TooOften: more requests than the caller may send.
        """
        if not self.asks:
            self._limiter.count(call.peer or "everyone", None)
            return None
        presented = _presented(call)
        key = self._ring.find(presented) if presented else None
        if key is not None:
            self._callers.labels(key.name).inc()
            self._limiter.count(key.name, key.rate)
            return key.name
        person = self._person(call)
        if person is None and call.path == SIGNED and (tool := self._signatures.claimed(call.headers)):
            self._limiter.count(f"webhook:{tool}", None)  # its page looks at the signature, once the body is there
            return None
        if person is None:
            raise Stranger(
                "an API key that counts, as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
                "one that does not" if presented else "none",
                "ask whoever runs the worker for one (`undertone apikeys create NAME`)",
            )
        self._limiter.count(f"person:{person}", None)  # no key's name has a colon
        return person

    def _person(self, call: Call) -> str | None:
        """Whom a proxy that is trusted names."""
        named = call.headers.get(self._header, "").strip() if self._header else ""
        if not named or not named.isprintable() or len(named) > IDENTITY_CHARS:
            return None
        try:
            peer = ipaddress.ip_address(call.peer)
        except ValueError:
            return None
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped:
            peer = peer.ipv4_mapped
        return named if any(peer in network for network in self._proxies) else None


def warning(settings: Settings) -> str | None:
    """What to say where the worker listens to other machines and asks nobody for a key."""
    if _loopback(settings.host) or Access(settings, Metrics()).asks:
        return None
    return (
        f"everyone who reaches {settings.host}:{settings.port} may score messages: there are no API keys. "
        "Make one with `undertone apikeys create NAME`, or listen on 127.0.0.1"
    )


def _presented(call: Call) -> str:
    scheme, _, key = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return call.headers.get("x-api-key", "").strip()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
