"""API keys on disk: who may call the worker. A key is shown once; the file keeps its SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from undertone.errors import ConfigError
from undertone.keys import check_name
from undertone.settings import Settings, check_rate

#: What every key begins with, so that people and secret scanners know one when they see it.
PREFIX = "undertone_"


class ApiKey(BaseModel):
    """A caller.

    Attributes:
        sha256: of the key. A key is 256 random bits, so a plain hash cannot be turned round.
        rate: requests, as ``200/second``, in place of the settings' rate; None: the settings'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    created: datetime
    revoked: datetime | None = None
    rate: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[ApiKey]


def hashed(key: str) -> str:
    """A key as the file knows it."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def path_of(settings: Settings) -> Path:
    """Where the keys are kept."""
    return settings.api_keys or settings.keys_dir / "api_keys.json"


def read(path: Path) -> list[ApiKey]:
    """Every key that was ever made, the revoked ones too; none where there is no file.

    Raises:
        ConfigError: the file is there and cannot be understood.
    """
    try:
        return _File.model_validate_json(path.read_bytes()).keys
    except FileNotFoundError:
        return []
    except (OSError, ValidationError) as error:
        what = str(error) if isinstance(error, OSError) else f"{error.error_count()} faults"
        raise ConfigError(
            f"API keys in {path}",
            what,
            "put back a copy, or move it away and make new keys: `undertone apikeys create`",
        ) from error


def create(path: Path, name: str, rate: str | None = None) -> str:
    """Make a key for `name`, and give it: nobody can read it again.

    Raises:
        ConfigError: the name does not fit or has a key that counts, or the rate is none.
    """
    check_name(name)
    if rate:
        check_rate(rate)
    with _changing(path) as keys:
        if any(key.name == name and key.revoked is None for key in keys):
            raise ConfigError(
                f"no API key of {name!r} yet",
                "one that counts",
                f"`undertone apikeys revoke {name}` first, or name another",
            )
        made = PREFIX + secrets.token_urlsafe(32)
        keys.append(ApiKey(name=name, sha256=hashed(made), created=datetime.now(UTC), rate=rate or None))
    return made


def revoke(path: Path, name: str) -> ApiKey:
    """Stop letting the key of `name` in, for good. Workers hear of it within a second.

    Raises:
        ConfigError: no key of that name counts.
    """
    with _changing(path) as keys:
        for index, key in enumerate(keys):
            if key.name == name and key.revoked is None:
                keys[index] = gone = key.model_copy(update={"revoked": datetime.now(UTC)})
                return gone
        names = ", ".join(key.name for key in keys if key.revoked is None) or "nobody"
        raise ConfigError(f"an API key of {name!r} that counts", f"keys of {names}", "`undertone apikeys list`")


@contextmanager
def _changing(path: Path) -> Iterator[list[ApiKey]]:
    """The keys, written back whole and at once; one change at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read(path)
        yield keys
        rows = [key.model_dump(mode="json") for key in keys]
        # made with mode 600, in the same folder, so that it takes the place of the old one at once
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"keys": rows}, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(fresh, path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise
