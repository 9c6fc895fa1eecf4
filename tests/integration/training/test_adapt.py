"""A base model reads texts without labels, and is then fine-tuned like any other."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from flows.cli import app
from tests.conftest import TINY_WORDS
from tests.integration.training.test_families import LAYERS, make_base
from training import adapt as adapting
from training.adapt import Adaptation, adapt
from training.base_model import resolve
from training.effort import Effort
from training.finetune import finetune
from training.unlabelled import read_texts
from undertone.errors import DataError, TrainingError
from undertone.tasks import TaskSpec

HOW = Adaptation(passes=3, learning_rate=3e-3, batch_size=32, max_tokens=24, save_steps=10)


def sentences(count: int = 600) -> list[str]:
    """Word pairs that always go together: a hidden one can be guessed from the other."""
    generator, words = np.random.default_rng(0), TINY_WORDS.split()
    firsts, seconds = words[:20], words[20:40]
    picks = generator.integers(0, 20, size=(count, 3))
    return [" ".join(f"{firsts[i]} {seconds[i]}" for i in row) + f" {number}" for number, row in enumerate(picks)]


def run(base: Path, out: Path, how: Adaptation = HOW, texts: list[str] | None = None, **changes: Any) -> Path:
    texts = sentences() if texts is None else texts
    return adapt(texts, resolve(str(base)), "tiny", out, how, seed=7, threads=1, progress=False, **changes)


@pytest.fixture(scope="module")
def adapted(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tiny_base_model, tmp_path_factory.mktemp("adapted") / "model")


def test_it_learns_what_the_texts_have(adapted: Path, tiny_base_model: Path, tmp_path: Path) -> None:
    longer = run(tiny_base_model, tmp_path / "longer", HOW.model_copy(update={"passes": 12}))
    short, long = (json.loads((folder / "adaptation.json").read_text())["loss"] for folder in (adapted, longer))
    guessing = np.log(json.loads((adapted / "config.json").read_text())["vocab_size"])
    assert long < short < guessing


def test_the_result_is_a_base_model_with_its_history(adapted: Path, tiny_base_model: Path) -> None:
    found, before = resolve(str(adapted)), resolve(str(tiny_base_model))
    assert found.origin == "folder, adapted from tiny"
    assert (found.family, found.tokenizer) == (before.family, before.tokenizer)
    assert found.sha256 != before.sha256
    record = json.loads((adapted / "adaptation.json").read_text())
    assert (record["base_model_sha256"], record["texts"], record["passes"]) == (before.sha256, 600, 3)
    old, new = (load_file(folder / "model.safetensors") for folder in (tiny_base_model, adapted))
    assert old.keys() == new.keys()
    moved = {name for name in old if not np.array_equal(old[name], new[name])}
    assert "embeddings.word_embeddings.weight" not in moved
    assert not any(name.startswith("pooler") for name in moved)
    assert {re.sub(r"\D", "", name) for name in moved if ".layer." in name} == {"0", "1"}


def test_it_is_fine_tuned_like_any_other(adapted: Path, tmp_path: Path) -> None:
    spec = TaskSpec(name="mood", labels=("sad", "glad"), max_tokens=24)
    rows = pd.DataFrame({"text": ["love great app", "awful late parcel"] * 8, "label": ["glad", "sad"] * 8})
    effort = Effort(name="toy", epochs=1, learning_rate=5e-3, batch_size=8)
    made = finetune(
        rows, rows, spec, effort, base_model=adapted, seed=1, checkpoints=tmp_path, progress=False, threads=1
    )
    assert (made / "model.safetensors").is_file()


def test_stopped_it_goes_on_to_the_same_weights(
    adapted: Path, tiny_base_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import loop

    class Pressed(loop.Progress):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            super().on_step_end(args, state, control, **rest)
            if state.global_step == 25:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "Progress", Pressed)
        with pytest.raises(KeyboardInterrupt):
            run(tiny_base_model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    assert (tmp_path / "model.work" / "checkpoint-25").is_dir()
    again, expected = (
        load_file(run(tiny_base_model, tmp_path / "model") / "model.safetensors"),
        load_file(adapted / "model.safetensors"),
    )
    assert all(np.array_equal(again[name], expected[name]) for name in expected)
    assert not (tmp_path / "model.work").exists()


@pytest.mark.parametrize("family", LAYERS)
def test_every_family_is_adapted(family: str, tmp_path: Path) -> None:
    base = make_base(family, tmp_path / "base")
    out = run(base, tmp_path / "out", HOW.model_copy(update={"passes": 1}), sentences(adapting.LEAST_TEXTS))
    old, new = (load_file(folder / "model.safetensors") for folder in (base, out))
    assert old.keys() == new.keys()
    assert any(not np.array_equal(old[name], new[name]) for name in old)
    assert resolve(str(out)).licence == "mit"


def test_what_it_cannot_do_is_said_before_anything_is_written(tiny_base_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 500 texts"):
        run(tiny_base_model, tmp_path / "few", texts=["too few"])
    (tmp_path / "there").mkdir()
    with pytest.raises(TrainingError, match="not there yet"):
        run(tiny_base_model, tmp_path / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_special_tokens_are_never_hidden_and_a_few_hidden_ones_are_shown(tiny_base_model: Path) -> None:
    import torch

    from training.finetune import load_tokenizer

    tokenizer = load_tokenizer(tiny_base_model, 24)
    ids = tokenizer(sentences(), padding=True, return_tensors="pt")["input_ids"]
    torch.manual_seed(3)
    hidden, given = adapting.hide(ids, tokenizer, 0.15)
    words = ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    assert not (hidden & ~words).any()
    assert float(hidden.sum() / words.sum()) == pytest.approx(0.15, abs=0.01)
    assert (given[~hidden] == ids[~hidden]).all()
    shares = [given[hidden] == tokenizer.mask_token_id, given[hidden] == ids[hidden]]
    assert [float(share.float().mean()) for share in shares] == pytest.approx([0.8, 0.1], abs=0.03)


def test_the_command_reads_sources_and_says_what_comes_next(tiny_base_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "tickets.csv"
    pd.DataFrame({"body": sentences()}).to_csv(source, index=False)
    told = CliRunner().invoke(
        app,
        [
            "adapt",
            str(tmp_path / "out"),
            "--source",
            str(source),
            "--base-model",
            str(tiny_base_model),
            "--passes",
            "1",
        ],
        env={"UNDERTONE_HOME": str(tmp_path / "home"), "UNDERTONE_THREADS": "1"},
    )
    assert told.exit_code == 0, told.output
    assert f"after 1 pass over {len(read_texts(str(source), text_column='body'))} texts" in told.output
    assert f"--base-model {tmp_path / 'out'}" in told.output
    assert resolve(str(tmp_path / "out")).origin == f"folder, adapted from {tiny_base_model}"
