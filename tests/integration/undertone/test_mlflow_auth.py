"""MLflow with basic-auth: it knows who asks, and it lets everybody with EDIT write what looks like an approval."""

from pathlib import Path

import httpx
import pytest

from undertone.errors import RegistryError
from undertone.model_folder import MODEL, STATEMENT, digest, manifest
from undertone.registry import ModelVersion, Registry
from undertone.settings import Settings
from undertone.signing import SIGNATURE


def act_as(monkeypatch: pytest.MonkeyPatch, server, user: str, home: Path) -> Registry:
    """The registry as `user`; the client asks the environment for the password at every request."""
    for name, value in server.environment(user).items():
        monkeypatch.setenv(name, value)
    return Registry(Settings(home=home, tracking_uri=server.uri))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: to the registry, files."""
    made = tmp_path_factory.mktemp("made")
    (made / "undertone").mkdir(parents=True)
    (made / "model.onnx").write_bytes(bytes(range(256)) * 100)
    (made / "undertone" / "card.md").write_text("# Ünïcode")
    return made


@pytest.fixture
def registered(mlflow_auth, monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> ModelVersion:
    """One more version of sentiment, registered by the scientist over HTTP."""
    registry = act_as(monkeypatch, mlflow_auth, "tom", tmp_path)
    run = registry.client.create_run(registry.experiment_id())
    return registry.create(
        "sentiment", folder, run.info.run_id, {"undertone.manifest_sha256": digest(manifest(folder))}
    )


@pytest.mark.parametrize("user", ["ann", "tom"])
def test_the_server_names_who_asks(mlflow_auth, user: str) -> None:
    answer = httpx.get(
        f"{mlflow_auth.uri}/api/2.0/mlflow/users/current", auth=(user, mlflow_auth.passwords[user])
    ).raise_for_status()
    assert answer.json()["user"]["username"] == user
    assert not answer.json()["user"]["is_admin"]


@pytest.mark.parametrize("auth", [("ann", "wrong"), ("ann", "the-password-of-tom"), ("nobody", "x"), ("ann", ""), None])
def test_a_wrong_password_is_refused(mlflow_auth, auth: tuple[str, str] | None) -> None:
    assert httpx.get(f"{mlflow_auth.uri}/api/2.0/mlflow/users/current", auth=auth).status_code == 401


def test_a_registry_with_a_wrong_password_says_so(mlflow_auth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = act_as(monkeypatch, mlflow_auth, "ann", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(RegistryError, match="401"):
        registry.versions("sentiment")


def test_the_registry_works_over_http(
    mlflow_auth, monkeypatch: pytest.MonkeyPatch, registered: ModelVersion, tmp_path: Path
) -> None:
    registry = act_as(monkeypatch, mlflow_auth, "ann", tmp_path)
    fetched = registry.download("sentiment", registered.version, tmp_path / "fetched" / MODEL)
    assert digest(manifest(fetched)) == registered.tags["undertone.manifest_sha256"]
    (tmp_path / STATEMENT).write_text('{"approver": "ann"}')
    (tmp_path / SIGNATURE).write_text("signed")
    registry.put_approval("sentiment", registered.version, tmp_path / STATEMENT, tmp_path / SIGNATURE)
    registry.fetch_approval("sentiment", registered.version, tmp_path / "fetched")
    assert (tmp_path / "fetched" / MODEL / STATEMENT).read_text() == '{"approver": "ann"}'
    assert (tmp_path / "fetched" / SIGNATURE).read_text() == "signed"
    registry.set_champion("sentiment", registered.version)
    assert registry.champion_version("sentiment") == registered.version
    assert [made.version for made in registry.versions("sentiment") if made.champion] == [registered.version]


def test_a_task_without_versions_has_no_champion(mlflow_auth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = act_as(monkeypatch, mlflow_auth, "ann", tmp_path)
    assert registry.champion_version("sarcasm") is None
    assert registry.versions("sarcasm") == []


def test_a_tag_and_an_alias_prove_nothing(
    mlflow_auth, monkeypatch: pytest.MonkeyPatch, registered: ModelVersion, tmp_path: Path
) -> None:
    registry = act_as(monkeypatch, mlflow_auth, "tom", tmp_path)  # who trained it, and who is no approver
    registry.tag("sentiment", registered.version, {"undertone.approved_by": "ann"})
    registry.set_champion("sentiment", registered.version)
    seen = act_as(monkeypatch, mlflow_auth, "ann", tmp_path).get("sentiment", registered.version)
    assert seen.tags["undertone.approved_by"] == "ann"  # MLflow took his word for hers
    assert seen.champion
