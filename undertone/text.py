"""One way to clean and encode text, for training and for serving.

Cleaning lives in the tokenizer's own normalizer, so it is saved inside ``tokenizer.json``: whatever
loads the model (the serving worker, ``mlflow models serve``, a Spark UDF) reads text the same way.
Links become ``http`` and mentions ``@user``, the form of TweetEval (Barbieri et al., 2020,
https://aclanthology.org/2020.findings-emnlp.148), so customers' handles never reach a model. Emoji become
their names where the vocabulary has none: docs/decisions/0024.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LINK = r"(?:https?://|www\.)\S+"
_MENTION = r"@\w{1,50}"
#: What `undertone.emoji_names` wrote: a character map from emoji to " name ".
_EMOJI_NAMES = Path(__file__).with_name("emoji_names.bin")
_COMMON_EMOJI = "😂😭😍👍🔥"
_JOINER = "\N{ZERO WIDTH JOINER}"
#: The control characters of Unicode (category Cc): C0, DEL and C1.
_CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NO_ENCODER_TAKES = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_A_WORD = re.compile(r"[\W\d_]+")


def install_cleaning(tokenizer: Tokenizer) -> Tokenizer:
    """Put the cleaning in front of `tokenizer`'s own normalizer; gives the same object back.

    One that has a cleaning stays as it is, of whichever version: a trained model reads on as it learned to.
    """
    from tokenizers import Regex, normalizers

    own = tokenizer.normalizer
    if own is not None and _MENTION in str(own):
        return tokenizer
    cleaning = [
        normalizers.NFC(),
        normalizers.Replace(Regex(_LINK), "http"),
        normalizers.Replace(Regex(_MENTION), "@user"),
    ]
    if not _reads_emoji(tokenizer):
        names = normalizers.Precompiled(_EMOJI_NAMES.read_bytes())  # one pass, however many names
        cleaning += [names, normalizers.Replace(f" {_JOINER}", " ")]  # a joiner inside a word is its spelling
    tokenizer.normalizer = normalizers.Sequence([*cleaning, own] if own is not None else cleaning)
    return tokenizer


def _reads_emoji(tokenizer: Tokenizer) -> bool:
    """Whether common emoji have tokens: unknown ones all look alike."""
    read = {tuple(tokenizer.encode(char, add_special_tokens=False).ids) for char in _COMMON_EMOJI}
    return len(read) == len(_COMMON_EMOJI)


def repair(text: str) -> str:
    """`text` without what no encoder can take: lone surrogates become U+FFFD, NUL and control characters a space."""
    if _NO_ENCODER_TAKES.search(text) is None:
        return text
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.translate(_CONTROL)


def normalise(text: str) -> str:
    """The words of `text` and nothing else: lower case, no links, mentions, digits or punctuation.

    Two messages with the same normalised form count as duplicates.
    """
    text = re.sub(_LINK, " ", text)
    text = re.sub(_MENTION, " ", text)
    return _NOT_A_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def terms(text: str) -> set[str]:
    """The words of `text`, each once: 2 to 30 letters, as `normalise` leaves them."""
    return {word for word in normalise(text).split() if 2 <= len(word) <= 30}


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON-ready value, of its canonical form: sorted keys, no blanks."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fingerprint(rows: Iterable[Sequence[str]]) -> str:
    """SHA-256 over all rows in order, each field length-prefixed so that no two tables collide by joining."""
    digest = hashlib.sha256()
    for row in rows:
        for value in row:
            data = value.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        digest.update(b"\xff")
    return digest.hexdigest()
