"""The insight pages: what insights give, drawn, listed and sent as CSV, under an address that repeats it."""

import contextlib
import csv
import io
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import update

from console.app import create_app
from console.render import lasting, points, share
from insights.alerts import read_alerts, record_alerts
from insights.changes import changes
from insights.channels import channel_performance
from insights.latency import latency
from insights.period import Period
from insights.trend import trends
from insights.upsell import upsell
from tests.insight_rows import SHARES, add_audit, add_holdout, fill
from tests.integration.console.conftest import NOBODY, Browser, text_of
from undertone.schema import messages
from undertone.settings import Settings
from undertone.store import Store
from undertone.tasks import TASKS
from undertone.workspace import Workspace

START = datetime(2025, 3, 3, tzinfo=UTC)
DAYS = 28
#: The days in which social turned sour, under another version, and those before.
AFTER = Period(START + timedelta(days=21), START + timedelta(days=DAYS))
WHOLE = Period(START, START + timedelta(days=DAYS))
NASTY = "<script>document.title = 'attacked'</script>"
PAGES = ("trend", "changes", "channels", "upsell", "latency", "cadence")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, empty_home: Path) -> Workspace:
    """Four weeks: in the last one version 2 answers, and customers on social and a few who pay per use are unhappy."""
    home = tmp_path_factory.mktemp("insights") / "home"
    shutil.copytree(empty_home, home)
    made = Workspace(Settings(home=home, actor="ann", port=NOBODY))
    store = made.store
    first = fill(store, START, days=21, rows=1_500, prefix="a", version=1, seed=1)
    fill(
        store, START + timedelta(days=21), days=7, rows=900, prefix="b", version=2, seed=2,
        by_channel={"social": {"sentiment": (0.85, 0.1, 0.05)}},
    )  # fmt: skip
    angry = {"sentiment": (0.98, 0.01, 0.01)}
    fill(store, START + timedelta(days=21), days=7, rows=90, prefix="angry", customers=3, version=2, shares=angry,
         segments={"pay_per_use": 1.0})  # fmt: skip
    for task in SHARES:
        for version in (1, 2):
            add_holdout(store, task, version=version)
    add_audit(store, "sentiment", first, 300)
    for version, at in ((1, START - timedelta(days=9)), (2, START + timedelta(days=21))):
        made.ledger.append("approved", "sentiment", at=at, actor="ann", reason="good", version=version)
    with store.transaction() as connection:
        connection.execute(update(messages).values(text=f"billed again {NASTY}"))
    return made


@pytest.fixture
def browser(filled: Workspace) -> Browser:
    return Browser(create_app(filled.settings), base_url="http://127.0.0.1:8500", raise_server_exceptions=False)


@pytest.fixture
def empty(open_console: Callable[..., Browser]) -> Browser:
    return open_console()


def address(page: str, period: Period = WHOLE, **more: Any) -> str:
    return f"/insights/{page}?{period.query(**more)}"


def rows_of(answer: Any) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text[:500]
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="[a-z0-9-]+\.csv"', answer.headers["content-disposition"])
    return list(csv.DictReader(io.StringIO(answer.text)))


def pictures(answer: Any) -> Iterator[ET.Element]:
    for made in re.findall(r"<svg.*?</svg>", answer.text, re.DOTALL):
        yield ET.fromstring(made)


def link(answer: Any, name: str) -> str:
    found = re.search(rf'<a class="{name}" href="([^"]+)"', answer.text)
    assert found, f"no link {name}"
    return unescape(found[1])


def browser_get(browser: Browser, path: str) -> Any:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text[:500]
    return answer


@pytest.mark.parametrize("task", TASKS)
def test_a_trend_shows_lists_and_sends_the_same_figures(browser: Browser, filled: Workspace, task: str) -> None:
    told = trends(filled.store, task, WHOLE)[0]
    page = browser.get(address("trend", task=task))
    sent = rows_of(browser.get(link(page, "csv")))
    assert len(sent) == len(told.points) == DAYS
    labels = [label for label in told.labels if f"{label}_share" in sent[0]]
    assert len(labels) == {"sarcasm": 1}.get(task, len(told.labels))
    for row, point in zip(sent, told.points, strict=True):
        assert (row["start"], row["messages"]) == (f"{point.start:%Y-%m-%dT%H:%M:%SZ}", str(point.rows))
        for label in labels:
            estimate = point.estimates[label]
            assert estimate.share is not None
            assert float(row[f"{label}_share"]) == pytest.approx(estimate.share, abs=1e-6)
            assert float(row[f"{label}_low"]) == pytest.approx(estimate.low, abs=1e-6)
            assert float(row[f"{label}_observed"]) == pytest.approx(estimate.observed, abs=1e-6)
            assert share(estimate.share) in page.text
            assert f"{label.replace('_', ' ')}: {share(estimate.share)} (" in unescape(page.text)  # over the chart
    assert len(list(pictures(page))) == 2  # for a desk and for a phone


def test_the_band_says_what_it_means_and_where_its_errors_were_counted(browser: Browser, filled: Workspace) -> None:
    told = trends(filled.store, "sentiment", WHOLE)[0]
    assert (told.error_source, told.error_rows > 300) == ("mixed", True)
    shown = text_of(browser.get(address("trend", task="sentiment")))
    assert "95 % confidence, for volume and for the model's errors" in shown
    assert f"errors of sentiment's model were counted on {told.error_rows:,} labelled messages: audits of its" in shown
    holdout = text_of(browser.get(address("trend", task="emotion")))
    assert "kept back from its training (holdout)" in holdout


def test_the_address_becomes_whole_and_repeats_the_page(browser: Browser) -> None:
    asked = browser.get(
        "/insights/trend?task=emotion&start=2025-03-03&end=2025-03-30&step=&channel=", follow_redirects=False
    )
    assert asked.status_code == 303
    query = parse_qs(urlsplit(asked.headers["location"]).query)
    assert query == {
        "start": ["2025-03-03T00:00:00Z"], "end": ["2025-03-31T00:00:00Z"], "step": ["day"], "task": ["emotion"],
    }  # fmt: skip
    page = browser.get(asked.headers["location"], follow_redirects=False)
    assert page.status_code == 200
    assert link(page, "permanent") == asked.headers["location"]
    again = browser.again().get(link(page, "permanent"))
    cut = re.compile(r'name="token" value="[^"]*"')
    assert cut.sub("", again.text) == cut.sub("", page.text)
    assert browser.get(link(page, "csv")).text == browser.get(link(page, "csv")).text


def test_the_last_days_are_an_address_that_moves_and_leads_to_one_that_stays(browser: Browser) -> None:
    moved = browser.get("/insights/changes?last=7", follow_redirects=False)
    assert moved.status_code == 303
    query = parse_qs(urlsplit(moved.headers["location"]).query)
    start, end = (datetime.fromisoformat(query[name][0]) for name in ("start", "end"))
    assert timedelta(days=6) < end - start <= timedelta(days=7)
    assert START + timedelta(days=27) < end <= START + timedelta(days=DAYS, minutes=1)  # the newest message is old
    hours = browser.get("/insights/trend?last=1", follow_redirects=False).headers["location"]
    assert parse_qs(urlsplit(hours).query)["step"] == ["hour"]


def test_an_old_replay_still_shows_and_says_that_it_is_old(browser: Browser, filled: Workspace) -> None:
    page = browser.get("/insights/trend")
    assert page.status_code == 200
    shown = text_of(page)
    assert "No message is recent: the newest is of 2025-03-30" in shown
    assert "2,490 messages, 3 Mar 2025 to 30 Mar 2025" in shown


def test_a_trend_by_channel_has_a_panel_for_each_and_marks_where_the_version_changed(
    browser: Browser, filled: Workspace
) -> None:
    page = browser.get(address("trend", task="sentiment", cut="channel", label="negative"))
    told = trends(filled.store, "sentiment", WHOLE, "channel")
    shown = text_of(page)
    for one in told[1:]:
        assert f"{one.name} {one.rows:,} messages" in shown
    charts = list(pictures(page))
    assert len(charts) == 2 + len(told) - 1
    panels = [chart for chart in charts if "panel" in chart.get("class", "")]
    tops = {tuple(one.text for one in chart.iter("text") if (one.text or "").endswith("%")) for chart in panels}
    assert len(tops) == 1  # one axis for all
    assert all("v2" in [one.text for one in chart.iter("text")] for chart in panels)
    assert "Version 2 approved by ann, 2025-03-24 00:00 UTC." in shown
    sent = rows_of(browser.get(link(page, "csv")))
    assert {row["series"] for row in sent} == {"all", "chat", "email", "social", "ticket"}
    assert len(sent) == DAYS * len(told)


def test_a_version_that_nobody_approved_is_marked_by_its_first_answer(browser: Browser) -> None:
    shown = text_of(browser.get(address("trend", task="emotion")))
    assert "First answer of version 2, 2025-03-24" in shown
    assert "of version 1" not in shown  # what answered first did not change anything


def test_filters_narrow_and_keep_to_what_is_there(browser: Browser, filled: Workspace) -> None:
    narrow = Period(START, START + timedelta(days=DAYS), channel="social", model_version=2)
    page = browser.get(address("trend", narrow, task="sentiment"), follow_redirects=False)
    assert page.status_code == 200
    told = trends(filled.store, "sentiment", narrow)[0]
    shown = text_of(page)
    assert f"{told.rows:,} messages" in shown
    assert "only social, version 2" in shown
    for name, values in (
        ("channel", ("any", "chat", "email", "social", "ticket")),
        ("model_version", ("any", "1", "2")),
    ):
        box = re.search(rf'<select id="{name}".*?</select>', page.text, re.DOTALL)
        assert box
        assert set(re.findall(r"<option[^>]*>([^<]*)", box[0])) == set(values)
    switched = browser.get(address("trend", task="emotion", cut="segment", label="negative"))
    assert parse_qs(switched.url.query.decode())["label"] == ["anger"]  # a label of another task is no choice of this


def test_too_few_messages_are_said_not_drawn(browser: Browser, filled: Workspace) -> None:
    hours = Period(START, START + timedelta(days=2), "hour", channel="ticket")
    told = trends(filled.store, "sentiment", hours)[0]
    few = sum(point.estimates["negative"].too_few for point in told.points)
    assert few > len(told.points) / 2
    page = browser.get(address("trend", hours, task="sentiment"))
    shown = text_of(page)
    assert f"In {few} of {len(told.points)} steps there are too few messages to tell" in shown
    assert "longer steps say more" in shown
    for picture in pictures(page):
        assert len([one for one in picture.iter() if one.get("class") == "few"]) == few
    sent = rows_of(browser.get(link(page, "csv")))
    assert sum(not row["negative_share"] for row in sent) == few
    assert all(row["negative_lacking"] for row in sent if not row["negative_share"])


def test_without_error_counts_no_share_is_told(empty: Browser, workspace: Workspace) -> None:
    fill(workspace.store, START, days=7, rows=300)
    page = browser_get(empty, address("trend", Period(START, START + timedelta(days=7)), task="sentiment"))
    shown = text_of(page)
    assert "No share can be told" in shown
    assert "undertone reviews next sentiment" in shown
    assert not any(one.get("class") == "line" for picture in pictures(page) for one in picture.iter())


def test_changes_are_told_with_their_messages_and_a_way_to_their_trend(browser: Browser, filled: Workspace) -> None:
    told = changes(filled.store, tuple(TASKS), AFTER)
    alerts = [row for row in told if row.verdict == "changed"]
    assert record_alerts(filled.store, alerts[:1], datetime.now(UTC)) == 1
    social = next(row for row in alerts if (row.label, row.value) == ("negative", "social"))
    page = browser.get(address("changes", AFTER))
    shown = text_of(page)
    assert f"{len(alerts)} of {len(told)} series changed beyond noise" in shown
    assert f"open {read_alerts(filled.store)[0].words}" in shown
    assert f"▲ negative sentiment, channel social {share(social.before.share)}" in shown
    assert f"Difference {points(social.difference)} points" in shown
    assert len(social.examples) == 5
    for example in social.examples:
        assert example.message_id in shown
    assert shown.count(f"billed again {NASTY}") >= 5
    assert NASTY not in page.text
    over = next(
        unescape(one) for one in re.findall(r'href="([^"]+)">See it over time', page.text) if "cut=channel" in one
    )
    assert browser.get(over, follow_redirects=False).status_code == 200
    sent = rows_of(browser.get(link(page, "csv")))
    assert [row["verdict"] for row in sent] == [row.verdict.replace("_", " ") for row in told]
    assert not any("billed" in value for row in sent for value in row.values())  # no text leaves by a file
    one_task = rows_of(browser.get(address("changes.csv", AFTER, task="sarcasm")))
    assert {row["task"] for row in one_task} == {"sarcasm"}


def test_a_day_that_is_not_over_is_compared_with_the_same_hours(browser: Browser) -> None:
    """Half of a day against half a day of a week before, not against a night."""
    begun = Period(START + timedelta(days=21), START + timedelta(days=27, hours=13))
    shown = text_of(browser.get(address("changes", begun, task="sarcasm")))
    assert "24 Mar 2025 to 30 Mar 2025, 13:00 UTC, against 17 Mar 2025 to 23 Mar 2025, 13:00." in shown


def test_a_quiet_time_has_no_changes(browser: Browser) -> None:
    quiet = Period(START + timedelta(days=11), START + timedelta(days=18))
    shown = text_of(browser.get(address("changes", quiet, task="sentiment")))
    assert "Nothing changed that could be told from noise." in shown


def test_channels_are_compared(browser: Browser, filled: Workspace) -> None:
    told = channel_performance(filled.store, AFTER)
    page = browser.get(address("channels", AFTER))
    sent = rows_of(browser.get(link(page, "csv")))
    assert [row["channel"] for row in sent] == [one.channel for one in told]
    for row, one in zip(sent, told, strict=True):
        assert int(row["messages"]) == one.messages
        assert one.negative.share is not None
        assert float(row["negative_share"]) == pytest.approx(one.negative.share, abs=1e-6)
        assert share(one.negative.share) in page.text
        assert lasting(one.latency.p99) in page.text
    assert {row["channel"]: row["negative_verdict"] for row in sent}["social"] == "changed"
    assert len(list(pictures(page))) == 3


def test_upsell_candidates_come_with_their_evidence(browser: Browser, filled: Workspace) -> None:
    told = upsell(filled.store, WHOLE)
    assert {one.customer_id for one in told.candidates} >= {"c0", "c1", "c2"}
    page = browser.get(address("upsell"))
    shown = text_of(page)
    assert f"{len(told.candidates)} candidates among {told.customers:,} customers" in shown
    for one in told.candidates:
        assert f"{one.customer_id} pay per use · {one.negative} of {one.messages} messages negative" in shown
        assert all(example.message_id in shown for example in one.evidence)
    sent = rows_of(browser.get(link(page, "csv")))
    assert [row["customer_id"] for row in sent] == [one.customer_id for one in told.candidates]
    assert sent[0]["evidence"].split() == [example.message_id for example in told.candidates[0].evidence]


def test_time_to_insight_is_told_by_channel(browser: Browser, filled: Workspace) -> None:
    told = latency(filled.store, WHOLE)
    page = browser.get(address("latency"))
    shown = text_of(page)
    assert f"99 of 100 within (p99) {lasting(told[0].p99)} ✓ under a minute, the goal" in shown
    sent = rows_of(browser.get(link(page, "csv")))
    assert [row["channel"] for row in sent] == [one.name for one in told]
    for row, one in zip(sent, told, strict=True):
        assert (float(row["p50"]), float(row["p99"])) == (pytest.approx(one.p50), pytest.approx(one.p99))


def test_cadence_is_told_against_what_is_wanted(browser: Browser) -> None:
    page = browser.get("/insights/cadence")
    shown = text_of(page)
    assert "0 of 1 interval within what is wanted; median 30.0 days" in shown
    assert "overdue" in shown  # the last approval is long ago
    assert "No version was put into service yet" in shown  # of the other tasks
    sent = rows_of(browser.get("/insights/cadence.csv"))
    assert [(row["model_version"], row["pace"]) for row in sent] == [("2", "late"), ("1", "")]
    assert float(sent[0]["days_since_approval"]) == 30


def test_the_front_page_answers_at_a_glance(browser: Browser, filled: Workspace) -> None:
    page = browser_get(browser, f"/insights?{AFTER.query()}")
    shown = text_of(page)
    alerts = [row for row in changes(filled.store, tuple(TASKS), AFTER, examples=0) if row.verdict == "changed"]
    assert f"{len(alerts)} change{'s' if len(alerts) > 1 else ''}" in shown
    assert lasting(latency(filled.store, AFTER)[0].p99) in shown
    for one in channel_performance(filled.store, AFTER):
        assert f"{one.channel} {one.messages:,} {share(one.negative.share)}" in shown
    for name in PAGES:
        assert f'href="/insights/{name}' in page.text
    assert page.text.count("<svg") == 3
    assert parse_qs(urlsplit(link(page, "permanent")).query)["end"] == ["2025-03-31T00:00:00Z"]


@pytest.mark.parametrize(
    "query",
    ["task=mood", "cut=shoe&label=x", "start=yesterday", "start=2025-03-03&end=2025-03-01", "end=0001-01-01",
     "start=9999-12-31", "step=minute", "model_version=x", "model_version=-1",
        "channel=a%00", "last=5", "model_version=99999999999",
     "start=2000-01-01&end=2025-01-01&step=hour", "start=2025-03-03T00:00:00%2B99:00"],
)  # fmt: skip
def test_an_address_that_asks_for_nothing_is_told_what_it_may_ask(browser: Browser, query: str) -> None:
    for page in ("trend", "trend.csv"):
        answer = browser.get(f"/insights/{page}?{query}")
        assert answer.status_code == 422, (page, query)
        assert "Expected" in text_of(answer)
        assert "Traceback" not in answer.text


def test_an_empty_console_says_what_brings_the_first_message(empty: Browser) -> None:
    for name in ("", *(f"/{name}" for name in PAGES)):
        page = browser_get(empty, f"/insights{name}")
        assert name == "/cadence" or "No message was scored yet" in text_of(page), name
        if name:
            rows_of(empty.get(f"/insights{name}.csv"))


def test_whatever_senders_name_is_text_and_no_formula(empty: Browser, workspace: Workspace) -> None:
    formula, html = "=HYPERLINK(1)", f'"><svg/onload=x>{NASTY}'
    fill(workspace.store, START, days=7, rows=600, channels={formula: 0.5, html: 0.5}, segments={"pay_per_use": 1.0})
    for task in SHARES:
        add_holdout(workspace.store, task)
    week = Period(START, START + timedelta(days=7))
    for path in (
        address("trend", week, task="sentiment", cut="channel", label="negative"),
        address("trend", Period(week.start, week.end, channel=html), task="sentiment"),
        *(address(page, week) for page in ("changes", "channels", "latency")),
    ):
        page = browser_get(empty, path)
        assert "<script" not in page.text
        assert "<svg/" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text)
        for picture in pictures(page):
            assert {one.tag for one in picture.iter()} <= {
                "svg",
                "title",
                "desc",
                "g",
                "rect",
                "line",
                "path",
                "circle",
                "text",
            }
        sent = empty.get(link(page, "csv"))
        rows_of(sent)
        assert not re.search(r"(^|,)\"?[=+@\t\r]", sent.text, re.MULTILINE)
        assert "'=HYPERLINK" in sent.text or "channel=" in path


def test_every_page_names_itself_its_place_and_every_id_once(browser: Browser) -> None:
    for name in PAGES:
        page = browser_get(browser, address(name) if name != "cadence" else "/insights/cadence")
        assert page.text.count("<h1>") == 1
        assert f'href="/insights/{name}' in re.search(r'<nav class="toc".*?</nav>', page.text, re.DOTALL)[0]  # type: ignore[index]
        assert page.text.count('aria-current="page"') == 1
        if name in {"trend", "changes", "channels", "upsell"}:
            assert "labelled messages: audits of its answers" in text_of(page)  # what its bands rest on
        ids = re.findall(r'\sid="([^"]+)"', page.text)
        assert len(ids) == len(set(ids)), [one for one in ids if ids.count(one) > 1]
        for labelled in re.findall(r'aria-labelledby="([^"]+)"', page.text):
            assert set(labelled.split()) <= set(ids)
        for made in re.findall(r'<label for="([^"]+)"', page.text):
            assert made in ids


def test_postgresql_answers_alike(postgres: Any, open_console: Callable[..., Browser], workspace: Workspace) -> None:
    url, week = postgres.store(), Period(START, START + timedelta(days=7))
    there = Store(url)
    for store in (there, workspace.store):
        fill(store, START, days=7, rows=400)
        add_holdout(store, "sentiment")
    there.engine.dispose()
    here, other = open_console(), open_console(store_url=url)
    for path in (
        address("trend.csv", week, task="sentiment", cut="channel", label="negative"), address("latency.csv", week),
    ):  # fmt: skip
        ours, theirs = rows_of(here.get(path)), rows_of(other.get(path))
        assert [row.keys() for row in ours] == [row.keys() for row in theirs]
        for one, two in zip(ours, theirs, strict=True):
            for name in one:
                with contextlib.suppress(ValueError):
                    assert float(one[name]) == pytest.approx(float(two[name]), rel=1e-3)
                    continue
                assert one[name] == two[name]
    cut = re.compile(r'<select id="channel".*?</select>', re.DOTALL)
    shown = [cut.findall(browser.get(address("trend", week, task="sentiment")).text) for browser in (here, other)]
    assert shown[0] == shown[1]
    assert browser_get(other, "/insights/trend").status_code == 200
    other.app.state.console.workspace.store.engine.dispose()  # type: ignore[attr-defined]
