"""What a model was made from, beside its data: the code's commit, the locked dependencies, the machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LOCK = PROJECT / "requirements.lock"


def commit() -> str:
    """The git commit of this code; ``-dirty`` where files differ from it, ``unknown`` outside a checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def lock_sha256() -> str:
    """SHA-256 of ``requirements.lock``; of the installed distributions where the project was installed without it."""
    if LOCK.is_file():
        return hashlib.sha256(LOCK.read_bytes()).hexdigest()
    return hashlib.sha256("\n".join(distributions()).encode()).hexdigest()


def distributions() -> list[str]:
    """``name==version`` of everything installed, sorted."""
    return sorted({f"{item.name}=={item.version}" for item in importlib.metadata.distributions()})


def machine() -> dict[str, str]:
    """Python, operating system, processor and cores, for the run's parameters."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
    }


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
