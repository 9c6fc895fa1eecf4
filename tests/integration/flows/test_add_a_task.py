"""docs/how-to/add-a-task.md, block by block: what the page says is what happens."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from console.app import create_app
from tests.conftest import free_port, running
from undertone.workspace import Workspace

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "add-a-task.md"
DEFAULT_PORT = "127.0.0.1:8400"


class Reader:
    """Somebody who does what a page says, in the folder of a workspace."""

    def __init__(self, undertone: Callable[..., Any], home: Path, port: int, stack: ExitStack) -> None:
        self.undertone, self.home, self.port, self.stack = undertone, home, port, stack
        self.said: dict[str, str] = {}  #: what each command printed

    def block(self, language: str, text: str) -> None:
        """Save a TOML file, run a Python program, or type a command for each line."""
        if language == "toml":
            file = self.home / text.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        elif language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=self.home, check=True)
        elif language == "sh":
            for line in text.splitlines():
                self.said[line] = self.type(line)
        else:
            (found,) = [said for line, said in self.said.items() if line.startswith("curl")]
            assert_within(json.loads(text), json.loads(found)["messages"][0]["tasks"])

    def type(self, line: str) -> str:
        if line == "undertone serve &":
            self.stack.enter_context(self.serving())
            return ""
        if line.startswith("undertone "):
            return str(self.undertone(*shlex.split(line)[1:]))
        typed = line.replace(DEFAULT_PORT, f"127.0.0.1:{self.port}")
        return subprocess.run(["bash", "-c", typed], check=True, capture_output=True, text=True).stdout

    def serving(self) -> Any:
        def ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{self.port}/readyz").is_success
            except httpx.HTTPError:
                return False

        environment = os.environ | {"UNDERTONE_PORT": str(self.port)}
        command = [sys.executable, "-m", "flows.cli", "serve"]
        return running(command, self.home / "log", ready, 90, signal.SIGTERM, env=environment, cwd=self.home)


def assert_within(part: Any, whole: Any) -> None:
    if isinstance(part, dict):
        for name, value in part.items():
            assert_within(value, whole[name])
    else:
        assert part == whole


@pytest.fixture
def reader(undertone: Callable[..., Any], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(workspace.settings.home)
    monkeypatch.setenv("UNDERTONE_ENGINE_THREADS", "1")
    with ExitStack() as stack:
        yield Reader(undertone, workspace.settings.home, free_port(), stack)


@pytest.mark.usefixtures("prefect_api")
def test_the_page_adds_a_task_and_takes_it_through_the_loop(reader: Reader, workspace: Workspace) -> None:
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "toml", "sh", "sh", "sh", "json", "sh"]
    for language, text in blocks:
        reader.block(language, text)
    assert "urgency" in reader.said["undertone tasks list"]
    assert "gate passed" in reader.said["undertone train urgency --effort smoke"]
    kinds = [row.kind for row in workspace.ledger.entries("urgency")]
    assert kinds == ["registered", "gate", "approved", "drift", "retrain"]
    console, (path,) = create_app(workspace.settings), re.findall(r"http://127.0.0.1:8500(\S+),", page)
    shown = TestClient(console, base_url="http://127.0.0.1:8500").get(path)
    assert (shown.status_code, "Can it wait?" in shown.text) == (200, True)
