"""Does the model behave? Four checks with known answers, as numbers for the gate.

After CheckList (Ribeiro et al., 2020, https://aclanthology.org/2020.acl-main.442): three invariance tests (a name, a
neutral emoji or a slip of the finger may not change the label) and one directional test (a ``not`` in a
sentence of praise makes praise less likely).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES, EMOJI, TYPOS, NEGATION = "names swapped", "emoji added", "one typo", "negation"

#: Checks that every task is asked; negation needs a label of praise.
INVARIANCES = (NAMES, EMOJI, TYPOS)

#: Messages of the holdout that are changed.
CASES = 200

#: Failures kept with each check.
EXAMPLES = 5

#: First names in pairs; a swap goes across languages and genders.
_NAMES = (
    *(("Emily", "Lakisha"), ("Greg", "Mohammed"), ("Anna", "Jamal"), ("Mehmet", "Laura"), ("Sarah", "Wei")),
    *(("Priya", "John"), ("Olga", "Carlos"), ("Ahmed", "Sophie"), ("Maria", "Kenji"), ("David", "Fatima")),
)
_OTHER = {name: other for pair in _NAMES for name, other in (pair, pair[::-1])}
_NAME = re.compile(rf"\b({'|'.join(_OTHER)})\b")
_NEUTRAL_EMOJI = ("📦", "🕐", "📱", "💬", "🧾", "🏬")
_LONG_WORD = re.compile(r"(?<!\S)[a-zA-Z]{5,}(?=[.,!?;:]*(?:\s|$))")

#: Sentences of praise with and without the ``not``; in plain words, which a small vocabulary has.
_PRAISE = (
    ("I am happy with the {}", "I am not happy with the {}"),
    ("the {} is good", "the {} is not good"),
    ("I am glad about the {}", "I am not glad about the {}"),
    ("the {} was great", "the {} was not great"),
    ("this {} is perfect", "this {} is not perfect"),
)
_THINGS = ("parcel", "refund", "order", "delivery", "support", "app", "price", "answer")


@dataclass(frozen=True)
class Check:
    """One behavioural check.

    Attributes:
        name: what was changed.
        cases: changed messages.
        held: those on which the model did as it should.
        examples: a few failures: the message, its change, and the answers to both.
    """

    name: str
    cases: int
    held: int
    examples: tuple[dict[str, str], ...] = ()

    @property
    def share(self) -> float:
        """Share of the cases that held, a fraction of 1; NaN without a case."""
        return self.held / self.cases if self.cases else float("nan")


def check_behaviour(
    score: Callable[[Sequence[str]], NDArray[Any]],
    texts: Sequence[str],
    labels: Sequence[str],
    praise_label: str | None = None,
    *,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Run the checks; the same arguments give the same answer.

    Args:
        score: texts to probabilities [n, labels], such as ``lambda texts: engine.score(texts).probabilities``.
        texts: messages the model was not trained on; `CASES` of them are changed.
        labels: label words in the order of the probabilities.
        praise_label: the label that a ``not`` must make less likely; None: negation is not checked.
        seed: of the choice of messages and changes.
    """
    chooser = random.Random(seed)
    chosen = chooser.sample(sorted(texts), min(CASES, len(texts)))
    pairs = {
        NAMES: [_swap_name(text, chooser) for text in chosen],
        EMOJI: [(text, f"{text} {chooser.choice(_NEUTRAL_EMOJI)}") for text in chosen],
        TYPOS: [pair for text in chosen if (pair := _mistype(text, chooser))],
    }
    checks = [_unchanged(name, cases, score, labels) for name, cases in pairs.items()]
    if praise_label is not None:
        checks.append(_negated(score, labels, praise_label))
    return tuple(checks)


def _unchanged(
    name: str, pairs: Sequence[tuple[str, str]], score: Callable[..., NDArray[Any]], labels: Sequence[str]
) -> Check:
    answers = _answers(score, pairs, len(labels)).argmax(axis=2)
    failed = np.flatnonzero(answers[:, 0] != answers[:, 1]).tolist()
    examples = [_example(pairs[row], *(labels[answer] for answer in answers[row])) for row in failed[:EXAMPLES]]
    return Check(name, len(pairs), len(pairs) - len(failed), tuple(examples))


def _negated(score: Callable[..., NDArray[Any]], labels: Sequence[str], praise_label: str) -> Check:
    pairs = [(plain.format(thing), negated.format(thing)) for plain, negated in _PRAISE for thing in _THINGS]
    praise = _answers(score, pairs, len(labels))[:, :, list(labels).index(praise_label)]
    failed = np.flatnonzero(~(praise[:, 1] < praise[:, 0])).tolist()
    examples = [
        _example(pairs[row], *(f"{praise_label} {value:.2f}" for value in praise[row])) for row in failed[:EXAMPLES]
    ]
    return Check(NEGATION, len(pairs), len(pairs) - len(failed), tuple(examples))


def _answers(
    score: Callable[..., NDArray[Any]], pairs: Sequence[tuple[str, str]], labels: int
) -> NDArray[np.floating[Any]]:
    """Probabilities [pairs, 2, labels]; a text that stands in several pairs is scored once."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    place = {text: number for number, text in enumerate(texts)}
    rows = np.array([[place[text] for text in pair] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    probabilities: NDArray[Any] = np.asarray(score(texts)).reshape(-1, labels)[rows]
    return probabilities


def _swap_name(text: str, chooser: random.Random) -> tuple[str, str]:
    """The text with another name in it; one without a name we know is signed with the one and with the other."""
    if _NAME.search(text):
        return text, _NAME.sub(lambda found: _OTHER[found[1]], text)
    pair = chooser.choice(_NAMES)
    return f"{text} - {pair[0]}", f"{text} - {pair[1]}"


def _mistype(text: str, chooser: random.Random) -> tuple[str, str] | None:
    """The text with two neighbouring letters of one longer word swapped; None where no word is long enough.

    Links, mentions and hashtags stay as they are, and so do a word's first and last letter.
    """
    places = [
        at
        for word in _LONG_WORD.finditer(text)
        for at in range(word.start() + 1, word.end() - 2)
        if text[at] != text[at + 1]
    ]
    if not places:
        return None
    at = chooser.choice(places)
    return text, f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}"


def _example(pair: tuple[str, str], answer: str, changed_answer: str) -> dict[str, str]:
    return {"text": pair[0], "changed": pair[1], "answer": answer, "changed_answer": changed_answer}
