"""The governance lead's day at the command line, over a real registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from undertone.errors import ConfigError, DecisionError, StoreError
from undertone.registry import ModelVersion
from undertone.settings import get_settings
from undertone.workspace import Workspace

Undertone = Callable[..., Any]


def test_from_a_key_to_a_rollback(undertone: Undertone, register: Callable[..., ModelVersion], tmp_path: Path) -> None:
    for version in (1, 2):
        register()
        done = undertone(
            "models", "approve", "sentiment", str(version), "--now", f"2026-11-0{version}T10:00Z", "--json"
        )
        assert (done["kind"], done["version"], done["actor"]) == ("approved", version, "ann")
    assert [row["name"] for row in undertone("keys", "list", "--json")] == ["ann"]
    with pytest.raises(DecisionError, match="a reason for a rollback"):
        undertone("models", "rollback", "sentiment")
    back = undertone(
        "models", "rollback", "sentiment", "--reason", "complaints", "--now", "2026-11-03T10:00Z", "--json"
    )
    assert back["version"] == 1
    register()
    with pytest.raises(DecisionError, match="undertone models unfreeze sentiment"):
        undertone("models", "approve", "sentiment", "3")
    undertone("models", "unfreeze", "sentiment", "--reason", "mended")
    assert "sentiment 3 approved by ann" in undertone("models", "approve", "sentiment", "3")
    assert "sentiment frozen by ann: stop" in undertone("models", "freeze", "sentiment", "--reason", "stop")

    served = {
        time: {row["task"]: row for row in undertone("ledger", "at", time, "--json")}
        for time in ("2026-11-01T09:59Z", "2026-11-01T10:00Z", "2026-11-02T23:00Z", "2026-11-03T10:00Z")
    }
    assert [rows["sentiment"]["version"] for rows in served.values()] == [None, 1, 2, 1]
    now = served["2026-11-03T10:00Z"]["sentiment"]
    assert (now["how"], now["by"], now["approved_by"], now["reason"]) == ("rolled_back", "ann", "ann", "complaints")
    assert now["gate_row"] == 1
    assert served["2026-11-03T10:00Z"]["emotion"]["how"] == "nothing served"

    rows = undertone("ledger", "verify", "--json")["rows"]
    undertone("ledger", "export", "--output", str(tmp_path / "ledger.jsonl"))
    assert undertone("ledger", "verify", "--file", str(tmp_path / "ledger.jsonl"), "--json")["rows"] == rows
    assert undertone("ledger", "export") == (tmp_path / "ledger.jsonl").read_text()
    (tmp_path / "ledger.jsonl").write_text((tmp_path / "ledger.jsonl").read_text().replace("complaints", "praise"))
    with pytest.raises(StoreError, match="whose content does not match"):
        undertone("ledger", "verify", "--file", str(tmp_path / "ledger.jsonl"))
    with pytest.raises(ConfigError, match="an export at"):
        undertone("ledger", "verify", "--file", str(tmp_path / "nothing.jsonl"))

    pack = tmp_path / "pack.zip"
    assert "README.md" in undertone("models", "evidence", "sentiment", "3", "--output", str(pack), "--json")["files"]
    assert pack.stat().st_size > 1_000
    assert "registry and ledger agree" in undertone("ledger", "reconcile")


def test_keys_and_findings(undertone: Undertone, workspace: Workspace, register: Callable[..., ModelVersion]) -> None:
    made = undertone("keys", "new", "bo", "--json")
    assert Path(made["private"]).stat().st_mode & 0o077 == 0
    undertone("keys", "trust", "bo", "--reason", "joined the desk")
    undertone("keys", "new", "tom")
    undertone("keys", "trust", "tom", "--role", "trainer")
    with pytest.raises(ConfigError, match="a role"):
        undertone("keys", "trust", "tom", "--role", "king")
    undertone("keys", "new", "ann")
    undertone("keys", "trust", "ann")
    roles = [(row["name"], row["role"], row["counts"]) for row in undertone("keys", "list", "--json")]
    assert roles == [("ann", "approver", "yes"), ("bo", "approver", "yes"), ("tom", "trainer", "yes")]
    register()
    undertone("models", "approve", "sentiment", "1")
    with pytest.raises(DecisionError, match="a reason for revoking"):
        undertone("keys", "revoke", "ann")
    assert "ann is revoked" in undertone("keys", "revoke", "ann", "--reason", "laptop lost")
    found = undertone("ledger", "reconcile", "--json", code=1)
    assert [(item["task"], item["what"]) for item in found["open"]] == [("sentiment", "champion does not verify")]
    assert "revoked" in found["open"][0]["detail"]
    kinds = [(row.kind, row.payload["name"]) for row in workspace.ledger.entries("all")]
    assert kinds == [("key_trusted", "bo"), ("key_trusted", "tom"), ("key_trusted", "ann"), ("key_revoked", "ann")]


def test_a_new_passphrase_is_asked_for_in_a_team(undertone: Undertone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERTONE_PROFILE", "team")
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match="set UNDERTONE_PASSPHRASE"):
        undertone("keys", "new", "ann")
    monkeypatch.setenv("UNDERTONE_PASSPHRASE", "correct horse battery")
    get_settings.cache_clear()
    made = undertone("keys", "new", "ann", "--json")
    assert "ENCRYPTED" in Path(made["private"]).read_text()
