"""Approve, reject, roll back: on a real registry, with real signatures."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from undertone import governance, keys, signing
from undertone.engine import Engine
from undertone.errors import ConfigError, DecisionError, RegistryError, VerificationError
from undertone.governance import Act
from undertone.identity import Signer
from undertone.keys import Trust
from undertone.model_folder import GRAPH, METADATA, STATEMENT
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

Register = Callable[..., ModelVersion]
ACT = Act("ann", "looks right", datetime(2026, 10, 6, tzinfo=UTC))


@pytest.fixture
def approved(workspace: Workspace, register: Register, tmp_path: Path) -> tuple[Path, Path]:
    """Version 1, approved, as a worker downloads it: folder and signature."""
    made = register()
    governance.approve(workspace, "sentiment", made.version, ACT)
    return fetch(workspace, "sentiment", 1, tmp_path / "fetched")


def fetch(workspace: Workspace, task: str, version: int, into: Path) -> tuple[Path, Path]:
    workspace.registry.download(task, version, into / "model")
    workspace.registry.fetch_approval(task, version, into)
    return into / "model", into / signing.SIGNATURE


def verify(workspace: Workspace, folder: Path, signature: Path, task: str = "sentiment", version: int = 1) -> None:
    signing.verify(folder, signature, Trust.of(workspace.settings), task, version)


def test_an_approval_is_served_bytes_signed(workspace: Workspace, approved: tuple[Path, Path]) -> None:
    folder, signature = approved
    statement = signing.verify(folder, signature, Trust.of(workspace.settings), "sentiment", 1)
    assert (statement.approver, statement.trainer, statement.reason) == ("ann", "tom", "looks right")
    assert workspace.registry.champion_version("sentiment") == 1
    entry = workspace.ledger.latest("sentiment", ["approved"])
    assert entry is not None
    assert entry.payload["manifest_sha256"] == statement.manifest_sha256
    assert Engine(folder).score(["good parcel"]).probabilities.argmax() == 2
    assert workspace.settings.private_key.stat().st_mode & 0o077 == 0


def test_one_changed_byte_voids_it(workspace: Workspace, approved: tuple[Path, Path]) -> None:
    folder, signature = approved
    data = bytearray((folder / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / GRAPH).write_bytes(data)
    with pytest.raises(VerificationError, match="digest"):
        verify(workspace, folder, signature)


@pytest.mark.parametrize("field", ["rows", "data_sha256", "trainer", "commit", "lock_sha256", "gate", "approved_at"])
def test_a_changed_statement_voids_it(workspace: Workspace, approved: tuple[Path, Path], field: str) -> None:
    folder, signature = approved
    statement = json.loads((folder / STATEMENT).read_text())
    forged = {"rows": 7, "gate": {"passed": True, "macro_f1": 0.99}, "approved_at": "2020-01-01T00:00:00Z"}
    statement[field] = forged.get(field, "0" * 64)
    (folder / STATEMENT).write_text(json.dumps(statement))
    with pytest.raises(VerificationError, match="signature of ann"):
        verify(workspace, folder, signature)


def test_weights_swapped_with_the_manifest_rewritten_but_not_signed(
    workspace: Workspace, approved: tuple[Path, Path]
) -> None:
    from undertone.model_folder import digest, manifest

    folder, signature = approved
    (folder / GRAPH).write_bytes((folder / GRAPH).read_bytes() + b"\0")
    statement = json.loads((folder / STATEMENT).read_text())
    (folder / STATEMENT).write_text(json.dumps(statement | {"manifest_sha256": digest(manifest(folder))}))
    with pytest.raises(VerificationError, match="signature of ann"):
        verify(workspace, folder, signature)


@pytest.mark.parametrize("name", ["extra.txt", "model/extra.json", ".git/config", "undertone/.hidden"])
def test_an_added_file_voids_it(workspace: Workspace, approved: tuple[Path, Path], name: str) -> None:
    folder, signature = approved
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("slipped in")
    with pytest.raises(VerificationError):
        verify(workspace, folder, signature)


@pytest.mark.parametrize("name", ["run.py", "model/weights.pkl", "deep/er/pytorch_model.bin"])
def test_code_in_the_folder_is_refused(workspace: Workspace, approved: tuple[Path, Path], name: str) -> None:
    folder, signature = approved
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("import os")
    with pytest.raises(VerificationError, match="weights and words only"):
        verify(workspace, folder, signature)


def test_auto_map_and_links_are_refused(workspace: Workspace, approved: tuple[Path, Path]) -> None:
    folder, signature = approved
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(VerificationError, match="auto_map"):
        verify(workspace, folder, signature)
    (folder / "config.json").unlink()
    (folder / "link").symlink_to("/etc/passwd")
    with pytest.raises(VerificationError, match="symbolic link"):
        verify(workspace, folder, signature)


def test_a_removed_file_voids_it(workspace: Workspace, approved: tuple[Path, Path]) -> None:
    folder, signature = approved
    (folder / METADATA).unlink()
    with pytest.raises(VerificationError):
        verify(workspace, folder, signature)


def test_a_signature_holds_for_its_version_and_task_only(workspace: Workspace, approved: tuple[Path, Path]) -> None:
    folder, signature = approved
    with pytest.raises(VerificationError, match="one of sentiment 1"):
        verify(workspace, folder, signature, version=2)
    with pytest.raises(VerificationError, match="an approval of sarcasm 1"):
        verify(workspace, folder, signature, task="sarcasm")


def test_an_unknown_key_is_refused(workspace: Workspace, approved: tuple[Path, Path], tmp_path: Path) -> None:
    folder, signature = approved
    trust = Trust(tmp_path / "trusted", tmp_path / "trainers")
    _, eve = keys.make(workspace.settings, "eve")
    with pytest.raises(VerificationError, match="an approver with a key"):
        signing.verify(folder, signature, trust, "sentiment", 1)
    trust.approvers.mkdir()
    shutil.copy(eve, trust.approvers / "ann.pub")  # ann's name over eve's key
    with pytest.raises(VerificationError, match="signature of ann"):
        signing.verify(folder, signature, trust, "sentiment", 1)


def test_an_approver_named_like_a_path_is_refused(workspace: Workspace, register: Register, tmp_path: Path) -> None:
    made = register()
    folder = workspace.registry.download("sentiment", made.version, tmp_path / "f")
    key, public = keys.make(workspace.settings, "eve")
    from undertone.model_folder import digest, manifest

    statement = signing.Statement(
        task="sentiment", version=1, manifest_sha256=digest(manifest(folder)), data_sha256="", rows=1, commit="",
        lock_sha256="", trainer="", gate={}, approver=str(public.with_suffix("")), approved_at=ACT.at, reason="",
    )  # fmt: skip
    signing.sign(folder, statement, Signer("eve", key), tmp_path / "eve.sig")
    with pytest.raises(VerificationError, match="an approver with a key"):
        verify(workspace, folder, tmp_path / "eve.sig")


def test_a_failed_gate_needs_an_override_with_a_reason(workspace: Workspace, register: Register) -> None:
    made = register(passed=False)
    with pytest.raises(DecisionError, match="a gate that failed"):
        governance.approve(workspace, "sentiment", made.version, ACT)
    with pytest.raises(DecisionError, match="a reason for an override"):
        governance.approve(workspace, "sentiment", made.version, dataclasses.replace(ACT, reason=" "), override=True)
    assert workspace.registry.champion_version("sentiment") is None
    entry = governance.approve(workspace, "sentiment", made.version, ACT, override=True)
    assert entry.payload["override"] is True


def test_bytes_changed_after_the_gate_cannot_be_approved_at_all(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    made = register()
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    workspace.registry.client.log_model_artifact(made.model_id, str(tmp_path / "model.onnx"), "undertone")
    for override in (False, True):
        with pytest.raises(DecisionError, match="changed after the gate"):
            governance.approve(workspace, "sentiment", made.version, ACT, override=override)


def test_without_a_gate_verdict_there_is_no_approval(workspace: Workspace, register: Register) -> None:
    made = register(gated=False)
    with pytest.raises(DecisionError, match="no gate verdict"):
        governance.approve(workspace, "sentiment", made.version, ACT, override=True)


def test_a_rejected_version_needs_an_override(workspace: Workspace, register: Register) -> None:
    made = register()
    governance.reject(workspace, "sentiment", made.version, dataclasses.replace(ACT, reason="rude to customers"))
    with pytest.raises(DecisionError, match="rude to customers"):
        governance.approve(workspace, "sentiment", made.version, ACT)
    with pytest.raises(DecisionError, match="a reason for a rejection"):
        governance.reject(workspace, "sentiment", made.version, dataclasses.replace(ACT, reason=""))


def test_the_champion_is_rolled_back_not_rejected(workspace: Workspace, register: Register) -> None:
    governance.approve(workspace, "sentiment", register().version, ACT)
    with pytest.raises(DecisionError, match="is the champion"):
        governance.reject(workspace, "sentiment", 1, ACT)


def test_rollback_goes_back_step_by_step_and_not_forward(workspace: Workspace, register: Register) -> None:
    for _ in range(3):
        governance.approve(workspace, "sentiment", register().version, ACT)
    assert governance.rollback(workspace, "sentiment", ACT).version == 2
    assert governance.rollback(workspace, "sentiment", ACT).version == 1
    with pytest.raises(DecisionError, match="an earlier approved version"):
        governance.rollback(workspace, "sentiment", ACT)
    assert workspace.registry.champion_version("sentiment") == 1
    assert workspace.ledger.verify() == 3 + 3 + 2 * 2  # each rollback freezes, too


def test_rollback_passes_over_a_version_that_no_longer_verifies(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    for _ in range(3):
        made = register()
        governance.approve(workspace, "sentiment", made.version, ACT)
        if made.version == 2:
            (tmp_path / "model.onnx").write_bytes(b"other weights")
            workspace.registry.client.log_model_artifact(made.model_id, str(tmp_path / "model.onnx"), "undertone")
    entry = governance.rollback(workspace, "sentiment", ACT)
    assert entry.version == 1
    assert entry.payload["passed_over"][0].startswith("2: ")


def test_a_second_person_needs_a_key_of_their_own(workspace: Workspace, register: Register) -> None:
    governance.approve(workspace, "sentiment", register().version, ACT)
    with pytest.raises(ConfigError, match="trusted approvers are ann"):
        governance.approve(workspace, "sentiment", register().version, dataclasses.replace(ACT, actor="bo"))


def test_unknown_versions_and_tasks(workspace: Workspace, register: Register) -> None:
    register()
    with pytest.raises(RegistryError, match="version 9"):
        governance.approve(workspace, "sentiment", 9, ACT)
    with pytest.raises(ConfigError, match="a task"):
        governance.rollback(workspace, "urgency", ACT)


def test_mlflow_out_of_reach_says_so(tmp_path: Path) -> None:
    from undertone.registry import Registry

    registry = Registry(Settings(home=tmp_path, tracking_uri="http://127.0.0.1:9"), patient=False)
    with pytest.raises(RegistryError, match="UNDERTONE_TRACKING_URI"):
        registry.champion_version("sentiment")


def test_the_registered_bytes_are_the_folder(workspace: Workspace, register: Register, tmp_path: Path) -> None:
    from undertone.model_folder import digest, manifest

    made = register()
    folder = workspace.registry.download("sentiment", made.version, tmp_path / "copy")
    assert digest(manifest(folder)) == made.tags["undertone.manifest_sha256"]
    assert [item.version for item in workspace.registry.versions("sentiment")] == [1]
    assert workspace.registry.versions("sarcasm") == []


def test_a_rollback_freezes_until_somebody_lifts_it(workspace: Workspace, register: Register) -> None:
    for _ in range(2):
        governance.approve(workspace, "sentiment", register().version, ACT)
    governance.rollback(workspace, "sentiment", ACT)
    row = governance.frozen(workspace, "sentiment")
    assert row is not None
    assert row.reason == ACT.reason
    made = register()
    with pytest.raises(DecisionError, match="a freeze by ann"):
        governance.approve(workspace, "sentiment", made.version, ACT, override=True)
    governance.approve(workspace, "sarcasm", register("sarcasm").version, ACT)  # other tasks go on
    with pytest.raises(DecisionError, match="a reason for lifting"):
        governance.unfreeze(workspace, "sentiment", dataclasses.replace(ACT, reason=""))
    governance.unfreeze(workspace, "sentiment", ACT)
    assert governance.frozen(workspace, "sentiment") is None
    governance.approve(workspace, "sentiment", made.version, ACT)
    with pytest.raises(DecisionError, match="nothing to do"):
        governance.unfreeze(workspace, "sentiment", ACT)


def test_every_promotion_is_an_order_with_a_higher_serial(workspace: Workspace, register: Register) -> None:
    for _ in range(2):
        governance.approve(workspace, "sentiment", register().version, ACT)
    governance.rollback(workspace, "sentiment", ACT)
    orders = [
        signing.Order.model_validate(row.payload["order"])
        for row in workspace.ledger.entries("sentiment", ["approved", "rolled_back"])
    ]
    assert [(order.version, order.kind) for order in orders] == [(1, "approved"), (2, "approved"), (1, "rolled_back")]
    assert sorted({order.serial for order in orders}) == [order.serial for order in orders]
    key = Trust.of(workspace.settings).approver("ann")
    for order in orders:
        row = workspace.ledger.row(order.serial)
        assert row is not None
        assert (order.ledger_hash, order.holds(key)) == (row.hash, True)
        assert not order.model_copy(update={"serial": order.serial + 1}).holds(key)


def test_every_act_needs_a_key_that_counts(workspace: Workspace, register: Register) -> None:
    for _ in range(2):
        governance.approve(workspace, "sentiment", register().version, ACT)
    challenger = register().version
    stranger = dataclasses.replace(ACT, actor="mallory")
    before = workspace.ledger.head()
    for act in (
        lambda: governance.reject(workspace, "sentiment", challenger, stranger),
        lambda: governance.rollback(workspace, "sentiment", stranger),
        lambda: governance.freeze(workspace, "sentiment", stranger),
        lambda: governance.unfreeze(workspace, "sentiment", stranger),
    ):
        with pytest.raises(ConfigError, match="trusted approvers are ann"):
            act()
    assert workspace.ledger.head() == before


def test_a_team_signs_with_passphrases(workspace: Workspace, register: Register, enrol: Callable) -> None:
    team = Workspace(workspace.settings.model_copy(update={"profile": "team"}))
    long = "correct horse battery"
    enrol("ann", passphrase=long)
    enrol("tom", "trainer", passphrase="staple staple staple")
    proven = Workspace(team.settings.model_copy(update={"passphrase": SecretStr("staple staple staple")}))
    made = register(claimed_by=proven)
    with pytest.raises(ConfigError, match=r"the passphrase of ann\.key"):
        governance.approve(team, "sentiment", made.version, ACT)
    with pytest.raises(DecisionError, match=r"the passphrase of ann\.key"):
        governance.approve(team, "sentiment", made.version, dataclasses.replace(ACT, passphrase="wrong wrong wrong"))
    entry = governance.approve(team, "sentiment", made.version, dataclasses.replace(ACT, passphrase=long))
    assert entry.actor == "ann"
    stored = json.dumps([row.payload for row in team.ledger.entries()])
    assert "horse" not in stored
    assert long not in repr(dataclasses.replace(ACT, passphrase=long))


def test_an_approval_freezes_the_card_and_needs_whole_evidence(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    files = {"card.md": b"# A card\n", "gate.json": b"{}"}
    made = register(evidence=files)
    reason = "fine <script>alert(1)</script> [x](javascript:y)"
    governance.approve(workspace, "sentiment", made.version, dataclasses.replace(ACT, reason=reason))
    folder, _ = fetch(workspace, "sentiment", made.version, tmp_path / "copy")
    card = (tmp_path / "copy" / "card.md").read_bytes()
    statement = json.loads((folder / STATEMENT).read_text())
    assert hashlib.sha256(card).hexdigest() == statement["card_sha256"]
    assert card.startswith(b"# A card\n\n## Approval\n")
    assert b"<script>" not in card
    assert b"](javascript" not in card
    described = workspace.registry.client.get_model_version("sentiment", str(made.version)).description
    assert described == card.decode()

    changed = register(evidence=files)
    (tmp_path / "gate.json").write_text('{"passed": true}')
    workspace.registry.put_file(changed.run_id, tmp_path / "gate.json", "evaluation")
    with pytest.raises(DecisionError, match=r"gate.json was changed after the gate judged"):
        governance.approve(workspace, "sentiment", changed.version, ACT, override=True)


def test_a_verdict_against_another_champion_is_stale(workspace: Workspace, register: Register) -> None:
    governance.approve(workspace, "sentiment", register().version, ACT)
    second, third = register(against=1).version, register(against=1).version
    governance.approve(workspace, "sentiment", second, ACT)
    with pytest.raises(DecisionError, match="a verdict against version 1, while 2 serves now"):
        governance.approve(workspace, "sentiment", third, ACT)
    workspace.registry.set_champion("sentiment", 1)  # an alias moved by hand makes it no fresher
    with pytest.raises(DecisionError, match="while 2 serves now"):
        governance.approve(workspace, "sentiment", third, ACT)
    assert governance.approve(workspace, "sentiment", third, ACT, override=True).payload["override"] is True
