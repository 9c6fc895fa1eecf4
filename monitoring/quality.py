"""Gate 0: whether a window's messages are what the watch can compare, or an upstream is broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """Counts over all messages of a window, and of the windows of equal length before it.

    Attributes:
        duplicates: messages whose text stands in an earlier-keyed message of the window too: rows minus distinct texts.
        earlier_rows, earlier_duplicates: of the windows before, newest first; shares for the second.
    """

    rows: int
    empty: int
    duplicates: int
    truncated: int
    earlier_rows: tuple[int, ...] = ()
    earlier_duplicates: tuple[float, ...] = ()
