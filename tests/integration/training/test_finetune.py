from __future__ import annotations

import math
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from training.effort import Effort
from training.finetune import AVERAGE, _encode, _load_model, _weigh, finetune, last_complete, load_tokenizer
from training.first_token import FirstTokenLayer, first_token_only
from undertone.errors import DataError, TrainingError
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad", "calm"), max_tokens=24)
EFFORT = Effort(name="toy", epochs=4, learning_rate=5e-3, batch_size=8, save_steps=4)
WORDS = {"sad": "awful broken late worst", "glad": "love great happy thanks", "calm": "okay tuesday arrived fine"}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    made = []
    for number in range(96):
        label = SPEC.labels[number % 3]
        words = generator.choice([*WORDS[label].split(), "the", "parcel", "is"], size=generator.integers(4, 12))
        made.append({"message_id": f"m{number}", "text": " ".join(words), "label": label})
    return pd.DataFrame(made)


def train(rows: pd.DataFrame, base: Path, checkpoints: Path, **changes) -> Path:
    arguments = {"effort": EFFORT, "seed": 7, "log": None, **changes}
    effort = arguments.pop("effort")
    return finetune(
        rows, rows[:30], SPEC, effort, base_model=base, checkpoints=checkpoints, progress=False, threads=1, **arguments
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def whole(rows, tiny_base_model, tmp_path_factory) -> Path:
    return train(rows, tiny_base_model, tmp_path_factory.mktemp("whole"))


class Interrupted:
    """A log that presses Ctrl-C when metrics of `step` or later come by."""

    def __init__(self, step: int, press) -> None:
        self.step, self.press = step, press

    def __call__(self, values: dict[str, float], step: int) -> None:
        if step >= self.step:
            self.press()


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_it_learns_and_speaks_in_words(whole, rows):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    model = AutoModelForSequenceClassification.from_pretrained(whole)
    assert model.config.id2label == dict(enumerate(SPEC.labels))
    assert model.config.label2id == SPEC.label_index()
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(whole))
    found = [answer["label"] for answer in classify(rows["text"].tolist())]
    assert np.mean(np.array(found) == rows["label"]) > 0.9


def test_the_cleaning_survives_auto_tokenizer(whole):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(whole)
    text = "@some_body the parcel❤️ https://example.com/a?b=c"
    expected = ["@", "user", "the", "parcel", "r", "##e", "##d", "h", "##e", "##a", "##r", "##t", "http"]
    assert loaded.tokenize(text) == expected
    plain = Tokenizer.from_file(str(whole / "tokenizer.json"))
    assert plain.encode(text).tokens == ["[CLS]", *expected, "[SEP]"]
    assert len(plain.encode("love " * 200).ids) == SPEC.max_tokens


def test_a_finished_run_leaves_only_its_model_and_gives_it_again(whole, rows, tiny_base_model):
    assert sorted(path.name for path in whole.parent.iterdir()) == ["model", "run.json"]
    before = (whole / "model.safetensors").stat().st_mtime_ns
    assert train(rows, tiny_base_model, whole.parent) == whole
    assert (whole / "model.safetensors").stat().st_mtime_ns == before


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole, rows, tiny_base_model, tmp_path):
    again = weights(train(rows, tiny_base_model, tmp_path / "again"))
    other = weights(train(rows, tiny_base_model, tmp_path / "other", seed=4))
    expected = weights(whole)
    assert all(np.array_equal(again[name], expected[name]) for name in expected)
    assert any(not np.array_equal(other[name], expected[name]) for name in expected)


def test_rows_that_all_weigh_alike_give_the_same_weights(whole, rows, tiny_base_model, tmp_path):
    found, expected = weights(train(rows.assign(weight=3.0), tiny_base_model, tmp_path)), weights(whole)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_of_rows_that_contradict_each_other_the_heavier_are_learned(rows, tiny_base_model, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    turned = rows.assign(label=[SPEC.labels[(SPEC.labels.index(label) + 1) % 3] for label in rows["label"]])
    both = pd.concat([rows.assign(weight=1.0), turned.assign(weight=5.0)], ignore_index=True)
    folder = train(both, tiny_base_model, tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    found = [answer["label"] for answer in classify(rows["text"].tolist())]
    assert np.mean(np.array(found) == turned["label"]) > 0.8


def test_the_loss_of_weighted_rows_worked_by_hand():
    import torch

    from training.loop import balanced_loss

    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    labels = torch.tensor([0, 0, 1])
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    loss = balanced_loss([0, 0, 1], 2, 0.0)
    given = torch.tensor([0.5, 0.5, 2.0])
    assert loss({"logits": logits}, labels, row_weights=given) == pytest.approx(float((each * given).sum() / 3))
    balanced = balanced_loss([0, 0, 1], 2, 1.0)  # labels weigh 0.75, 0.75, 1.5
    expected = (each * given * torch.tensor([0.75, 0.75, 1.5])).sum() / 3
    assert balanced({"logits": logits}, labels, row_weights=given) == pytest.approx(float(expected))
    ones = balanced({"logits": logits}, labels, row_weights=torch.ones(3))
    assert ones == pytest.approx(float(balanced({"logits": logits}, labels)))


@pytest.mark.parametrize("step", [10, 20, 30])
def test_an_interrupted_run_goes_on_to_the_same_weights(step, whole, rows, tiny_base_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path, log=Interrupted(step, raise_interrupt))
    left = last_complete(tmp_path)
    assert left is not None
    assert int(left.rsplit("-", 1)[1]) <= step
    steps: list[int] = []
    resumed = train(rows, tiny_base_model, tmp_path, log=lambda values, at: steps.append(at))
    assert min(steps) > int(left.rsplit("-", 1)[1])
    expected, found = weights(whole), weights(resumed)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_an_interrupted_run_goes_on_to_the_same_average(rows, tiny_base_model, tmp_path):
    effort = EFFORT.having({"averaging": 0.3, "layer_decay": 0.8, "frozen_embeddings": True})
    expected = weights(train(rows, tiny_base_model, tmp_path / "a", effort=effort))
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path / "b", effort=effort, log=Interrupted(20, raise_interrupt))
    found = weights(train(rows, tiny_base_model, tmp_path / "b", effort=effort))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    last = weights(train(rows, tiny_base_model, tmp_path / "c", effort=effort.having({"averaging": 0})))
    changed = [name for name in expected if not np.array_equal(last[name], expected[name])]
    assert any("classifier" in name for name in changed)
    assert not any("word_embeddings" in name for name in changed)


def test_r_drop_worked_by_hand():
    import torch

    from training.loop import disagreement

    first, second = torch.tensor([[0.8, 0.2], [0.5, 0.5]]), torch.tensor([[0.6, 0.4], [0.5, 0.5]])
    there = 0.8 * math.log(0.8 / 0.6) + 0.2 * math.log(0.2 / 0.4)
    back = 0.6 * math.log(0.6 / 0.8) + 0.4 * math.log(0.4 / 0.2)
    assert float(disagreement(torch.cat([first, second]).log())) == pytest.approx((there + back) / 2 / 2)


def test_with_r_drop_two_dropout_masks_agree_more_and_an_interrupted_run_ends_the_same(rows, tiny_base_model, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from training.loop import disagreement

    # labels by chance: there is nothing to be sure of
    rows = rows.assign(label=np.random.default_rng(1).permutation(rows["label"].to_numpy()))
    effort = EFFORT.having({"r_drop": 5.0, "min_steps": 60, "dropout": 0.3, "learning_rate": 1e-3})
    assert effort.r_drop_of(len(rows)) > 0
    held = train(rows, tiny_base_model, tmp_path / "held", effort=effort)
    free = train(rows, tiny_base_model, tmp_path / "free", effort=effort.having({"r_drop": 0.0}))

    def unlike(folder: Path) -> float:
        model = AutoModelForSequenceClassification.from_pretrained(folder).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        batch = AutoTokenizer.from_pretrained(folder)(rows["text"].tolist() * 2, padding=True, return_tensors="pt")
        torch.manual_seed(1)
        with torch.no_grad():
            return float(disagreement(model(**batch).logits))

    assert unlike(held) < unlike(free) / 2
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path / "again", effort=effort, log=Interrupted(20, raise_interrupt))
    again, expected = weights(train(rows, tiny_base_model, tmp_path / "again", effort=effort)), weights(held)
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_a_checkpoint_without_its_average_is_not_whole(rows, tiny_base_model, tmp_path):
    effort = EFFORT.having({"averaging": 0.3})
    expected = weights(train(rows, tiny_base_model, tmp_path / "a", effort=effort))
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path / "b", effort=effort, log=Interrupted(20, raise_interrupt))
    newest = Path(last_complete(tmp_path / "b") or "")
    (newest / AVERAGE).unlink()
    found = weights(train(rows, tiny_base_model, tmp_path / "b", effort=effort))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_batches_are_padded_as_transformers_pads_them(weights, rows, tiny_base_model):
    from transformers import DataCollatorWithPadding

    from training.loop import padded

    tokenizer = load_tokenizer(tiny_base_model, SPEC.max_tokens)
    few = rows.iloc[[0, 1, 5]] if weights is None else rows.iloc[[0, 1, 5]].assign(weight=weights)
    examples = _weigh(_encode(few, tokenizer, SPEC), few)
    expected = DataCollatorWithPadding(tokenizer)([dict(example) for example in examples])
    found = padded(tokenizer.pad_token_id)(examples)
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == value.dtype and (found[name] == value).all() for name, value in expected.items())


@pytest.mark.parametrize("texts", [["one short text"], ["short", "a longer text with several more words in it"]])
def test_the_last_layer_for_the_first_token_gives_the_same_gradients(texts, tiny_base_model):
    import torch

    effort = EFFORT.having({"dropout": 0})
    model = _load_model(tiny_base_model, SPEC, effort).train()
    batch = load_tokenizer(tiny_base_model, SPEC.max_tokens)(texts, padding=True, return_tensors="pt")
    labels = torch.arange(len(texts)) % len(SPEC.labels)

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(**batch, labels=labels).loss.backward()
        return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}

    expected = gradients()
    with first_token_only(model):
        assert type(model.bert.encoder.layer[-1]) is FirstTokenLayer
        found = gradients()
    assert type(model.bert.encoder.layer[-1]) is not FirstTokenLayer
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_before_it_takes_effect(number, whole, rows, tiny_base_model, tmp_path):
    class TerminatedError(Exception):
        pass

    def terminate(*_: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else TerminatedError):
            train(rows, tiny_base_model, tmp_path, log=Interrupted(10, lambda: os.kill(os.getpid(), number)))
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, before)
    # Saved where the signal came: step 11 at the latest, and no step that EFFORT.save_steps would have given.
    assert Path(last_complete(tmp_path) or "").name in {"checkpoint-10", "checkpoint-11"}
    expected, found = weights(whole), weights(train(rows, tiny_base_model, tmp_path))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("damage", ["no state", "torn state", "no optimizer"])
def test_a_half_written_checkpoint_is_skipped(damage, whole, rows, tiny_base_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path, log=Interrupted(20, raise_interrupt))
    newest = Path(last_complete(tmp_path) or "")
    if damage == "no state":
        (newest / "trainer_state.json").unlink()
    elif damage == "torn state":
        (newest / "trainer_state.json").write_text('{"global_step": 1')
    else:
        (newest / "optimizer.pt").unlink()
    older = last_complete(tmp_path)
    assert older is not None
    assert Path(older) != newest
    assert not newest.exists()
    expected, found = weights(whole), weights(train(rows, tiny_base_model, tmp_path))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_checkpoints_of_other_data_are_not_continued(whole, rows, tiny_base_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(rows[::-1], tiny_base_model, tmp_path, log=Interrupted(20, raise_interrupt))
    steps: list[int] = []
    found = weights(train(rows, tiny_base_model, tmp_path, log=lambda values, at: steps.append(at)))
    assert min(steps) == 2  # from the beginning
    expected = weights(whole)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_base_model_that_was_trained_without_names_of_emoji_reads_on_without_them(rows, tiny_base_model, tmp_path):
    from tokenizers import Regex, Tokenizer, normalizers

    base = Path(shutil.copytree(tiny_base_model, tmp_path / "base"))
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    earlier = [normalizers.NFC(), normalizers.Replace(Regex(r"@\w{1,50}"), "@user"), tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence(earlier)
    assert len(load_tokenizer(base, 24)("parcel😂").input_ids) > 4
    with pytest.raises(KeyboardInterrupt):
        train(rows, base, tmp_path / "run", log=Interrupted(20, raise_interrupt))
    tokenizer.save(str(base / "tokenizer.json"))
    assert load_tokenizer(base, 24).tokenize("parcel😂") == ["[UNK]"]
    steps: list[int] = []
    train(rows, base, tmp_path / "run", log=lambda values, at: steps.append(at))
    assert min(steps) == 2  # the checkpoints were of another reading


def test_best_weights_are_kept_and_survive_an_interruption(rows, tiny_base_model, tmp_path):
    effort = EFFORT.model_copy(update={"epochs": 6, "patience": 1, "save_steps": 5})
    scores: dict[int, float] = {}

    def note(values: dict[str, float], step: int) -> None:
        if "validation_macro_f1" in values:
            scores[step] = values["validation_macro_f1"]

    expected = weights(train(rows, tiny_base_model, tmp_path / "a", effort=effort, log=note))
    assert scores
    # Patience 1: training stopped at the first evaluation that gained nothing.
    best = max(scores.values())
    gained = [value for step, value in sorted(scores.items())]
    assert gained.index(best) >= len(gained) - 2
    with pytest.raises(KeyboardInterrupt):
        train(rows, tiny_base_model, tmp_path / "b", effort=effort, log=Interrupted(20, raise_interrupt))
    found = weights(train(rows, tiny_base_model, tmp_path / "b", effort=effort))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_a_loss_that_is_no_number_stops_training(rows, tiny_base_model, tmp_path):
    with pytest.raises(TrainingError, match="finite"):
        train(
            rows,
            tiny_base_model,
            tmp_path,
            effort=EFFORT.model_copy(update={"learning_rate": 0.99, "epochs": 60, "head_factor": 1e30}),
        )


def test_a_label_the_task_does_not_have_is_named(rows, tiny_base_model, tmp_path):
    with pytest.raises(DataError, match="furious"):
        train(rows.assign(label="furious"), tiny_base_model, tmp_path)


def test_frozen_layers_stay_as_they_were(rows, tiny_base_model, tmp_path):
    folder = train(rows, tiny_base_model, tmp_path, effort=EFFORT.model_copy(update={"frozen_layers": 1, "epochs": 1}))
    before, after = load_file(tiny_base_model / "model.safetensors"), weights(folder)
    name = "encoder.layer.{}.intermediate.dense.weight"
    assert np.array_equal(before[name.format(0)], after["bert." + name.format(0)])
    assert not np.array_equal(before[name.format(1)], after["bert." + name.format(1)])


def test_nothing_is_printed_but_the_bar(rows, tiny_base_model, tmp_path, capfd):
    finetune(
        rows,
        rows[:30],
        SPEC,
        EFFORT,
        base_model=tiny_base_model,
        checkpoints=tmp_path,
        seed=3,
        progress=True,
        threads=1,
    )
    out, err = capfd.readouterr()
    assert out == ""
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("fine-tune:") for line in lines)
    assert "48/48" in lines[-1]
