"""Which hyperparameters are worth a training with `benchmarks.recipes`: many trainings at once on a GPU.

    python -m benchmarks.recipe_search emotion --source ../shared/data/emotion --vary r_drop=0,1,3 \\
        [--vary dropout=0,0.1] [--folds 5] [--seeds 0 1] [--effort standard] [--set NAME=VALUE] [--base-model FOLDER]

Reads and splits the source as a training does, and trains the effort as it is and once for each value to vary (one
change at a time): each on every fold of the rows to learn and choose from, with every seed. To `Effort` it adds
`label_smoothing` and `focal`. Prints macro-F1 on the folds held out, which is what to choose by, and what the models
have on the holdout, which no choice should see. A row that (nearly) repeats one of the held-out fold is not learned
from: a tenth of emotion's rows have such a twin.

Other than `training.finetune`: models of a stack (`benchmarks.stacked`) share their order of batches by length; word
embeddings are always frozen; rows all weigh alike; no epoch is chosen and nothing is resumed. The product's own
figures come from `benchmarks.recipes`. Without a GPU it works and is slow: try it with `--limit-rows`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from training import base_model
from training.data import Splits, load, split
from training.effort import Effort, get_effort, parse_overrides
from training.evaluate import class_indices, class_scores, confusion_matrix
from training.leaks import near_duplicates
from training.repairs import text_key
from training.silence import hush
from training.subsample import subsample
from undertone.errors import ConfigError
from undertone.tasks import TaskSpec, get_task


class Recipe(Effort):
    """An effort and what might come into it."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target that all labels have alike")
    focal: float = Field(0.0, ge=0, description="exponent of the focal loss; 0: none")

    def having(self, overrides: Mapping[str, Any]) -> Recipe:
        """As an effort's own, which gives what it is called on."""
        return Recipe.model_validate(super().having(overrides).model_dump())


#: What may differ between the models of a stack. Whatever else differs goes into a stack of its own.
OWN = {"name", "learning_rate", "weight_decay", "head_factor", "balance", "layer_decay", "r_drop"}
OWN |= {"label_smoothing", "focal"}


@dataclass(frozen=True)
class Run:
    """One model: what it learns from and what it is asked; row numbers of `Texts`."""

    recipe: Recipe
    seed: int
    learned: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Class indices that a model gives: of its held-out rows and of the holdout; the soup's that it is part of."""

    held: NDArray[np.int64]
    holdout: NDArray[np.int64]
    soup_held: NDArray[np.int64] | None = None
    soup_holdout: NDArray[np.int64] | None = None


def main() -> None:
    """Train every recipe on every fold with every seed, and print the table."""
    asked = arguments()
    spec = get_task(asked.task)
    base = Recipe.model_validate(get_effort(asked.effort).model_dump()).having(parse_overrides(asked.overrides))
    recipes = list(varied(base, asked.vary))
    splits = split(load(asked.source, spec), spec, asked.split_seed)
    parts = [subsample(part, spec, asked.limit_rows, asked.split_seed) for _, part in splits.parts()]
    folder = asked.base_model or base_model.resolve(spec.base_model).path
    texts = Texts(parts, spec, folder)
    shares = folds(parts, asked.folds)
    runs = [Run(recipe, seed, *share) for recipe in recipes for share in shares for seed in asked.seeds]
    for recipe in recipes:
        refuse_what_is_not_done(recipe, len(shares[0][0]))
    answers: dict[int, Answers] = {}
    for numbers in stacks(runs, asked.models, len(asked.seeds)):
        began = time.perf_counter()
        members = [runs[number] for number in numbers]
        answers |= zip(numbers, train(members, texts, len(asked.seeds) if asked.soup else 0), strict=True)
        print(f"{len(answers)} of {len(runs)} models, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(asked, splits, texts, runs, [answers[number] for number in range(len(runs))]))


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--source", required=True)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUE,…")
    parser.add_argument(
        "--folds", type=int, default=5, help="0: learn as a training does, hold out the validation rows"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--split-seed", type=int, default=7)
    parser.add_argument("--base-model", type=Path, help="folder, such as an adapted one; the task's own unless given")
    parser.add_argument("--limit-rows", type=int, help="of each split; all unless given")
    parser.add_argument("--models", type=int, default=48, help="trained at once; half as many with R-Drop")
    parser.add_argument(
        "--soup", action="store_true", help="also the mean of the seeds' weights; all seeds then begin with one head"
    )
    asked = parser.parse_args()
    if asked.folds in (0, *range(2, 101)):
        return asked
    return parser.error("--folds: 0, or from 2 to 100")


def varied(base: Recipe, changes: list[str]) -> Iterator[Recipe]:
    """The recipe as it is, then with each value in its place; its name says what changed."""
    yield base.model_copy(update={"name": "as it is"})
    for change in changes:
        name, _, values = change.partition("=")
        for value in values.split(","):
            recipe = base.having(parse_overrides([f"{name}={value}"]))
            if recipe != base:
                yield recipe.model_copy(update={"name": f"{name.strip()}={value.strip()}"})


def refuse_what_is_not_done(recipe: Recipe, rows: int) -> None:
    """Raise where `recipe` asks for what a stack does not do, or for what it would leave out on so many rows.

    Raises:
        ConfigError: so it is.
    """
    wanted = {"frozen_embeddings": True, "frozen_layers": 0, "patience": None, "max_train_rows": None}
    other = [f"{name}={getattr(recipe, name)}" for name, value in wanted.items() if getattr(recipe, name) != value]
    if other:
        fix = " ".join(f"--set {name}={str(wanted[name]).lower()}" for name in (part.split("=")[0] for part in other))
        raise ConfigError("what a stack of models can do", ", ".join(other), f"add {fix}")
    if recipe.r_drop and recipe.name.startswith("r_drop=") and not recipe.r_drop_of(rows):
        raise ConfigError(
            f"R-Drop on small data, which takes more than epochs={recipe.epochs} passes",
            f"{rows} rows, which take {recipe.passes(rows)}",
            "leave r_drop out, or raise min_steps",
        )


class Texts:
    """All rows as token ids on the device: those to learn and choose from, then the holdout's.

    Args:
        parts: rows of train, validation and holdout.
        spec: labels and text limit.
        folder: the base model.
    """

    def __init__(self, parts: list[pd.DataFrame], spec: TaskSpec, folder: Path) -> None:
        import torch

        from training.finetune import _encode, load_tokenizer

        with hush():
            examples = _encode(pd.concat(parts), load_tokenizer(folder, spec.max_tokens), spec)
        self.spec, self.folder = spec, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.labels = class_indices(pd.concat(parts)["label"], spec)
        self.holdout = np.arange(len(examples))[len(examples) - len(parts[-1]) :]
        self.lengths = np.array([len(row["input_ids"]) for row in examples])
        ids = torch.zeros(len(examples), int(self.lengths.max()), dtype=torch.long)
        for number, row in enumerate(examples):
            ids[number, : self.lengths[number]] = torch.tensor(row["input_ids"])
        self.ids = ids.to(self.device)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Any, Any]:
        """Token ids and mask [models, rows, tokens] of `rows` [models, rows]."""
        import torch

        lengths = torch.from_numpy(self.lengths[rows])
        longest = int(lengths.max())
        mask = torch.arange(longest) < lengths[..., None]
        return self.ids[torch.from_numpy(rows).to(self.device), :longest], mask.to(self.device)

    def answers(self, stack: Any, rows: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """The likeliest class of each model's own `rows`."""
        import torch

        longest = max(map(len, rows))
        padded = np.stack([np.resize(own, longest) for own in rows])
        found = np.zeros_like(padded)
        order = np.argsort(self.lengths[padded].max(0), kind="stable")
        with torch.no_grad():
            for places in np.array_split(order, -(-longest // 64)):
                found[:, places] = stack(*self.batch(padded[:, places])).argmax(-1).cpu().numpy()
        return [given[: len(own)] for given, own in zip(found, rows, strict=True)]


def folds(parts: list[pd.DataFrame], count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows learned from and rows held out, of train and validation together.

    Twins of held-out rows are not learned from. All folds learn from as many rows: the models of a stack take the same
    steps.
    """
    train, rows = len(parts[0]), len(parts[0]) + len(parts[1])
    if not count:
        return [(np.arange(train), np.arange(train, rows))]
    keys = [text_key(text) for text in pd.concat(parts[:2])["text"]]
    order, made = np.random.default_rng(5).permutation(rows), []
    for fold in range(count):
        held = np.sort(order[fold::count])
        others = order[np.arange(rows) % count != fold]
        twins = near_duplicates([keys[row] for row in others], [keys[row] for row in held])
        made.append((others[~twins], held))
    least = min(len(learned) for learned, _ in made)
    return [(learned[:least], held) for learned, held in made]


def stacks(runs: list[Run], most: int, seeds: int) -> Iterator[list[int]]:
    """Numbers of `runs` that train together, a fold's seeds always in one stack."""
    alike: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        twice = run.recipe.r_drop_of(len(run.learned)) > 0
        shared = {name: value for name, value in run.recipe.model_dump().items() if name not in OWN}
        alike.setdefault(json.dumps([twice, shared]), []).append(number)
    for numbers in alike.values():
        first = runs[numbers[0]]
        at_once = most // 2 if first.recipe.r_drop_of(len(first.learned)) else most
        size = max(1, at_once // seeds) * seeds
        yield from (numbers[start : start + size] for start in range(0, len(numbers), size))


def train(runs: list[Run], texts: Texts, soup: int) -> list[Answers]:
    """Train `runs` side by side and ask each; with `soup`, also the means of so many neighbours' weights."""
    import torch
    from transformers import set_seed

    from benchmarks.stacked import Stack, StackedAdamW, batches, losses
    from training.finetune import _load_model
    from training.loop import label_weights

    recipe, device = runs[0].recipe, texts.device
    starts: dict[int, Any] = {}
    heads = [runs[0].seed if soup else run.seed for run in runs]
    for seed in heads:
        if seed not in starts:
            set_seed(seed)
            with hush():
                starts[seed] = _load_model(texts.folder, texts.spec, recipe)
    stack = Stack([starts[seed] for seed in heads], device)
    learned = np.stack([run.learned for run in runs])
    rows = learned.shape[1]
    steps = -(-rows // recipe.batch_size) * recipe.passes(rows)
    optimizer = StackedAdamW(stack, starts[heads[0]], [run.recipe for run in runs], steps)

    def each(name: str) -> Any:
        return torch.tensor([getattr(run.recipe, name) for run in runs], device=device)

    twice = recipe.r_drop_of(rows) > 0
    focal = each("focal") if any(run.recipe.focal for run in runs) else None
    truth = torch.from_numpy(texts.labels[learned])
    balance = torch.stack(
        [label_weights(own, len(texts.spec.labels), run.recipe.balance) for own, run in zip(truth, runs, strict=True)]
    )
    settings = (balance.to(device), each("label_smoothing"), focal, each("r_drop") if twice else None)
    set_seed(runs[0].seed)  # one stream of dropout for the whole stack
    for epoch in range(recipe.passes(rows)):
        places = batches(texts.lengths[learned], recipe.batch_size, [run.seed for run in runs], epoch)
        order = np.take_along_axis(learned, places, axis=1)
        for first in range(0, rows, recipe.batch_size):
            batch = order[:, first : first + recipe.batch_size]
            ids, mask = texts.batch(batch)
            if twice:
                ids, mask = torch.cat([ids, ids], 1), torch.cat([mask, mask], 1)
            labels = torch.from_numpy(texts.labels[batch]).to(device)
            losses(stack(ids, mask, training=True), labels, *settings).sum().backward()
            optimizer.step()
    held, holdout = [run.held for run in runs], [texts.holdout for _ in runs]
    stack.flat = optimizer.average
    made: list[list[Any]] = [texts.answers(stack, held), texts.answers(stack, holdout)]
    if soup:
        groups = optimizer.average.view(-1, soup, optimizer.average.shape[1])
        stack.flat = groups.mean(1).repeat_interleave(soup, 0)
        made += [texts.answers(stack, held), texts.answers(stack, holdout)]
    return [Answers(*given) for given in zip(*made, strict=True)]


def table(asked: argparse.Namespace, splits: Splits, texts: Texts, runs: list[Run], answers: list[Answers]) -> str:
    """The report, in Markdown."""
    import torch

    spec = texts.spec
    held = "out of fold" if asked.folds else "validation"
    columns = [f"macro-F1 {held}", "holdout macro-F1", "macro-recall", *(f"F1 {label}" for label in spec.labels)]
    columns += [f"soup {held}", "soup holdout"] if asked.soup else []
    lines = []
    for name in dict.fromkeys(run.recipe.name for run in runs):
        mine = [(run, given) for run, given in zip(runs, answers, strict=True) if run.recipe.name == name]
        seeds = [[pair for pair in mine if pair[0].seed == seed] for seed in asked.seeds]
        scores = [class_scores(confusion(texts, texts.holdout, given.holdout)) for _, given in mine]
        cells = [
            spread([over_folds(texts, [(run.held, given.held) for run, given in pairs]) for pairs in seeds]),
            spread([float(f1.mean()) for _, _, f1 in scores]),
            spread([float(recall.mean()) for _, recall, _ in scores]),
            *(f"{np.mean([f1[label] for _, _, f1 in scores]):.3f}" for label in range(len(spec.labels))),
        ]
        if asked.soup:  # the same for all seeds
            cells.append(f"{over_folds(texts, [(run.held, given.soup_held) for run, given in seeds[0]]):.4f}")
            cells.append(spread([over_folds(texts, [(texts.holdout, given.soup_holdout)]) for _, given in seeds[0]]))
        lines.append(f"| {name} | {len(mine)} | {' | '.join(cells)} |")
    changed = f" with {', '.join(asked.overrides)}" if asked.overrides else ""
    where = torch.cuda.get_device_name() if texts.device.type == "cuda" else platform.machine()
    return "\n".join(
        [
            f"{spec.name}, {asked.effort}{changed}, {splits.source}, {asked.base_model or spec.base_model}:"
            f" {len(runs[0].learned)} rows learned from, {len(texts.holdout)} in the holdout;"
            f" seeds {', '.join(map(str, asked.seeds))}; {where}, torch {torch.__version__}",
            "",
            f"| recipe | models | {' | '.join(columns)} |",
            "| --- |" + " ---: |" * (len(columns) + 1),
            *lines,
        ]
    )


def over_folds(texts: Texts, folds: list[tuple[Any, Any]]) -> float:
    """Macro-F1 of rows and answers of all folds together."""
    rows, given = (np.concatenate(part) for part in zip(*folds, strict=True))
    return float(class_scores(confusion(texts, rows, given))[2].mean())


def confusion(texts: Texts, rows: NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of true and given class."""
    return confusion_matrix(texts.labels[rows], given, len(texts.spec.labels))


def spread(values: list[float]) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{deviation}"


if __name__ == "__main__":
    main()
