"""What a version was judged on: the gate's row, and the evidence files whose digests stand in that row.

Training keeps the files with the version's MLflow run under ``evaluation/``, and their SHA-256 in the gate's ledger row
(``payload["evidence"]``, file name to digest). A file that no longer has its digest is not evidence.

gate.json            the verdict, line by line (`training.gate.GateVerdict.as_dict`)
holdout.json         the challenger's evaluation (`training.evaluate.Evaluation.as_dict`)
champion.json        the champion's, on the same rows; only where there was a champion
differences.json     holdout messages on which challenger and champion differ
review.json           from which confidence on answers are kept, and the risk-coverage curve (`training.partners`)
join.json             how sentiment hears sarcasm; only where there was a sarcasm champion
gate.png, confusion.png, calibration.png, risk-coverage.png
card.md              the model card as measured

Two of them hold customers' words (`WITH_TEXTS`). An erasure or the retention takes these out, and the ledger's row
"erased" names the file with its digest before and after: exactly that file is evidence from then on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from undertone.records import LedgerEntry
from undertone.workspace import Workspace

FOLDER = "evaluation"

#: The files from which texts may be taken out.
WITH_TEXTS = ("differences.json", "gate.json")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The gate's row with the files that still are what it names.

    Attributes:
        gate: the newest gate row of the version; None: it was never judged.
        files: file name to bytes, each with the digest that the row names.
        problems: a sentence for every file that is missing or was changed.
        redacted: a sentence for every file from which customers' texts were taken out.
    """

    gate: LedgerEntry | None
    files: dict[str, bytes] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    redacted: tuple[str, ...] = ()

    def json(self, name: str) -> Any:
        """The parsed file `name`, or None where there is no such evidence."""
        return json.loads(self.files[name]) if name in self.files else None


def read_evidence(workspace: Workspace, task: str, version: int) -> Evidence:
    """The evidence for a version.

    Raises:
        RegistryError: no such version, or MLflow is out of reach.
    """
    gate = workspace.ledger.latest(task, ["gate"], version)
    if gate is None:
        return Evidence(None)
    run_id = workspace.registry.get(task, version).run_id
    named = gate.payload.get("evidence", {})
    found = workspace.registry.read_files(run_id, FOLDER) if named else {}
    erasures = [row for row in workspace.ledger.entries(kinds=["erased"]) if row.payload.get("redacted")]
    files: dict[str, bytes] = {}
    problems: list[str] = []
    redacted: list[str] = []
    for name, judged in named.items():
        expected, rows = judged, []
        for row in erasures if name in WITH_TEXTS else ():
            for item in row.payload["redacted"]:
                if (item["run_id"], item["file"], item["old"]) == (run_id, f"{FOLDER}/{name}", expected):
                    expected = item["new"]
                    rows.append(row.seq)
        if name not in found:
            problems.append(f"{name} is missing")
        elif hashlib.sha256(found[name]).hexdigest() != expected:
            problems.append(f"{name} was changed after the gate judged")
        else:
            files[name] = found[name]
            if rows:
                redacted.append(f"{name} is without texts that were erased (row {', '.join(map(str, rows))})")
    return Evidence(gate, files, tuple(problems), tuple(redacted))
