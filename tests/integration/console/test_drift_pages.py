"""The pages on drift: what watches saw, from the ledger, and the reports that lie where watches write them."""

import csv
import io
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.console.conftest import Browser, text_of
from undertone.records import LedgerEntry
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, tzinfo=UTC)
NASTY = "<script>document.title = 'attacked'</script>"


@pytest.fixture
def watch(workspace: Workspace) -> Callable[..., LedgerEntry]:
    """Write the rows of one watch, as flows.watch_drift does."""

    def write(verdict: str = "warn", effect: float | None = 0.6, day: int = 0, **payload: Any) -> LedgerEntry:
        at = NOW + timedelta(days=day)
        signals = [] if effect is None else [
            {"name": "embedding", "effect": effect, "floor": 0.55, "fired": effect >= 0.55, "segment": None,
             "detail": f"elsewhere {NASTY}"},
            {"name": "labels", "effect": 0.001, "floor": 0.02, "fired": False, "segment": None, "detail": ""},
        ]  # fmt: skip
        common: dict[str, Any] = {"at": at, "actor": "drift-watch", "version": 3}
        row = workspace.ledger.append(
            "drift", "sentiment", reason=f"seen {day} {NASTY}",
            payload={"verdict": verdict, "signals": signals, "total_rows": 1_234,
                     "window": [(at - timedelta(days=7)).isoformat(), at.isoformat()]} | payload, **common,
        )  # fmt: skip
        workspace.ledger.append(
            "retrain", "sentiment", reason="before 14 days", **common,
            payload={"retrain": verdict == "act", "rule": "too early", "drift_row": row.seq},
        )  # fmt: skip
        return row

    return write


def test_every_task_shows_its_newest_watch(browser: Browser, watch: Callable[..., LedgerEntry]) -> None:
    watch("stable", 0.2)
    watch("act", 0.7, day=1)
    page = browser.get("/drift")
    shown = text_of(page)
    assert "sentiment act Seen 1" in shown
    assert "embedding 0.7000 over 0.5500" in shown
    assert "retrain too early" in shown
    assert shown.count("Never looked") == 2
    assert NASTY not in page.text


def test_a_task_shows_its_watches_newest_first_and_how_strong_the_strongest_signal_was(
    browser: Browser, watch: Callable[..., LedgerEntry]
) -> None:
    watch("stable", 0.22)
    watch("too_few", None, day=4)
    watch("act", 0.7, day=8, window="not a window")
    page = browser.get("/drift/sentiment")
    shown = text_of(page)
    assert shown.index("seen 8") < shown.index("seen 4") < shown.index("seen 0")
    assert "embedding 0.2200 of 0.5500" in shown  # nothing fired: what came nearest
    assert "2026-10-13 00:00: act, 1.27 of its floor" in shown
    assert re.search(r"2026-10-09 00:00: too few(?!,)", shown)
    assert page.text.count("<svg") == 2
    assert 'href="/drift/sentiment.csv"' in page.text
    sent = list(csv.DictReader(io.StringIO(browser.get("/drift/sentiment.csv").text)))
    assert [row["verdict"] for row in sent] == ["act", "too_few", "stable"]
    assert [row["strongest"] for row in sent] == ["1.27273", "", "0.4"]
    assert browser.get("/drift/mood.csv").status_code == 404
    assert NASTY not in page.text


def test_a_report_is_a_download_of_a_file_that_a_watch_wrote(
    browser: Browser, workspace: Workspace, watch: Callable[..., LedgerEntry], tmp_path: Path
) -> None:
    folder = workspace.settings.state_dir / "reports" / "sentiment" / "2026-10-05T0000-1"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(NASTY)
    (folder / "secret.key").write_text("secret")
    row = watch(report=str(folder))
    page = browser.get("/drift/sentiment")
    assert f'href="/drift/sentiment/{row.seq}/index.html"' in page.text
    assert "evidently.html" not in page.text
    sent = browser.get(f"/drift/sentiment/{row.seq}/index.html")
    assert sent.text == NASTY
    assert sent.headers["content-type"] == "application/octet-stream"
    assert sent.headers["content-disposition"].startswith("attachment;")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "index.html").write_text("secret")
    (folder / "report.json").symlink_to(elsewhere / "index.html")
    forged = watch(report=str(elsewhere))
    climbing = watch(report=str(folder / ".." / ".." / ".." / ".." / ".." / "elsewhere"))
    for path in (
        f"/drift/sentiment/{row.seq}/secret.key", f"/drift/sentiment/{row.seq}/report.json",
        f"/drift/sentiment/{row.seq}/..%2fundertone.db", f"/drift/sarcasm/{row.seq}/index.html",
        f"/drift/sentiment/{row.seq + 1}/index.html", f"/drift/sentiment/{forged.seq}/index.html",
        f"/drift/sentiment/{climbing.seq}/index.html", "/drift/sentiment/99999999999/index.html", "/drift/mood",
    ):  # fmt: skip
        answer = browser.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text.replace("secret.key", "")
