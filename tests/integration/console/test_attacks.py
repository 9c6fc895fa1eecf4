"""Attacks: forms forged elsewhere, names pointed at this machine, HTML in what customers, trainers, approvers write."""

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape

import pytest

from console.__main__ import refuse_open_door
from tests.integration.console.conftest import Browser, text_of
from undertone.errors import ConfigError
from undertone.ledger import Ledger
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.workspace import Workspace

PAGE = "/models/sentiment/1"
FORM = "application/x-www-form-urlencoded"
HTML = '<script>alert(1)</script>"><img src=x onerror=alert(1)>\'"><svg/onload=alert(1)>{{ 7 * 7 }}'


@pytest.fixture
def undecided(workspace: Workspace, register: Callable[..., ModelVersion]) -> Callable[[], bool]:
    """Whether nobody decided on version 1."""
    register()
    return lambda: workspace.ledger.latest("sentiment", ["approved", "rejected"]) is None


def test_a_form_without_its_token_is_refused(browser: Browser, undecided: Callable[[], bool]) -> None:
    browser.get(PAGE)
    for token in (None, "", "0" * 64, "ü", "not even hexadecimal"):
        answer = browser.post(f"{PAGE}/reject", data={"reason": "x"} | ({} if token is None else {"token": token}))
        assert answer.status_code == 403, token
        assert "load the page again" in text_of(answer)
    assert undecided()


def test_the_token_of_another_session_is_refused(
    browser: Browser, open_console: Callable[..., Browser], undecided: Callable[[], bool]
) -> None:
    form = {"reason": "x", "token": browser.token(PAGE)}
    other, without_cookie, restarted = browser.again(), browser.again(), open_console()
    other.get(PAGE)
    restarted.cookies = browser.cookies
    for attacker in (other, without_cookie, restarted):
        assert attacker.post(f"{PAGE}/reject", data=form).status_code == 403
    assert undecided()
    assert browser.post(f"{PAGE}/reject", data=form).status_code == 200


def test_a_form_sent_by_another_site_is_refused_even_with_a_token(
    browser: Browser, undecided: Callable[[], bool]
) -> None:
    form = {"reason": "x", "token": browser.token(PAGE)}
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8500.evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8500"},
    ):
        answer = browser.post(f"{PAGE}/reject", data=form, headers=headers)
        assert answer.status_code == 403, headers
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert undecided()
    own = {"Origin": "http://127.0.0.1:8500", "Sec-Fetch-Site": "same-origin"}
    assert browser.post(f"{PAGE}/reject", data=form, headers=own).status_code == 200
    assert not undecided()


def test_a_name_pointed_at_this_machine_reads_nothing(open_console: Callable[..., Browser]) -> None:
    browser = open_console(console_hosts=["console.shop.example"])
    for host in ("evil.example", "evil.example:8500", "127.0.0.1.evil.example", "", "127.0.0.1@evil"):
        answer = browser.get("/ledger", headers={"Host": host})
        assert answer.status_code == 400, host
        assert "ledger" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    for host in ("localhost:8500", "[::1]:8500", "console.shop.example"):
        assert browser.get("/ledger", headers={"Host": host}).status_code == 200, host


def test_decisions_are_never_taken_by_get(browser: Browser, undecided: Callable[[], bool]) -> None:
    assert browser.get(f"{PAGE}/reject?reason=x&token={browser.token(PAGE)}").status_code == 405
    assert undecided()


def test_bodies_that_are_no_form_are_refused(browser: Browser, undecided: Callable[[], bool]) -> None:
    token = f"token={browser.token(PAGE)}&".encode()
    for body, kind, status in (
        (token + b"reason=" + b"x" * 30_000, FORM, 413),
        (token + b"reason=" + b"x" * 2_001, FORM, 413),
        (b'{"reason": "x"}', "application/json", 400),
        (token + b"reason=x", "text/plain", 400),
        (token + b"reason=\xff", FORM, 400),
        (token + b"reason=%ff", FORM, 400),
        (token + b"&".join(b"a=b" for _ in range(50)), FORM, 400),
    ):
        answer = browser.post(f"{PAGE}/reject", content=body, headers={"Content-Type": kind})
        assert answer.status_code == status, body[:90]
    assert undecided()


def test_html_is_shown_as_text_wherever_people_write(
    browser: Browser, ledger: Ledger, candidate: Callable[..., int]
) -> None:
    html = HTML
    candidate()
    browser.decide(PAGE, "approve", reason=f"good {html}")
    version = candidate(text=f"message {html}", segment=f"segment={html}")
    page = f"/models/sentiment/{version}"
    browser.decide(page, "reject", reason=f"bad {html}")
    ledger.append("drift", "sarcasm", at=datetime.now(UTC), actor=html, reason=html, payload={html: html})
    refused = browser.decide(page, "approve", reason=f"typed {html}")
    assert f"typed {escape(html)}".replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in refused.text
    for answer in (refused, *(browser.get(path) for path in ("/", "/models/sentiment", page, "/ledger", f"/{html}"))):
        assert html not in answer.text
        for tag in ("<script", "<img src=x", "<svg/"):
            assert tag not in answer.text
    shown = text_of(browser.get(page))
    for written in ("bad ", "message ", "segment="):
        assert f"{written}{html}" in shown


def test_headers_stand_on_every_answer(browser: Browser, undecided: Callable[[], bool]) -> None:
    for path in ("/", PAGE, "/static/console.css", "/nothing", "/ledger?page=x"):
        headers = browser.get(path).headers
        policy = headers["content-security-policy"]
        for rule in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert rule in policy, path
        assert "script-src" not in policy
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "same-origin")
    cookie = browser.again().get("/ledger").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_only_evidence_is_sent_as_evidence(browser: Browser, undecided: Callable[[], bool]) -> None:
    for name in ("..%2f..%2fundertone.db", "%2e%2e", "gate.json%00", "nothing.png"):
        assert browser.get(f"{PAGE}/evidence/{name}").status_code == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "console.shop.example"])
def test_a_console_that_asks_nobody_who_they_are_stays_on_this_machine(host: str) -> None:
    with pytest.raises(ConfigError, match="UNDERTONE_PROFILE=team"):
        refuse_open_door(Settings(), host)
    refuse_open_door(Settings(profile="team"), host)
    for own in ("127.0.0.1", "::1", "localhost"):
        refuse_open_door(Settings(), own)
