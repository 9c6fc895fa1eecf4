"""Labelling in a real browser, with the keyboard alone, on a desk and on a phone, by day and by night."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_console import NASTY, WIDTHS, page, process, tab_to, wait_until  # noqa: F401 - a fixture
from undertone.records import Message, Prediction, ScoredMessage
from undertone.review_picks import Pick
from undertone.settings import Settings
from undertone.workspace import Workspace

LONG = "Where is my parcel? " + "It was to come on Tuesday, and nobody at your shop answers. " * 60
TEXTS = ("love it, thanks!", "oh great, late again", NASTY, LONG, "שלום, where is it?", "x" * 400)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Six messages for an audit of sentiment, every label of which is asked of a second person, too."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("reviews")
    made = Workspace(Settings(home=home, actor="ann", console_port=port, second_share=1.0, guideline="2026-11"))
    now = datetime.now(UTC) - timedelta(hours=5)
    for number, text in enumerate(TEXTS):
        message = Message(f"m{number}", text, "chat", "pay-per-use", "c1", now, now)
        answer = Prediction(f"m{number}", "sentiment", "positive", (0.1, 0.2, 0.7), 3, "ab" * 32, now)
        made.store.record([ScoredMessage(message, (answer,))])
    picks = [Pick(f"m{number}", None, 1.0, "positive") for number in range(len(TEXTS))]
    made.reviews.add("sentiment", "a-1", "audit", picks, version=3, asked_at=now)
    return made


@pytest.fixture(scope="module")
def url(workspace: Workspace) -> Iterator[str]:
    """Address of a running console."""
    found = f"http://127.0.0.1:{workspace.settings.console_port}"
    with process(workspace.settings, "console"):
        wait_until(lambda: httpx.get(f"{found}/healthz").is_success, 60, "the console's start")
        yield found


def focused(page: Any) -> str:  # noqa: F811
    text: str = page.evaluate("document.activeElement.textContent")
    return " ".join(text.split())


def press_access_key(page: Any, digit: str) -> None:  # noqa: F811
    """Alt and a digit, with the character that a real keyboard sends and Playwright leaves out."""
    keys = {"modifiers": 1, "key": digit, "code": f"Digit{digit}", "windowsVirtualKeyCode": 48 + int(digit)}
    session = page.context.new_cdp_session(page)
    session.send("Input.dispatchKeyEvent", keys | {"type": "keyDown", "text": digit, "unmodifiedText": digit})
    session.send("Input.dispatchKeyEvent", keys | {"type": "keyUp"})


def test_label_skip_and_undo_with_the_keyboard_alone(url: str, page: Any, workspace: Workspace) -> None:  # noqa: F811
    page.goto(f"{url}/reviews")
    tab_to(page, ".queues .big a")
    assert focused(page) == "Label 6 messages"
    page.keyboard.press("Enter")
    page.wait_for_url("**/reviews/sentiment")
    assert page.get_by_role("region", name="Message").inner_text() == TEXTS[0]
    assert focused(page) == "1 negative"  # one more Enter would label
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused(page) == "3 positive"
    page.keyboard.press("Enter")
    page.get_by_text("you said positive").wait_for()
    assert page.get_by_role("region", name="Message").inner_text() == TEXTS[1]
    assert focused(page) == "1 negative"
    tab_to(page, "[name=skip]")
    page.keyboard.press("Enter")
    page.get_by_text("you skipped it").wait_for()
    assert NASTY in page.get_by_role("region", name="Message").inner_text()
    assert page.title() == "Label sentiment · Undertone"
    tab_to(page, ".undo button")
    page.keyboard.press("Enter")
    page.get_by_text("you said positive").wait_for()
    assert page.get_by_role("region", name="Message").inner_text() == TEXTS[1]
    press_access_key(page, "1")
    page.get_by_text("you said negative").wait_for()
    labels = {row["message_id"]: (row["label"], row["labeller"]) for row in workspace.store.labelled("sentiment")}
    assert labels == {"m0": ("positive", "ann"), "m1": ("negative", "ann")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_review_page_is_wider_than_its_screen(
    url: str,
    page: Any,  # noqa: F811
    workspace: Workspace,
    scheme: str,
    tmp_path: Path,
) -> None:
    now, queue = datetime.now(UTC), workspace.reviews
    for item in queue.next("sentiment", "bo", now, count=9):
        queue.label(item["id"], "neutral", "bo", now)
    page.emulate_media(color_scheme=scheme)
    for path in ("/reviews", "/reviews/sentiment", "/reviews/sentiment/agreement", "/reviews/emotion"):
        page.goto(url + path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} at {width} px is {wide} px wide"
            page.screenshot(path=tmp_path / f"{path.strip('/').replace('/', '-')}-{width}-{scheme}.png", full_page=True)
        assert page.title() != "attacked"
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{url}/reviews/sentiment")
    seen = page.evaluate("document.querySelector('.choices button').getBoundingClientRect().bottom <= innerHeight")
    assert seen, "a phone shows the message and the first label at once"
