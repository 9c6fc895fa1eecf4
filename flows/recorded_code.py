"""The code that trained a version, in a folder of its own, and a training run there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.lineage import PROJECT
from undertone.errors import TrainingError

#: Left out of the training's environment: settings of this workspace, and what puts other code first on the path.
_OWN = ("UNDERTONE_", "MLFLOW_", "PYTHONPATH", "PYTHONSAFEPATH", "GIT_")

_ASK = """
from importlib.util import find_spec
for name in ("flows", "training", "undertone"):
    print(find_spec(name).origin)
"""


@dataclass(frozen=True, slots=True)
class Code:
    """A checkout to train from.

    Attributes:
        folder: holds ``training``, ``flows`` and ``undertone``.
        recorded: it is the commit that trained the version.
        caveat: why the present code stands in; empty where `recorded`.
    """

    folder: Path
    recorded: bool
    caveat: str = ""

    @property
    def lock_sha256(self) -> str | None:
        """SHA-256 of its ``requirements.lock``, or None."""
        lock = self.folder / "requirements.lock"
        return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None


def check_out(commit: str, into: Path) -> Code:
    """The code of `commit`, in the new folder `into`; where it cannot be had, the present code and why.

    A clone that shares this repository's objects, and no plain export: so the training finds its commit and records
    it, as the first one did.
    """
    if commit == "unknown":
        return Code(PROJECT, False, "the version records no commit: the present code was used")
    if commit.endswith("-dirty"):
        changed = f"the version was trained from changed files on top of {commit.removesuffix('-dirty')[:12]}"
        return Code(PROJECT, False, f"{changed}, which nobody kept: the present code was used")
    try:
        top, _, inside = _git(PROJECT, "rev-parse", "--show-toplevel", "--show-prefix").partition("\n")
        _git(PROJECT, "cat-file", "-e", f"{commit}^{{commit}}")
        _git(PROJECT, "-c", "core.hooksPath=/dev/null", "clone", "--shared", "--no-checkout", top, str(into))
        _git(into, "-c", "core.hooksPath=/dev/null", "checkout", "--detach", commit)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        return Code(
            PROJECT, False, f"commit {commit[:12]} is not to be had here ({''.join(reason)}): the present code was used"
        )
    return Code(into / inside, True)


def training_environment(home: Path, actor: str, threads: int) -> dict[str, str]:
    """This process's environment, with settings for a workspace of its own at `home`; Prefect's server is the same."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return kept | {
        "UNDERTONE_HOME": str(home),
        "UNDERTONE_ACTOR": actor,
        "UNDERTONE_ENGINE_THREADS": str(threads),
    }


def run(code: Code, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """Run Python with `arguments` from the code's folder; what it says goes to standard error. Gives its output.

    Raises:
        TrainingError: it failed, or other code than `code` would run.
    """
    _require_own(code, environment)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=code.folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise TrainingError(
            "the recorded training to run once more",
            f"it ended with exit code {done.returncode}",
            "read what it said above; older code may need the packages of its own requirements.lock",
        )
    return done.stdout


def train(code: Code, arguments: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run ``undertone train`` with `arguments` from the code's folder, and give its result.

    Raises:
        TrainingError: it failed, or other code than `code` would run.
    """
    result: dict[str, Any] = json.loads(run(code, ["-m", "flows.cli", "train", *arguments, "--json"], environment))
    return result


def _require_own(code: Code, environment: dict[str, str]) -> None:
    """The folder a module is run from comes before what is installed: make sure that it does."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK], cwd=code.folder, env=environment, capture_output=True, text=True
    )
    found = [Path(line).resolve() for line in done.stdout.splitlines()]
    if done.returncode or not all(path.is_relative_to(code.folder.resolve()) for path in found):
        raise TrainingError(
            f"Undertone's packages from {code.folder}",
            done.stderr.strip().splitlines()[-1] if done.returncode else ", ".join(map(str, found)),
            "unset what puts other code first on Python's path, and try again",
        )


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip("\n")
