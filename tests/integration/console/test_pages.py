"""Every page: what it shows, what it says where there is nothing, and how errors are told."""

from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from console import worker
from tests.integration.console.conftest import Browser, text_of
from undertone import governance
from undertone.governance import Act
from undertone.ledger import Ledger
from undertone.registry import ModelVersion
from undertone.workspace import Workspace

AT = datetime(2026, 10, 6, 9, 30, tzinfo=UTC)
PAGES = ("/", "/models/sentiment", "/ledger")


@pytest.fixture
def served(workspace: Workspace, register: Callable[..., ModelVersion]) -> int:
    """Version 1 of sentiment, approved; without evidence files, which take time."""
    version = register().version
    governance.approve(workspace, "sentiment", version, Act("ann", "checked 50 messages by hand", AT))
    return version


def test_an_empty_console_names_the_next_command(browser: Browser) -> None:
    front, models, ledger = (text_of(browser.get(page)) for page in PAGES)
    assert "No version yet: undertone train sentiment" in front
    assert "No version waits. undertone train TASK" in front
    assert "undertone train sentiment trains the first" in models
    assert "Chain unbroken, 0 rows" in ledger
    assert "Nothing was decided yet. undertone train sentiment" in ledger


def test_the_front_page_shows_what_serves_who_let_it_and_what_waits(
    browser: Browser, served: int, candidate: Callable[..., int]
) -> None:
    passed, refused = candidate(), candidate(passed=False)
    text = text_of(browser.get("/"))
    assert f"Version {served} Worker not known" in text
    assert "by ann , 2026-10-06 09:30 UTC" in text
    assert "checked 50 messages by hand" in text
    assert f"sentiment {refused} ✕ gate refused" in text
    assert f"sentiment {passed} ✓ gate passed" in text
    assert f"sentiment {served} ✓" not in text
    assert "out of reach (ConnectError)" in text


def test_the_front_page_tells_the_workers_word_from_the_registrys(
    browser: Browser, served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"version": 7, "refused": {"version": served, "found": "no <b>signature</b>"}}
    answer = httpx.Response(200, json={"tasks": {"sentiment": state}})
    monkeypatch.setattr(worker.httpx, "get", lambda *_, **__: answer)
    text = text_of(browser.get("/"))
    assert "✕ serves version 7" in text
    assert f"The worker refuses version {served}: it found no <b>signature</b>." in text


def test_an_alias_that_moved_by_hand_is_said(
    browser: Browser, workspace: Workspace, served: int, register: Callable[..., ModelVersion]
) -> None:
    workspace.registry.set_champion("sentiment", register().version)
    assert f"MLflow's alias names version 2; the ledger version {served}." in text_of(browser.get("/"))
    assert f"The ledger does not say so: it names version {served}" in text_of(browser.get("/models/sentiment"))


def test_a_frozen_task_is_said_on_every_page_of_it(browser: Browser, workspace: Workspace, served: int) -> None:
    governance.freeze(workspace, "sentiment", Act("ann", "a bug upstream", AT))
    for page in ("/", "/models/sentiment", f"/models/sentiment/{served}"):
        assert "frozen" in text_of(browser.get(page)), page
    assert "Frozen by ann, 2026-10-06 09:30 UTC : A bug upstream." in text_of(browser.get("/"))


def test_a_version_is_shown_against_the_champion(browser: Browser, served: int, candidate: Callable[..., int]) -> None:
    answer = browser.get(f"/models/sentiment/{candidate()}")
    text = text_of(answer)
    assert f"Passed: not worse than the champion macro-F1 0.934 against 0.906 of champion {served}" in text
    assert "95 % interval +0.010 to +0.043; McNemar p = 0.043" in text
    assert "macro-F1 against the champion ✓ yes 0.0275 at least -0.02" in text
    assert "macro-F1 0.934 0.916 to 0.951 0.906 0.888 to 0.923 +0.027 +0.010 to +0.043" in text
    assert "F1 of positive 0.945 0.933 +0.012 448" in text
    assert "segment=starter 127" in text
    assert "names swapped 200 197 98.5 %" in text
    assert answer.text.count('class="confusion"') == 2
    assert "negative 383 91 % 18 4 % 19 5 %" in text
    assert f"Only champion {served} is right: 73" in text
    assert "Only this version is right: 103" in text
    assert "# negative and others" in text
    assert "✕ neutral 0.93 ✓ negative 0.55" in text
    assert "Thanks, Emily → positive Thanks, Wei → neutral" in text
    assert "One message takes 3.2 ms against 3.0 ms of champion 1" in text
    assert "4 2026-10-05 08:30 UTC gate gate every requirement holds" in text


def test_open_findings_of_the_reconciler_are_a_banner(browser: Browser, ledger: Ledger) -> None:
    told = {"at": AT, "actor": "reconciler", "version": 4}
    ledger.append("finding", "sentiment", reason="a tag says so", payload={"what": "approved by tag"}, **told)
    assert "1 open finding sentiment 4: approved by tag. A tag says so." in text_of(browser.get("/"))
    ledger.append("finding_cleared", "sentiment", reason="gone", payload={"what": "approved by tag"}, **told)
    assert "open finding" not in text_of(browser.get("/"))


def test_a_first_version_has_nothing_to_compare_with(browser: Browser, candidate: Callable[..., int]) -> None:
    answer = browser.get(f"/models/emotion/{candidate('emotion')}")
    assert "the first version, nothing to compare with" in text_of(answer)
    assert "There was no champion to differ from." in text_of(answer)
    assert answer.text.count('class="confusion"') == 1


def test_a_version_without_a_verdict_or_evidence_says_so(
    browser: Browser, register: Callable[..., ModelVersion]
) -> None:
    unjudged, bare = register(gated=False).version, register(passed=False).version
    text = text_of(browser.get(f"/models/sentiment/{unjudged}"))
    assert "The gate never judged this version." in text
    assert "Approve version" not in text
    text = text_of(browser.get(f"/models/sentiment/{bare}"))
    assert "Its requirements are missing from the ledger's row." in text
    assert "macro-F1 missing" in text
    assert "Approve it all the same, although the gate refused it" in text


def test_changed_and_missing_evidence_is_said_loudly(
    browser: Browser, workspace: Workspace, candidate: Callable[..., int]
) -> None:
    version = candidate()
    run = workspace.registry.get("sentiment", version).run_id
    workspace.registry.client.log_text(run, '{"macro_f1": 0.999}', "evaluation/holdout.json")
    answer = browser.get(f"/models/sentiment/{version}")
    assert "The evidence is not what the gate judged Holdout.json was changed after the gate judged." in text_of(answer)
    assert "0.999" not in answer.text
    assert browser.get(f"/models/sentiment/{version}/evidence/holdout.json").status_code == 404
    lost = candidate("sarcasm", files=False)
    assert "gate.json is missing" in text_of(browser.get(f"/models/sarcasm/{lost}")).replace("Gate", "gate")


def test_evidence_is_sent_as_what_it_is(browser: Browser, candidate: Callable[..., int]) -> None:
    page = f"/models/sentiment/{candidate()}"
    for name, kind in (
        ("gate.png", "image/png"),
        ("gate.json", "application/json"),
        ("card.md", "text/plain; charset=utf-8"),
    ):
        answer = browser.get(f"{page}/evidence/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_ledger_is_filtered_and_paged(browser: Browser, ledger: Ledger) -> None:
    for number in range(53):
        ledger.append("drift", "sarcasm", at=AT, actor="watch", reason=f"look {number}.")
    ledger.append("gate", "sentiment", at=AT, actor="gate", reason="fine", version=3, payload={"rows": 7})
    text = text_of(browser.get("/ledger"))
    assert "Chain unbroken, 54 rows." in text
    assert "54 2026-10-06 09:30 UTC gate sentiment 3 gate fine" in text
    assert '"rows": 7' in text
    assert "look 3." not in text
    assert "look 3." in text_of(browser.get("/ledger?page=2"))
    filtered = text_of(browser.get("/ledger?task=sentiment&kind=gate"))
    assert "fine" in filtered
    assert "look" not in filtered
    assert "No such row." in text_of(browser.get("/ledger?kind=approved"))
    assert browser.get("/ledger?kind=gossip").status_code == 404
    assert browser.get("/ledger?page=x").status_code == 422


def test_a_broken_ledger_is_said(browser: Browser, workspace: Workspace) -> None:
    workspace.ledger.append("drift", "sarcasm", at=AT, actor="watch", reason="stable")
    workspace.ledger.append("drift", "sarcasm", at=AT, actor="watch", reason="stable")
    with workspace.store.transaction() as connection:
        for trigger in connection.exec_driver_sql("select name from sqlite_master where type = 'trigger'").scalars():
            connection.exec_driver_sql(f'drop trigger "{trigger}"')
        connection.exec_driver_sql("update ledger set reason = 'drifted' where seq = 1")
    text = text_of(browser.get("/ledger"))
    assert "The chain is broken" in text
    assert "row 1, whose content does not match its hash" in text


def test_what_does_not_exist_is_404_in_three_parts(browser: Browser) -> None:
    for path in ("/nothing", "/models/irony", "/models/sentiment/9", "/models/sentiment/x"):
        answer = browser.get(path)
        assert answer.status_code == 404, path
        assert "Expected" in answer.text
        assert "Next" in answer.text


def test_mlflow_or_store_out_of_reach_is_503_and_mends_itself(
    browser: Browser, workspace: Workspace, served: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from undertone.errors import RegistryError, StoreError
    from undertone.registry import Registry

    def gone(*_: object, **__: object) -> None:
        raise RegistryError("an answer from MLflow", "ConnectionError", "check that MLflow is up")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "versions", gone)
        answer = browser.get(f"/models/sentiment/{served}")
        assert answer.status_code == 503
        assert "check that MLflow is up" in text_of(answer)
    assert browser.get(f"/models/sentiment/{served}").status_code == 200

    def closed(*_: object, **__: object) -> None:
        raise StoreError("an answer from the store", "locked", "check that the database is up")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "entries", closed)
        assert browser.get("/").status_code == 503


def test_an_unforeseen_failure_shows_no_traceback(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Ledger, "entries", broken)
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "RuntimeError" in answer.text
    assert "secret detail" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_page_has_its_title_heading_and_landmarks(browser: Browser, served: int) -> None:
    titles = set()
    for page in (*PAGES, f"/models/sentiment/{served}", "/nothing"):
        html = browser.get(page).text
        titles.add(html.partition("<title>")[2].partition("</title>")[0])
        for part in ('<html lang="en">', "<h1", "<main", "<header", "<footer", 'class="skip"', 'name="viewport"'):
            assert html.count(part) == 1, (page, part)
        assert "<script" not in html
        assert "style=" not in html
    assert len(titles) == 5
