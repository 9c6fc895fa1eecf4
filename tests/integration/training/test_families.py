"""Every family of encoders: a tiny random checkpoint with a tokenizer of its kind is trained, exported and served."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from training import base_model
from training.effort import Effort
from training.export import TOLERANCE, assemble, write_card
from training.finetune import finetune
from undertone import model_folder
from undertone.engine import Engine
from undertone.errors import TrainingError
from undertone.model_folder import EXACT, INT8, Lineage, ModelCardData
from undertone.tasks import TaskSpec

LIMIT = 64
SPEC = TaskSpec(name="mood", labels=("sad", "glad"), max_tokens=LIMIT)
TEXTS = [
    "love the parcel",
    "awful @nobody https://example.com/1",
    "late refund " * 60,
    "",
    "great app, thanks! 🎉",
    "x",
]
CORPUS = [
    "love the great parcel app thanks @user http",
    "awful late parcel, still no refund!",
    "¿Y la factura? The parcel came a day early",
] * 4
#: Where each family keeps its layers.
LAYERS = {
    "bert": "bert.encoder.layer",
    "distilbert": "distilbert.transformer.layer",
    "roberta": "roberta.encoder.layer",
    "xlm-roberta": "roberta.encoder.layer",
    "modernbert": "model.layers",
}
KINDS = {
    "bert": "WordPiece",
    "distilbert": "WordPiece",
    "roberta": "BPE",
    "modernbert": "BPE",
    "xlm-roberta": "Unigram",
}
BY_HAND = {"bert", "distilbert", "roberta", "xlm-roberta"}


def make_tokenizer(family: str) -> tuple[Tokenizer, dict[str, str]]:
    """A tokenizer of the family's kind, trained on `CORPUS`, and its special tokens by their roles."""
    if KINDS[family] == "WordPiece" or family == "modernbert":
        special, roles = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], ("pad", "unk", "cls", "sep", "mask")
    else:
        special, roles = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], ("cls", "pad", "sep", "unk", "mask")
    names = {f"{role}_token": token for role, token in zip(roles, special, strict=True)}
    options: dict[str, Any] = {"special_tokens": special, "show_progress": False}
    trainer: Any
    if KINDS[family] == "WordPiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=200, **options)
    elif KINDS[family] == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=100, unk_token="<unk>", **options)
    tokenizer.train_from_iterator(CORPUS, trainer)
    first, last = names["cls_token"], names["sep_token"]
    ends = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", special_tokens=ends)
    return tokenizer, names


def make_base(family: str, folder: Path) -> Path:
    """A random two-layer model of the family with a tokenizer, as the hub has them."""
    import torch
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    tokenizer, names = make_tokenizer(family)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    classes = {"distilbert": "DistilBertTokenizer", "roberta": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer"}
    told = json.loads((folder / "tokenizer_config.json").read_text())
    told["tokenizer_class"] = classes.get(family, told["tokenizer_class"])
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    pad = tokenizer.token_to_id(names["pad_token"])
    changes: dict[str, Any] = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": pad}
    # weights as great as a trained model has, or all texts would answer alike
    changes |= {"initializer_range": 0.5, "max_position_embeddings": LIMIT + (pad + 1 if "roberta" in family else 0)}
    if family == "distilbert":
        changes |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    else:
        changes |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "modernbert":
        ends = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
        changes |= {"local_attention": 8, "global_attn_every_n_layers": 2, **ends}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(family, **changes)).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@dataclass(frozen=True)
class Made:
    """One family's base model, fine-tuned checkpoint and model folder."""

    family: str
    base: Path
    checkpoint: Path
    folder: Path


@pytest.fixture(scope="module", params=LAYERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp(request.param)
    base = make_base(request.param, root / "base")
    rows = pd.DataFrame({"text": ["love great app", "awful late parcel"] * 8, "label": ["glad", "sad"] * 8})
    effort = Effort(name="toy", epochs=1, learning_rate=5e-3, batch_size=8, frozen_layers=1)
    checkpoint = finetune(
        rows, rows, SPEC, effort, base_model=base, seed=1, checkpoints=root / "checkpoints", progress=False, threads=1
    )
    folder = assemble(checkpoint, SPEC, root / "model")
    lineage = Lineage(
        source="toy", data_sha256="0" * 64, rows=16, commit="none", lock_sha256="none", trainer="ada",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC), seed=1, effort="toy", base_model="t", base_model_sha256="0" * 64,
    )  # fmt: skip
    write_card(
        folder, ModelCardData(task="mood", labels=SPEC.labels, max_tokens=LIMIT, temperature=1.0, lineage=lineage)
    )
    return Made(request.param, base, checkpoint, folder)


def test_it_is_known_before_it_is_trained(made: Made) -> None:
    found = base_model.resolve(str(made.base))
    assert (found.family, found.max_tokens, found.licence) == (made.family, LIMIT, "mit")
    assert str(found.tokenizer).startswith(f"{KINDS[made.family]}, ")


def test_frozen_layers_stay_and_the_others_learn(made: Made) -> None:
    before = load_file(made.base / "model.safetensors")
    after = load_file(made.checkpoint / "model.safetensors")
    path = LAYERS[made.family]
    inside = path.partition(".")[0] + "."
    moved = dict.fromkeys((0, 1), False)
    for name, values in after.items():
        for number in moved:
            if name.startswith(f"{path}.{number}."):
                moved[number] |= not np.array_equal(values, before[name.removeprefix(inside)])
    assert moved == {0: False, 1: True}


def test_the_engine_gives_what_torch_gives_alone_and_padded(made: Made) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(made.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(made.checkpoint)
    scores = Engine(made.folder, engine=EXACT).score(TEXTS)
    for row, text in enumerate(TEXTS):  # one by one: no padding on torch's side
        encoded = tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt")
        with torch.inference_mode():
            output = model(**encoded, output_hidden_states=True)
        assert np.abs(scores.logits[row] - output.logits[0].numpy()).max() < TOLERANCE
        assert np.abs(scores.embeddings[row] - output.hidden_states[-2][0].mean(0).numpy()).max() < TOLERANCE
    assert np.ptp(scores.logits[:, 0]) > 100 * TOLERANCE, "texts that all answer alike compare nothing"
    assert scores.truncated.tolist() == [False, False, True, False, False, False]


def test_int8_stands_beside_the_exact_graph_where_it_is_written_by_hand(made: Made) -> None:
    assert (made.folder / model_folder.GRAPH_INT8).is_file() == (made.family in BY_HAND)
    if made.family in BY_HAND:
        exact, fast = (Engine(made.folder, engine=engine).score(TEXTS).logits for engine in (EXACT, INT8))
        assert np.abs(exact - fast).max() < 0.1 * np.ptp(exact) + 0.05


def test_the_cleaning_is_in_the_tokenizer(made: Made) -> None:
    tokenizer = Tokenizer.from_file(str(made.folder / model_folder.TOKENIZER))
    dirty, clean = "awful @nobody https://example.com/1", "awful @user http"
    assert tokenizer.encode(dirty).ids == tokenizer.encode(clean).ids
    named = tokenizer.encode("app👍").ids == tokenizer.encode("app thumbs up ").ids
    assert named == (KINDS[made.family] != "BPE"), "bytes can say any emoji; the other vocabularies have none"
    assert len(tokenizer.encode("late " * 200).ids) == LIMIT


def test_mlflow_loads_it_and_answers_alike(made: Made) -> None:
    import mlflow

    words = [SPEC.labels[row] for row in Engine(made.folder, engine=EXACT).score(TEXTS).logits.argmax(axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations while loading
        classify = mlflow.transformers.load_model(str(made.folder))
        assert [answer["label"] for answer in classify(TEXTS, truncation=True)] == words


def test_a_model_that_takes_no_head_is_refused(tiny_base_model: Path, tmp_path: Path) -> None:
    for file in tiny_base_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    rows = pd.DataFrame({"text": ["a", "b"], "label": ["glad", "sad"]})
    effort = Effort(name="toy", epochs=1, learning_rate=5e-3)
    with pytest.raises(TrainingError, match="a vit, for which"):
        finetune(rows, rows, SPEC, effort, base_model=tmp_path, seed=1, checkpoints=tmp_path / "c", progress=False)
