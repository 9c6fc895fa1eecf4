"""A console in this process over the workspace of `tests/integration/conftest.py`, with evidence made from dice."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from console.app import create_app
from tests.integration.console import evidence_files
from undertone.ledger import Ledger
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

NOBODY = 1  #: a port on which nothing listens


class Browser(TestClient):
    """A browser without pictures: it keeps cookies, and sends forms with the token that their page holds."""

    def again(self) -> "Browser":
        """Another browser at the same console."""
        return Browser(self.app, base_url=str(self.base_url), raise_server_exceptions=False)

    def token(self, page: str) -> str:
        found = re.search(r'name="token" value="([0-9a-f]{64})"', self.get(page).text)
        assert found, f"no form at {page}"
        return found[1]

    def decide(self, page: str, what: str, headers: dict[str, str] | None = None, **fields: str) -> Any:
        """Open `page`, then post its form `what`."""
        fields = {"token": self.token(page), "reason": "because"} | fields
        return self.post(f"{page}/{what}", data=fields, headers=headers)


def text_of(answer: Any) -> str:
    """What a person reads of a page: no tags, single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


@pytest.fixture
def open_console(workspace: Workspace) -> Callable[..., Browser]:
    """A browser at a console over the workspace, with other settings if told."""

    def make(**changes: Any) -> Browser:
        settings = Settings.model_validate(workspace.settings.model_dump() | {"port": NOBODY} | changes)
        app = create_app(settings)
        return Browser(app, base_url="http://127.0.0.1:8500", raise_server_exceptions=False)

    return make


@pytest.fixture
def browser(open_console: Callable[..., Browser]) -> Browser:
    return open_console()


@pytest.fixture
def candidate(workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path) -> Callable[..., int]:
    """Register one more version with evidence; gives its number."""
    seeds = iter(range(1, 1_000))

    def make(task: str = "sentiment", **more: Any) -> int:
        made = register(task, gated=False)
        evidence_files.leave(workspace, made, tmp_path, next(seeds), **more)
        return made.version

    return make


@pytest.fixture
def ledger(workspace: Workspace) -> Ledger:
    return workspace.ledger
