"""A share of the messages: always the same ones, and those of a smaller share among those of a larger one."""

from __future__ import annotations

import hashlib


def sample_key(message_id: str) -> int:
    """31 bits of SHA-256 of the id: sorting by it is a random order that never changes."""
    return int.from_bytes(hashlib.sha256(message_id.encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


def in_share(message_id: str, share: float) -> bool:
    """Whether a message is in the `share` (0 to 1) that comes first in the random order.

    `Store.window` with a limit takes rows in this order, so what is kept for a share of the messages is there for
    every row of a smaller sample.
    """
    return sample_key(message_id) < share * 2**31
