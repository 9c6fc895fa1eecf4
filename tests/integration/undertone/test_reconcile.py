"""Whatever the ledger does not explain is found once, kept open, and cleared when it is gone."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undertone import governance, keys
from undertone.errors import RegistryError
from undertone.governance import Act
from undertone.model_folder import GRAPH
from undertone.reconcile import open_findings, reconcile
from undertone.registry import ModelVersion, Registry
from undertone.workspace import Workspace

Register = Callable[..., ModelVersion]
NOW = datetime(2026, 10, 8, tzinfo=UTC)
ACT = Act("ann", "looks right", NOW)


@pytest.fixture
def two(workspace: Workspace, register: Register) -> Workspace:
    """Two approved versions; the second is the champion."""
    for _ in range(2):
        made = register(evidence={"gate.json": b"{}"})
        governance.approve(workspace, "sentiment", made.version, ACT)
    return workspace


def whats(workspace: Workspace) -> list[tuple[int | None, str]]:
    return [(item.version, item.what) for item in reconcile(workspace, NOW).open]


def test_a_registry_as_the_ledger_says_has_no_findings(two: Workspace) -> None:
    before = two.ledger.head()
    assert whats(two) == []
    assert two.ledger.head() == before


def test_an_empty_registry_has_none_either(workspace: Workspace) -> None:
    assert whats(workspace) == []


def test_a_moved_alias_is_found_once_and_cleared(two: Workspace) -> None:
    two.registry.set_champion("sentiment", 1)
    first = reconcile(two, NOW)
    assert [(item.version, item.what) for item in first.new] == [(1, "alias moved outside the ledger")]
    assert "made version 2 the champion" in first.new[0].detail
    again = reconcile(two, NOW)
    assert (len(again.open), again.new, again.cleared) == (1, (), ())
    assert [row.version for row in open_findings(two)] == [1]
    two.registry.set_champion("sentiment", 2)
    gone = reconcile(two, NOW)
    assert (gone.open, [row.version for row in gone.cleared]) == ((), [1])
    assert open_findings(two) == []
    assert [row.kind for row in two.ledger.entries("sentiment")][-2:] == ["finding", "finding_cleared"]


def test_an_alias_taken_away(two: Workspace) -> None:
    two.registry.client.delete_registered_model_alias("sentiment", "champion")
    assert whats(two) == [(None, "alias moved outside the ledger")]


def test_a_deleted_champion(two: Workspace) -> None:
    two.registry.client.delete_model_version("sentiment", "2")
    assert whats(two) == [(None, "alias moved outside the ledger"), (2, "approved version deleted")]


def test_forged_tags(two: Workspace, register: Register) -> None:
    made = register(passed=False)
    two.registry.tag("sentiment", made.version, {"undertone.gate": "passed", "undertone.approved_by": "ann"})
    assert whats(two) == [(3, "forged tag undertone.gate"), (3, "forged tag undertone.approved_by")]


def test_a_file_changed_under_the_champion(two: Workspace, tmp_path: Path) -> None:
    graph = two.registry.download("sentiment", 2, tmp_path / "theirs") / GRAPH
    graph.write_bytes(graph.read_bytes() + b"\0")
    model_id = two.registry.get("sentiment", 2).model_id
    two.registry.client.log_model_artifact(model_id, str(graph), "undertone")
    assert whats(two) == [(2, "champion does not verify")]


def test_changed_evidence(two: Workspace, tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text('{"passed": true}')
    two.registry.put_file(two.registry.get("sentiment", 2).run_id, tmp_path / "gate.json", "evaluation")
    assert whats(two) == [(2, "evidence changed: gate.json")]


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("{model}/artifacts", "champion does not verify"),
        ("{run}/artifacts/approvals", "champion's files or approval gone"),
    ],
)
def test_files_that_are_gone(two: Workspace, folder: str, what: str) -> None:
    champion = two.registry.get("sentiment", 2)
    (path,) = two.settings.mlflow_home.glob(
        "artifacts/**/" + folder.format(model=champion.model_id, run=champion.run_id)
    )
    shutil.rmtree(path)
    assert whats(two) == [(2, what)]


def test_a_revoked_approver(two: Workspace) -> None:
    keys.revoke(two.settings, "ann")
    assert whats(two) == [(2, "champion does not verify")]


def test_a_ledger_cut_and_written_anew(two: Workspace) -> None:
    """Even without the witness, the approver's signed order names a row that is no longer there."""
    rows = two.ledger.entries()
    with two.store.transaction() as connection:
        for name in connection.exec_driver_sql("select name from sqlite_schema where type = 'trigger'").scalars().all():
            connection.exec_driver_sql(f"drop trigger {name}")
        connection.exec_driver_sql("delete from ledger")
    two.ledger.witness.unlink()
    for row in rows:  # the same story, told by somebody else
        payload = row.payload
        two.ledger.append(
            row.kind, row.task, at=row.at, actor="eve", reason=row.reason, version=row.version, payload=payload
        )
    assert two.ledger.verify() == len(rows)
    found = whats(two)
    assert (2, "order does not fit the ledger") in found


def test_mlflow_out_of_reach_is_no_finding(two: Workspace) -> None:
    two.registry.set_champion("sentiment", 1)
    reconcile(two, NOW)
    lost = Workspace(two.settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"}))
    lost.__dict__["registry"] = Registry(lost.settings, patient=False)  # the cached property, impatient
    with pytest.raises(RegistryError):
        reconcile(lost, NOW)
    assert len(open_findings(two)) == 1
