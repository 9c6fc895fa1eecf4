"""Leases: one at a time, handed on, waited for, and taken from the dead."""

import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from undertone.errors import DecisionError
from undertone.lease import hold, live
from undertone.store import Store


def is_live(store: Store) -> bool:
    return live(store, "train", datetime.now(UTC))


def test_a_lease_is_live_while_it_is_held(store: Store) -> None:
    assert not is_live(store)
    with hold(store, "train") as holder:
        assert is_live(store)
        assert store.holder("train") == holder
        assert not live(store, "train", datetime.now(UTC) + timedelta(minutes=3))
    assert not is_live(store)


def test_it_is_handed_on_and_given_back_by_its_owner(store: Store) -> None:
    with hold(store, "train") as holder:
        with hold(store, "train", holder=holder) as same:
            assert same == holder
        assert is_live(store), "only its owner gives it back"
    with pytest.raises(DecisionError, match="nobody"), hold(store, "train", holder=holder):
        pass


def test_a_lease_that_somebody_else_took_is_not_gone_on_with(store: Store) -> None:
    with hold(store, "train"), pytest.raises(DecisionError, match="in the hands of"):  # noqa: SIM117
        with hold(store, "train", holder="elsewhere/1/abc"):
            pass


def test_a_second_one_waits_for_the_first(store: Store) -> None:
    order, entered, leave = [], threading.Event(), threading.Event()

    def first() -> None:
        with hold(store, "decide"):
            entered.set()
            leave.wait(10)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(10)
    with pytest.raises(DecisionError, match="nobody else at work"), hold(store, "decide", wait=0.15):
        pass
    leave.set()
    with hold(store, "decide", wait=10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_killed_holder_gives_way_at_once(store: Store) -> None:
    code = (
        "import sys, time\nfrom undertone.store import Store\nfrom undertone.lease import hold\n"
        "with hold(Store(sys.argv[1]), 'train'):\n    print('holds', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(store.url)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        assert is_live(store)
        os.kill(process.pid, signal.SIGKILL)
    assert store.holder("train") is not None
    assert not is_live(store)
    with hold(store, "train"):
        assert is_live(store)


def test_a_holder_on_another_machine_is_believed_until_its_lease_runs_out(store: Store) -> None:
    other = f"{socket.gethostname()}-2/1/abc"
    store.acquire("train", other, datetime.now(UTC), 60)
    assert is_live(store)
    store.acquire("train", other, datetime.now(UTC) - timedelta(hours=1), 60)
    assert not is_live(store)


def test_a_zombie_and_a_number_that_another_process_got_are_dead_holders(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and nobody waited for it: a zombie
    for mark in ("abc", "1-abc"):  # without the moment it started, and with one
        store.acquire("train", f"{socket.gethostname()}/{process.pid}/{mark}", datetime.now(UTC), 60)
        assert not is_live(store)
        store.release("train", f"{socket.gethostname()}/{process.pid}/{mark}")
    process.wait()
    store.acquire("train", f"{socket.gethostname()}/{os.getpid()}/1-abc", datetime.now(UTC), 60)
    assert not is_live(store), "this process started later than the holder"
    with hold(store, "train"):
        assert is_live(store)
