"""The review pages: what they show and never show, whose label it is, and what a form may not do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.console.conftest import Browser, text_of
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.review_picks import Pick, Reason
from undertone.reviews import Kind
from undertone.schema import messages
from undertone.workspace import Workspace

PAGE = "/reviews/sentiment"
HOUR = timedelta(hours=1)


def ask(workspace: Workspace, numbers: range, kind: Kind = "audit", reason: Reason | None = None) -> None:
    """Messages that version 3 found positive, in the queue."""
    now = datetime.now(UTC) - 5 * HOUR
    for n in numbers:
        message = Message(f"m{n}", f"late parcel <b>{n}</b>", "chat", "pay-per-use", "c1", now, now)
        answer = Prediction(f"m{n}", "sentiment", "positive", (0.1, 0.2, 0.7), 3, "ab" * 32, now, needs_review=True)
        workspace.store.record([ScoredMessage(message, (answer,), "positive", "positive words", 0.7, True)])
    picks = [Pick(f"m{n}", None, 2.0, "positive", reason, float(n)) for n in numbers]
    workspace.reviews.add("sentiment", f"{kind}-{numbers.start}", kind, picks, version=3, asked_at=now)


def item_on(browser: Browser, page: str = PAGE) -> str:
    return browser.get(page).text.partition('name="item" value="')[2].partition('"')[0]


def post(browser: Browser, page: str = PAGE, **fields: str) -> Any:
    """Send the form of a page as the browser would."""
    token = browser.token(page.removesuffix("/undo"))
    return browser.post(page, data={"token": token} | fields, follow_redirects=False)


def labels(workspace: Workspace) -> list[tuple[str, str, str]]:
    return [(row["message_id"], row["label"], row["labeller"]) for row in workspace.store.labelled("sentiment")]


def test_empty_queues_say_what_fills_them(browser: Browser) -> None:
    text = text_of(browser.get("/reviews"))
    assert "Nothing waits undertone reviews pick sentiment queues messages" in text
    assert "You label as ann ." in text
    assert "Nothing waits for a label." in text_of(browser.get(PAGE))
    assert "No message has two labels yet." in text_of(browser.get(f"{PAGE}/agreement"))
    for path in ("/reviews/urgency", "/reviews/urgency/agreement"):
        assert browser.get(path).status_code == 404


def test_a_message_is_shown_and_no_answer(browser: Browser, workspace: Workspace) -> None:
    ask(workspace, range(1), "review", "disagreement")
    answer = browser.get(PAGE)
    text = text_of(answer)
    assert "Is the customer content? late parcel <b>0</b> chat · segment pay-per-use · 5 hours old" in text
    assert "1 negative 2 neutral 3 positive s skip: nobody could tell" in text
    assert "guideline version 1" in text
    assert "<b>0</b>" not in answer.text
    for told in ("0.7", "version 3", "disagree", "unsure", "positive words", "predicted"):
        assert told not in text
    assert answer.text.count("positive") == 2  # the value and the word of one button
    assert answer.text.count(" autofocus") == 1
    assert 'accesskey="1" autofocus' in answer.text


def test_label_skip_and_undo_each_lead_to_the_next_message(browser: Browser, workspace: Workspace) -> None:
    ask(workspace, range(3))
    first = item_on(browser)
    done = post(browser, item=first, label="negative")
    assert (done.status_code, done.headers["location"]) == (303, PAGE)
    assert labels(workspace) == [("m0", "negative", "ann")]
    assert f"Item {first}: you said negative ." in text_of(browser.get(PAGE))
    second = item_on(browser)
    assert post(browser, item=second, skip="yes").status_code == 303
    third = item_on(browser)
    assert len({first, second, third}) == 3
    assert "you skipped it" in text_of(browser.get(PAGE))
    assert post(browser, f"{PAGE}/undo", item=second).status_code == 303
    assert item_on(browser) == second
    assert post(browser, f"{PAGE}/undo", item=first).status_code == 303
    assert labels(workspace) == []
    stale = post(browser, f"{PAGE}/undo", item=first)
    assert stale.status_code == 409
    assert "Nothing was changed Expected a label or skip by ann to take back" in text_of(stale)


def test_another_person_gets_another_message_and_the_same_one_a_second_time(
    open_console: Callable[..., Browser], workspace: Workspace
) -> None:
    ask(workspace, range(2))
    ann, bo = open_console(second_share=1.0), open_console(actor="bo", second_share=1.0)
    items = item_on(ann), item_on(bo)
    assert items[0] != items[1]
    assert "No message for you now: 2 are in other hands" in text_of(open_console(actor="eve").get(PAGE))
    taken = post(bo, item=items[0], label="neutral")
    assert (taken.status_code, labels(workspace)) == (409, [])
    assert "ann has it until" in text_of(taken)
    assert item_on(bo) == items[1]  # and bo's own message stands below
    post(ann, item=items[0], label="negative")
    post(bo, item=items[1], label="negative")
    post(ann, item=item_on(ann), label="negative")
    post(bo, item=item_on(bo), label="neutral")
    assert "Nothing waits for a label." in text_of(ann.get(PAGE))
    assert labels(workspace) == [("m0", "negative", "ann"), ("m1", "negative", "bo")]
    front = text_of(ann.get("/reviews"))
    assert "audit: drawn at random 0 0 2 0 labelled before, by another person 0 0 2 0" in front
    assert "too few to tell , on 2 messages where they differ" in front
    agreement = text_of(ann.get(f"{PAGE}/agreement"))
    assert "everybody 2 50.0 %" in agreement
    assert "ann and bo 2" in agreement
    assert "late parcel <b>0</b> negative ann neutral bo" in agreement
    assert "late parcel <b>1</b>" not in agreement
    with workspace.store.transaction() as connection:
        connection.execute(messages.delete())
    assert "erased negative ann neutral bo" in text_of(ann.get(f"{PAGE}/agreement"))


def test_quality_is_of_random_answers_only(browser: Browser, workspace: Workspace) -> None:
    workspace.ledger.append("approved", "sentiment", at=datetime.now(UTC), actor="ann", reason="test", version=3)
    ask(workspace, range(40))
    ask(workspace, range(40, 45), "review", "random")
    ask(workspace, range(45, 50), "review", "unsure")
    now = datetime.now(UTC)
    for item in workspace.reviews.next("sentiment", "bo", now, count=99):
        number = int(item["message_id"][1:])
        right = number % 4 if number < 45 else 0
        workspace.reviews.label(item["id"], "positive" if right else "negative", "bo", now)
    workspace.store.add_feedback([Feedback("m0", "sentiment", "neutral", "customer", now)])
    text = text_of(browser.get("/reviews"))
    assert "Version 3, audited accuracy 0.750 0.6" in text
    assert ", 40 labels" in text
    assert "Version 3, random picks accuracy 0.600 , macro-F1 0.375 , 5 labels: too few for an interval" in text


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"label": "great"}, 409, "a label of sentiment: negative, neutral, positive"),
        ({}, 422, "one of the labels negative, neutral, positive"),
        ({"item": "999"}, 409, "no item 999"),
        ({"item": "x1", "label": "neutral"}, 422, "the number of a message"),
        ({"item": "", "label": "neutral"}, 422, "the number of a message"),
    ],
)
def test_a_form_that_makes_no_sense_changes_nothing(
    browser: Browser, workspace: Workspace, fields: dict[str, str], status: int, said: str
) -> None:
    ask(workspace, range(1))
    sent = {"item": item_on(browser)} | ({"label": "neutral"} if "item" in fields and not fields.get("label") else {})
    answer = post(browser, **(sent | fields))
    assert answer.status_code == status
    assert said in text_of(answer)
    assert labels(workspace) == []


def test_forms_from_elsewhere_are_refused(browser: Browser, workspace: Workspace) -> None:
    ask(workspace, range(1))
    item = item_on(browser)
    for page in (PAGE, f"{PAGE}/undo", "/reviews"):
        sent = {"item": item, "label": "neutral", "name": "eve"}
        assert browser.post(page, data=sent | {"token": "0" * 64}).status_code == 403
        other = {"Sec-Fetch-Site": "cross-site"}
        assert browser.post(page, data=sent | {"token": browser.token(PAGE)}, headers=other).status_code == 403
    assert labels(workspace) == []


def test_where_several_people_work_each_gives_a_name(
    open_console: Callable[..., Browser], workspace: Workspace
) -> None:
    ask(workspace, range(2))
    browser = open_console(profile="team")
    assert browser.get(PAGE).status_code == 422
    assert "You label as kept until" in text_of(browser.get("/reviews"))
    for wrong in ("", "  ", "x" * 81):
        refused = post(browser, "/reviews", name=wrong)
        assert (refused.status_code, "No name was kept" in refused.text) == (422, True)
    kept = post(browser, "/reviews", name="Zoë ; <i>")
    assert (kept.status_code, kept.headers["location"]) == (303, "/reviews")
    assert {"HttpOnly", "SameSite=strict", "Path=/reviews"} <= set(kept.headers["set-cookie"].split("; "))
    assert 'value="Zoë ; &lt;i&gt;"' in browser.get("/reviews").text
    post(browser, item=item_on(browser), label="neutral")
    assert labels(workspace) == [("m0", "neutral", "Zoë ; <i>")]
    assert browser.again().get(PAGE).status_code == 422  # another browser is another person
    alone = open_console()
    alone.post("/reviews", data={"token": alone.token(PAGE), "name": "eve"})
    assert "You label as ann ." in text_of(alone.get("/reviews"))  # on one's own machine one is who one is
