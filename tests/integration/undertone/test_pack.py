"""An auditor with the evidence pack, sha256sum, openssl, model-signing and plain Python, and without Undertone."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undertone import governance
from undertone.errors import RegistryError
from undertone.governance import Act
from undertone.keys import Trust
from undertone.pack import write_pack
from undertone.registry import ModelVersion
from undertone.workspace import Workspace

ACT = Act("ann", "looks right", datetime(2026, 10, 8, tzinfo=UTC))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def commands(readme: str) -> list[str]:
    """Every command line in the README's blocks, as the auditor would paste it."""
    blocks = readme.split("```sh\n")[1:]
    lines = [line for block in blocks for line in block.split("```")[0].splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line and not line.startswith("pip ")]


def test_an_auditor_verifies_it_as_its_readme_says(
    workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    made = register(evidence={"card.md": b"# A card\n", "gate.json": b"{}"})
    governance.approve(workspace, "sentiment", made.version, ACT)
    names = write_pack(workspace, "sentiment", made.version, tmp_path / "pack.zip")
    folder = tmp_path / "audit"
    with zipfile.ZipFile(tmp_path / "pack.zip") as archive:
        assert sorted(archive.namelist()) == names
        archive.extractall(folder)
    assert {"card.md", "evidence/gate.json", "keys/ann.pub", "ledger.jsonl", "order.json"} <= set(names)
    readme = (folder / "README.md").read_text()
    lines = commands(readme)
    assert len(lines) == 5
    printed = ""
    for line in lines:
        done = run(folder, "bash", "-c", line.replace("python ", f"{sys.executable} "))
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        printed += done.stdout + done.stderr
    key = Trust.of(workspace.settings).approver("ann")
    assert key.fingerprint in printed
    assert key.fingerprint in readme
    assert "evidence/gate.json: OK" in printed
    assert "2 rows, the chain is unbroken" in printed

    # one changed byte, one edited row
    (folder / "model" / "undertone" / "model.json").write_text("{}")
    assert run(folder, "sha256sum", "--check", "--quiet", "SHA256SUMS").returncode == 1
    verify = next(line for line in lines if "model_signing" in line)
    assert run(folder, "bash", "-c", verify.replace("python ", f"{sys.executable} ")).returncode != 0
    ledger = (folder / "ledger.jsonl").read_text()
    (folder / "ledger.jsonl").write_text(ledger.replace("looks right", "looks good"))
    done = run(folder, sys.executable, "verify_ledger.py", "ledger.jsonl")
    assert (done.returncode, done.stderr.strip()) == (1, "row 2 does not hold")


def test_what_was_never_approved_has_no_pack(
    workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    made = register()
    with pytest.raises(RegistryError, match="an approval of 'sentiment' 1"):
        write_pack(workspace, "sentiment", made.version, tmp_path / "pack.zip")
    assert not (tmp_path / "pack.zip").exists()
