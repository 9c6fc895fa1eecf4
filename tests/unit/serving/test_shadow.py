"""The thread that compares: what it drops, when it works, and that it survives whatever a model does."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving import shadow as module
from serving.challenger import Challenger
from serving.metrics import Metrics
from serving.shadow import QUEUE, Copy, Shadow
from undertone.records import Message
from undertone.signing import TrialOrder
from undertone.tasks import TrialPolicy

GOOD, BAD = (0.1, 0.1, 0.8), (0.7, 0.2, 0.1)


class Engine:
    """Gives one answer, or raises one error."""

    labels = ("negative", "neutral", "positive")

    def __init__(self, answer: tuple[float, ...] | Exception, before: Callable[[], Any] = lambda: None) -> None:
        self.answer, self.before, self.calls = answer, before, 0

    def tokenize(self, texts: list[str]) -> Any:
        return SimpleNamespace(ids=[[1] for _ in texts])

    def run(self, ids: list[list[int]]) -> tuple[Any, None]:
        self.calls += 1
        self.before()
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.array([self.answer] * len(ids)), None

    def probabilities(self, logits: Any) -> Any:
        return logits


def challenger(engine: Any, kind: Any = "shadow", **policy: Any) -> Challenger:
    order = TrialOrder(
        task="sentiment", manifest_sha256="a" * 64, version=2, kind=kind, share=0.5, champion=1,
        policy=TrialPolicy(**policy), serial=1, ledger_hash="b" * 64, approver="ann", at=datetime.now(UTC), reason="",
    )  # fmt: skip
    return Challenger(1, engine, order, None, "", datetime.now(UTC))  # type: ignore[arg-type]


def copy(of: Challenger, engine: Any, answered: tuple[float, ...] = GOOD) -> Copy:
    return Copy(of, SimpleNamespace(version=1, engine=engine), Message("m", "text"), answered)  # type: ignore[arg-type]


@pytest.fixture
def shadow() -> Iterator[Callable[..., Shadow]]:
    made: list[Shadow] = []

    def make(idle: Callable[[], bool] = lambda: True) -> Shadow:
        made.append(Shadow(idle, Metrics()))
        return made[-1]

    yield make
    for item in made:
        item.stop()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_full_queue_drops_and_counts(shadow: Callable[..., Shadow]) -> None:
    idle_one, tried = shadow(), challenger(Engine(GOOD))
    for _ in range(QUEUE + 7):  # nobody works yet: putting never waits
        idle_one.put(copy(tried, Engine(GOOD)))
    assert tried.comparison.figures().dropped == 7
    idle_one.start()
    wait(lambda: tried.comparison.figures().compared == QUEUE)


def test_only_the_model_that_has_not_answered_scores_and_now_and_then_both(shadow: Callable[..., Shadow]) -> None:
    for kind, most in (("shadow", "challenger"), ("canary", "champion")):
        engines = {"champion": Engine(GOOD), "challenger": Engine(BAD)}
        tried = challenger(engines["challenger"], kind)
        here = shadow()
        here.start()
        for _ in range(20):
            here.put(copy(tried, engines["champion"], GOOD if kind == "shadow" else BAD))
        wait(lambda tried=tried: tried.comparison.figures().compared == 20)
        calls = {name: engine.calls for name, engine in engines.items()}
        assert sorted(calls.values()) == [2, 20]
        assert calls[most] == 20
        figures = tried.comparison.figures()
        assert (figures.disagreed, figures.timed) == (20, 2)
        assert figures.champion_labels == {"positive": 20}


def test_a_challenger_that_fails_ends_its_trial_and_a_champion_that_fails_does_not(
    shadow: Callable[..., Shadow],
) -> None:
    here = shadow()
    here.start()
    for answer in (RuntimeError("no"), (float("nan"), 0.5, 0.5)):
        broken = challenger(Engine(answer))
        here.put(copy(broken, Engine(GOOD)))
        wait(lambda broken=broken: broken.returned is not None)
        assert broken.comparison.figures().errors == 1
    fine = challenger(Engine(GOOD), "canary")
    here.put(copy(fine, Engine(RuntimeError("no"))))
    here.put(copy(fine, Engine(GOOD)))
    wait(lambda: fine.comparison.figures().compared == 1)
    assert (fine.comparison.figures().dropped, fine.comparison.figures().errors, fine.returned) == (1, 0, None)


def test_a_trial_that_is_over_is_not_compared_any_more(shadow: Callable[..., Shadow]) -> None:
    over, goes_on = challenger(Engine(GOOD)), challenger(Engine(GOOD))
    over.returned = "it ended"
    here = shadow()
    for tried in (over, goes_on):
        here.put(copy(tried, Engine(GOOD)))
    here.start()
    wait(lambda: goes_on.comparison.figures().compared == 1)
    assert over.engine.calls == 0  # type: ignore[attr-defined]
    other = Copy(goes_on, SimpleNamespace(version=7, engine=None), Message("m", "text"), GOOD)  # type: ignore[arg-type]
    assert not goes_on.runs_beside(other.champion)  # another champion than the one it is compared with


def test_beside_requests_it_rests_nineteen_times_as_long_as_it_works(
    shadow: Callable[..., Shadow], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of the test's own: a copy takes one second, and naps are the only other thing that takes time."""
    now, naps, lock = [0.0], [0.0], threading.Lock()

    def advance(seconds: float) -> None:
        with lock:
            now[0] += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: now[0]))
    busy = shadow(lambda: False)

    def nap(seconds: float) -> bool:
        naps[0] += 0.5
        advance(0.5)
        return False

    monkeypatch.setattr(busy._stopping, "wait", nap)
    tried = challenger(Engine(GOOD, lambda: advance(1.0)))
    for _ in range(11):
        busy.put(copy(tried, Engine(GOOD)))
    busy.start()
    wait(lambda: tried.comparison.figures().compared == 11)
    # ten pauses after eleven copies; two of them were scored by both models, in two seconds if the champion took time
    assert naps[0] == pytest.approx(10 * 19, abs=1)
