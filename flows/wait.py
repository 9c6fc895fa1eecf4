"""`python -m flows.wait URL COMMAND…`: run the command once the URL answers. Exits 1 after three minutes."""

from __future__ import annotations

import os
import sys
import time

import httpx

PATIENCE_S = 180.0


def wait_for(url: str, patience_s: float = PATIENCE_S) -> bool:
    """Whether `url` answered with success within `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, timeout=2).is_success:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.25)
    return False


if __name__ == "__main__":
    if not wait_for(sys.argv[1]):
        sys.exit(f"expected an answer at {sys.argv[1]}; found none in {PATIENCE_S:.0f} s. Next: look at its own log")
    os.execvp(sys.argv[2], sys.argv[2:])
