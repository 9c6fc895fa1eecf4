"""The form of a text in a few numbers, and its language: what a drift watch compares without keeping the text.

One code path for the reference that training writes and the windows that the watch reads.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Numbers that describe a text's form, columns of a window.
FORM = ("length", "words", "upper", "marks")

#: Shorter texts ("ok", "thanks") have no language that could be told.
SHORTEST = 20


def form(text: str) -> dict[str, float]:
    """Characters, words, share of letters in upper case, share of characters that are no letter, digit or blank."""
    letters = sum(character.isalpha() for character in text)
    upper = sum(character.isupper() for character in text)
    marks = sum(not (character.isalnum() or character.isspace()) for character in text)
    return {
        "length": float(len(text)),
        "words": float(len(text.split())),
        "upper": upper / letters if letters else 0.0,
        "marks": marks / len(text) if text else 0.0,
    }


def languages(texts: Sequence[str]) -> list[str | None]:
    """ISO 639 code of each text's language by py3langid (Lui and Baldwin, 2012, https://aclanthology.org/P12-3005).

    None for a text of fewer than `SHORTEST` characters.
    """
    import py3langid

    return [py3langid.classify(text)[0] if len(text) >= SHORTEST else None for text in texts]
