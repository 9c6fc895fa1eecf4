"""What somebody with EDIT in MLflow, or even with the database, can try, and what the worker says to it."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from undertone import governance, keys, signing
from undertone.errors import ConfigError, DecisionError
from undertone.governance import Act
from undertone.model_folder import GRAPH, STATEMENT, digest, manifest
from undertone.registry import ModelVersion
from undertone.signing import ORDER, SIGNATURE
from undertone.workspace import Workspace

Register = Callable[..., ModelVersion]
Enrol = Callable[..., keys.Key]
ACT = Act("ann", "test", datetime(2026, 10, 7, tzinfo=UTC))
BO = Act("bo", "test", datetime(2026, 10, 7, tzinfo=UTC))


def files_of(scratch: Path) -> list[Path]:
    return [scratch / "model" / STATEMENT, scratch / SIGNATURE, scratch / ORDER]


def newest(workspace: Workspace) -> dict[str, Any]:
    """What an order must say to fit the ledger now: anybody can read that."""
    return dict(zip(("serial", "ledger_hash"), workspace.ledger.head(), strict=True))


def overwrite(workspace: Workspace, version: int, scratch: Path) -> None:
    """What anybody with EDIT can do in MLflow after an approval."""
    graph = workspace.registry.download("sentiment", version, scratch / "theirs") / GRAPH
    data = bytearray(graph.read_bytes())
    data[-10] ^= 1
    graph.write_bytes(data)
    workspace.registry.client.log_model_artifact(
        workspace.registry.get("sentiment", version).model_id, str(graph), "undertone"
    )


def eves(workspace: Workspace) -> Workspace:
    """The same registry and ledger as somebody sees them who trusts herself."""
    settings = workspace.settings.model_copy(
        update={
            "actor": "eve",
            "trusted_keys": workspace.settings.home / "eve",
            "signing_key": workspace.settings.home / "eve.key",
        }
    )
    return Workspace(settings)


def still_serves(worker: Any, version: int) -> None:
    assert worker.task()["version"] == version
    assert worker.version() == version


def test_forged_tags_and_a_moved_alias_serve_nothing(followed, workspace: Workspace, register: Register) -> None:
    made = register(passed=False)
    forged = {"undertone.gate": "passed", "undertone.approved_by": "ann", "undertone.trainer": "nobody"}
    workspace.registry.tag("sentiment", made.version, forged)
    workspace.registry.set_champion("sentiment", made.version)
    refusal = followed.wait_refused(made.version)
    assert "in the ledger" in refusal["expected"]
    assert "moved by hand" in refusal["next_step"]
    with pytest.raises(DecisionError, match="a gate that failed"):
        governance.approve(workspace, "sentiment", made.version, ACT)
    still_serves(followed, 1)


def test_an_older_approved_version_does_not_come_back_by_its_alias(
    followed, workspace: Workspace, shelf, serve, until
) -> None:
    shelf.publish()
    followed.wait_version(2)
    workspace.registry.set_champion("sentiment", 1)
    assert "approved 2" in followed.wait_refused(1)["found"]
    still_serves(followed, 2)
    # not even for a worker that never saw version 2
    fresh = workspace.settings.model_copy(update={"state_dir": workspace.settings.home / "fresh",
        "store_url": workspace.settings.database_url, "trusted_keys": workspace.settings.trusted_dir})  # fmt: skip
    with serve(fresh) as other:
        other.wait_refused(1)
        other.score("good", status=503)
    # nor with a forged row in the ledger: the order is older than one that served
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="ann", reason="trust me", version=1)
    until(lambda: "moved by hand" not in followed.task()["refused"]["next_step"], "it is refused for another reason")
    assert "not older than one that served" in followed.task()["refused"]["expected"]
    still_serves(followed, 2)
    with serve(fresh) as other:
        assert "older than the promotion in row" in other.wait_refused(1)["found"]
    # the way back is a rollback: signed, in the ledger
    workspace.registry.set_champion("sentiment", 2)
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="ann", reason="mended", version=2)
    assert governance.rollback(workspace, "sentiment", ACT).version == 1
    followed.wait_version(1)


def test_weights_swapped_with_a_rewritten_manifest(
    followed, workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    made = register()
    governance.approve(workspace, "sentiment", made.version, ACT)
    followed.wait_version(made.version)
    governance.rollback(workspace, "sentiment", ACT)
    followed.wait_version(1)
    # eve swaps the weights of version 2, rewrites its statement and order, forges the row and moves the alias
    workspace.registry.download("sentiment", 2, tmp_path / "model")
    workspace.registry.fetch_approval("sentiment", 2, tmp_path)
    (tmp_path / "model" / GRAPH).write_bytes((tmp_path / "model" / GRAPH).read_bytes() + b"\0")
    statement = json.loads((tmp_path / "model" / STATEMENT).read_text())
    order = json.loads((tmp_path / ORDER).read_text())
    forged = {"manifest_sha256": digest(manifest(tmp_path / "model"))}
    (tmp_path / "model" / STATEMENT).write_text(json.dumps(statement | forged))
    (tmp_path / ORDER).write_text(json.dumps(order | forged | newest(workspace)))
    workspace.registry.client.log_model_artifact(made.model_id, str(tmp_path / "model" / GRAPH), "undertone")
    workspace.registry.put_approval("sentiment", 2, *files_of(tmp_path))
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="ann", reason="x", version=2)
    workspace.registry.set_champion("sentiment", 2)
    assert "the signature of ann" in followed.wait_refused(2)["expected"]
    still_serves(followed, 1)


def test_a_changed_byte_is_refused(workspace: Workspace, shelf, tmp_path: Path, serve) -> None:
    shelf.publish()
    overwrite(workspace, 1, tmp_path)
    with serve(workspace.settings) as worker:
        assert "signature of" in worker.wait_refused(1)["expected"]
        worker.score("good", status=503)
        assert worker.metric("model_refusals_total", task="sentiment") == 1


def test_a_changed_byte_in_a_new_version_leaves_the_old_one(
    followed, workspace: Workspace, shelf, tmp_path: Path
) -> None:
    shelf.publish()
    followed.wait_version(2)
    shelf.roll_back()
    followed.wait_version(1)
    overwrite(workspace, 2, tmp_path)
    workspace.registry.set_champion("sentiment", 2)
    followed.wait_refused(2)
    still_serves(followed, 1)


def test_an_alias_moved_by_hand_is_refused_until_approved(followed, workspace: Workspace, shelf) -> None:
    version = shelf.register()
    workspace.registry.set_champion("sentiment", version)
    assert "approval" in followed.wait_refused(version)["expected"]
    still_serves(followed, 1)
    shelf.approve(version)
    followed.wait_version(version)
    assert followed.task()["refused"] is None


def test_the_signature_of_another_version_does_not_help(followed, workspace: Workspace, shelf, tmp_path: Path) -> None:
    version = shelf.register()
    workspace.registry.fetch_approval("sentiment", 1, tmp_path)
    workspace.registry.put_approval("sentiment", version, *files_of(tmp_path))
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="eve", reason="", version=version)  # forged, too
    workspace.registry.set_champion("sentiment", version)
    assert f"an approval of sentiment {version}" in followed.wait_refused(version)["expected"]
    still_serves(followed, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model/weights.pkl", b"\x80\x04."),
        ("undertone/plugin.py", b"import os"),
        ("model/config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}'),
    ],
)
def test_code_slipped_in_after_the_approval(
    workspace: Workspace, register: Register, tmp_path: Path, serve, name: str, content: bytes
) -> None:
    made = register()
    governance.approve(workspace, "sentiment", made.version, ACT)
    slipped = tmp_path / "slipped" / Path(name).name
    slipped.parent.mkdir()
    slipped.write_bytes(content)
    workspace.registry.client.log_model_artifact(made.model_id, str(slipped), str(Path(name).parent))
    with serve(workspace.settings) as worker:
        assert "weights and words only" in worker.wait_refused(1)["expected"]
        worker.score("good", status=503)


@pytest.mark.parametrize("name", ["undertone/plugin.py", "model/weights.pkl", "model/config.json"])
def test_code_in_a_challenger_is_not_even_approved(workspace: Workspace, register: Register, name: str) -> None:
    def slip(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text('{"auto_map": {}}')

    made = register(edit=slip)
    with pytest.raises(governance.UndertoneError, match="weights and words only"):
        governance.approve(workspace, "sentiment", made.version, ACT, override=True)


def test_an_approval_by_an_unknown_key(followed, workspace: Workspace, register: Register) -> None:
    made = register()
    governance.approve(eves(workspace), "sentiment", made.version, Act("eve", "mine", ACT.at))
    assert "'eve'" in followed.wait_refused(made.version)["found"]
    still_serves(followed, 1)


def test_a_good_approval_under_an_order_by_an_unknown_key(
    followed, workspace: Workspace, shelf, tmp_path: Path
) -> None:
    shelf.publish()
    followed.wait_version(2)
    workspace.registry.fetch_approval("sentiment", 1, tmp_path)
    order = signing.read_order(tmp_path / ORDER, "sentiment", 1)
    _, _ = keys.make(eves(workspace).settings, "eve")
    eve = signing.Signer("eve", workspace.settings.home / "eve.key")
    for approver in ("eve", "ann"):
        one = order.model_copy(update=newest(workspace) | {"approver": approver}).sign(eve)
        (tmp_path / ORDER).write_text(one.model_dump_json())
        workspace.registry.put_approval("sentiment", 1, tmp_path / ORDER)
        workspace.ledger.append("rolled_back", "sentiment", at=ACT.at, actor="ann", reason="x", version=1)
        workspace.registry.set_champion("sentiment", 1)
        refusal = followed.wait_refused(1)
        assert "'eve'" in refusal["found"] or "signed by ann" in refusal["expected"]
        still_serves(followed, 2)


def test_an_approval_of_another_task(followed, workspace: Workspace, shelf, register: Register, tmp_path: Path) -> None:
    shelf.publish("sarcasm")
    made = register()
    workspace.registry.fetch_approval("sarcasm", 1, tmp_path)
    workspace.registry.put_approval("sentiment", made.version, *files_of(tmp_path))
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="ann", reason="x", version=made.version)
    workspace.registry.set_champion("sentiment", made.version)
    followed.wait_refused(made.version)
    still_serves(followed, 1)


def test_a_revoked_key_stops_what_it_approved(
    followed, workspace: Workspace, register: Register, enrol: Enrol, until, caplog, serve
) -> None:
    enrol("tom", "trainer")
    enrol("bo")
    # two approvers: version 1 has no trainer's signature, and duties are separated from here on
    until(lambda: followed.task()["version"] is None, "version 1 is taken out")
    assert "its trainer signed" in followed.task()["refused"]["expected"]
    for act in (BO, ACT):
        version = register().version
        governance.approve(workspace, "sentiment", version, act)
        followed.wait_version(version)
    with caplog.at_level(logging.ERROR, "undertone.serving"):
        keys.revoke(workspace.settings, "ann")
        followed.wait_version(2)  # the last good version of a key that counts
    assert "sentiment 3 was taken out of service, version 2 takes its place" in caplog.text
    assert "revoked" in followed.task()["refused"]["found"]
    with serve(workspace.settings) as restarted:
        assert restarted.task()["version"] == 2
    keys.revoke(workspace.settings, "bo")
    until(lambda: followed.client.get("/readyz").status_code == 503, "nothing serves")
    assert "NOTHING SERVES NOW" in caplog.text
    followed.score("good", status=503)
    with pytest.raises(ConfigError, match="trusted approvers are nobody"):
        governance.approve(workspace, "sentiment", 3, ACT)


def test_a_trainer_does_not_approve_their_own(
    followed, workspace: Workspace, register: Register, enrol: Enrol, tmp_path: Path
) -> None:
    """Refused where it is asked for, and again by the worker when somebody goes around that."""
    alone = Workspace(workspace.settings.model_copy(update={"trusted_keys": tmp_path / "alone"}))
    enrol("bo")
    made = register(trainer="ann")
    with pytest.raises(DecisionError, match="an approver who did not train"):
        governance.approve(workspace, "sentiment", made.version, ACT)
    keys.trust(alone.settings, "ann", workspace.settings.trusted_dir / "ann.pub", "approver")
    governance.approve(alone, "sentiment", made.version, ACT)  # her own machine trusts nobody else
    assert "did not train" in followed.wait_refused(made.version)["expected"]
    governance.approve(workspace, "sentiment", made.version, BO)
    followed.wait_version(made.version)


def test_a_trainers_name_is_proven_not_written(workspace: Workspace, register: Register, enrol: Enrol) -> None:
    enrol("ann")
    enrol("bo")
    with pytest.raises(ConfigError, match="proves that 'tom' trains"):
        register(trainer="tom")
    enrol("tom", "trainer")
    made = register(trainer="tom")
    row = workspace.ledger.latest("sentiment", ["registered"], made.version)
    # ann says that tom trained what she trained: her signature is not his
    claim = signing.Claim.model_validate(row.payload["claim"])
    hers = claim.sign(signing.Signer("ann", workspace.settings.keys_dir / "ann.key"))
    workspace.ledger.append(
        "registered",
        "sentiment",
        at=ACT.at,
        actor="tom",
        reason="",
        version=made.version,
        payload={"claim": hers.model_dump()},
    )
    with pytest.raises(DecisionError, match="the signature of 'tom'"):
        governance.approve(workspace, "sentiment", made.version, ACT)
    workspace.ledger.append("registered", "sentiment", at=ACT.at, actor="tom", reason="", version=made.version)
    with pytest.raises(DecisionError, match="its trainer signed"):
        governance.approve(workspace, "sentiment", made.version, ACT)


def test_a_copy_on_disk_needs_its_order_too(workspace: Workspace, shelf, serve) -> None:
    shelf.publish()
    with serve(workspace.settings) as worker:
        worker.wait_version(1)
    (order,) = workspace.settings.served_dir.glob(f"sentiment/1-*/{ORDER}")
    order.write_text(json.dumps(json.loads(order.read_text()) | {"serial": 7}))
    with serve(workspace.settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})) as worker:
        assert worker.task()["version"] is None
        assert "signed by ann" in worker.task()["refused"]["expected"]
