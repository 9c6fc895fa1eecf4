"""A base model goes on with its pretraining on a team's own messages, without labels, before any fine-tuning.

Masked-language training on texts of the domain (Gururangan et al., 2020, https://aclanthology.org/2020.acl-main.740):
15 in 100 tokens are hidden and guessed (Devlin et al., 2019, https://aclanthology.org/N19-1423). What comes out is a
base model like the one that went in: same layers, same tokenizer, other weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from training.base_model import ADAPTATION, BaseModelFolder
from training.finetune import keep_only_own, last_complete, load_tokenizer, reading_of
from training.silence import hush
from undertone.errors import DataError, TrainingError
from undertone.text import fingerprint, repair

#: Fewer texts teach a language nothing.
LEAST_TEXTS = 500

WEIGHT_DECAY = 0.01

#: What describes a base model and is no weight; copied where it is there.
_COPIED = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json")


class Adaptation(BaseModel):
    """How a base model is adapted. Measured in docs/experiments.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passes: int = Field(3, ge=1)
    learning_rate: float = Field(1e-4, gt=0, lt=1)
    batch_size: int = Field(128, ge=1, description="texts")
    max_tokens: int = Field(128, ge=8, description="of a text; the rest is cut off")
    masked: float = Field(0.15, gt=0, lt=1, description="share of the tokens to guess")
    warmup: float = Field(0.06, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    head_rate: float = Field(1e-3, gt=0, lt=1, description="learning rate of the new head, which is thrown away")
    save_steps: int = Field(100, ge=1)


@hush()
def adapt(
    texts: Sequence[str],
    base: BaseModelFolder,
    name: str,
    out: Path,
    how: Adaptation,
    *,
    seed: int,
    threads: int | None = None,
    progress: bool = True,
) -> Path:
    """Train `base` on `texts` and give `out`, the folder of the adapted base model.

    Ctrl-C and SIGTERM save a checkpoint in ``<out>.work`` before they take effect; the same call goes on from there.
    Word embeddings stay as they are: on the texts of one domain most of them would never move.

    Args:
        texts: messages, each once.
        base: where to start.
        name: the base model's name, for the card.
        out: must not be there yet.

    Raises:
        DataError: fewer than `LEAST_TEXTS` texts.
        TrainingError: `out` is there, the base model has no masked-language head in Transformers, or the loss is not a
            number.
    """
    import torch
    from transformers import PrinterCallback, set_seed

    from training.loop import Progress, StopOnSignal, adamw, padded, trainer_arguments

    if len(texts) < LEAST_TEXTS:
        raise DataError(f"at least {LEAST_TEXTS} texts", str(len(texts)), "give more sources, or leave this out")
    if out.exists():
        raise TrainingError("a folder that is not there yet", str(out), "give another one, or remove it")
    if threads is not None:
        torch.set_num_threads(threads)
    set_seed(seed)
    work = out.with_name(f"{out.name}.work")
    tokenizer = load_tokenizer(base.path, how.max_tokens)
    if tokenizer.mask_token is None:
        raise TrainingError(f"a mask token in {base.path}", "none", "use another base model")
    settings = (how.model_dump_json(), base.sha256, reading_of(tokenizer), str(seed))
    keep_only_own(work, fingerprint([settings, tuple(texts)]))
    ids = tokenizer([repair(text) for text in texts], truncation=True, max_length=how.max_tokens)["input_ids"]
    model = _load(base.path)
    encoder = f"{model.base_model_prefix}."
    steps = -(-len(ids) // how.batch_size) * how.passes
    arguments = trainer_arguments(
        work,
        seed,
        num_train_epochs=how.passes,
        learning_rate=how.learning_rate,
        per_device_train_batch_size=how.batch_size,
        warmup_steps=round(how.warmup * steps),
        save_steps=how.save_steps,
        save_total_limit=1,
        logging_steps=10,
    )
    model.to(arguments.device)
    losses: list[float] = []
    bar = Progress(lambda values, _: losses.append(values["loss"]) if "loss" in values else None, progress, "adapt")
    stop = StopOnSignal()
    trainer = _trainer(tokenizer, how.masked)(
        model=model,
        args=arguments,
        train_dataset=[{"input_ids": row} for row in ids],
        data_collator=padded(tokenizer.pad_token_id),
        optimizers=(
            adamw(model, lambda name: how.learning_rate if name.startswith(encoder) else how.head_rate, WEIGHT_DECAY),
            None,
        ),
        callbacks=[bar, stop],
    )
    trainer.remove_callback(PrinterCallback)
    with stop, closing(bar):
        trainer.train(resume_from_checkpoint=last_complete(work))
    record = {
        "base_model": name,
        "base_model_sha256": base.sha256,
        "texts": len(texts),
        "texts_sha256": fingerprint((text,) for text in texts),
        "seed": seed,
        "loss": sum(losses[-10:]) / len(losses[-10:]) if losses else None,
        **how.model_dump(),
    }
    _write(model, base, record, work / "new", how.learning_rate)
    (work / "new").rename(out)
    shutil.rmtree(work, ignore_errors=True)
    return out


def _load(folder: Path) -> Any:
    """The base model under a new masked-language head, its word embeddings frozen."""
    from transformers import AutoModelForMaskedLM

    try:
        model = AutoModelForMaskedLM.from_pretrained(folder, use_safetensors=True, local_files_only=True).float()
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"a model in {folder} that guesses hidden words",
            f"{type(error).__name__}: {str(error).splitlines()[0]}",
            "use another base model",
        ) from error
    model.get_input_embeddings().requires_grad_(False)
    return model


def _trainer(tokenizer: Any, share: float) -> Any:
    """A Trainer that hides tokens in each step, so that a resumed run hides what an uninterrupted one would.

    Its head looks at hidden tokens alone: guessing all of them would double the work.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from training.loop import LengthTrainer

    class MaskedTrainer(LengthTrainer):
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            ids = inputs["input_ids"]
            hidden, given = hide(ids, tokenizer, share)
            inner = self.accelerator.unwrap_model(model)
            head = getattr(inner, "cls", None) or getattr(inner, "lm_head", None)
            shown = {"input_ids": given, "attention_mask": inputs["attention_mask"]}
            if head is None:
                logits = model(**shown).logits[hidden]
            else:
                logits = head(inner.base_model(**shown).last_hidden_state[hidden])
            # a short batch may hide nothing: a loss of 0 that has a gradient
            loss = cross_entropy(logits.float(), ids[hidden]) if hidden.any() else logits.sum() * 0
            return (loss, torch.empty(0)) if return_outputs else loss

    return MaskedTrainer


def hide(ids: Any, tokenizer: Any, share: float) -> tuple[Any, Any]:
    """Which tokens are to be guessed, and what is shown: of ten, eight masks, one other token, one as it is.

    Args:
        ids: token ids [rows, tokens]; special tokens are never hidden.
        tokenizer: says which ones are special.
        share: of the tokens to guess.

    Returns:
        A mask [rows, tokens] and the ids to show, likewise.
    """
    import torch

    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    hidden = (torch.rand(ids.shape, device=ids.device) < share) & ~special
    dice = torch.rand(ids.shape, device=ids.device)
    other = torch.randint(len(tokenizer), ids.shape, device=ids.device)
    given = torch.where(hidden & (dice < 0.8), tokenizer.mask_token_id, ids)
    return hidden, torch.where(hidden & (dice >= 0.9), other, given)


def _write(model: Any, base: BaseModelFolder, record: dict[str, Any], folder: Path, learning_rate: float) -> None:
    """Everything of the base model with the trained weights, and a card that says how it came about."""
    from transformers import AutoModel

    from training.loop import require_finite

    require_finite(model, learning_rate)
    whole = AutoModel.from_pretrained(base.path, use_safetensors=True, local_files_only=True).float()
    whole.load_state_dict(model.cpu().base_model.state_dict(), strict=False)  # a pooler is not trained, and stays
    whole.save_pretrained(folder)
    for file in _COPIED:
        if (base.path / file).is_file():
            shutil.copyfile(base.path / file, folder / file)
    for part in base.path.glob("*_Pooling"):
        shutil.copytree(part, folder / part.name)
    (folder / ADAPTATION).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    licence = f"license: {base.licence}\n" if base.licence else ""
    (folder / "README.md").write_text(
        f"---\n{licence}base_model: {record['base_model']}\n---\n\n# {record['base_model']}, adapted\n\n"
        f"Masked-language training on {record['texts']:,} texts without labels, {record['passes']} passes"
        f" (`undertone adapt`). All figures: `{ADAPTATION}`.\n",
        encoding="utf-8",
    )
