"""Where settings come from and what they name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from undertone.settings import Settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_local_and_nothing_is_created(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.mlflow_uri == f"sqlite:///{tmp_path / 'mlruns/mlflow.db'}"
    assert settings.database_url == f"sqlite:///{tmp_path / '.undertone/undertone.db'}"
    assert settings.host == "127.0.0.1"
    assert list(tmp_path.iterdir()) == []


def test_environment_beats_file_beats_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "undertone.toml").write_text('port = 9001\nactor = "file"\n')
    monkeypatch.setenv("UNDERTONE_ACTOR", "env")
    settings = Settings()
    assert (settings.port, settings.actor, settings.seed) == (9001, "env", 7)


def test_home_moves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_HOME", "elsewhere")
    settings = Settings()
    assert settings.state_dir == tmp_path / "elsewhere/.undertone"
    assert str(tmp_path / "elsewhere/mlruns") in settings.mlflow_uri


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(home=Path("here"), port=1234, store_url="sqlite:///x.db")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    child = Settings()
    assert child.state_dir == settings.state_dir
    assert (child.port, child.mlflow_uri, child.database_url) == (1234, settings.mlflow_uri, "sqlite:///x.db")


def test_unknown_and_wrong_values_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="extra"):
        Settings(prot=1)
    monkeypatch.setenv("UNDERTONE_PORT", "many")
    with pytest.raises(ValidationError, match="port"):
        Settings()
