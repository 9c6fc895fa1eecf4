"""What masking costs, what it finds, and what it leaves alone.

    python -m benchmarks.masking TEXTS.csv [--text-column text] [--model FOLDER]

TEXTS.csv are messages as customers write them, without personal data for the most part. A second set is the same texts
with an address, a phone number or a card put into each. Every figure is the median of five runs with its range, on one
core. With `--model` (a model folder) scoring the same texts is timed too, and answers with and without masking are
compared. Recall and false alarms are counted on the hand-written cases of tests/unit/undertone/test_masking.py and on
numbers of every kind made here.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from undertone.masking import KINDS, Masker

RUNS = 5
SEED = 7
#: Texts that the model scores.
SCORED = 256


def timed(act: Callable[[], object]) -> dict[str, float]:
    """Seconds of the median run, the fastest and the slowest."""
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return {"median": statistics.median(taken), "least": min(taken), "most": max(taken)}


def rates(texts: Sequence[str], masker: Masker) -> dict[str, float]:
    """Texts a second, and microseconds a text."""
    spent = timed(lambda: [masker.read(text, 20_000) for text in texts])
    return {
        "texts_s": len(texts) / spent["median"],
        "texts_s_least": len(texts) / spent["most"],
        "texts_s_most": len(texts) / spent["least"],
        "us_a_text": 1e6 * spent["median"] / len(texts),
    }


def with_data(texts: Sequence[str], draw: random.Random) -> list[str]:
    """Each text with an address, a phone number or a card at a random place."""
    return [_put(text, draw.choice([address, phone, card])(draw), draw) for text in texts]


def address(draw: random.Random) -> str:
    """Such as ann.lee7@example.org."""
    name = draw.choice(["ann.lee", "bo", "j_smith", "maria-k", "x+tag"])
    return f"{name}{draw.randrange(100)}@{draw.choice(['example.org', 'mail.example.co.uk', 'müller.example.de'])}"


def phone(draw: random.Random) -> str:
    """A valid number of the United States, in one of the ways that people write them."""
    number = f"{draw.choice(['212', '415', '650', '312'])}{draw.randrange(200, 1000)}{draw.randrange(10_000):04}"
    area, middle, last = number[:3], number[3:6], number[6:]
    return draw.choice(
        [number, f"{area}-{middle}-{last}", f"({area}) {middle}-{last}", f"+1 {area} {middle} {last}",
         f"1-{area}-{middle}-{last}", f"{area}.{middle}.{last}"]
    )  # fmt: skip


def card(draw: random.Random) -> str:
    """A card number that passes the check, with or without blanks or dashes."""
    stem = draw.choice(["4", "51", "2221", "6011"])
    stem += "".join(draw.choices("0123456789", k=15 - len(stem)))
    number = next(stem + str(last) for last in range(10) if _luhn(stem + str(last)))
    mark = draw.choice(["", " ", "-"])
    return mark.join(number[at : at + 4] for at in range(0, 16, 4))


#: What must stay, made in the ways that shops and airlines write it.
OTHERS: dict[str, Callable[[random.Random], str]] = {
    "order number, named": lambda draw: f"order {draw.randrange(10**9, 10**10)}",
    "order number, bare": lambda draw: str(draw.randrange(10**9, 10**10)),
    "order number of 12 digits": lambda draw: str(draw.randrange(10**11, 10**12)),
    "shop's order 3-7-7": lambda draw: "-".join(f"{draw.randrange(10**n):0{n}}" for n in (3, 7, 7)),
    "16 digits, not a card": lambda draw: str(draw.randrange(10**15, 10**16)),
    "tracking number of 22 digits": lambda draw: f"94{draw.randrange(10**20):020}",
    "date and time": lambda draw: (
        f"{draw.randrange(1, 13)}/{draw.randrange(1, 29)}/2026 {draw.randrange(24):02}:{draw.randrange(60):02}"
    ),
    "ISO date and time": lambda draw: f"2026-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T08:15:00Z",
    "price": lambda draw: f"${draw.randrange(10**7):,}.{draw.randrange(100):02}",
    "flight and seat": lambda draw: f"AA{draw.randrange(10_000)} seat {draw.randrange(1, 60)}C",
    "six-character record": lambda draw: "".join(draw.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=6)),
}


def found(make: Callable[[random.Random], str], masker: Masker, texts: Sequence[str], draw: random.Random) -> float:
    """In which share of texts something that is put in is masked."""
    hits = 0
    for text in texts:
        sent = _put(stripped(text), make(draw), draw)
        hits += masker.mask(sent) != sent
    return hits / len(texts)


def compare(folder: Path, texts: Sequence[str], masker: Masker) -> dict[str, Any]:
    """Time to score `texts`, and how masking moves answers: on texts that it changed, and on those that it did not."""
    from undertone.engine import Engine

    engine = Engine(folder, 1)
    some = list(texts[:SCORED])
    spent = timed(lambda: engine.score(some))
    masked = [masker.mask(text) for text in texts]
    changed = [(text, other) for text, other in zip(texts, masked, strict=True) if text != other]
    kept = [(text, other) for text, other in zip(texts, masked, strict=True) if text == other][:SCORED]
    answer: dict[str, Any] = {"us_a_text": 1e6 * spent["median"] / len(some), "engine": engine.name}
    for name, pairs in (("unchanged", kept), ("changed", changed[:SCORED])):
        if pairs:
            first, second = (engine.score(list(side)).probabilities for side in zip(*pairs, strict=True))
            answer[name] = {
                "texts": len(pairs),
                "other_label": float((first.argmax(1) != second.argmax(1)).mean()),
                "greatest_difference": float(abs(first - second).max()),
            }
    return answer


def stripped(text: str) -> str:
    """`text` without digits and at signs: nothing in it can be masked."""
    return "".join(" " if letter.isdigit() or letter in "@\uff20" else letter for letter in text)


def _put(text: str, word: str, draw: random.Random) -> str:
    words = text.split()
    at = draw.randrange(len(words) + 1)
    return " ".join([*words[:at], word, *words[at:]])


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(digits[::-1])]
    return sum(sum(map(int, str(value))) for value in doubled) % 10 == 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--region", default="US")
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    draw = random.Random(SEED)
    rows = pd.read_csv(given.texts)[given.text_column].dropna().astype(str)
    texts = rows.sample(min(given.rows, len(rows)), random_state=SEED).tolist()
    masker = Masker(KINDS, given.region)
    masker.mask("warm +1 650 253 0000")
    full = with_data(texts, draw)
    masked = [masker.mask(text) for text in texts]
    hits = [(text, other) for text, other in zip(texts, masked, strict=True) if text != other]
    plain = [stripped(text) for text in texts]
    few = texts[:500]
    result: dict[str, Any] = {
        "texts": len(texts),
        "off": rates(texts, Masker()),
        "as they are": rates(texts, masker),
        "without a digit or an at sign": rates(plain, masker),
        "with personal data in each": rates(full, masker),
        "masked as they are": {"texts": len(hits), "examples": [other for _, other in hits[:10]]},
        "recall": {
            name: sum(_found(make(draw), masker) for _ in range(500)) / 500
            for name, make in (("address", address), ("phone", phone), ("card", card))
        },
        "recall in texts": {
            name: found(make, masker, few, draw)
            for name, make in (("address", address), ("phone", phone), ("card", card))
        },
        "false alarms": {name: found(make, masker, few, draw) for name, make in OTHERS.items()},
    }
    if given.model:
        result["scoring"] = compare(given.model, [*texts, *full[:SCORED]], masker)
        share = result["as they are"]["us_a_text"] / result["scoring"]["us_a_text"]
        result["share of scoring's time"] = share
        result["share where each has personal data"] = (
            result["with personal data in each"]["us_a_text"] / result["scoring"]["us_a_text"]
        )
    print(json.dumps(result, indent=1, ensure_ascii=False))


def _found(word: str, masker: Masker) -> bool:
    """Whether nothing of it stays."""
    return masker.mask(f"please write to {word} today").startswith("please write to [")


if __name__ == "__main__":
    main()
