"""What each word did to an answer: Shapley values of the served engine, computed in a process beside the worker.

Captum asks for the model's answers to texts with some of their words masked, and this module gives those of the very
engine that serves. Source: Castro, Gómez and Tejada, "Polynomial calculation of the Shapley value based on sampling"
(2009), as `captum.attr.ShapleyValueSampling` implements it.
"""

from __future__ import annotations

import importlib
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.child import live_with_parent
from undertone import model_folder
from undertone.engine import BATCH, Engine

#: Orders in which the words are put back, at most: the error of a value falls with their root.
SAMPLES = 25

#: Words that are told apart; of a longer text neighbours count as one.
WORDS = 40

#: Tokens that stand for a masked word, the first that the tokenizer has.
MASKS = ("[MASK]", "<mask>", "[UNK]", "<unk>")


@dataclass(frozen=True, slots=True)
class Question:
    """One answer that is to be explained.

    Attributes:
        folder: the model's, as it serves.
        label: place of the label in the model's labels.
    """

    folder: Path
    text: str
    label: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word, or several of a long text, by its place in the text.

    Attributes:
        attribution: what it adds to the label's probability.
        error: standard error of that, over the sampled orders; None where there was one order.
    """

    start: int
    end: int
    attribution: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The words' attributions sum to ``probability - base``.

    Attributes:
        probability: of the label, for the text as it is.
        base: of the label, with every word masked.
        samples: orders that were sampled.
    """

    probability: float
    base: float
    samples: int
    words: tuple[Word, ...]


class OutOfTime(Exception):
    """Not even one order of every text fitted into the time.

    Args:
        explained: answers that were.
    """

    def __init__(self, explained: int) -> None:
        super().__init__(explained)
        self.explained = explained


def begin() -> None:
    """First thing in the process: give way to the worker, leave Ctrl-C to it, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    live_with_parent()


def warm() -> None:
    """Import what takes seconds.

    Raises:
        ImportError: captum, or the torch that it needs, is not installed.
    """
    _captum()


def explain(questions: Sequence[Question], seconds: float) -> list[Explanation]:
    """Explain each answer: as many orders as its share of the time allows, at least one.

    Raises:
        OutOfTime: there is no time for one order of each.
    """
    ends = time.monotonic() + seconds
    made: list[Explanation] = []
    try:
        for place, question in enumerate(questions):
            share = max(0.0, ends - time.monotonic()) / (len(questions) - place)
            made.append(explain_one(question, share, until=ends))
    except TimeoutError as error:
        raise OutOfTime(len(made)) from error
    return made


def explain_one(question: Question, seconds: float, samples: int = SAMPLES, until: float = math.inf) -> Explanation:
    """Explain one answer, with at most `samples` orders and, after the first, no more than fit into `seconds`.

    The first order is always the same, and so is the second: the same number of samples gives the same values.

    Raises:
        TimeoutError: the first order took longer than to the moment `until`, in `time.monotonic`.
    """
    torch, sampling = _captum()
    masked = _Masked(question, until)
    method = sampling(masked)
    everything = torch.ones((1, masked.words), dtype=torch.float64)
    nothing = torch.zeros_like(everything)
    ends = time.monotonic() + seconds
    orders: list[NDArray[np.float64]] = []
    while masked.words and len(orders) < samples and (not orders or time.monotonic() < ends):
        torch.manual_seed(len(orders))
        try:
            values = method.attribute(everything, baselines=nothing, n_samples=1, perturbations_per_eval=BATCH)
        except TimeoutError:
            if not orders:
                raise
            break
        orders.append(values.numpy()[0])
    whole, base = (float(value) for value in masked(torch.cat([everything, nothing])))
    table = np.array(orders or [np.zeros(masked.words)])
    n = len(table)
    errors = table.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else None
    words = tuple(
        Word(start, end, float(table[:, word].mean()), None if errors is None else float(errors[word]))
        for word, (start, end) in enumerate(masked.spans)
    )
    return Explanation(whole, base, len(orders), words)


class _Masked:
    """The label's probability, as a function of which words are there: what Captum calls a forward function."""

    def __init__(self, question: Question, until: float) -> None:
        self._until = until
        self._engine, tokenizer, self._mask = _loaded(question.folder)
        self._label = question.label
        encoding = tokenizer.encode(question.text)
        self._ids = np.array(encoding.ids, dtype=np.int64)
        groups = _grouped(encoding.word_ids, encoding.offsets)
        #: First and last character of each word.
        self.spans = [
            (min(encoding.offsets[at][0] for at in group), max(encoding.offsets[at][1] for at in group))
            for group in groups
        ]
        self._places = [np.array(group) for group in groups]
        self._known: dict[bytes, float] = {}

    @property
    def words(self) -> int:
        """How many there are."""
        return len(self.spans)

    def __call__(self, present: Any) -> Any:
        """Probabilities [n] of the label where ``present`` [n, words] is 1 for words that are there."""
        rows = present.numpy() > 0.5
        keys = [row.tobytes() for row in rows]
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
        for start in range(0, len(new), BATCH):
            if time.monotonic() > self._until:
                raise TimeoutError
            batch = list(new.items())[start : start + BATCH]
            logits, _ = self._engine.run([self._masked(row) for _, row in batch])
            found = self._engine.probabilities(logits)[:, self._label]
            self._known.update(zip([key for key, _ in batch], found.tolist(), strict=True))
        return present.new_tensor([self._known[key] for key in keys])

    def _masked(self, row: NDArray[np.bool_]) -> list[int]:
        ids = self._ids.copy()
        for places, there in zip(self._places, row, strict=True):
            if not there:
                ids[places] = self._mask
        masked: list[int] = ids.tolist()
        return masked


def _grouped(word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Places of each word's tokens; special tokens belong to no word, and words read for the same characters are one.

    Such are the name of an emoji and a masked mention.
    """
    each: list[list[int]] = []
    for place, word in enumerate(word_ids):
        if word is None:
            continue
        if each and (word == word_ids[place - 1] or offsets[place] == offsets[place - 1]):
            each[-1].append(place)
        else:
            each.append([place])
    if len(each) <= WORDS:
        return each
    cuts = np.linspace(0, len(each), WORDS + 1).round().astype(int)
    return [[place for word in each[first:last] for place in word] for first, last in pairwise(cuts)]


@lru_cache(maxsize=4)
def _loaded(folder: Path) -> tuple[Engine, Any, int]:
    """A model as the worker loads it, its tokenizer with the places of the words, and the token that masks."""
    from tokenizers import Tokenizer

    engine = Engine(folder)
    tokenizer = Tokenizer.from_file(str(folder / model_folder.TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(engine.card.max_tokens)
    found = [tokenizer.token_to_id(name) for name in MASKS]
    return engine, tokenizer, next((number for number in found if number is not None), 0)


@lru_cache(maxsize=1)
def _captum() -> tuple[Any, Any]:
    # by name: serving holds no torch, and only this process may
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    return torch, importlib.import_module("captum.attr").ShapleyValueSampling
