"""Cells and words of a model card, safe to stand in Markdown: `Markup` is what was made safe."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup

#: Longer words from data are cut.
_LONGEST = 160


def code(value: Any) -> Markup:
    """`value` as a code span on one line: in Markdown nothing inside one is read as anything else."""
    words = "".join(character if character.isprintable() else " " for character in str(value))
    words = " ".join(words.replace("`", "'").replace("|", "¦").split()) or "(empty)"
    return Markup(f"`{words if len(words) <= _LONGEST else words[: _LONGEST - 1] + '…'}`")


def codes(values: Iterable[Any], between: str = ", ") -> Markup:
    """Code spans with `between` in between."""
    return Markup(between.join(code(value) for value in values))


def prose(words: str) -> Markup:
    """A sentence from our own code, without what Markdown or HTML could read."""
    return Markup(re.sub(r"[\\`*_{}\[\]<>#|~!]", " ", words).strip())


def number(value: Any) -> Markup:
    """Four decimals; counts with commas; ``missing`` where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Markup("missing")
    return Markup(f"{value:,}" if isinstance(value, int) else f"{value:.4f}")


def span(interval: Any) -> Markup:
    """An interval of two numbers; ``no interval`` where there is none."""
    if not interval or len(interval) != 2 or None in interval:
        return Markup("no interval")
    return Markup(f"{interval[0]:.4f} to {interval[1]:.4f}")


def duration(seconds: float) -> Markup:
    """Seconds, minutes or hours."""
    if seconds < 90:
        return Markup(f"{seconds:.0f} s")
    return Markup(f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h")
