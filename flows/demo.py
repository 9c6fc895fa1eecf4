"""The whole loop as one story, without a person, on synthetic messages and a simulated clock.

Two classifiers are trained on four weeks of messages, approved and served. Then weeks five to eight come in as
traffic. After week five the shop changes: the drift watch warns and draws a label audit, people label, and once the
drift has lasted the policy starts a retrain. The new version is approved while traffic flows, and the worker swaps
without dropping a request. In the end somebody moves an alias by hand, which changes nothing, and a person rolls back,
which does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.running import make_home
from flows.terminal import say
from flows.wait import wait_for
from undertone.errors import ConfigError, UndertoneError
from undertone.settings import Settings, get_settings

if TYPE_CHECKING:
    from pandas import DataFrame

    from undertone.workspace import Workspace

MARK = "made-by-undertone-demo"
#: In the order of training: sentiment hears a sarcasm champion, so that comes first.
TASKS = ("sarcasm", "sentiment")
TRAINED_WEEKS = 4
PER_WEEK = 800
LABELS = 800
#: Of the audit that the drift draws, this share is labelled by the time that the drift has lasted.
AUDITED = 0.6


@dataclass
class Story:
    """What the chapters share."""

    workspace: Workspace
    messages: DataFrame
    start: datetime
    url: str
    began: float

    def week(self, number: float) -> DataFrame:
        """A sample of the week that ends `number` weeks after the start (1 is the first), as traffic."""
        closes = self.end_of(number)
        rows = self.messages[self.messages["sent_at"].between(closes - timedelta(weeks=1), closes, inclusive="left")]
        return rows.sample(min(PER_WEEK, len(rows)), random_state=int(number)).sort_values("sent_at")

    def end_of(self, number: float) -> datetime:
        """The moment after week `number`."""
        return self.start + timedelta(weeks=number)

    def chapter(self, title: str) -> None:
        """Say what comes next, and how long it took so far."""
        say(f"\n[{time.monotonic() - self.began:5.0f} s] {title}")


def play() -> int:
    """Play the story; gives 0 when every chapter went as it should."""
    began = time.monotonic()
    for name in ("UNDERTONE_WEBHOOK_URL", "UNDERTONE_NOTIFICATION_BLOCKS"):
        os.environ.pop(name, None)  # nobody is on call for synthetic messages
    for name in ("UNDERTONE_PORT", "UNDERTONE_PREFECT_PORT"):
        os.environ.setdefault(name, str(_free_port()))  # a running `undertone up` keeps its own
    settings = get_settings()
    _empty(settings)
    make_home(settings)
    with ExitStack() as children:
        say("synthetic messages, a simulated clock, everything on this machine")
        children.enter_context(_prefect_server(settings))
        children.enter_context(_process(settings, "serving", [sys.executable, "-m", "serving"]))
        _tell_story(_open(settings, began))
    say(f"\nThe demo took {time.monotonic() - began:.0f} s. Look at it:")
    home = settings.home
    say(f"  the drift reports     {settings.state_dir / 'reports'}")
    say(f"  the registry          UNDERTONE_HOME={home} .venv/bin/undertone models list")
    say(f"  every decision        UNDERTONE_HOME={home} .venv/bin/undertone ledger show")
    say(f"  the console           UNDERTONE_HOME={home} .venv/bin/undertone console   (decisions, insights, reviews)")
    say(f"  MLflow, Prefect, API  UNDERTONE_HOME={home} .venv/bin/undertone up")
    return 0


def _tell_story(story: Story) -> None:
    from flows.running import prefect_ready

    with prefect_ready(story.workspace.settings):
        from flows.retrain import retrain

        for task in TASKS:
            story.chapter(f"train {task} on the first {TRAINED_WEEKS} weeks")
            result = retrain(
                task, source=f"sample:{TRAINED_WEEKS}", effort="smoke", now=story.end_of(TRAINED_WEEKS), trainer="demo"
            )
            _approve(story, result, TRAINED_WEEKS)
        story.chapter("the serving worker picks up both champions")
        _wait_until_served(story, dict.fromkeys(TASKS, 1))
        story.chapter(f"week 5: {PER_WEEK} messages arrive")
        _send(story, 5)
        _watch(story, 5)
        story.chapter(f"week 6: the shop changes; {PER_WEEK} messages arrive")
        _send(story, 6)
        _tell_analysts(story, 6)
        _watch(story, 6)
        _label(story, 6)
        story.chapter("three and a half days later")
        _send(story, 6.5)
        retrained = _watch(story, 6.5)
        if retrained is None:
            raise UndertoneError("a retrain once the drift has lasted", "none", "read the drift report named above")
        story.chapter("week 8 arrives; the new version is approved while messages flow")
        _swap_under_traffic(story, retrained)
        _watch(story, 8)
        story.chapter("somebody moves the alias by hand, without a signature; then a person rolls back")
        _govern(story, retrained["version"])
        rows = story.workspace.ledger.verify()
        story.chapter(f"the ledger holds {rows} decisions, and its chain is unbroken")


def _approve(story: Story, result: dict[str, Any], week: float) -> None:
    from flows.running import training_text
    from undertone.governance import Act, approve

    say(training_text(result).rsplit("\n", 1)[0])
    reason = "demo: approved without a person" if result["passed"] else "demo: goes on although the gate refused"
    act = Act(story.workspace.settings.actor, reason, story.end_of(week))
    entry = approve(story.workspace, result["task"], result["version"], act, override=not result["passed"])
    say(f"approved {entry.task} {entry.version}{'' if result['passed'] else ' BY OVERRIDE'}, signed by {entry.actor}")


def _send(story: Story, week: float) -> dict[str, Any]:
    from flows.replay import send, text, to_messages

    result = send(to_messages(story.week(week)), story.url, title=f"week {week:g}")
    say(text(result))
    if result["failed_requests"]:
        raise UndertoneError("an answer to every request", result["problem"], "see the worker's log")
    return result


def _tell_analysts(story: Story, week: int) -> None:
    """What changed in what customers say, the models' errors and chance considered."""
    from insights.changes import changes
    from insights.period import Period

    story.chapter(f"what analysts see: week {week} beside week {week - 1}")
    found = changes(story.workspace.store, TASKS, Period(story.end_of(week - 1), story.end_of(week)))
    for item in found:
        if item.verdict == "changed":
            say(f"changed: {item.words}; for example: {item.examples[0].text if item.examples else 'none'}")
        elif item.cut is None and item.difference is not None:
            low, high = 100 * (item.low or 0.0), 100 * (item.high or 0.0)
            points = f"{100 * item.difference:+.0f} points, 95 % {low:+.0f} to {high:+.0f}"
            say(f"{item.task}, {item.label}: {item.after.share:.0%} of all messages ({points}): {item.verdict}")
    changed = sum(item.verdict == "changed" for item in found)
    say(f"{changed} of {len(found)} series changed beyond noise; the rest are steady, or have too few messages to tell")


def _label(story: Story, week: int) -> None:
    """People label: part of the audit, as `undertone reviews` would, and unasked. In the sample the truth is known."""
    from undertone.records import Feedback
    from undertone.reviews import Reviews

    reviews, at, seen = Reviews(story.workspace.store), story.end_of(week), story.week(week)
    truth = story.messages.set_index("message_id")["sentiment"]
    waiting = sum(row["open"] for row in reviews.open("sentiment"))
    items = reviews.next("sentiment", "demo-reviewer", at, count=round(AUDITED * waiting))
    for item in items:
        reviews.label(item["id"], truth[item["message_id"]], "demo-reviewer", at)
    asked = {item["message_id"] for item in items}
    unasked = seen[~seen["message_id"].isin(asked)].sample(LABELS - len(items), random_state=1)
    for task in TASKS:
        story.workspace.store.add_feedback(
            [Feedback(row["message_id"], task, row[task], "demo-agent", at) for row in unasked.to_dict("records")]
        )
    say(f"{len(items)} of {waiting} audited messages and {len(unasked)} others are labelled (here by the generator)")


def _watch(story: Story, week: float) -> dict[str, Any] | None:
    from flows.running import watch_text
    from flows.watch_drift import watch
    from training.effort import EFFORTS

    story.chapter("the drift watch looks")
    # the first trainings looked at part of the rows; a retrain that does would forget as much as it learns
    EFFORTS["demo"] = EFFORTS["smoke"].model_copy(update={"name": "demo", "max_train_rows": None})
    result = watch("sentiment", now=story.end_of(week), effort="demo")
    say(watch_text(result | {"retrained": None}))
    retrained: dict[str, Any] | None = result["retrained"]
    return retrained


def _swap_under_traffic(story: Story, retrained: dict[str, Any]) -> None:
    outcome: list[dict[str, Any] | BaseException] = []

    def traffic() -> None:
        try:
            outcome.append(_send(story, 8))
        except UndertoneError as error:
            outcome.append(error)

    sender = threading.Thread(target=traffic)
    sender.start()
    _approve(story, retrained, 6.5)
    _wait_until_served(story, {"sentiment": retrained["version"]})
    sender.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]


def _govern(story: Story, version: int) -> None:
    from undertone.governance import Act, rollback
    from undertone.reconcile import reconcile

    workspace, now = story.workspace, story.end_of(8)
    workspace.registry.set_champion("sentiment", 1)
    tasks = _wait(story, "version 1 refused", lambda tasks: (tasks["sentiment"]["refused"] or {}).get("version") == 1)
    say(f"version {tasks['sentiment']['version']} serves on; the worker found {tasks['sentiment']['refused']['found']}")
    for finding in reconcile(workspace, now).new:
        say(f"the reconciler: {finding.task} {finding.version}: {finding.what} ({finding.detail})")
    workspace.registry.set_champion("sentiment", version)
    reconcile(workspace, now)
    entry = rollback(workspace, "sentiment", Act(workspace.settings.actor, "demo: to show it", now))
    say(f"rolled back to {entry.task} {entry.version}, signed by {entry.actor}; promotion is frozen until `unfreeze`")
    _wait_until_served(story, {"sentiment": 1})


def _wait_until_served(story: Story, versions: dict[str, int]) -> None:
    started = time.monotonic()
    names = ", ".join(f"{task} {version}" for task, version in versions.items())
    _wait(
        story,
        f"{names} served",
        lambda tasks: all((tasks.get(task) or {}).get("version") == version for task, version in versions.items()),
    )
    say(f"served after {time.monotonic() - started:.1f} s: {names}")


def _wait(
    story: Story, what: str, condition: Callable[[dict[str, Any]], bool], patience_s: float = 60.0
) -> dict[str, Any]:
    """What the worker says of its tasks, once `condition` holds."""
    import httpx

    started = time.monotonic()
    while time.monotonic() - started < patience_s:
        tasks: dict[str, Any] = httpx.get(f"{story.url}/readyz").json()["tasks"]
        if condition(tasks):
            return tasks
        time.sleep(0.2)
    raise UndertoneError(f"{what} within {patience_s:.0f} s", f"{tasks}", "see the worker's log")


def _open(settings: Settings, began: float) -> Story:
    from training.sample import generate_sample
    from undertone.workspace import Workspace

    url = f"http://{settings.host}:{settings.port}"
    messages = generate_sample()
    start = messages["sent_at"].min().to_pydatetime().replace(hour=0, minute=0, second=0, microsecond=0)
    if not wait_for(f"{url}/healthz"):
        raise UndertoneError(f"a serving worker at {url}", "no answer", f"read {_log(settings, 'serving')}")
    return Story(Workspace(settings), messages, start, url, began)


@contextmanager
def _prefect_server(settings: Settings) -> Iterator[None]:
    command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(settings.prefect_port)]
    with _process(settings, "prefect", [sys.executable, "-m", *command]):
        if not wait_for(f"http://127.0.0.1:{settings.prefect_port}/api/health"):
            raise UndertoneError("Prefect's server", "no answer", f"read {_log(settings, 'prefect')}")
        yield


@contextmanager
def _process(settings: Settings, name: str, command: list[str]) -> Iterator[None]:
    log = _log(settings, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        child = subprocess.Popen(
            command, env=os.environ | settings.environment(), stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            child.terminate()
            try:
                child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _log(settings: Settings, name: str) -> Path:
    return settings.state_dir / "logs" / f"{name}.log"


def _empty(settings: Settings) -> None:
    home = settings.home.absolute()
    if home.exists() and any(home.iterdir()) and not (home / MARK).is_file():
        raise ConfigError(f"an empty folder or an earlier demo at {home}", "something else", "name another with --home")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / MARK).write_text("`undertone demo` empties this folder when it starts.\n")
