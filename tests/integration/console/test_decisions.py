"""Decisions through forms: what they do, what they refuse, and in whose name."""

from collections.abc import Callable

import pytest

from tests.integration.console.conftest import Browser, text_of
from undertone import governance, keys
from undertone.registry import ModelVersion
from undertone.workspace import Workspace

GOOD = "correct horse battery"


@pytest.fixture
def made(register: Callable[..., ModelVersion]) -> Callable[..., int]:
    """Register one more version without evidence files, which decisions can do without; gives its number."""
    return lambda **more: register(**more).version


def test_approve_signs_and_tells(browser: Browser, workspace: Workspace, made: Callable[..., int]) -> None:
    page = f"/models/sentiment/{made()}"
    answer = browser.decide(page, "approve", reason="fifty messages read")
    assert [step.status_code for step in answer.history] == [303]
    assert "sentiment 1 is approved. Row 2 of the ledger says so." in text_of(answer)
    row = workspace.ledger.champion("sentiment")
    assert row is not None
    assert (row.kind, row.version, row.actor, row.reason) == ("approved", 1, "ann", "fifty messages read")
    assert workspace.registry.champion_version("sentiment") == 1
    assert "This version is the champion." in text_of(browser.get(page))


def test_a_notice_tells_only_what_the_ledger_holds(browser: Browser, made: Callable[..., int]) -> None:
    page = f"/models/sentiment/{made()}"
    for row in (1, 99, -1, 10**12):
        assert "of the ledger says so" not in text_of(browser.get(f"{page}?row={row}"))


def test_reject_then_approve_asks_for_an_override(
    browser: Browser, workspace: Workspace, made: Callable[..., int]
) -> None:
    page = f"/models/sentiment/{made()}"
    assert "is rejected" in text_of(browser.decide(page, "reject", reason="too sure about irony"))
    assert "although ann rejected it" in text_of(browser.get(page))
    refused = browser.decide(page, "approve", reason="second thoughts")
    assert refused.status_code == 409
    assert "Nothing was decided" in text_of(refused)
    assert "a rejection by ann: too sure about irony" in text_of(refused)
    assert ">second thoughts</textarea>" in refused.text
    assert workspace.registry.champion_version("sentiment") is None
    assert browser.decide(page, "approve", reason="second thoughts", override="yes").status_code == 200
    assert workspace.registry.champion_version("sentiment") == 1


def test_the_override_is_offered_only_where_it_is_needed(browser: Browser, made: Callable[..., int]) -> None:
    assert "although the gate refused it" in text_of(browser.get(f"/models/sentiment/{made(passed=False)}"))
    assert 'name="override"' not in browser.get(f"/models/sentiment/{made()}").text


def test_a_decision_needs_a_reason(browser: Browser, workspace: Workspace, made: Callable[..., int]) -> None:
    page = f"/models/sentiment/{made()}"
    for what in ("approve", "reject"):
        answer = browser.decide(page, what, reason="  \r\n ")
        assert answer.status_code == 422
        assert "Expected a reason" in text_of(answer)
    assert len(workspace.ledger.entries("sentiment")) == 1


def test_rollback_freezes_and_the_freeze_is_lifted(
    browser: Browser, workspace: Workspace, made: Callable[..., int]
) -> None:
    for _ in range(2):
        browser.decide(f"/models/sentiment/{made()}", "approve")
    stale = browser.decide("/models/sentiment", "rollback", champion="1", reason="from an old page")
    assert stale.status_code == 409
    assert "a rollback from 2, which serves now" in text_of(stale)
    answer = browser.decide("/models/sentiment", "rollback", champion="2", reason="complaints")
    assert "sentiment 1 serves again." in text_of(answer)
    assert governance.frozen(workspace, "sentiment") is not None
    blocked = browser.decide(f"/models/sentiment/{made()}", "approve")
    assert blocked.status_code == 409
    assert "a freeze by ann" in text_of(blocked)
    assert browser.decide("/models/sentiment", "unfreeze", reason="").status_code == 422
    assert "sentiment is no longer frozen." in text_of(browser.decide("/models/sentiment", "unfreeze", reason="mended"))
    assert governance.frozen(workspace, "sentiment") is None
    again = browser.post(
        "/models/sentiment/unfreeze", data={"token": browser.token("/models/sentiment"), "reason": "x"}
    )
    assert again.status_code == 409


def test_nothing_to_roll_back_to_is_told(browser: Browser, made: Callable[..., int]) -> None:
    browser.decide(f"/models/sentiment/{made()}", "approve")
    answer = browser.decide("/models/sentiment", "rollback", champion="1")
    assert answer.status_code == 409
    assert "an earlier approved version of 'sentiment'" in text_of(answer)


def test_changed_evidence_cannot_be_approved(
    browser: Browser, workspace: Workspace, candidate: Callable[..., int]
) -> None:
    version = candidate()
    run = workspace.registry.get("sentiment", version).run_id
    workspace.registry.client.log_text(run, "# A better card", "evaluation/card.md")
    answer = browser.decide(f"/models/sentiment/{version}", "approve")
    assert answer.status_code == 409
    assert "card.md was changed" in text_of(answer)
    assert workspace.registry.champion_version("sentiment") is None


def test_a_comparison_with_another_champion_needs_an_override(
    browser: Browser, workspace: Workspace, register: Callable[..., ModelVersion]
) -> None:
    for against in (None, 1, 1):
        register(against=against)
    for version in (1, 2):
        assert browser.decide(f"/models/sentiment/{version}", "approve").status_code == 200
    page = "/models/sentiment/3"
    assert "the gate compared it with version 1, and version 2 serves now" in text_of(browser.get(page))
    assert browser.decide(page, "approve").status_code == 409
    assert browser.decide(page, "approve", override="yes").status_code == 200


@pytest.fixture
def team(workspace: Workspace, open_console: Callable[..., Browser]) -> Browser:
    """A console of a team: ann and bo may approve, and have passphrases; tom trains."""
    settings = workspace.settings.model_copy(update={"profile": "team"})
    for name in ("ann", "bo"):
        keys.trust(settings, name, keys.make(settings, name, f"{GOOD} of {name}")[1], "approver")
    keys.trust(settings, "tom", keys.make(workspace.settings, "tom")[1], "trainer")
    return open_console(profile="team")


def test_in_a_team_the_name_is_proven_with_its_passphrase(
    team: Browser, workspace: Workspace, open_console: Callable[..., Browser], made: Callable[..., int]
) -> None:
    page = f"/models/sentiment/{made()}"
    html = team.get(page).text
    assert "<option>ann</option>" in html
    assert 'type="password"' in html
    for fields, status in (
        ({}, 422),
        ({"actor": "bo"}, 422),
        ({"actor": "tom", "passphrase": GOOD}, 409),
        ({"actor": "bo", "passphrase": f"{GOOD} of ann"}, 409),
    ):
        answer = team.decide(page, "reject", **fields)
        assert answer.status_code == status, fields
        assert GOOD not in answer.text
    assert workspace.ledger.latest("sentiment", ["approved", "rejected"]) is None
    assert team.decide(page, "approve", actor="bo", passphrase=f"{GOOD} of bo").status_code == 200
    row = workspace.ledger.champion("sentiment")
    assert row is not None
    assert (row.version, row.actor) == (1, "bo")
    # the passphrase in the console's own settings stands for nobody
    page = f"/models/sentiment/{made()}"
    own = open_console(profile="team", passphrase=f"{GOOD} of ann")
    assert own.decide(page, "reject", actor="ann").status_code == 422
    assert own.decide(page, "reject", actor="ann", passphrase=" ").status_code == 409


def test_a_key_without_a_passphrase_proves_no_name_that_is_chosen(
    workspace: Workspace, open_console: Callable[..., Browser], made: Callable[..., int]
) -> None:
    """Two approvers in the single profile: whoever reaches the page could choose either."""
    for name in ("ann", "bo"):
        keys.trust(workspace.settings, name, keys.make(workspace.settings, name)[1], "approver")
    keys.trust(workspace.settings, "tom", keys.make(workspace.settings, "tom")[1], "trainer")
    page, browser = f"/models/sentiment/{made()}", open_console()
    for passphrase in ("", GOOD):
        answer = browser.decide(page, "approve", actor="bo", passphrase=passphrase)
        assert answer.status_code == 409
        assert "asks for a passphrase" in text_of(answer)
    assert workspace.registry.champion_version("sentiment") is None


def test_mlflows_users_log_in_and_act_as_themselves(
    workspace: Workspace,
    open_console: Callable[..., Browser],
    made: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from console import people
    from undertone.errors import DecisionError
    from undertone.settings import Settings

    def known(_: Settings, name: str, password: str) -> str:
        if password != "pass:word":
            raise DecisionError("a user and password that MLflow knows", f"a refusal of {name!r}", "check both")
        return name

    monkeypatch.setattr(people, "mlflow_user", known)
    keys.trust(workspace.settings, "bo", keys.make(workspace.settings, "bo")[1], "approver")
    browser = open_console(identity="mlflow")
    page = f"/models/sentiment/{made()}"
    for path in ("/", page, "/ledger"):
        answer = browser.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "sentiment 1" not in answer.text
    browser.auth = ("bo", "wrong")
    assert browser.get("/").status_code == 401
    browser.auth = ("bo", "pass:word")
    assert "logged in as bo" in text_of(browser.get("/"))
    assert "In the name of bo" in text_of(browser.get(page))
    token = browser.token(page)
    browser.auth = ("ann", "pass:word")
    assert browser.post(f"{page}/reject", data={"token": token, "reason": "another's form"}).status_code == 403
    browser.auth = ("bo", "pass:word")
    assert browser.decide(page, "reject").status_code == 200
    assert workspace.ledger.entries("sentiment")[-1].actor == "bo"
