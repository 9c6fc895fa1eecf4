"""The built-in sample: synthetic labelled customer messages of a made-up shop, with a shift after week five.

Nothing here was written by a customer. A small grammar (`training.sample_words`) builds each message from clauses
about good and bad events, and a frame decides what the writer means: sincere and sarcastic praise share their
words, concessions turn on the last clause, and many messages imply their sentiment without a sentiment word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training import sample_words as words

T = TypeVar("T")

COLUMNS = (
    "message_id",
    "sent_at",
    "channel",
    "segment",
    "customer_id",
    "text",
    "sentiment",
    "sarcasm",
    "emotion",
    "product",
    "synthetic",
)
CHANNELS = ("chat", "email", "social", "ticket")
SEGMENTS = ("pay_per_use", "starter", "growth", "enterprise")
SENTIMENTS = ("negative", "neutral", "positive")

#: Weeks before the shift.
STEADY_WEEKS = 5

#: Annotators err: this share of sentiment and emotion labels, and half of it for sarcasm, is wrong on purpose.
LABEL_NOISE = 0.02

#: Share of clauses, where there is a choice, that are drawn from the long tail of rare phrases.
TAIL_SHARE = 0.65

_SEGMENT_SHARES = (0.34, 0.33, 0.22, 0.11)
_WEEKDAY_WEIGHTS = (1.25, 1.15, 1.1, 1.05, 1.0, 0.8, 0.65)
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 7, 11, 13, 13, 12, 11, 11, 12, 12, 12, 12, 13, 14, 14, 12, 8, 4)

#: Symbol of the grammar -> (sentiment, is it sarcastic).
_FRAMES = {
    "negative": ("negative", False),
    "negative_turned": ("negative", False),
    "negative_negated": ("negative", False),
    "sarcasm": ("negative", True),
    "neutral": ("neutral", False),
    "neutral_loaded": ("neutral", False),
    "neutral_late": ("neutral", False),
    "positive": ("positive", False),
    "positive_turned": ("positive", False),
    "positive_negated": ("positive", False),
    "sarcastic_joy": ("positive", True),
}
_EMOTIONS = {"negative": ("anger", "sadness"), "positive": ("joy", "optimism")}
_QUESTION = re.compile(
    r"^(what (?!a )|do (?!tell)|who (?!knew)|how (?!dare)|(is|does|are|can|could|which|when|where|why|suppose) )"
)
_SYMBOL = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou](?!ne\b|ni|se))")
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([a-z])")
_NOT_A_LETTER = re.compile(r"[\W\d_]+")


@dataclass(frozen=True)
class _Period:
    """What customers write about, where, and in which mood: one before the shift, one after."""

    channels: tuple[float, ...]
    new_products: float
    frames: dict[str, float]
    topics: dict[str, float]
    grammar: dict[str, tuple[str, ...]]


_STEADY = _Period(
    channels=(0.27, 0.29, 0.17, 0.27),
    new_products=0.0,
    frames={
        "negative": 0.085,
        "negative_turned": 0.135,
        "negative_negated": 0.025,
        "sarcasm": 0.1,
        "neutral": 0.15,
        "neutral_loaded": 0.17,
        "positive": 0.14,
        "positive_turned": 0.155,
        "positive_negated": 0.03,
        "sarcastic_joy": 0.01,
    },
    topics={"delivery": 0.26, "item": 0.36, "support": 0.19, "billing": 0.13, "site": 0.06},
    grammar=words.GRAMMAR,
)
_SHIFTED = _Period(
    channels=(0.37, 0.16, 0.33, 0.14),
    new_products=0.55,
    frames={
        "negative": 0.125,
        "negative_turned": 0.125,
        "negative_negated": 0.03,
        "sarcasm": 0.15,
        "neutral": 0.06,
        "neutral_loaded": 0.13,
        "neutral_late": 0.1,
        "positive": 0.125,
        "positive_turned": 0.115,
        "positive_negated": 0.025,
        "sarcastic_joy": 0.015,
    },
    topics={
        "delivery": 0.08,
        "item": 0.12,
        "support": 0.1,
        "billing": 0.05,
        "site": 0.03,
        "login": 0.17,
        "subscription": 0.15,
        "wearable": 0.1,
        "slang": 0.2,
    },
    grammar={**words.GRAMMAR, **words.LATE},
)


def generate_sample(
    rows: int = 12_000,
    *,
    weeks: int = 8,
    seed: int = 7,
    start: datetime = datetime(2026, 9, 7, tzinfo=UTC),
) -> pd.DataFrame:
    """Synthetic labelled customer messages, sorted by time; the same arguments give the same rows.

    Weeks one to five are stationary. From week six there are new products and topics (app log-ins, subscriptions),
    new slang, more social and chat, more sarcasm and more complaints. ``sentiment`` is what the writer means, so
    sarcastic praise is negative. About 2 % of sentiment and emotion labels and 1 % of sarcasm labels are wrong on
    purpose, as an annotator's would be. No two texts are equal once case, digits and punctuation are gone.

    Args:
        rows: number of messages.
        weeks: weeks covered from `start`.
        seed: seed of every draw.
        start: first moment, with a time zone.

    Returns:
        Columns message_id, sent_at (UTC), channel, segment, customer_id, text, sentiment, sarcasm, emotion (None
        where a message shows no clear one), product and synthetic (always True).

    Raises:
        ValueError: `rows` or `weeks` is below one, or `start` has no time zone.
    """
    if rows < 1 or weeks < 1:
        raise ValueError(f"expected at least one row and one week; found rows={rows}, weeks={weeks}")
    if start.tzinfo is None:
        raise ValueError(f"expected a start with a time zone; found {start!r}: pass tzinfo=UTC")
    rng = np.random.default_rng(seed)
    offsets = _draw_times(rng, rows, weeks, start.weekday())
    customers = rng.integers(0, max(1, rows // 4), rows)
    segments = rng.choice(SEGMENTS, size=max(1, rows // 4), p=_SEGMENT_SHARES)
    writer = _Writer(rng)
    messages = [writer.write(_STEADY if day < 7 * STEADY_WEEKS else _SHIFTED) for day in offsets // 86_400]
    table = pd.DataFrame(
        {
            "message_id": [f"sample-{seed}-{number:06d}" for number in range(rows)],
            "sent_at": pd.Timestamp(start).tz_convert("UTC") + pd.to_timedelta(offsets, unit="s"),
            "channel": [message.channel for message in messages],
            "segment": segments[customers],
            "customer_id": [f"customer-{number:05d}" for number in customers],
            "text": [message.text for message in messages],
            "sentiment": [message.sentiment for message in messages],
            "sarcasm": [message.sarcasm for message in messages],
            "emotion": pd.Series([message.emotion for message in messages], dtype=object),
            "product": [message.product for message in messages],
            "synthetic": True,
        }
    )
    return table[list(COLUMNS)]


def _draw_times(rng: np.random.Generator, rows: int, weeks: int, first_weekday: int) -> NDArray[np.int64]:
    """Sorted seconds since the start: quieter at night and at weekends."""
    weekdays = (np.arange(7 * weeks) + first_weekday) % 7
    by_day = np.asarray(_WEEKDAY_WEIGHTS)[weekdays]
    by_hour = np.asarray(_HOUR_WEIGHTS, dtype=float)
    days = rng.choice(7 * weeks, size=rows, p=by_day / by_day.sum())
    hours = rng.choice(24, size=rows, p=by_hour / by_hour.sum())
    return np.sort(days * 86_400 + hours * 3_600 + rng.integers(0, 3_600, rows)).astype(np.int64)


@dataclass(frozen=True)
class _Message:
    channel: str
    text: str
    sentiment: str
    sarcasm: str
    emotion: str | None
    product: str


class _Writer:
    """Writes one synthetic message after another and never the same one twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._written: set[str] = set()

    def write(self, period: _Period) -> _Message:
        """A message nobody has written before, with its labels."""
        while True:
            message = self._draft(period)
            key = _NOT_A_LETTER.sub(" ", message.text.lower()).strip()
            if key not in self._written:
                self._written.add(key)
                return message

    def _draft(self, period: _Period) -> _Message:
        channel = self._weighted(dict(zip(CHANNELS, period.channels, strict=True)))
        frame = self._weighted(period.frames)
        sentiment, sarcastic = _FRAMES[frame]
        scene = self._scene(period)
        body = _ARTICLE.sub(r"\1n ", self._expand(frame, period, scene))
        emotion = self._emotion(sentiment, sarcastic)
        if emotion and not sarcastic:
            body = self._join(body, self._expand(emotion, period, scene))
        return _Message(
            channel=channel,
            text=self._style(body, channel, sentiment, sarcastic, scene),
            sentiment=self._mislabel(sentiment, SENTIMENTS),
            sarcasm="sarcastic" if sarcastic != self._chance(LABEL_NOISE / 2) else "not_sarcastic",
            emotion=self._mislabel(emotion, ("anger", "joy", "optimism", "sadness")) if emotion else None,
            product=scene["product"],
        )

    def _scene(self, period: _Period) -> dict[str, str]:
        """A product and two of its parts: one that pleases and another that fails."""
        catalogue = words.LATE_PRODUCTS if self._chance(period.new_products) else words.PRODUCTS
        product = self._pick(tuple(catalogue))
        part = self._pick(catalogue[product])
        failing = self._pick(tuple(other for other in catalogue[product] if other != part))
        return {"product": product, "part": part, "failing_part": failing}

    def _emotion(self, sentiment: str, sarcastic: bool) -> str | None:
        if sentiment == "neutral":
            return None
        if sarcastic:
            return _EMOTIONS[sentiment][0] if self._chance(0.5) else None
        return self._pick(_EMOTIONS[sentiment]) if self._chance(0.4) else None

    def _expand(self, symbol: str, period: _Period, scene: dict[str, str]) -> str:
        """A phrase of `symbol` with every symbol in it expanded in turn."""
        if symbol in scene:
            return scene[symbol]
        if symbol in ("good", "bad", "good_too", "bad_too"):
            if symbol.startswith("bad"):
                scene = scene | {"part": scene["failing_part"]}
            symbol = f"{self._topic(period, scene)}_{symbol.removesuffix('_too')}"
        phrase = words.TAIL_CLAUSES[symbol] if self._tail(symbol) else self._pick(period.grammar[symbol])
        return _SYMBOL.sub(lambda found: self._expand(found[1], period, scene), phrase)

    def _tail(self, symbol: str) -> bool:
        """May this clause come from the long tail of rare phrases?"""
        return symbol in words.TAIL_CLAUSES and self._chance(TAIL_SHARE)

    def _topic(self, period: _Period, scene: dict[str, str]) -> str:
        topic = self._weighted(period.topics)
        return "item" if topic == "wearable" and not scene["product"].startswith("Lumen") else topic

    def _join(self, body: str, feeling: str) -> str:
        if self._chance(0.25):
            return f"{feeling}. {body}"
        return f"{body}{self._pick(('. ', '. ', ', ', '! ', ' - '))}{feeling}"

    def _style(self, body: str, channel: str, sentiment: str, sarcastic: bool, scene: dict[str, str]) -> str:
        if _QUESTION.match(body) and "." not in body and (channel != "chat" or self._chance(0.5)):
            body += "?"
        if channel == "chat":
            return self._as_chat(body, sentiment, sarcastic)
        if channel == "email":
            return self._as_email(body)
        if channel == "social":
            return self._as_social(body, sentiment, sarcastic, scene)
        return self._as_ticket(body)

    def _as_chat(self, body: str, sentiment: str, sarcastic: bool) -> str:
        text = " ".join(self._shorten(word) for word in body.lower().split())
        if self._chance(0.4):
            text = text.replace("'", "").replace(". ", " ")
        return f"{text} {self._emoji(sentiment, sarcastic)}" if self._chance(0.15) else text

    def _as_email(self, body: str) -> str:
        name = self._pick(words.GRAMMAR["name"])
        opening = f"{self._pick(words.GREETINGS)} " if self._chance(0.85) else ""
        closing = f" {self._pick(words.SIGN_OFFS)}".format(name=name) if self._chance(0.85) else ""
        return f"{opening}{_in_sentences(body)}{closing}"

    def _as_social(self, body: str, sentiment: str, sarcastic: bool, scene: dict[str, str]) -> str:
        text = body.lower() if self._chance(0.3) else _in_sentences(body)
        if self._chance(0.6):
            text = f"{self._pick(words.HANDLES)} {text}"
        if self._chance(0.45):
            text = f"{text} {self._emoji(sentiment, sarcastic)}"
        if self._chance(0.4):
            text = f"{text} {self._tag(sentiment, sarcastic, scene)}"
        return text

    def _as_ticket(self, body: str) -> str:
        text = body
        for short, long in words.FORMAL.items():
            text = text.replace(short, long)
        if not self._chance(0.75):
            return _in_sentences(text)
        number = str(10_000 + int(self._rng.random() * 90_000))
        return f"{self._pick(words.TICKET_OPENINGS).format(number=number)} {_in_sentences(text)}"

    def _shorten(self, word: str) -> str:
        """Chat spelling: an abbreviation often, a slip of the finger now and then."""
        short = words.ABBREVIATIONS.get(word)
        if short and self._chance(0.4):
            return short
        if len(word) > 4 and word.isalpha() and self._chance(0.05):
            at = 1 + int(self._rng.random() * (len(word) - 2))
            return word[:at] + word[at + 1 :] if self._chance(0.5) else word[:at] + word[at - 1] + word[at:]
        return word

    def _emoji(self, sentiment: str, sarcastic: bool) -> str:
        if sarcastic:
            return self._pick(words.WRY_EMOJI)
        by_mood = {"negative": words.CROSS_EMOJI, "neutral": words.PLAIN_EMOJI, "positive": words.CHEERFUL_EMOJI}
        return self._pick(by_mood[sentiment])

    def _tag(self, sentiment: str, sarcastic: bool, scene: dict[str, str]) -> str:
        if self._chance(0.3):
            return "#" + "".join(_NOT_A_LETTER.split(scene["product"].lower()))
        if sarcastic:
            return self._pick(words.CHEERFUL_TAGS)
        by_mood = {"negative": words.CROSS_TAGS, "neutral": words.PLAIN_TAGS, "positive": words.CHEERFUL_TAGS}
        return self._pick(by_mood[sentiment])

    def _mislabel(self, label: str, labels: tuple[str, ...]) -> str:
        if not self._chance(LABEL_NOISE):
            return label
        return self._pick(tuple(other for other in labels if other != label))

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _pick(self, choices: tuple[T, ...]) -> T:
        """One of `choices`; in long lists the first are common and the last are rare, as in any vocabulary."""
        skew = 1.5 if len(choices) > 40 else 1.0
        return choices[int(self._rng.random() ** skew * len(choices))]

    def _weighted(self, weights: dict[str, float]) -> str:
        left = self._rng.random() * sum(weights.values())
        for choice, weight in weights.items():
            left -= weight
            if left < 0:
                return choice
        return choice


def _in_sentences(body: str) -> str:
    """`body` with capitals where sentences start and a mark where the last one ends."""
    text = _SENTENCE_START.sub(lambda found: found[1] + found[2].upper(), body)
    return text if text[-1] in ".!?" else f"{text}."
