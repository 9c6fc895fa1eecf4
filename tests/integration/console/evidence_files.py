"""Evidence as training leaves it, made from dice: files for a run's ``evaluation/`` folder, and the gate's payload."""

import hashlib
import json
import random
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertone.evidence import FOLDER
from undertone.ledger import Ledger
from undertone.registry import ModelVersion
from undertone.tasks import get_task
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, 8, 30, tzinfo=UTC)

TEXTS = {
    "negative": [
        "My {} came broken and nobody answers",
        "Third time the {} is late, I am done",
        "Oh great, no {} again",
    ],
    "neutral": ["When does the {} arrive?", "I moved, please change the address of my {}", "The {} is at the depot"],
    "positive": ["The {} is perfect, thank you!", "Lovely people, my {} was sorted in an hour", "Best {} I ever had"],
}
THINGS = ["parcel", "refund", "order", "invoice", "delivery", "subscription"]
SLICES = {"channel": ["chat", "email", "social"], "segment": ["enterprise", "growth", "starter"]}


def make(
    seed: int, labels: tuple[str, ...], *, rival: int | None, passed: bool = True, text: str = "", segment: str = ""
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Evidence files by name, and the payload of a gate row without the manifest's digest.

    Args:
        rival: version of the champion it was compared with; None: there was none.
        text: one more message on which the two differ.
        segment: one more slice.
    """
    dice = random.Random(seed)
    truth = dice.choices(labels, weights=[4, 3, 4, 3][: len(labels)], k=1_200)
    ours, theirs = (_answers(dice, truth, labels, share) for share in (0.9, 0.87 if passed else 0.96))
    mine, other = _evaluation(truth, ours, labels), _evaluation(truth, theirs, labels)
    difference = mine["macro_f1"] - other["macro_f1"]
    lines = [
        {"name": "rows", "passed": True, "found": 1_200, "required": "at least 200"},
        {"name": "macro-F1", "passed": True, "found": mine["macro_f1"], "required": "at least 0.8"},
        {"name": "calibration error", "passed": True, "found": 0.031, "required": "at most 0.15"},
    ]
    if rival is not None:
        lines.append(
            {
                "name": "macro-F1 against the champion",
                "passed": passed,
                "found": difference,
                "required": "at least -0.02",
            }
        )
    names = [f"{kind}={name}" for kind, values in SLICES.items() for name in values] + ([segment] if segment else [])
    verdict: dict[str, Any] = {
        "passed": passed,
        "verdict": "first" if rival is None else "not_worse" if passed else "worse",
        "lines": lines,
        "difference": None if rival is None else difference,
        "interval": None if rival is None else [difference - 0.017, difference + 0.016],
        "mcnemar_p": None if rival is None else 0.043,
        "slices": [_slice(dice, name, rival is not None) for name in names],
        "behaviour": [
            {"name": "names swapped", "cases": 200, "held": 197, "share": 0.985},
            {"name": "negation", "cases": 40, "held": 37, "share": 0.925},
        ],
        "latency": {"challenger_ms": 3.21, "champion_ms": None if rival is None else 3.04},
    }
    failure = {"text": f"Thanks, Emily {text}", "changed": f"Thanks, Wei {text}", "answer": "positive",
               "changed_answer": "neutral"}  # fmt: skip
    shown = verdict | {"behaviour": [check | {"examples": [failure]} for check in verdict["behaviour"]]}
    rows = [
        {"text": dice.choice(TEXTS.get(label, TEXTS["neutral"])).format(dice.choice(THINGS)), "label": label,
         "challenger": our, "challenger_confidence": 0.9312, "champion": their, "champion_confidence": 0.5521,
         "channel": "chat", "segment": None}
        for label, our, their in zip(truth, ours, theirs, strict=True)
        if our != their
    ]  # fmt: skip
    if text:
        rows.insert(0, {"text": text, "label": labels[0], "challenger": labels[1], "champion": labels[0]})
    files = {
        "gate.json": _json(shown),
        "holdout.json": _json(mine),
        "gate.png": _png(),
        "confusion.png": _png(),
        "card.md": f"# {labels[0]} and others\n\nTrained from dice with seed {seed}.\n".encode(),
    }
    if rival is not None:
        files |= {"champion.json": _json(other), "differences.json": _json(rows)}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return files, verdict | {"champion": rival, "policy": {"margin": 0.02}, "evidence": digests}


def _answers(dice: random.Random, truth: list[str], labels: tuple[str, ...], share: float) -> list[str]:
    return [label if dice.random() < share else dice.choice(labels) for label in truth]


def _evaluation(truth: list[str], answers: list[str], labels: tuple[str, ...]) -> dict[str, Any]:
    pairs = list(zip(truth, answers, strict=True))
    confusion = [[pairs.count((label, answer)) for answer in labels] for label in labels]
    per_class = {}
    for place, label in enumerate(labels):
        support, called = sum(confusion[place]), sum(row[place] for row in confusion)
        hits = confusion[place][place]
        per_class[label] = {
            "precision": hits / max(1, called),
            "recall": hits / max(1, support),
            "f1": 2 * hits / max(1, support + called),
            "support": support,
        }
    score = sum(row["f1"] for row in per_class.values()) / len(labels)
    return {
        "rows": len(truth),
        "macro_f1": score,
        "interval": [score - 0.018, score + 0.017],
        "accuracy": sum(label == answer for label, answer in pairs) / len(pairs),
        "macro_recall": sum(row["recall"] for row in per_class.values()) / len(labels),
        "ece": 0.031,
        "per_class": per_class,
        "confusion": confusion,
        "slices": {},
    }


def _slice(dice: random.Random, name: str, compared: bool) -> dict[str, Any]:
    rows, score, change = dice.randint(60, 520), dice.uniform(0.84, 0.93), dice.uniform(-0.03, 0.04)
    few = rows < 100
    return {
        "name": name,
        "rows": rows,
        "challenger": score,
        "champion": score - change if compared else None,
        "difference": change if compared else None,
        "interval": [change - 0.05, change + 0.05] if compared else None,
        "upper": change + 0.05,
        "holds": True,
        "too_few": few,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _png(side: int = 8) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress((b"\0" + b"\x3d\x6f\xa3" * side) * side)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def leave(
    workspace: Workspace, made: ModelVersion, scratch: Path, seed: int, *, files: bool = True, **more: Any
) -> None:
    """Leave evidence of `made` in its run and the ledger, as training does; `more` goes to `make`."""
    rival = workspace.registry.champion_version(made.task)
    data, payload = make(seed, get_task(made.task).labels, rival=rival, **more)
    for name, content in data.items() if files else ():
        path = scratch / f"evidence-{seed}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        workspace.registry.put_file(made.run_id, path, FOLDER)
    _tell(workspace.ledger, made, payload)


def _tell(ledger: Ledger, made: ModelVersion, payload: dict[str, Any]) -> None:
    """The ledger's rows of a version, as training writes them."""
    sha = made.tags["undertone.manifest_sha256"]
    found = next(line["found"] for line in payload["lines"] if line["name"] == "macro-F1")
    ledger.append(
        "registered", made.task, at=NOW, actor="tom", reason="standard training on messages.csv", version=made.version,
        payload={"run_id": made.run_id, "manifest_sha256": sha, "data_sha256": "d" * 64, "macro_f1": found},
    )  # fmt: skip
    refused = [line["name"] for line in payload["lines"] if not line["passed"]]
    ledger.append(
        "gate", made.task, at=NOW, actor="gate", reason=", ".join(refused) or "every requirement holds",
        version=made.version, payload=payload | {"manifest_sha256": sha},
    )  # fmt: skip
