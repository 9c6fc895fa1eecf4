"""The evidence pack: one zip file with which an auditor checks an approval offline, with public tools only."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from undertone.errors import ConfigError
from undertone.evidence import read_evidence
from undertone.governance import fetch
from undertone.keys import Trust
from undertone.ledger import EVERY_TASK, as_line
from undertone.model_folder import CARD, MODEL, STATEMENT
from undertone.signing import SIGNATURE, Statement
from undertone.workspace import Workspace

KEYS = "keys"
SUMS = "SHA256SUMS"

_TEMPLATES = Path(__file__).parent / "templates"


def write_pack(workspace: Workspace, task: str, version: int, output: Path) -> list[str]:
    """Write the evidence of an approved version to `output`, verified before it is packed; gives the names inside.

    Raises:
        VerificationError: the version's approval does not hold.
        RegistryError: no such version, it was never approved, or MLflow is out of reach.
        ConfigError: `output` cannot be written.
    """
    rules = Trust.of(workspace.settings)
    with tempfile.TemporaryDirectory(prefix="undertone-evidence-") as scratch:
        folder = Path(scratch)
        statement = fetch(workspace, task, version, folder)
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        texts = {"verify_ledger.py": (_TEMPLATES / "verify_ledger.py").read_bytes()}
        evidence = read_evidence(workspace, task, version)
        texts |= {f"evidence/{name}": data for name, data in evidence.files.items()}
        history = [row for row in workspace.ledger.entries() if (row.task, row.version) == (task, version)]
        about = [row for row in workspace.ledger.entries(EVERY_TASK) if row.kind.startswith("key_")]
        texts["history.jsonl"] = "".join(f"{as_line(row)}\n" for row in [*history, *about]).encode()
        texts["ledger.jsonl"] = "".join(f"{line}\n" for line in workspace.ledger.export()).encode()
        for name in {statement.approver, statement.trainer}:
            key = rules.trainer(name)
            if key is not None:
                texts[f"{KEYS}/{name}.pub"] = key.path.read_bytes()
        texts["README.md"] = _readme(statement, rules, evidence.redacted).encode()
        _write(output, files, texts)
        return sorted([*files, *texts, SUMS])


def _write(output: Path, files: dict[str, Path], texts: dict[str, bytes]) -> None:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in texts.items()}
    for name, path in files.items():
        with path.open("rb") as stream:
            sums[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    listing = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    try:
        with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, path in files.items():
                archive.write(path, name)
            for name, data in {**texts, SUMS: listing.encode()}.items():
                archive.writestr(name, data)
    except OSError as error:
        raise ConfigError(
            f"a file that can be written at {output}", str(error), "name another with --output"
        ) from error


def _readme(statement: Statement, rules: Trust, redacted: Sequence[str]) -> str:
    template = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=False, keep_trailing_newline=True)
    key = rules.approver(statement.approver)
    return template.get_template("evidence.md").render(
        task=statement.task,
        version=statement.version,
        approver=statement.approver,
        at=f"{statement.approved_at:%Y-%m-%d %H:%M}",
        override=", by override" if statement.override else "",
        sums=SUMS,
        model=MODEL,
        statement=STATEMENT,
        signature=SIGNATURE,
        keys=KEYS,
        fingerprint=key.fingerprint if key else "",
        card=CARD,
        redacted=redacted,
    )
