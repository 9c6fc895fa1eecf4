"""The insight pages in a real browser: on a desk and on a phone, by keyboard alone, in light and dark."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tests.e2e.test_console import NASTY, WIDTHS, process, tab_to, wait_until
from tests.e2e.test_console import page as page
from tests.insight_rows import SHARES, add_holdout, fill
from undertone.schema import messages
from undertone.settings import Settings
from undertone.workspace import Workspace

START = datetime(2025, 3, 3, tzinfo=UTC)
WEEKS = "start=2025-03-03&end=2025-03-16"
PAGES = (
    f"/insights?{WEEKS}",
    f"/insights/trend?task=sentiment&{WEEKS}",
    f"/insights/trend?task=emotion&cut=channel&label=anger&{WEEKS}",
    "/insights/changes?start=2025-03-10&end=2025-03-16&task=sentiment",
    f"/insights/channels?{WEEKS}",
    f"/insights/upsell?{WEEKS}",
    f"/insights/latency?{WEEKS}",
    "/insights/cadence",
    "/drift",
    "/drift/sentiment",
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a console over two weeks of messages; in the second social is unhappy and every text attacks."""
    with ExitStack() as probes:
        ports = [probes.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2)]
    home = tmp_path_factory.mktemp("insights")
    settings = Settings(home=home, actor="ann", port=ports[0], console_port=ports[1])
    workspace = Workspace(settings)
    store = workspace.store
    sour = {"social": {"sentiment": (0.9, 0.07, 0.03)}}
    fill(store, START, days=7, rows=700, prefix="a", seed=1)
    fill(store, START + timedelta(days=7), days=7, rows=700, prefix="b", version=2, seed=2, by_channel=sour)
    for task in SHARES:
        add_holdout(store, task)
        add_holdout(store, task, version=2)
    with store.transaction() as connection:
        connection.execute(update(messages).values(text=f"{NASTY} {'unbroken' * 40}", segment="pay_per_use"))
    for version, day in ((1, -20), (2, 7)):
        at = START + timedelta(days=day)
        workspace.ledger.append("approved", "sentiment", at=at, actor="ann", reason=NASTY, version=version)
        signal = {"name": "embedding", "effect": 0.4, "floor": 0.55, "fired": False, "detail": NASTY}
        workspace.ledger.append(
            "drift", "sentiment", at=at, actor="drift-watch", reason=f"{NASTY} {'unbroken' * 40}", version=version,
            payload={"verdict": "stable", "signals": [signal], "total_rows": 700},
        )  # fmt: skip
    url = f"http://127.0.0.1:{settings.console_port}"
    with process(settings, "console"):
        wait_until(lambda: httpx.get(f"{url}/healthz").is_success, 60, "the console's start")
        yield url


def test_no_page_is_wider_than_its_screen_and_its_charts_fit(console: str, page: Any) -> None:
    for path in PAGES:
        answer = page.goto(console + path)
        assert answer.status == 200, path
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} at {width} px is {wide} px wide"
            charts = page.locator("svg.chart:visible")
            shown = [charts.nth(index) for index in range(charts.count())]
            assert shown or "drift" in path, path
            for chart in shown:
                box = chart.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert ("phone" if width == 1440 else "desk") not in chart.get_attribute("class").split()
                size = box["width"] / float(chart.get_attribute("viewBox").split()[2])
                assert (
                    size * float(chart.evaluate("it => parseFloat(getComputedStyle(it).fontSize)")) >= 10
                )  # px of text
        assert page.title() != "attacked"


def test_a_trend_is_asked_for_read_and_taken_away_by_keyboard(console: str, page: Any, tmp_path: Path) -> None:
    page.goto(f"{console}/insights")
    tab_to(page, 'nav[aria-label="Insights"] a[href*="/insights/trend"]')
    page.keyboard.press("Enter")
    page.wait_for_url("**/insights/trend?*")
    tab_to(page, "#cut")
    page.keyboard.type("ch")
    tab_to(page, "form.filter button")
    page.keyboard.press("Enter")
    page.wait_for_url("**cut=channel*")
    assert page.locator("#cut").input_value() == "channel"
    assert page.locator(".panels svg").count() == 4
    tab_to(page, ".wide[role=region]")
    page.keyboard.press("End")
    # not `wait_for_function`: what it evaluates between two frames is the page's own, and the page forbids eval
    wait_until(lambda: page.evaluate("document.activeElement.scrollTop > 0"), 10, "the table's scrolling")
    tab_to(page, "a.csv")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "trend.csv")
    lines = (tmp_path / "trend.csv").read_text().splitlines()
    assert lines[0].startswith("start,end,series,messages,negative_share,")
    assert len(lines) - 1 == page.locator("table.figures tbody tr").count()
    tab_to(page, "a.permanent")
    address = page.url
    page.keyboard.press("Enter")
    page.wait_for_load_state()
    assert page.url == address


def test_customers_words_are_text_and_charts_follow_the_colour_scheme(console: str, page: Any) -> None:
    page.goto(console + PAGES[3])
    assert "changed beyond noise" in page.locator("main").inner_text()
    assert NASTY in page.locator(".evidence").first.inner_text()
    assert page.title() == "What changed · Undertone"
    page.goto(console + PAGES[1])
    colours = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        line, name = (
            page.locator(f".chart.desk {one}").first.evaluate(f"it => getComputedStyle(it).{what}")
            for one, what in ((".tone-b .line", "stroke"), (".name.tone-b", "fill"))
        )
        assert line == name  # the name beside the line has its colour
        colours.add(line)
    assert len(colours) == 2
