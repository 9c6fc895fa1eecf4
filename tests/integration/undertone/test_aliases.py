"""Asked without MLflow's client, the alias says what MLflow's client says."""

import subprocess
import sys
from pathlib import Path

import pytest

from undertone.aliases import Aliases, aliases
from undertone.errors import RegistryError
from undertone.registry import Registry
from undertone.settings import Settings


@pytest.fixture(params=["sqlite", "http"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """MLflow in a file of its own, and behind a server that asks for a password."""
    if request.param == "sqlite":
        return Settings(home=tmp_path)
    server = request.getfixturevalue("mlflow_auth")
    for name, value in server.environment("tom").items():
        monkeypatch.setenv(name, value)
    return Settings(home=tmp_path, tracking_uri=server.uri)


def version(registry: Registry, task: str, folder: Path) -> int:
    (folder / "made").mkdir(exist_ok=True)
    (folder / "made" / "a.txt").write_text("a")
    run = registry.client.create_run(registry.experiment_id())
    return registry.create(task, folder / "made", run.info.run_id, {}).version


def agree(light: Aliases, registry: Registry, task: str) -> int | None:
    found = light.champion_version(task)
    assert found == registry.champion_version(task)
    if found is not None:
        assert light.model_id(task, found) == registry.get(task, found).model_id != ""
    return found


def test_they_agree_through_a_models_life(settings: Settings, tmp_path: Path) -> None:
    registry, light = Registry(settings), aliases(settings)
    task = "emotion"  # no other test of the shared server touches it
    assert agree(light, registry, task) is None
    first, second = version(registry, task, tmp_path), version(registry, task, tmp_path)
    assert agree(light, registry, task) is None
    for number in (first, second, first):
        registry.set_champion(task, number)
        assert agree(light, registry, task) == number
    registry.client.delete_model_version(task, str(first))
    assert agree(light, registry, task) is None
    with pytest.raises(RegistryError, match="none"):
        light.model_id(task, first)
    registry.client.delete_registered_model(task)
    again = version(registry, task, tmp_path)
    registry.set_champion(task, again)
    assert agree(light, registry, task) == again


def test_a_home_without_mlflow_has_no_champion_and_gets_no_file(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert aliases(settings).champion_version("sentiment") is None
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_mlflows_tables_has_no_champion(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    assert aliases(Settings(home=tmp_path)).champion_version("sentiment") is None


def test_what_is_no_database_is_an_error_in_three_parts(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(b"no database " * 100)
    with pytest.raises(RegistryError, match="check that MLflow is up"):
        aliases(Settings(home=tmp_path)).champion_version("sentiment")


def test_a_server_that_is_down_is_an_error_without_its_password(tmp_path: Path) -> None:
    light = aliases(Settings(home=tmp_path, tracking_uri="http://tom:secret@127.0.0.1:9"))
    with pytest.raises(RegistryError, match="MLflow") as refused:
        light.champion_version("sentiment")
    assert "secret" not in str(refused.value)


def test_a_wrong_password_is_an_error(mlflow_auth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "tom")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(RegistryError, match="401"):
        aliases(Settings(home=tmp_path, tracking_uri=mlflow_auth.uri)).champion_version("sentiment")


def test_asking_loads_no_mlflow(tmp_path: Path) -> None:
    Registry(Settings(home=tmp_path))  # makes the tables
    asked = (
        "import sys; from undertone.aliases import aliases; from undertone.settings import Settings; "
        f"assert aliases(Settings(home={str(tmp_path)!r})).champion_version('sentiment') is None; "
        "assert not {'mlflow', 'pandas', 'requests'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", asked], check=True, timeout=60)
