"""With `identity = "mlflow"` a person is who MLflow's basic-auth says, and their key must bear that name."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undertone import governance, identity, keys
from undertone.errors import ConfigError, DecisionError, RegistryError
from undertone.governance import Act
from undertone.reconcile import reconcile
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

ACT = Act("ann", "read it", datetime(2026, 10, 8, tzinfo=UTC))


@pytest.fixture
def workspace(mlflow_auth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """A workspace on the server with basic-auth; the environment says who asks, tom at first."""
    act_as(mlflow_auth, monkeypatch, "tom")
    settings = Settings(home=tmp_path / "home", actor="ann", tracking_uri=mlflow_auth.uri, identity="mlflow")
    return Workspace(settings)


def act_as(server, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    for name, value in server.environment(user).items():
        monkeypatch.setenv(name, value)


def test_the_name_is_mlflows(
    mlflow_auth,
    monkeypatch: pytest.MonkeyPatch,
    workspace: Workspace,
    register: Callable[..., ModelVersion],
    enrol: Callable[..., keys.Key],
) -> None:
    for name in ("ann", "bo"):
        enrol(name)
    enrol("tom", "trainer")
    made = register("emotion")  # as tom, signed by tom
    with pytest.raises(DecisionError, match="an act of tom, as whom MLflow knows you"):
        governance.approve(workspace, "emotion", made.version, ACT)  # with ann's key at hand
    with pytest.raises(ConfigError, match="trusted approvers are ann, bo"):
        governance.approve(workspace, "emotion", made.version, dataclasses.replace(ACT, actor="tom"))
    # what tom's EDIT lets him write is no approval, and is found
    workspace.registry.set_champion("emotion", made.version)
    workspace.registry.tag("emotion", made.version, {"undertone.approved_by": "ann"})
    found = {item.what for item in reconcile(workspace, ACT.at).open if item.task == "emotion"}
    assert found == {"alias moved outside the ledger", "forged tag undertone.approved_by"}

    act_as(mlflow_auth, monkeypatch, "ann")
    with pytest.raises(DecisionError, match="an act of ann"):
        governance.approve(workspace, "emotion", made.version, dataclasses.replace(ACT, actor="bo"))
    entry = governance.approve(workspace, "emotion", made.version, ACT)
    assert entry.actor == "ann"
    assert [item for item in reconcile(workspace, ACT.at).open if item.task == "emotion"] == []


def test_mlflow_is_asked(mlflow_auth, workspace: Workspace) -> None:
    assert identity.mlflow_user(workspace.settings, "ann", mlflow_auth.passwords["ann"]) == "ann"
    with pytest.raises(DecisionError, match="a refusal of 'ann'"):
        identity.mlflow_user(workspace.settings, "ann", "wrong")
    lost = workspace.settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(RegistryError, match="ConnectError"):
        identity.mlflow_user(lost, "ann", mlflow_auth.passwords["ann"])
