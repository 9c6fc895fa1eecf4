"""The command line over the workspace of `tests/integration/conftest.py`."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from undertone.settings import get_settings
from undertone.workspace import Workspace


@pytest.fixture
def undertone(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs a command in the workspace; gives its JSON, or its text.

    Commands that start Prefect tell the process's environment where: that ends with the test.
    """
    before = dict(os.environ)
    monkeypatch.setenv("UNDERTONE_HOME", str(workspace.settings.home))
    monkeypatch.setenv("UNDERTONE_ACTOR", "ann")
    get_settings.cache_clear()

    def run(*words: str, code: int = 0) -> Any:
        done = CliRunner().invoke(app, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in words else done.stdout

    yield run
    os.environ.clear()
    os.environ.update(before)
    get_settings.cache_clear()
