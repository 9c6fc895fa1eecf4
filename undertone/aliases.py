"""Which version MLflow's champion alias names, asked without importing MLflow.

MLflow's client costs 130 MB and three seconds of processor, too much for a worker that only wants to know whether
anything changed. The two questions asked here are one SELECT on MLflow's tables (its own database), or one GET of its
REST API (a server); whatever changes or fetches anything goes through `undertone.registry`.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from undertone.errors import RegistryError
from undertone.settings import Settings, without_password

CHAMPION = "champion"
TIMEOUT_S = 5.0

_ALIAS = "select version from registered_model_aliases where name = :task and alias = :alias"
_SOURCE = (
    "select source from model_versions "
    "where name = :task and version = :version and current_stage != 'Deleted_Internal'"
)


class Aliases(Protocol):
    """What the serving worker asks the registry at every look. Both raise `RegistryError` where it does not answer."""

    def champion_version(self, task: str) -> int | None:
        """The version number that the alias points at; None: there is none."""

    def model_id(self, task: str, version: int) -> str:
        """The id of a version's logged model: a model that is deleted and registered anew starts again at 1."""


def aliases(settings: Settings) -> Aliases:
    """The cheapest way to ask this settings' MLflow."""
    scheme = settings.mlflow_uri.split(":", 1)[0].split("+", 1)[0]
    if scheme in ("http", "https"):
        return _OverHttp(settings.mlflow_uri)
    if scheme in ("sqlite", "postgresql"):
        return _InDatabase(settings.mlflow_uri)
    return _ThroughMlflow(settings)


class _InDatabase:
    """MLflow's own tables, read only."""

    def __init__(self, uri: str) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        self._uri = uri
        self._file = uri.removeprefix("sqlite:///") if uri.startswith("sqlite:///") else None
        timeout = {"timeout": TIMEOUT_S} if self._file else {"connect_timeout": int(TIMEOUT_S)}
        # no connection is kept between looks: MLflow migrates its tables when it is upgraded
        self._engine = create_engine(uri, connect_args=timeout, poolclass=NullPool)

    def champion_version(self, task: str) -> int | None:
        found = self._one(_ALIAS, task=task, alias=CHAMPION)
        return None if found is None else int(found)

    def model_id(self, task: str, version: int) -> str:
        found = self._one(_SOURCE, task=task, version=version)
        if found is None:
            raise _missing(self._uri, task, version)
        return str(found).removeprefix("models:/")

    def _one(self, query: str, **values: Any) -> Any:
        from sqlalchemy import inspect, text
        from sqlalchemy.exc import SQLAlchemyError

        if self._file is not None and not os.path.exists(self._file):
            return None  # asking would make the file; MLflow will, with its tables
        try:
            with self._engine.connect() as connection:
                return connection.execute(text(query), values).scalar()
        except SQLAlchemyError as error:
            try:
                if not inspect(self._engine).has_table("registered_model_aliases"):
                    return None
            except SQLAlchemyError:
                pass
            raise _unanswered(self._uri, error) from error


class _OverHttp:
    """MLflow's REST API, with the credentials that MLflow's own client takes from the environment."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")

    def champion_version(self, task: str) -> int | None:
        found = self._get("registered-models/alias", name=task, alias=CHAMPION)
        return None if found is None else int(found["model_version"]["version"])

    def model_id(self, task: str, version: int) -> str:
        found = self._get("model-versions/get", name=task, version=str(version))
        if found is None:
            raise _missing(self._uri, task, version)
        made = found["model_version"]
        return str(made.get("model_id") or made.get("source", "").removeprefix("models:/"))

    def _get(self, what: str, **values: str) -> Any:
        """The answer; None where MLflow says that there is no such thing."""
        request = Request(f"{self._uri}/api/2.0/mlflow/{what}?{urlencode(values)}", headers=_credentials())
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            code = _code(error)
            if code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            # basic-auth forbids what does not exist
            if code == "PERMISSION_DENIED" and not self._exists(values["name"]):
                return None
            raise _unanswered(self._uri, error) from error
        except (OSError, ValueError) as error:
            raise _unanswered(self._uri, error) from error

    def _exists(self, task: str) -> bool:
        found = self._get("registered-models/search", name=task, filter=f"name = '{task}'")
        return any(model["name"] == task for model in (found or {}).get("registered_models", []))


class _ThroughMlflow:
    """MLflow's client: any other kind of address."""

    def __init__(self, settings: Settings) -> None:
        from undertone.registry import Registry

        self._registry = Registry(settings, patient=False)

    def champion_version(self, task: str) -> int | None:
        return self._registry.champion_version(task)

    def model_id(self, task: str, version: int) -> str:
        return self._registry.get(task, version).model_id


def _credentials() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name, password = (os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD"))
    if name:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    return {}


def _code(error: HTTPError) -> str:
    try:
        return str(json.load(error).get("error_code", ""))
    except (ValueError, AttributeError, OSError):
        return "PERMISSION_DENIED" if error.code == 403 else ""


def _missing(uri: str, task: str, version: int) -> RegistryError:
    return RegistryError(
        f"version {version} of {task!r} in MLflow at {without_password(uri)}", "none", f"`undertone models list {task}`"
    )


def _unanswered(uri: str, error: Exception) -> RegistryError:
    said = str(error).splitlines()[0] if str(error) else ""
    return RegistryError(
        f"an answer from MLflow at {without_password(uri)}",
        f"{type(error).__name__}: {without_password(said)}",
        "check that MLflow is up and that UNDERTONE_TRACKING_URI names it",
    )
