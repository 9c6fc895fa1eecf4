"""What is small enough to be done in the event loop; the rest goes to a thread, and holds up no other request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Bytes of a body that are read at once.
BYTES = 64_000

#: Messages that are joined, written down and rendered at once.
MESSAGES = 32


async def inline(small: bool, act: Callable[..., T], *values: Any) -> T:
    """``act(*values)``: at once where that is `small`, else in a thread."""
    return act(*values) if small else await asyncio.to_thread(act, *values)
