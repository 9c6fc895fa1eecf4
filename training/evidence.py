"""The evidence folder of a training: what the gate saw, as files with digests (`undertone.evidence` reads them)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contest import Contest
from training.draw import draw_gate
from training.evaluate import Evaluation
from undertone.tasks import GatePolicy
from undertone.text import fingerprint

if TYPE_CHECKING:
    from pandas import DataFrame


def write_evidence(folder: Path, contest: Contest, evaluation: Evaluation, policy: GatePolicy) -> None:
    """Write verdict, evaluations, differing rows and the verdict's picture into `folder`.

    Args:
        folder: an existing folder.
        contest: the verdict, and what is known of the champion.
        evaluation: the challenger's.
        policy: the limits that were applied, for the picture.
    """
    _write(folder / "holdout.json", evaluation.as_dict())
    _write(folder / "gate.json", contest.verdict.as_dict(texts=True))
    if contest.champion is not None:
        _write(folder / "champion.json", contest.champion.as_dict())
    if contest.differences is not None:
        _write(folder / "differences.json", contest.differences)
    draw_gate(contest.verdict, policy, folder / "gate.png")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in `folder` by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def holdout_sha256(frame: DataFrame) -> str:
    """SHA-256 of the rows that both models were scored on, whatever their order."""
    return fingerprint(sorted(zip(frame["text"], frame["label"], strict=True)))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
