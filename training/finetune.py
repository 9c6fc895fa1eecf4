"""Fine-tune a base model on labelled messages; an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import distributed
from training.distributed import ALONE, Launch
from training.effort import Effort
from training.families import layers_of, require_encoder
from training.pooling import add_mean_layer, wants_mean
from training.silence import hush
from training.subsample import subsample, weights_of
from undertone.errors import TrainingError
from undertone.tasks import TaskSpec
from undertone.text import fingerprint, install_cleaning, repair, sha256_of

if TYPE_CHECKING:
    from pandas import DataFrame

Log = Callable[[dict[str, float], int], None]

#: The averaged weights in a checkpoint.
AVERAGE = "average.safetensors"

#: Files without which a checkpoint is half-written. The Trainer writes its state last.
_CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def finetune(
    train: DataFrame,
    validation: DataFrame,
    spec: TaskSpec,
    effort: Effort,
    *,
    base_model: Path,
    seed: int,
    checkpoints: Path,
    log: Log | None = None,
    progress: bool = True,
    threads: int | None = None,
    launch: Launch = ALONE,
) -> Path:
    """Fine-tune `base_model` for `spec` and give the folder of the result, ``<checkpoints>/model``.

    The folder holds a Hugging Face sequence-classification model (safetensors, labels as words)
    and its fast tokenizer with the cleaning inside. Ctrl-C and SIGTERM save a checkpoint before they
    take effect; the same call later goes on from the last complete checkpoint and ends with the weights of
    an uninterrupted run (same machine, same number of threads). Checkpoints of another data set, effort, seed or
    base model are thrown away; so are this run's when it has finished, and then the same call gives its model.

    Args:
        train: columns ``text`` and ``label`` (words of ``spec.labels``), and ``weight`` where rows weigh unlike: what
            each counts for in the loss, and when rows are drawn.
        validation: the same columns; looked at only where the effort evaluates each epoch.
        spec: labels and text limit.
        effort: every hyperparameter.
        base_model: folder of the base model.
        seed: fixes the sample, the order of batches, the new head and dropout.
        checkpoints: folder of this run alone.
        log: called with metrics (``loss``, ``learning_rate``, ``validation_macro_f1`` …) and the step.
        progress: one progress bar on stderr.
        threads: CPU threads for torch, shared out among the processes; None leaves torch's own choice.
        launch: several processes; their sums round otherwise than one's.

    Raises:
        ConfigError: several processes cannot do what the effort asks.
        DataError: no rows, or a label that the spec does not have.
        TrainingError: the loss is not a number, or the base model does not load.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    rows = subsample(train, spec, effort.max_train_rows, seed)
    looked_at = subsample(validation, spec, effort.max_eval_rows, seed) if effort.patience else None
    keep_only_own(checkpoints, _identity(rows, looked_at, spec, effort, base_model, seed))
    if (checkpoints / "model").is_dir():  # finished, and killed before its caller knew
        return _tidy(checkpoints)
    try:
        if launch.world > 1:
            distributed.train(
                launch,
                rows,
                spec,
                effort,
                base_model=base_model,
                seed=seed,
                checkpoints=checkpoints,
                note=log,
                progress=progress,
                threads=threads,
            )
            return checkpoints / "model"
        return train_here(rows, looked_at, spec, effort, base_model, seed, checkpoints, log, progress)
    except BaseException:
        # half of a checkpoint would only fill a disk that may be full
        last_complete(checkpoints, _whole(effort, launch.world))
        shutil.rmtree(checkpoints / "new-model", ignore_errors=True)
        raise


@hush()
def train_here(
    rows: DataFrame,
    looked_at: DataFrame | None,
    spec: TaskSpec,
    effort: Effort,
    base_model: Path,
    seed: int,
    checkpoints: Path,
    log: Log | None,
    progress: bool,
    world: int = 1,
) -> Path:
    """`finetune` in this process, which is one of `world`; only the first of them writes the model."""
    import torch
    from transformers import PrinterCallback, set_seed

    from training.first_token import first_token_only
    from training.loop import (
        AveragedWeights,
        BestWeights,
        LengthTrainer,
        Progress,
        StopOnSignal,
        balanced_loss,
        make_optimizer,
        padded,
        trainer_arguments,
    )

    set_seed(seed)
    tokenizer = load_tokenizer(base_model, spec.max_tokens)
    model = _load_model(base_model, spec, effort)
    examples = _weigh(_encode(rows, tokenizer, spec), rows)
    steps_per_epoch = -(-len(examples) // effort.batch_size)
    epochs = effort.passes(len(examples))
    arguments = trainer_arguments(
        checkpoints,
        seed,
        num_train_epochs=epochs,
        learning_rate=effort.learning_rate,
        per_device_train_batch_size=effort.batch_size // world,
        per_device_eval_batch_size=64,
        warmup_steps=round(effort.warmup * steps_per_epoch * epochs),
        weight_decay=effort.weight_decay,
        # Evaluation by steps comes before the checkpoint of the same step, so a run resumed at the end of
        # an epoch has that epoch's score.
        eval_strategy="no" if looked_at is None else "steps",
        eval_steps=steps_per_epoch,
        save_steps=effort.save_steps,
        save_total_limit=2,
        logging_steps=math.gcd(10, effort.save_steps),  # a resumed run averages the loss over the same steps
        ddp_find_unused_parameters=False,  # every weight that learns is used in every step
        ddp_backend=None if world == 1 or torch.cuda.is_available() else "gloo",
    )
    model.to(arguments.device)  # before the optimizer takes its weights
    best = BestWeights(checkpoints / "best", effort.patience) if effort.patience else None
    resumed = last_complete(checkpoints, _whole(effort, world))
    averaged = None
    if effort.averaging:
        window = effort.averaging * steps_per_epoch * epochs
        averaged = AveragedWeights(model, window, AVERAGE, Path(resumed) if resumed else None)
    # several processes would not stop at the same step: a signal ends them, and the last checkpoint stands
    stop, bar = StopOnSignal() if world == 1 else None, Progress(log, progress)
    trainer = LengthTrainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        eval_dataset=None if looked_at is None else _encode(looked_at, tokenizer, spec),
        data_collator=padded(tokenizer.pad_token_id),
        compute_metrics=_score,
        compute_loss_func=balanced_loss([row["labels"] for row in examples], len(spec.labels), effort.balance),
        optimizers=(make_optimizer(model, effort), None),
        callbacks=[bar, *(part for part in (stop, averaged, best) if part)],
    )
    trainer.averaged, trainer.r_drop = averaged, effort.r_drop_of(len(examples))
    trainer.remove_callback(PrinterCallback)  # `Progress` stands in its place
    with stop or nullcontext(), closing(bar), first_token_only(model):
        trainer.train(resume_from_checkpoint=resumed)
    if averaged:
        averaged.put()
    if best:
        best.restore(model)
    if not trainer.is_world_process_zero():
        return checkpoints / "model"
    return _finish(model, tokenizer, checkpoints, effort.learning_rate)


def load_tokenizer(base_model: Path, max_tokens: int) -> Any:
    """The base model's fast tokenizer with the cleaning inside, in a class that keeps it there.

    ``tokenizer.json`` is taken as it stands: Transformers 5 builds the tokenizers of BERT, XLM-R and others anew from
    their arguments, and drops what it does not know, the cleaning among it.

    Raises:
        TrainingError: the base model has no fast tokenizer, or none that pads.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        own = AutoTokenizer.from_pretrained(base_model, local_files_only=True)
        backend = Tokenizer.from_file(str(base_model / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        raise TrainingError(
            f"a fast tokenizer in {base_model}", f"{type(error).__name__}: {error}", "use another base model"
        ) from error
    if own.pad_token is None:
        raise TrainingError(f"a padding token in {base_model}", "none", "use another base model")
    backend.no_padding()
    install_cleaning(backend)
    backend.enable_truncation(max_tokens)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        **own.special_tokens_map,
    )


def reading_of(tokenizer: Any) -> str:
    """SHA-256 of how texts become tokens: a tokenizer of `load_tokenizer` and the cleaning in it."""
    return sha256_of(tokenizer.backend_tokenizer.to_str())


def _load_model(base_model: Path, spec: TaskSpec, effort: Effort) -> Any:
    from torch.nn import Dropout
    from transformers import AutoModelForSequenceClassification

    _require_head(base_model)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            base_model,
            num_labels=len(spec.labels),
            id2label=dict(enumerate(spec.labels)),
            label2id=spec.label_index(),
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a base model may carry a head with other labels
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"a model in {base_model} that takes a classification head",
            f"{type(error).__name__}: {error}",
            "use another base model",
        ) from error
    model = model.float()
    if wants_mean(base_model):
        add_mean_layer(model)
    if effort.dropout is not None:
        for module in model.modules():
            if isinstance(module, Dropout):
                module.p = effort.dropout
    if effort.frozen_embeddings:
        model.get_input_embeddings().requires_grad_(False)
    if effort.frozen_layers:
        embeddings = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
        for part in [embeddings, *layers_of(model)[: effort.frozen_layers]]:
            part.requires_grad_(False)
    return model


def _require_head(base_model: Path) -> None:
    """Refuse a model that no classification class is made for: Transformers would name its 120 others."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(base_model, local_files_only=True)
    require_encoder(config.to_dict(), str(base_model))
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise TrainingError(
            f"a model in {base_model} that takes a classification head",
            f"a {config.model_type}, for which Transformers has none",
            "use another base model: docs/how-to/choose-a-base-model.md",
        )


def _encode(frame: DataFrame, tokenizer: Any, spec: TaskSpec) -> list[dict[str, Any]]:
    index = spec.label_index()
    ids = tokenizer([repair(text) for text in frame["text"]], truncation=True, max_length=spec.max_tokens)["input_ids"]
    return [{"input_ids": row, "labels": index[label]} for row, label in zip(ids, frame["label"], strict=True)]


def _weigh(examples: list[dict[str, Any]], rows: DataFrame) -> list[dict[str, Any]]:
    """The examples with their weights, of mean 1; as they are where all weigh alike."""
    weights = weights_of(rows)
    if weights is None:
        return examples
    scaled = (weights / weights.mean()).tolist()
    return [example | {"weights": weight} for example, weight in zip(examples, scaled, strict=True)]


def _score(output: Any) -> dict[str, float]:
    from training.evaluate import macro_f1

    logits = output.predictions[0] if isinstance(output.predictions, tuple) else output.predictions
    return {"macro_f1": macro_f1(output.label_ids, logits.argmax(axis=1), logits.shape[1])}


def _finish(model: Any, tokenizer: Any, checkpoints: Path, learning_rate: float) -> Path:
    from training.loop import require_finite

    require_finite(model, learning_rate)
    folder = checkpoints / "new-model"
    model.cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    folder.rename(checkpoints / "model")
    return _tidy(checkpoints)


def _tidy(checkpoints: Path) -> Path:
    """Delete what the finished model makes useless; gives its folder."""
    for leftover in [*checkpoints.glob("checkpoint-*"), checkpoints / "best"]:
        shutil.rmtree(leftover, ignore_errors=True)
    return checkpoints / "model"


def _whole(effort: Effort, world: int) -> list[str]:
    """Files of a whole checkpoint beside `_CHECKPOINT_FILES`: random states of each process, the averaged weights."""
    states = ["rng_state.pth"] if world == 1 else [f"rng_state_{rank}.pth" for rank in range(world)]
    return [*states, *([AVERAGE] if effort.averaging else [])]


def last_complete(checkpoints: Path, also: Sequence[str] = ("rng_state.pth",)) -> str | None:
    """Path of the newest checkpoint that was written to its end; half-written ones are removed.

    Args:
        checkpoints: the folder they lie in.
        also: files that a whole checkpoint has beside the weights and the states of optimizer and Trainer.
    """
    complete: dict[int, Path] = {}
    for folder in checkpoints.glob("checkpoint-*"):
        try:
            step = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        except (OSError, ValueError, KeyError, TypeError):
            step = None
        if step is not None and all((folder / name).is_file() for name in (*_CHECKPOINT_FILES, *also)):
            complete[int(step)] = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return str(complete[max(complete)]) if complete else None


def _identity(
    rows: DataFrame, looked_at: DataFrame | None, spec: TaskSpec, effort: Effort, base_model: Path, seed: int
) -> str:
    """One digest of all that decides the weights: checkpoints of another run must not be continued."""
    with (base_model / "model.safetensors").open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()
    with hush():
        reading = reading_of(load_tokenizer(base_model, spec.max_tokens))
    settings = (effort.model_dump_json(), weights, reading, str(seed), str(spec.max_tokens), *spec.labels)
    tables = [
        frame[["text", "label"]].itertuples(index=False, name=None) for frame in (rows, looked_at) if frame is not None
    ]
    row_weights = weights_of(rows)
    weighed = () if row_weights is None else tuple(map(repr, row_weights.tolist()))
    return fingerprint([settings, weighed, *(row for table in tables for row in table)])


def keep_only_own(checkpoints: Path, identity: str) -> None:
    """Throw away what another run left in `checkpoints`, and note whose it is now."""
    note = checkpoints / "run.json"
    found = None
    if note.is_file():
        try:
            found = json.loads(note.read_text(encoding="utf-8")).get("identity")
        except (ValueError, AttributeError):
            found = None
    shutil.rmtree(checkpoints / "new-model", ignore_errors=True)
    if found == identity:
        return
    for leftover in [*checkpoints.glob("checkpoint-*"), checkpoints / "best", checkpoints / "model"]:
        shutil.rmtree(leftover, ignore_errors=True)
    checkpoints.mkdir(parents=True, exist_ok=True)
    fresh = checkpoints / "new-run.json"
    fresh.write_text(json.dumps({"identity": identity}) + "\n", encoding="utf-8")
    fresh.replace(note)
