"""The retrain flow around its steps: one at a time, and a failure that leaves a trace."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.retrain import retrain
from undertone.errors import ConfigError, DataError, DecisionError
from undertone.lease import hold
from undertone.settings import get_settings
from undertone.workspace import Workspace

pytestmark = pytest.mark.usefixtures("prefect_api")

NOW = datetime(2026, 10, 5, tzinfo=UTC)


@pytest.fixture
def here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace that flows of this process work in."""
    monkeypatch.setenv("UNDERTONE_HOME", str(workspace.settings.home))
    get_settings.cache_clear()
    yield workspace
    get_settings.cache_clear()


def test_two_retrains_of_a_task_never_run_at_once(here: Workspace) -> None:
    with hold(here.store, "train sentiment"), pytest.raises(DecisionError, match="nobody else at work"):
        retrain("sentiment", now=NOW)
    assert here.ledger.entries() == []


def test_bad_data_is_told_and_kept_in_the_ledger(here: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nhello,furious\n")
    with pytest.raises(DataError, match="furious"):
        retrain("sentiment", source=str(tmp_path / "bad.csv"), now=NOW, trainer="tom")
    (row,) = here.ledger.entries()
    assert (row.kind, row.actor, row.at) == ("training_failed", "tom", NOW)
    assert "furious" in row.reason
    assert here.store.holder("train sentiment") is None
    assert here.registry.versions("sentiment") == []


@pytest.mark.parametrize(("name", "value"), [("task", "urgency"), ("effort", "heroic")])
def test_misuse_is_told(here: Workspace, name: str, value: str) -> None:
    arguments = {"task": "sentiment", "source": "sample:1", "now": NOW} | {name: value}
    with pytest.raises(ConfigError, match=value):
        retrain(**arguments)
