"""The worker follows approvals, and refuses everything else."""

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undertone import governance
from undertone.governance import Act
from undertone.model_folder import GRAPH
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

Approve = Callable[..., int]
ACT = Act("ann", "test", datetime(2026, 10, 7, tzinfo=UTC))


def overwrite(workspace: Workspace, version: int, scratch: Path) -> None:
    """What anybody with EDIT can do in MLflow after an approval."""
    graph = workspace.registry.download("sentiment", version, scratch / "theirs") / GRAPH
    data = bytearray(graph.read_bytes())
    data[-10] ^= 1
    graph.write_bytes(data)
    workspace.registry.client.log_model_artifact(
        workspace.registry.get("sentiment", version).model_id, str(graph), "undertone"
    )


def offline(settings: Settings) -> Settings:
    return settings.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})


def test_swapping_and_rolling_back_under_load_fails_no_request(
    serving_one, workspace: Workspace, approve: Approve, wait_until
) -> None:
    seen: list[tuple[int, int]] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            answer = serving_one.score("good parcel", "bad")
            version = answer.json()["messages"][0]["tasks"]["sentiment"]["version"] if answer.status_code == 200 else 0
            seen.append((answer.status_code, version))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3):
            assert approve() == version
            serving_one.wait_for(version)
        began = time.monotonic()
        governance.rollback(workspace, "sentiment", ACT)
        serving_one.wait_for(2)
        assert time.monotonic() - began < 10
        count = len(seen)
        wait_until(lambda: len(seen) > count + 20, what="answers from the version rolled back to")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} <= {1, 2, 3}
    assert seen[-1][1] == 2


def test_a_changed_byte_is_refused(workspace: Workspace, approve: Approve, tmp_path: Path, running) -> None:
    approve()
    overwrite(workspace, 1, tmp_path)
    with running(workspace.settings) as worker:
        refusal = worker.wait_for_refusal(1)
        assert "digest" in refusal["expected"]
        assert worker.score("good").status_code == 503
        assert 'undertone_model_refusals_total{task="sentiment"}' in worker.client.get("/metrics").text


def test_a_changed_byte_in_a_new_version_leaves_the_old_one(
    serving_one, workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    made = register()
    governance.approve(workspace, "sentiment", made.version, ACT)
    serving_one.wait_for(2)
    governance.rollback(workspace, "sentiment", ACT)
    serving_one.wait_for(1)
    overwrite(workspace, 2, tmp_path)
    workspace.registry.set_champion("sentiment", 2)
    serving_one.wait_for_refusal(2)
    assert serving_one.state()["version"] == 1
    assert serving_one.score("good").json()["messages"][0]["tasks"]["sentiment"]["version"] == 1


def test_an_alias_moved_by_hand_is_refused_until_approved(
    serving_one, workspace: Workspace, register: Callable[..., ModelVersion]
) -> None:
    version = register().version
    workspace.registry.set_champion("sentiment", version)
    refusal = serving_one.wait_for_refusal(version)
    assert "approval" in refusal["expected"]
    assert serving_one.state()["version"] == 1
    governance.approve(workspace, "sentiment", version, ACT)
    serving_one.wait_for(version)
    assert serving_one.state()["refused"] is None


def test_the_signature_of_another_version_does_not_help(
    serving_one, workspace: Workspace, register: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    version = register().version
    workspace.registry.fetch_approval("sentiment", 1, tmp_path)
    files = [tmp_path / "model" / "approval.json", tmp_path / "approval.sig", tmp_path / "order.json"]
    workspace.registry.put_approval("sentiment", version, *files)
    workspace.ledger.append("approved", "sentiment", at=ACT.at, actor="eve", reason="", version=version)  # forged, too
    workspace.registry.set_champion("sentiment", version)
    refusal = serving_one.wait_for_refusal(version)
    assert f"an approval of sentiment {version}" in refusal["expected"]
    assert serving_one.state()["version"] == 1


def test_rollback_is_followed(serving_one, workspace: Workspace, approve: Approve) -> None:
    approve()
    serving_one.wait_for(2)
    governance.rollback(workspace, "sentiment", ACT)
    serving_one.wait_for(1)


def test_mlflow_out_of_reach_at_start(workspace: Workspace, approve: Approve, running, wait_until) -> None:
    approve()
    with running(workspace.settings) as worker:
        worker.wait_for(1)
    with running(offline(workspace.settings)) as worker:
        assert worker.score("good").status_code == 200
        problem = wait_until(lambda: worker.client.get("/readyz").json()["registry_problem"], 60, "the problem shown")
        assert "127.0.0.1:9" in str(problem)
        assert worker.score("good").json()["messages"][0]["tasks"]["sentiment"]["version"] == 1


@pytest.mark.parametrize("victim", [GRAPH, "approval.json", "undertone/model.json"])
def test_a_copy_on_disk_is_verified_too(workspace: Workspace, approve: Approve, victim: str, running) -> None:
    approve()
    with running(workspace.settings) as worker:
        worker.wait_for(1)
    pointer = json.loads((workspace.settings.served_dir / "sentiment" / "current.json").read_text())
    path = workspace.settings.served_dir / "sentiment" / pointer["folder"] / "model" / victim
    path.write_bytes(path.read_bytes() + b" ")
    with running(offline(workspace.settings)) as worker:
        assert worker.state()["version"] is None
        assert worker.state()["refused"]["version"] == 1
        assert worker.score("good").status_code == 503


def test_old_copies_are_dropped(serving_one, workspace: Workspace, approve: Approve, wait_until) -> None:
    for version in (2, 3, 4):
        approve()
        serving_one.wait_for(version)

    def kept() -> list[str]:
        folders = [path for path in (workspace.settings.served_dir / "sentiment").iterdir() if path.is_dir()]
        return sorted(folder.name.split("-")[0] for folder in folders)

    wait_until(lambda: kept() == ["3", "4"], what="only the current copy and the one before it are kept")
