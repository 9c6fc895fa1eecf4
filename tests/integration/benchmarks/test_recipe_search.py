"""A stack of models computes what each of its models would compute alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from benchmarks.recipe_search import Recipe
from benchmarks.stacked import Stack, StackedAdamW, batches, losses
from training.effort import get_effort
from training.finetune import _load_model
from training.loop import AveragedWeights, LengthSampler, balanced_loss, disagreement, label_weights, make_optimizer
from training.silence import hush
from undertone.tasks import get_task

SPEC = get_task("emotion")
ROWS, TOKENS, STEPS = 12, 9, 8
BASE = Recipe.model_validate(get_effort("standard").model_dump())
# strong decay and many clipped steps, or neither would show
BASE = BASE.having({"dropout": 0.0, "learning_rate": 3e-3, "weight_decay": 0.5, "balance": 1.0, "warmup": 0.25})


def one_model(tiny_base_model: Path, seed: int) -> Any:
    torch.manual_seed(seed)
    with hush():
        model = _load_model(tiny_base_model, SPEC, BASE)
    with torch.no_grad():  # unlike other models also where a fresh one is 0 or 1
        for _, value in learning(model):
            value.add_(0.17 * torch.randn_like(value))
    return model.double().eval()  # AdamW makes a step even of the rounding of a gradient that is 0


def test_a_stack_computes_what_its_models_compute_alone(tiny_base_model: Path) -> None:
    models = [one_model(tiny_base_model, seed) for seed in (1, 2)]
    recipes = [BASE, BASE.having({"learning_rate": 1e-3, "layer_decay": 0.5, "head_factor": 2.0, "r_drop": 3.0})]
    stack = Stack(models, torch.device("cpu"))
    draw = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 60, (2, ROWS, TOKENS), generator=draw)
    mask = torch.arange(TOKENS) < torch.randint(2, TOKENS + 1, (2, ROWS, 1), generator=draw)
    labels = torch.randint(0, len(SPEC.labels), (2, ROWS), generator=draw)
    learned = torch.randint(0, len(SPEC.labels), (2, 40), generator=draw)
    balance = torch.stack(
        [label_weights(own, len(SPEC.labels), recipe.balance) for own, recipe in zip(learned, recipes, strict=True)]
    )
    none = torch.zeros(2)
    alone = [balanced_loss(own.tolist(), len(SPEC.labels), 1.0) for own in learned]

    logits = stack(ids, mask)
    expected = [model(ids[place], attention_mask=mask[place]).logits for place, model in enumerate(models)]
    torch.testing.assert_close(logits, torch.stack(expected), atol=1e-4, rtol=0)

    twice = torch.randn(2, 2 * ROWS, len(SPEC.labels), generator=draw)
    weight = torch.tensor([1.0, 3.0])
    for place, found in enumerate(losses(twice, labels, balance, none, None, weight)):
        own = alone[place]({"logits": twice[place]}, labels[place].repeat(2))
        torch.testing.assert_close(found, own + weight[place] * disagreement(twice[place]))

    optimizer = StackedAdamW(stack, models[0], recipes, STEPS)
    singles = [make_optimizer(model, recipe) for model, recipe in zip(models, recipes, strict=True)]
    schedules = [get_linear_schedule_with_warmup(single, 2, STEPS) for single in singles]
    averages = [AveragedWeights(model, BASE.averaging * STEPS, "", None) for model in models]
    clipped = []
    for step in range(STEPS):
        losses(stack(ids, mask, training=True), labels, balance, none, None, None).sum().backward()
        optimizer.step()
        for place, (model, single) in enumerate(zip(models, singles, strict=True)):
            alone[place](model(ids[place], attention_mask=mask[place]), labels[place]).backward()
            clipped.append(bool(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) > 1))
            single.step()
            single.zero_grad()
            schedules[place].step()
            averages[place].on_step_end(Any, SimpleNamespace(global_step=step + 1), Any)  # type: ignore[arg-type]
    assert {*clipped} == {True, False}
    for flat in (stack.flat, optimizer.average):
        stack.flat = flat
        for place, model in enumerate(models):
            for name, value in learning(model):
                found = stack.weights()[name][place]
                torch.testing.assert_close(found, value, atol=1e-4, rtol=0, msg=f"{name} of model {place}")
            averages[place].put()


def learning(model: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in model.named_parameters() if value.requires_grad]


@pytest.mark.parametrize("rows", [70, 64])
def test_each_model_sees_each_of_its_rows_once_an_epoch(rows: int) -> None:
    lengths = np.random.default_rng(1).integers(3, 40, (2, rows))
    order = batches(lengths, 16, [0, 1], 0)
    assert all(sorted(own) == list(range(rows)) for own in order.tolist())
    alone = list(LengthSampler(lengths[0].tolist(), 16, 0))
    assert {frozenset(order[0, i : i + 16]) for i in range(0, rows, 16)} == {
        frozenset(alone[i : i + 16]) for i in range(0, rows, 16)
    }
