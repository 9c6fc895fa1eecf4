"""The commands: what they are given, what they print, where misuse ends."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from undertone.errors import ConfigError
from undertone.settings import get_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("UNDERTONE_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def insights(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["insights", *arguments])


def test_answers_come_in_and_go_out_as_files(home: Path) -> None:
    (home / "answers.csv").write_text("id,kind,score,when,customer_id\n1,nps,9,2026-11-03,c1\n2,nps,,2026-11-03,c2\n")
    done = insights("surveys", "import", str(home / "answers.csv"), "--column", "time=when", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["left_out"] == {"no score": 1}
    done = insights("export", str(home / "bi"), "--json")
    assert done.exit_code == 0, done.output
    assert {item["view"]: item["rows"] for item in json.loads(done.stdout)}["surveys"] == 1
    assert "customer ids" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("revenue",), "--orders for the outcome spend"),
        (("revenue", "--orders", "sqlite:///shop.db"), "--query with a SELECT"),
        (("revenue", "--orders", "a.csv", "--column", "total"), "NAME=COLUMN"),
        (("surveys", "import", "a.csv", "--tool", "monkey"), "a survey tool"),
    ],
)
def test_misuse_is_told(arguments: tuple[str, ...], said: str) -> None:
    done = insights(*arguments)
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert done.stdout == ""
