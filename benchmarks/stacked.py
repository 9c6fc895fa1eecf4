"""BERT classifiers trained side by side, as batched matrix products: many small trainings fill a GPU that one does not.

All weights of a stack lie in one tensor [models, weights], and so do gradients and the optimizer's states. The word
embeddings are frozen and the same for all. Imports torch and transformers: load it late.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertForSequenceClassification

from training.effort import Effort
from training.loop import LengthSampler, disagreement, make_optimizer
from undertone.errors import ConfigError

#: AdamW's own, as in `torch.optim.AdamW`; and the norm above which the Trainer clips gradients.
BETAS, EPSILON, LARGEST = (0.9, 0.999), 1e-8, 1.0


class Stack:
    """Copies of classifiers of one shape, each with weights of its own.

    Dropout is that of the first; between models it must not differ.

    Args:
        models: the weights to start from; one may stand there twice; their word embeddings are frozen and alike.
        device: where the stack is computed, on CUDA in bf16.

    Attributes:
        names: of the weights that learn.
        flat: all of them, [models, weights].
        owner: index in `names` of each weight, [weights].
    """

    def __init__(self, models: Sequence[Any], device: torch.device) -> None:
        first = models[0]
        frozen = [name for name, value in first.named_parameters() if not value.requires_grad]
        if (
            not isinstance(models[0], BertForSequenceClassification)
            or first.config.hidden_act != "gelu"
            or frozen != ["bert.embeddings.word_embeddings.weight"]
        ):
            raise ConfigError(
                "a BERT with GELU of which the word embeddings are frozen, and nothing else",
                f"a {type(first).__name__} with {', '.join(frozen) or 'nothing'} frozen",
                "use such a base model and effort, or benchmarks.recipes",
            )
        self.config: Any = first.config
        self.device = device
        self.words = first.get_input_embeddings().weight.detach().to(device)
        dropouts: Any = (first.bert.encoder.layer[0].attention.self, first.bert.embeddings, first)
        self.attention_dropout, self.dropout, self.head_dropout = (float(part.dropout.p) for part in dropouts)
        own = {id(model): dict(model.named_parameters()) for model in models}
        shapes = {name: value.shape for name, value in first.named_parameters() if value.requires_grad}
        self.names, self.shapes = list(shapes), list(shapes.values())
        self.sizes = [shape.numel() for shape in self.shapes]
        each = [torch.cat([own[id(model)][name].detach().flatten() for name in self.names]) for model in models]
        self.flat = torch.stack(each).to(device).requires_grad_()
        self.owner = torch.arange(len(self.sizes)).repeat_interleave(torch.tensor(self.sizes)).to(device)

    def weights(self) -> dict[str, torch.Tensor]:
        """View of each [models, …], by name."""
        parts, models = self.flat.split(self.sizes, dim=1), len(self.flat)
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part.view(models, *shape) for name, part, shape in named}

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, *, training: bool = False) -> torch.Tensor:
        """Logits [models, rows, classes] of token ids [models, rows, tokens], without dropout unless `training`."""
        half = training and self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self._logits(ids, mask, training)
        return logits.float() if half else logits

    def _logits(self, ids: torch.Tensor, mask: torch.Tensor, training: bool) -> torch.Tensor:
        models, rows, tokens = ids.shape
        weights = self.weights()
        heads, last = self.config.num_attention_heads, self.config.num_hidden_layers - 1
        seen = mask.reshape(models * rows, 1, 1, tokens)

        def drop(states: torch.Tensor, share: float = self.dropout) -> torch.Tensor:
            return functional.dropout(states, share, training)

        def split(states: torch.Tensor) -> torch.Tensor:
            return states.reshape(models * rows, -1, heads, states.shape[-1] // heads).transpose(1, 2)

        def linear(states: torch.Tensor, name: str) -> torch.Tensor:
            flat, weight = states.reshape(models, -1, states.shape[-1]), weights[f"{name}.weight"]
            product = torch.baddbmm(weights[f"{name}.bias"][:, None], flat, weight.transpose(1, 2))
            return product.view(*states.shape[:-1], -1)

        def norm(states: torch.Tensor, name: str) -> torch.Tensor:
            plain = functional.layer_norm(states, states.shape[-1:], eps=self.config.layer_norm_eps)
            weight, bias = (weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
            return plain * weight + bias

        known = "bert.embeddings."
        places = weights[f"{known}position_embeddings.weight"][:, :tokens]
        places = places + weights[f"{known}token_type_embeddings.weight"][:, :1]
        states = drop(norm(functional.embedding(ids, self.words) + places[:, None], f"{known}LayerNorm"))
        for number in range(last + 1):
            name = f"bert.encoder.layer.{number}."
            asking = states[:, :, :1] if number == last else states  # as in `training.first_token`
            context = functional.scaled_dot_product_attention(
                split(linear(asking, f"{name}attention.self.query")),
                split(linear(states, f"{name}attention.self.key")),
                split(linear(states, f"{name}attention.self.value")),
                attn_mask=seen.expand(-1, heads, asking.shape[2], tokens),
                dropout_p=self.attention_dropout if training else 0.0,
            )
            joined = context.transpose(1, 2).reshape(asking.shape)
            joined = drop(linear(joined, f"{name}attention.output.dense"))
            attended = norm(joined + asking, f"{name}attention.output.LayerNorm")
            wide = functional.gelu(linear(attended, f"{name}intermediate.dense"))
            given = drop(linear(wide, f"{name}output.dense"))
            states = norm(given + attended, f"{name}output.LayerNorm")
        pooled = torch.tanh(linear(states[:, :, 0], "bert.pooler.dense"))
        return linear(drop(pooled, self.head_dropout), "classifier")


class StackedAdamW:
    """`training.loop.make_optimizer`, clipping, linear schedule and averaged weights, for each model of a stack alone.

    Args:
        stack: what learns.
        model: a classifier of the stack's shape, which says the optimizer's groups.
        efforts: one a model; they differ in learning rate, head factor, layer decay and weight decay at most.
        steps: of the whole training.

    Attributes:
        average: what a training gives, [models, weights]: the averaged weights, or the last where there is no average.
    """

    def __init__(self, stack: Stack, model: Any, efforts: Sequence[Effort], steps: int) -> None:
        self.stack, self.steps, self.taken = stack, steps, 0
        self.warmup = round(efforts[0].warmup * steps)
        names = {id(value): name for name, value in model.named_parameters()}
        groups = [
            {
                names[id(value)]: (group["lr"], group["weight_decay"])
                for group in make_optimizer(model, effort).param_groups
                for value in group["params"]
            }
            for effort in efforts
        ]
        table = torch.tensor([[of[name] for name in stack.names] for of in groups], device=stack.device)
        self.rates, self.decays = table.unbind(-1)  # [models, names]
        self.first, self.second = (torch.zeros_like(stack.flat, requires_grad=False) for _ in range(2))
        self.share = 1 / max(1.0, efforts[0].averaging * steps) if efforts[0].averaging else 1.0
        self.average = stack.flat.detach().clone()

    def step(self) -> None:
        """Learn from the gradients and forget them."""
        factor = self.taken / max(1, self.warmup)
        if self.taken >= self.warmup:
            factor = (self.steps - self.taken) / max(1, self.steps - self.warmup)
        self.taken += 1
        numbers = (factor, 1 - BETAS[0] ** self.taken, 1 - BETAS[1] ** self.taken, self.share)
        gradients: Any = self.stack.flat.grad
        with torch.no_grad():
            norm = gradients.norm(dim=1, keepdim=True)
            _adamw(
                self.stack.flat.detach(),
                gradients,
                (LARGEST / (norm + 1e-6)).clamp(max=1.0),
                self.first,
                self.second,
                self.average,
                self.rates,
                self.decays,
                self.stack.owner,
                *(torch.tensor(number, device=self.stack.device) for number in numbers),
            )
        self.stack.flat.grad = None


@torch.compile(disable=not torch.cuda.is_available(), dynamic=True)
def _adamw(
    weights: torch.Tensor,
    gradients: torch.Tensor,
    clip: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    average: torch.Tensor,
    rates: torch.Tensor,
    decays: torch.Tensor,
    owner: torch.Tensor,
    factor: torch.Tensor,
    first_share: torch.Tensor,
    second_share: torch.Tensor,
    average_share: torch.Tensor,
) -> None:
    """One step of AdamW in place; compiled, one pass over the buffers."""
    gradients = gradients * clip
    mean = first + (gradients - first) * (1 - BETAS[0])
    square = second * BETAS[1] + gradients * gradients * (1 - BETAS[1])
    move = mean / first_share / ((square / second_share).sqrt() + EPSILON) + decays[:, owner] * weights
    moved = weights - factor * rates[:, owner] * move
    average.copy_(average + (moved - average) * average_share)
    weights.copy_(moved)
    first.copy_(mean)
    second.copy_(square)


def losses(
    logits: torch.Tensor,
    labels: torch.Tensor,
    balance: torch.Tensor,
    smoothing: torch.Tensor,
    focal: torch.Tensor | None,
    r_drop: torch.Tensor | None,
) -> torch.Tensor:
    """Each model's loss [models]: `training.loop.balanced_loss` and R-Drop, with label smoothing and a focal factor.

    Smoothing gives each label an equal part of that share of the target (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567), at the weight of the row's own label. The focal factor (1 - p)**focal, p the
    probability of the row's label, plays down what is easy (Lin et al., 2017, https://arxiv.org/abs/1708.02002); it
    multiplies the row's loss and not the divisor.

    Args:
        logits: [models, rows, classes], [models, 2 * rows, classes] with R-Drop (see `training.loop.disagreement`).
        labels: [models, rows].
        balance: weight of each label in the loss, [models, classes].
        smoothing: [models].
        focal: [models]; None: none.
        r_drop: weight of R-Drop, [models]; None: each row is answered once.
    """
    logs = logits.log_softmax(-1)
    repeated = labels if r_drop is None else torch.cat([labels, labels], 1)
    own = logs.gather(-1, repeated[..., None])[..., 0]
    row = -(own * (1 - smoothing[:, None]) + logs.mean(-1) * smoothing[:, None])
    if focal is not None:
        row = row * (1 - own.exp()) ** focal[:, None]
    weights = balance.gather(1, repeated)
    loss = (row * weights).sum(1) / weights.sum(1)
    if r_drop is None:
        return loss
    return loss + r_drop * disagreement(logits)


def batches(lengths: NDArray[Any], batch_size: int, seeds: Sequence[int], epoch: int) -> NDArray[np.int64]:
    """Places [models, rows] in the order of an epoch, like `LengthSampler`'s, which draws the order of batches by seed.

    Here it is the same for all models, so that a batch is of like length in each of them and little is padded.

    Args:
        lengths: tokens of each row, [models, rows].
        batch_size: rows in a batch; the last may be short.
        seeds: with the epoch they fix which rows stand together.
        epoch: from 0.
    """
    orders = []
    chunk = LengthSampler.CHUNK * batch_size
    for own, seed in zip(lengths, seeds, strict=True):
        order = np.random.default_rng([seed, epoch]).permutation(len(own))
        parts = [order[start : start + chunk] for start in range(0, len(order), chunk)]
        orders.append(np.concatenate([part[np.argsort(-own[part], kind="stable")] for part in parts]))
    made = np.stack(orders)
    whole = made.shape[1] // batch_size * batch_size
    shuffled = np.random.default_rng(epoch).permutation(whole // batch_size)
    full = made[:, :whole].reshape(len(made), -1, batch_size)[:, shuffled]
    return np.concatenate([full.reshape(len(made), -1), made[:, whole:]], axis=1)
