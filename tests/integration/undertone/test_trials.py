"""Shadow and canary as acts of a person: what is asked, signed and written."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from undertone import governance, signing, trial_acts, trials
from undertone.errors import ConfigError, DecisionError, VerificationError
from undertone.governance import Act
from undertone.keys import Trust
from undertone.model_folder import MODEL, STATEMENT
from undertone.reconcile import findings
from undertone.records import LedgerEntry
from undertone.registry import ModelVersion
from undertone.signing import Order, Statement, TrialOrder
from undertone.trial_figures import Figures
from undertone.workspace import Workspace

ACT = Act("ann", "let us see", datetime(2026, 10, 6, tzinfo=UTC))
LATER = dataclasses.replace(ACT, at=ACT.at + timedelta(hours=1))


@pytest.fixture
def challenged(workspace: Workspace, register: Callable[..., ModelVersion]) -> Workspace:
    """Version 1 serves, version 2 passed the gate against it."""
    governance.approve(workspace, "sentiment", register().version, ACT)
    register(against=1)
    return workspace


def start(
    workspace: Workspace, version: int = 2, kind: Any = "canary", share: float = 0.05, **more: Any
) -> LedgerEntry:
    act = more.pop("act", ACT)
    return trial_acts.start(workspace, "sentiment", version, act, kind=kind, share=share, **more)


def running(workspace: Workspace) -> trials.Trial | None:
    return trials.running(workspace.ledger, "sentiment")


def test_a_trial_is_signed_bytes_and_a_signed_order(challenged: Workspace, tmp_path: Path) -> None:
    entry = start(challenged)
    assert challenged.registry.champion_version("sentiment") == 1  # nothing is promoted
    trial = running(challenged)
    assert trial is not None
    assert (trial.number, trial.version) == (entry.seq, 2)
    order = trial.order()
    assert (order.kind, order.share, order.champion, order.approver) == ("canary", 0.05, 1, "ann")
    trials.check_order(challenged.ledger, trial, order)
    challenged.registry.download("sentiment", 2, tmp_path / MODEL)
    challenged.registry.fetch_trial("sentiment", 2, tmp_path)
    trust = Trust.of(challenged.settings)
    statement = signing.verify_trial(tmp_path / MODEL, tmp_path / signing.SIGNATURE, order, trust)
    assert (statement.purpose, statement.trainer, statement.gate["passed"]) == ("canary", "tom", True)

    for change in ({"share": 0.5}, {"kind": "shadow"}, {"version": 3}, {"champion": 7}, {"policy": {"max_errors": 99}}):
        forged = TrialOrder.model_validate({**order.model_dump(), **change})
        with pytest.raises(VerificationError):
            signing.verify_trial(tmp_path / MODEL, tmp_path / signing.SIGNATURE, forged, trust)
    with pytest.raises(VerificationError, match="a signed statement"):  # a trial is no approval
        signing.verify(tmp_path / MODEL, tmp_path / signing.SIGNATURE, trust, "sentiment", 2)
    with pytest.raises(ValidationError):
        Order.model_validate(order.model_dump())


def test_an_approval_is_no_trial(challenged: Workspace, tmp_path: Path) -> None:
    governance.fetch(challenged, "sentiment", 1, tmp_path)
    start(challenged)
    trial = running(challenged)
    assert trial is not None
    order = trial.order().model_copy(update={"version": 1})
    with pytest.raises(VerificationError, match="a signed statement"):
        signing.verify_trial(tmp_path / MODEL, tmp_path / signing.SIGNATURE, order, Trust.of(challenged.settings))
    Statement.model_validate_json((tmp_path / MODEL / STATEMENT).read_text())  # as approvals were before trials


def test_a_canary_needs_what_an_approval_needs_and_a_shadow_does_not(
    challenged: Workspace, register: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    failed, unjudged = register(passed=False).version, register(gated=False).version
    with pytest.raises(DecisionError, match="a gate that failed"):
        start(challenged, failed)
    with pytest.raises(DecisionError, match="a reason for an override"):
        start(challenged, failed, override=True, act=dataclasses.replace(ACT, reason=""))
    assert start(challenged, failed, override=True).payload["override"] is True
    trial_acts.end(challenged, "sentiment", ACT)
    with pytest.raises(DecisionError, match="no gate verdict"):
        start(challenged, unjudged)
    for version in (failed, unjudged):
        start(challenged, version, "shadow", 0.2)
        trial_acts.end(challenged, "sentiment", ACT)
    changed = register()
    (tmp_path / "model.onnx").write_bytes(b"other weights")
    challenged.registry.client.log_model_artifact(changed.model_id, str(tmp_path / "model.onnx"), "undertone")
    with pytest.raises(DecisionError, match="changed after the gate"):
        start(challenged, changed.version, "shadow")


def test_what_cannot_be_tried(challenged: Workspace, register: Callable[..., ModelVersion]) -> None:
    third = register().version
    with pytest.raises(DecisionError, match="the champion"):
        start(challenged, 1)
    for kind, share in (("canary", 0.6), ("canary", 0.0), ("shadow", 1.1), ("shadow", -1.0)):
        with pytest.raises(ConfigError, match="a share above 0"):
            start(challenged, kind=kind, share=share)
    with pytest.raises(ConfigError, match="a disagreement between"):
        start(challenged, max_disagreement=2.0)
    with pytest.raises(ConfigError, match="trusted approvers are ann"):
        start(challenged, act=dataclasses.replace(ACT, actor="mallory"))
    start(challenged)
    with pytest.raises(DecisionError, match="one of version 2"):
        start(challenged, third)
    register("sarcasm")
    with pytest.raises(DecisionError, match="a champion of 'sarcasm' to compare with"):
        trial_acts.start(challenged, "sarcasm", 1, ACT, kind="shadow", share=0.1)


def test_a_freeze_forbids_the_start_of_a_trial(challenged: Workspace) -> None:
    governance.freeze(challenged, "sentiment", ACT)
    for kind in ("shadow", "canary"):
        with pytest.raises(DecisionError, match="a freeze by ann"):
            start(challenged, kind=kind)
    assert running(challenged) is None
    governance.unfreeze(challenged, "sentiment", ACT)
    start(challenged)


def test_nobody_tries_what_they_trained(
    workspace: Workspace, register: Callable[..., ModelVersion], enrol: Callable[..., Any]
) -> None:
    governance.approve(workspace, "sentiment", register().version, ACT)
    enrol("bo")  # two approvers: duties are separated
    own = register(trainer="ann").version
    with pytest.raises(DecisionError, match="an approver who did not train"):
        start(workspace, own, "shadow")
    by_bo = dataclasses.replace(ACT, actor="bo")
    assert start(workspace, own, "shadow", act=by_bo).actor == "bo"


def test_a_person_ends_it_with_a_reason_and_the_figures_stay(challenged: Workspace) -> None:
    with pytest.raises(DecisionError, match="none that runs"):
        trial_acts.end(challenged, "sentiment", ACT)
    number = start(challenged).seq
    seen = Figures(compared=30, disagreed=3, slices={"channel=email": (30, 3)})
    for worker in ("one", "other", "one"):  # the newest of each worker counts
        trials.write_figures(challenged.store, number, worker, ACT.at, seen)
    assert trials.pooled(challenged.store, number) == seen + seen
    assert trials.pooled(challenged.store, number, without="one") == seen
    with pytest.raises(DecisionError, match="a reason for the end of a trial"):
        trial_acts.end(challenged, "sentiment", dataclasses.replace(ACT, reason=" "))
    row = trial_acts.end(challenged, "sentiment", LATER)
    assert row.payload == {
        "trial": number,
        "automatic": False,
        "figures": (seen + seen).model_dump(mode="json"),
    }
    assert running(challenged) is None
    assert challenged.ledger.verify() == row.seq


def test_a_share_grows_and_a_shadow_becomes_a_canary(challenged: Workspace) -> None:
    first = start(challenged, kind="shadow", share=0.2)
    second = start(challenged, share=0.05)
    third = start(challenged, share=0.2, max_disagreement=0.3)
    trial = running(challenged)
    assert trial is not None
    assert (trial.number, trial.order().share, trial.order().policy.max_disagreement) == (third.seq, 0.2, 0.3)
    ended = challenged.ledger.entries("sentiment", ["trial_ended"])
    assert [row.payload["trial"] for row in ended] == [first.seq, second.seq]
    assert trials.end(
        challenged.ledger, trials.Trial(first), at=ACT.at, actor="x", reason="again", automatic=True
    ) is None  # it ended once  # fmt: skip
    assert running(challenged) is not None


def test_a_promotion_a_rollback_and_a_rejection_end_it(
    challenged: Workspace, register: Callable[..., ModelVersion]
) -> None:
    start(challenged)
    governance.approve(challenged, "sentiment", 2, ACT)
    assert running(challenged) is None
    register(against=2)
    start(challenged, 3)
    governance.rollback(challenged, "sentiment", ACT)
    governance.unfreeze(challenged, "sentiment", ACT)
    start(challenged, 3, "shadow")
    governance.reject(challenged, "sentiment", 3, ACT)
    assert running(challenged) is None
    reasons = [row.reason for row in challenged.ledger.entries("sentiment", ["trial_ended"])]
    assert [reason.split(" (")[0] for reason in reasons] == [
        "version 2 was approved",
        "version 1 was rolled back",
        "the version was rejected: let us see",
    ]


def test_a_started_row_that_is_played_back_is_refused(challenged: Workspace) -> None:
    first = start(challenged)
    trial_acts.end(challenged, "sentiment", ACT)
    for payload in (first.payload, {}, {"order": {**first.payload["order"], "version": 1}}):
        challenged.ledger.append(
            "trial_started", "sentiment", at=ACT.at, actor="ann", reason="", version=2, payload=payload
        )
        trial = running(challenged)
        assert trial is not None
        with pytest.raises(VerificationError):
            trials.check_order(challenged.ledger, trial, trial.order())
        trial_acts.end(challenged, "sentiment", ACT)  # a forged trial can be ended, too


def test_the_reconciler_finds_a_trial_that_nobody_signed(challenged: Workspace) -> None:
    row = start(challenged)
    assert list(findings(challenged)) == []
    trial_acts.end(challenged, "sentiment", ACT)
    payload = {"order": {**row.payload["order"], "share": 1.0}}
    challenged.ledger.append(
        "trial_started", "sentiment", at=ACT.at, actor="ann", reason="", version=2, payload=payload
    )
    assert [(found.version, found.what) for found in findings(challenged)] == [(2, "trial does not verify")]
