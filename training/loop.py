"""Parts of the training loop that Transformers leaves open: batch order, progress, signals, best weights.

Imports torch and transformers: load it late.
"""

from __future__ import annotations

import json
import math
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from training.effort import Effort
from training.failures import diverged

Log = Callable[[dict[str, float], int], None]


#: What the Trainer tells of its own speed; and its mean loss, which in a resumed run is of the last session alone.
_NOT_LOGGED = ("_runtime", "_per_second", "_flos", "train_loss")


class LengthSampler(Sampler[int]):
    """Row numbers in an order in which neighbours have like lengths, another order each epoch.

    The order depends on seed and epoch alone (the one of Transformers draws from torch's global
    state), so a resumed run sees the batches of an uninterrupted one.

    Args:
        lengths: tokens of each row.
        batch_size: rows in a batch.
        seed: with the epoch it fixes the order.
    """

    #: Rows are sorted by length within chunks of this many batches, then the batches are shuffled.
    CHUNK = 50

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The epoch whose order comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        chunk = self.CHUNK * self.batch_size
        batches: list[Any] = []
        for start in range(0, len(order), chunk):
            rows = order[start : start + chunk]
            rows = rows[np.argsort(-self.lengths[rows], kind="stable")]
            batches += [rows[first : first + self.batch_size] for first in range(0, len(rows), self.batch_size)]
        # Only the last batch may be short; it stays last, so that every other batch keeps its rows together.
        tail = batches.pop() if len(batches[-1]) < self.batch_size else None
        batches = [batches[index] for index in generator.permutation(len(batches))]
        for batch in [*batches, *([tail] if tail is not None else [])]:
            yield from batch.tolist()


def padded(pad: int) -> Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]:
    """A collator that pads rows to the longest of their batch, at the end, with the token `pad`.

    Its time is a seventh of `DataCollatorWithPadding`'s, for which a GPU waits.
    """

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [torch.tensor(row["input_ids"]) for row in rows]
        lengths = torch.tensor([len(row) for row in ids])
        batch = {"input_ids": torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)}
        batch["attention_mask"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return batch | {name: torch.tensor([row[name] for row in rows]) for name in rows[0] if name != "input_ids"}

    return collate


def trainer_arguments(folder: Path, seed: int, **own: Any) -> TrainingArguments:
    """What every training of ours asks of the Trainer: bf16 on a GPU that has it, checkpoints by steps, no noise.

    Args:
        folder: where checkpoints go.
        seed: of everything that is drawn.
        own: what this one asks for besides, by the Trainer's names.
    """
    cuda = torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        lr_scheduler_type="linear",
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        bf16=cuda and torch.cuda.is_bf16_supported(),
        use_cpu=not cuda,
        average_tokens_across_devices=False,  # the losses have their own divisors
        **own,
    )


class LengthTrainer(Trainer):
    """`transformers.Trainer` with the batches of `LengthSampler`; ``weights`` in a batch go to the loss function.

    Attributes:
        averaged: the average of the weights, which is what is evaluated; None: the weights as they are.
        r_drop: weight of R-Drop in the training loss; 0: none.
    """

    averaged: AveragedWeights | None = None
    r_drop: float = 0.0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's own, of the averaged weights where there are such."""
        with self.averaged.in_place() if self.averaged else nullcontext():
            return super().evaluate(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        # of all processes together: each takes its part of a batch
        batch = self.args.train_batch_size * self.args.world_size
        sampler = LengthSampler([len(row["input_ids"]) for row in rows], batch, self.args.seed)
        self.add_callback(EpochOfOrder(sampler))
        return sampler

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's own, which hands a loss function outputs and labels alone, but for weights and R-Drop."""
        twice = bool(self.r_drop) and model.training
        if not twice and "weights" not in inputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if twice:
            inputs = {name: torch.cat([value, value]) for name, value in inputs.items()}
        weights, labels = inputs.pop("weights", None), inputs.pop("labels")
        outputs = model(**inputs)
        balanced: Any = self.compute_loss_func
        loss = balanced(outputs, labels, row_weights=weights)
        if twice:
            loss = loss + self.r_drop * disagreement(outputs["logits"])
        return (loss, outputs) if return_outputs else loss


class EpochOfOrder(TrainerCallback):
    """Tells `sampler` its epoch. Accelerate does not reach it where several processes go on within an epoch."""

    def __init__(self, sampler: LengthSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Count epochs by steps, as the Trainer does when it goes on."""
        self._sampler.set_epoch(state.global_step * math.ceil(state.num_train_epochs) // state.max_steps)


def disagreement(logits: torch.Tensor) -> torch.Tensor:
    """R-Drop's term (Liang et al., 2021, https://arxiv.org/abs/2106.14448), a mean over rows [...].

    Half the sum of the two Kullback-Leibler divergences between a row's answers under two dropout masks.

    Args:
        logits: [..., 2 * rows, classes]; row i's second answer stands at rows + i.
    """
    first, second = logits.float().log_softmax(-1).chunk(2, -2)
    return ((first.exp() - second.exp()) * (first - second)).sum(-1).mean(-1) / 2


def make_optimizer(model: Any, effort: Effort) -> torch.optim.Optimizer:
    """AdamW without decay on biases and norms.

    The head learns ``effort.head_factor`` times faster than the encoder's last layer, each layer below
    ``effort.layer_decay`` times as fast as the one above it (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146).
    """
    encoder, layers = f"{model.base_model_prefix}.", model.config.num_hidden_layers

    def rate(name: str) -> float:
        if not name.startswith(encoder):
            return effort.learning_rate * effort.head_factor
        below = layers - 1 - _layer_of(name, layers)
        return float(effort.learning_rate * effort.layer_decay**below)

    return adamw(model, rate, effort.weight_decay)


def adamw(model: Any, rate: Callable[[str], float], weight_decay: float) -> torch.optim.Optimizer:
    """AdamW over what of `model` learns, each parameter at the rate of its name; biases and norms do not decay."""
    groups: dict[tuple[float, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((rate(name), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": own, "weight_decay": weight_decay if decays else 0.0}
            for (own, decays), parameters in groups.items()
        ],
        fused=True,  # one pass over the weights: 1.6 times the speed of a pass for each operation
    )


def require_finite(model: Any, learning_rate: float) -> None:
    """Refuse weights that are no numbers.

    Raises:
        TrainingError: some are not.
    """
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise diverged("NaN or infinity in the trained weights", learning_rate)


def _layer_of(name: str, layers: int) -> int:
    """Number of the encoder layer a parameter belongs to; -1: embeddings, the last one: what comes after the layers."""
    found = re.search(r"\.layers?\.(\d+)\.", name)
    if found:
        return int(found[1])
    return -1 if "embedding" in name else layers - 1


def label_weights(labels: torch.Tensor, classes: int, balance: float) -> torch.Tensor:
    """Weight of each label [classes] in the loss: its share of `labels` to the power -balance, of mean 1 over them."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1).float()
    weights = counts**-balance
    return weights * counts.sum() / (weights * counts).sum()


def balanced_loss(labels: list[int], classes: int, balance: float) -> Callable[..., torch.Tensor]:
    """Cross-entropy in which a label of share s weighs s**-balance, scaled to a mean weight of 1 over the rows.

    Half a step (0.5) towards equal classes gains macro-F1 on rare labels and costs little calibration. Weights of rows
    (mean 1 over all rows) multiply each row's loss and not the divisor, so a batch of heavy rows counts for more.
    """
    weights = label_weights(torch.tensor(labels), classes, balance)

    def loss(
        outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, row_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        logits = outputs["logits"]
        balance_of = weights.to(logits.device, logits.dtype)
        if row_weights is None:
            return torch.nn.functional.cross_entropy(logits, labels, weight=balance_of)
        losses = torch.nn.functional.cross_entropy(logits, labels, weight=balance_of, reduction="none")
        return (losses * row_weights.to(losses)).sum() / balance_of[labels].sum()

    return loss


class Progress(TrainerCallback):
    """One bar on stderr, metrics to `log`, and a stop when the loss is no longer a number.

    Args:
        log: called with plain floats and the step; validation metrics start with ``validation_``.
        show: draw the bar.
        what: the bar's name.
    """

    def __init__(self, log: Log | None, show: bool, what: str = "fine-tune") -> None:
        self._log = log
        self._show = show
        self._what = what
        self._bar: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the bar, at the step a resumed run starts from."""
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self._what,
            unit="step",
            disable=not self._show,
            dynamic_ncols=True,
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Move the bar."""
        self._bar.update(state.global_step - self._bar.n if self._show else 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Pass metrics on.

        Raises:
            TrainingError: the loss is not a number.
        """
        values = {
            name.replace("eval_", "validation_"): float(value)
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and not name.endswith(_NOT_LOGGED)
        }
        loss = values.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise diverged(f"{loss} at step {state.global_step}", args.learning_rate)
        if loss is not None:
            self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if self._log is not None and values:
            self._log(values, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands; an interrupted training closes it too."""
        if self._bar is not None:
            self._bar.close()


class StopOnSignal(TrainerCallback):
    """Turns Ctrl-C and SIGTERM into a checkpoint at the end of the step, then lets the signal take effect.

    As a context manager it holds the two signals (in the main thread only, where Python delivers them) and
    raises the one that came when training has stopped. A second signal takes effect at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if error is None and self._received is not None:
            signal.raise_signal(self._received)
            # A handler that returns must not pass an unfinished model off as a finished one.
            raise KeyboardInterrupt

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop, where a signal came."""
        if self._received is not None:
            control.should_save = True
            control.should_training_stop = True

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class AveragedWeights(TrainerCallback):
    """Exponential moving average of the trained weights, which is what a training then gives and evaluates.

    An average of late weights lies in a flatter, steadier place than the last ones (Izmailov et al., 2018,
    https://arxiv.org/abs/1803.05407). It stands in every checkpoint.

    Args:
        model: the model in training; frozen parameters are left out.
        window: steps over which the average reaches back: the weight of one step is 1 / window.
        file: the average's name in a checkpoint.
        resumed: the checkpoint that the training goes on from; None: it begins.
    """

    def __init__(self, model: Any, window: float, file: str, resumed: Path | None) -> None:
        self._file = file
        self._live = {name: value for name, value in model.named_parameters() if value.requires_grad}
        found = load_file(resumed / file) if resumed else {}
        self._average = [
            found[name].to(value.device) if name in found else value.detach().clone()
            for name, value in self._live.items()
        ]
        self._update = get_ema_multi_avg_fn(1 - 1 / max(window, 1.0))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Take the step's weights into the average."""
        self._update(self._average, [value.detach() for value in self._live.values()], state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Write the average into the checkpoint that was just written."""
        if not state.is_world_process_zero:
            return
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        save_file(dict(zip(self._live, self._average, strict=True)), folder / self._file)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average for weights within the block."""
        kept = [value.detach().clone() for value in self._live.values()]
        self.put()
        try:
            yield
        finally:
            self._copy(kept)

    def put(self) -> None:
        """Give the model the average for good."""
        self._copy(self._average)

    def _copy(self, values: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for live, value in zip(self._live.values(), values, strict=True):
                live.copy_(value)


class BestWeights(TrainerCallback):
    """Keeps the weights with the best validation macro-F1 on disk, and stops when nothing is gained any more.

    Args:
        folder: where the weights and their score stand; a resumed run goes on from there.
        patience: evaluations without gain after which training stops.
    """

    def __init__(self, folder: Path, patience: int) -> None:
        self.folder = folder
        self.patience = patience
        self._over = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """See whether a resumed run had stopped here before it was killed."""
        best = self._read()
        self._over = best is not None and best["evaluations_since"] >= self.patience

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop such a run: the Trainer looks only after a step, and the best weights stand."""
        if self._over:
            control.should_training_stop = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Keep the weights if they are the best so far."""
        if self._over:
            return
        score = (metrics or {}).get("eval_macro_f1", float("nan"))
        best = self._read()
        if best is None or score > best["score"]:
            best = {"score": score, "evaluations_since": 0, "file": f"model-{state.global_step}.safetensors"}
            self._save(model, best["file"])
        elif state.global_step > best["last_step"]:  # a resumed run may look at a step a second time
            best["evaluations_since"] += 1
        best["last_step"] = max(state.global_step, best.get("last_step", 0))
        self._write(best)
        if best["evaluations_since"] >= self.patience:
            control.should_training_stop = True

    def restore(self, model: Any) -> None:
        """Put the best weights into `model`, where any were kept."""
        best = self._read()
        if best is not None:
            model.load_state_dict(load_file(self.folder / best["file"]))

    def _read(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads((self.folder / "best.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def _save(self, model: Any, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.detach().cpu().clone() for key, value in model.state_dict().items()}, self.folder / name)

    def _write(self, best: dict[str, Any]) -> None:
        """Point to the best weights in one step, then drop the others: a kill at any moment leaves a whole pair."""
        fresh = self.folder / "best.json.new"
        fresh.write_text(json.dumps(best), encoding="utf-8")
        fresh.replace(self.folder / "best.json")
        for weights in self.folder.glob("*.safetensors"):
            if weights.name != best["file"]:
                weights.unlink()
