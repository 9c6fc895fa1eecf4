"""Which rows of a holdout belong to which slice: by column, by length, and by what the text says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandas import DataFrame

#: Length buckets in words: short up to the first number, medium up to the second, long beyond.
LENGTH_WORDS = (10, 25)

#: Negation words, with the spellings of chat; the list of Councill et al., 2010
#: (https://aclanthology.org/W10-3110), without its misspellings of longer words.
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|nowhere|neither|nor|without|hardly|barely|cannot|\w+n['’]t"
    r"|(?:ai|are|ca|could|did|does|do|had|has|have|is|should|was|were|wo|would)nt)\b",
    re.IGNORECASE,
)

#: What often goes with sarcasm: praise that is said of failures, wry emoji, and open marks.
_SARCASM_CUE = re.compile(
    r"\b(?:oh,? (?:great|good|joy|wow|lovely|wonderful|how)"
    r"|(?:just|simply) (?:great|perfect|brilliant|lovely|fantastic|wonderful|what (?:i|we))"
    r"|yeah,? (?:right|sure)|thanks for nothing|thanks a (?:lot|bunch)|(?:great|nice|good) (?:job|going|work)|well done"
    r"|what a (?:surprise|joy|treat|shock)|how (?:lovely|nice|wonderful|thoughtful|generous)"
    r"|love (?:how|it when|that|waiting)|so much for|slow clap|bravo|as if|can['’]?t wait|who knew|lucky (?:me|us))\b"
    r"|#(?:sarcasm|sarcastic|irony|not)\b|(?:^|\s)/s\b|[🙄🙃😒😏👏]",
    re.IGNORECASE,
)


def membership(frame: DataFrame, kinds: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The slices of `frame` that have rows: name to bool [n], true where the row belongs.

    Args:
        frame: n rows with ``text`` and the columns named in `kinds` that the data has.
        kinds: ``length`` (``length=short``, ``medium``, ``long``), ``negation`` and ``sarcasm_cue`` (``…=yes``) are
            read from the text; any other kind is a column, one slice for each of its values. Rows without a
            value are in none. ``holdout`` (``frozen``, ``recent``) has slices only where there are rows of both.
    """
    found: dict[str, NDArray[np.bool_]] = {}
    for kind in kinds:
        values = np.array([value or "" for value in _values(frame, kind)], dtype=object)
        names = ("short", "medium", "long") if kind == "length" else sorted(set(values))
        for name in names:
            rows = np.asarray(values == name, dtype=np.bool_)
            if name and rows.any() and not (kind == "holdout" and rows.all()):
                found[f"{kind}={name}"] = rows
    return found


def words_of(frame: DataFrame, column: str) -> list[str | None]:
    """A column as words, None where it is empty or the data has no such column."""
    if column not in frame:
        return [None] * len(frame)
    missing = frame[column].isna()
    return [None if gone else str(value) for value, gone in zip(frame[column], missing, strict=True)]


def _values(frame: DataFrame, kind: str) -> Sequence[Any]:
    if kind == "length":
        return [_length(text) for text in frame["text"]]
    if kind == "negation":
        return ["yes" if _NEGATION.search(text) else None for text in frame["text"]]
    if kind == "sarcasm_cue":
        return ["yes" if _SARCASM_CUE.search(text) else None for text in frame["text"]]
    return words_of(frame, kind)


def _length(text: str) -> str:
    short, medium = LENGTH_WORDS
    words = len(text.split())
    return "short" if words <= short else "medium" if words <= medium else "long"
