"""The console in a real browser: approve with the keyboard, see the worker serve it, on a desk and on a phone."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.integration.conftest import build_model_folder
from tests.integration.console import evidence_files
from undertone import governance
from undertone.governance import Act
from undertone.model_folder import digest, manifest
from undertone.settings import Settings
from undertone.workspace import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
NASTY = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
WIDTHS = (390, 1440)


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {seconds} s")


@contextmanager
def process(settings: Settings, module: str) -> Iterator[None]:
    log = settings.home / f"{module}.log"
    with log.open("wb") as stream:
        started = subprocess.Popen(
            [sys.executable, "-m", module], env=os.environ | settings.environment(), stdout=stream, stderr=stream
        )
    try:
        yield
    finally:
        started.terminate()
        assert started.wait(timeout=30) == 0, log.read_text()[-2000:]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Version 1 of sentiment is approved; version 2 waits, with a message that attacks whoever reads it."""
    with ExitStack() as probes:
        opened = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ports = [probe.getsockname()[1] for probe in opened]
    home = tmp_path_factory.mktemp("console")
    made = Workspace(
        Settings(home=home, actor="ann", port=ports[0], console_port=ports[1], follow_seconds=0.3, engine_threads=1)
    )
    register(made, 1)
    governance.approve(made, "sentiment", 1, Act("ann", f"first {NASTY}", datetime.now(UTC)))
    register(made, 2, text=NASTY)
    return made


def register(workspace: Workspace, seed: int, **more: Any) -> None:
    registry, home = workspace.registry, workspace.settings.home
    folder = build_model_folder(home / f"made-{seed}", "sentiment", trainer="tom", shift=float(seed))
    run = registry.client.create_run(registry.experiment_id()).info.run_id
    made = registry.create("sentiment", folder, run, {"undertone.manifest_sha256": digest(manifest(folder))})
    evidence_files.leave(workspace, made, home, seed, **more)


@pytest.fixture(scope="module")
def urls(workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Addresses of a running console and a running worker."""
    settings = workspace.settings
    console, worker = f"http://127.0.0.1:{settings.console_port}", f"http://127.0.0.1:{settings.port}"
    with process(settings, "serving"), process(settings, "console"):
        wait_until(lambda: httpx.get(f"{console}/healthz").is_success, 60, "the console's start")
        wait_until(lambda: served(worker) == 1, 60, "version 1 served")
        yield console, worker


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a headless browser. Whatever the browser complains of fails the test."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("expected Debian's chromium in CI; found none; `apt-get install chromium`")
        pytest.skip("no chromium here: `apt-get install chromium`")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        opened = browser.new_page()
        complaints: list[str] = []
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        browser.close()
    assert complaints == []


def served(worker: str) -> int | None:
    version: int | None = httpx.get(f"{worker}/readyz", timeout=5).json()["tasks"]["sentiment"]["version"]
    return version


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the focus is on `selector`, as somebody without a mouse does."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    pytest.fail(f"Tab never reaches {selector} at {page.url}")


def test_approve_with_the_keyboard_and_see_the_worker_serve_it(urls: tuple[str, str], page: Any) -> None:
    console, worker = urls
    page.goto(console)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    tab_to(page, "td a, th a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/sentiment/2")
    assert page.get_by_role("cell", name=NASTY).is_visible()
    assert page.title() == "sentiment, version 2 · Undertone"
    tab_to(page, "a.go")
    page.keyboard.press("Enter")
    tab_to(page, "#approve-reason")
    page.keyboard.type("read by keyboard")
    tab_to(page, "#approve button")
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert "sentiment 2 is approved" in page.get_by_role("status").inner_text()
    wait_until(lambda: served(worker) == 2, 60, "version 2 served")
    page.goto(console)
    assert "✓ serves it" in page.locator(".card").first.inner_text()
    assert "read by keyboard" in page.locator(".card").first.inner_text()


def test_no_page_is_wider_than_its_screen(urls: tuple[str, str], page: Any) -> None:
    paths = ("/", "/models/sentiment", "/models/sentiment/1", "/models/sentiment/2", "/ledger")
    for path in paths:
        page.goto(urls[0] + path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} at {width} px is {wide} px wide"
        assert page.title() != "attacked"
