"""Ids for requests and messages that bring none.

Random UUIDs (RFC 9562, version 4) from a generator that the operating system seeded once: asking it for each id is a
call into the kernel for every message.
"""

from __future__ import annotations

import random
import uuid

_random = random.Random()  # seeded by the operating system; the worker starts other processes afresh, never by fork


def new_id() -> str:
    """A UUID that no other message or request has."""
    return str(uuid.UUID(int=_random.getrandbits(128), version=4))
