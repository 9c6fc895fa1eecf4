"""The spool in front of the store: what `append` took reaches a SQLite store once, whatever happens in between."""

import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from serving.metrics import Metrics
from serving.recorder import ROWS, Recorder
from undertone.records import Message, Prediction, ScoredMessage
from undertone.schema import messages, predictions
from undertone.settings import Settings
from undertone.store import Store

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
EVERY_BYTE = bytes(range(256))


def scored(number, text="good"):
    answer = Prediction(
        message_id=f"m-{number:04}", task="sentiment", label="positive", probabilities=(0.1, 0.2, 0.7),
        model_version=1, model_digest="d" * 64, scored_at=NOW, embedding=EVERY_BYTE,
    )  # fmt: skip
    return ScoredMessage(Message(answer.message_id, text, received_at=NOW), (answer,), "positive", "as it says")


def names(*numbers):
    return [f"m-{number:04}" for number in numbers]


def wait_until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def spool(settings):
    return settings.state_dir / "spool"


def stored(settings):
    with closing_store(settings) as store, store.reading() as connection:
        return list(connection.execute(select(messages.c.id).order_by(messages.c.id)).scalars())


@contextmanager
def closing_store(settings):
    store = Store(settings.database_url)
    try:
        yield store
    finally:
        store.engine.dispose()


@contextmanager
def recording(settings):
    recorder = Recorder(settings, Metrics())
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


def write_and_die(settings, count):
    """A real worker's process appends `count` messages and is killed at once."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_recorder import Metrics, Recorder, Settings, scored
from pathlib import Path
recorder = Recorder(Settings(home=Path({str(settings.home)!r})), Metrics())
recorder.append([scored(number) for number in range({count})])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (folder,) = spool(settings).iterdir()
    return folder


def test_rows_arrive_once_even_when_appended_twice(settings):
    with recording(settings) as recorder:
        for _ in range(2):
            recorder.append([scored(1), scored(2)])
            wait_until(lambda: recorder.backlog == 0, "the store caught up")
        recorder.append([scored(2), scored(3)])
    assert stored(settings) == names(1, 2, 3)
    assert recorder.backlog == 0


def test_more_rows_than_one_transaction_takes(settings):
    count = 2 * ROWS + 1
    with recording(settings) as recorder:
        recorder.append([scored(number) for number in range(count)])
    assert stored(settings) == names(*range(count))


def test_embeddings_and_facts_keep_their_bytes(settings):
    with recording(settings) as recorder:
        recorder.append([scored(1, text='line\nbreak, "quotes", \u2028 and 👩‍👩‍👧')])
    with closing_store(settings) as store, store.reading() as connection:
        row = connection.execute(select(predictions)).mappings().one()
        message = connection.execute(select(messages)).mappings().one()
    assert row["embedding"] == EVERY_BYTE
    assert row["probabilities"] == [0.1, 0.2, 0.7]
    assert row["scored_at"] == message["received_at"] == NOW
    assert message["text"] == 'line\nbreak, "quotes", \u2028 and 👩‍👩‍👧'


def test_a_store_out_of_reach_and_back_loses_nothing(settings, tmp_path):
    blocked = tmp_path / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    settings = settings.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    with recording(settings) as recorder:
        recorder.append([scored(1)])
        wait_until(lambda: recorder.problem, "the problem shown")
        recorder.append([scored(2)])
        assert recorder.backlog == 2
        blocked.unlink()
        wait_until(lambda: recorder.backlog == 0 and recorder.problem is None, "the store caught up")
    assert stored(settings) == names(1, 2)


def test_a_stop_while_the_store_is_away_leaves_the_rows_for_the_next(settings, tmp_path):
    blocked = tmp_path / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    settings = settings.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    with recording(settings) as recorder:
        recorder.append([scored(1)])
    assert len([*spool(settings).glob("*/*.jsonl")]) == 1
    blocked.unlink()
    with recording(settings):
        pass
    assert stored(settings) == names(1)
    assert [*spool(settings).iterdir()] == []


def test_a_killed_workers_segments_are_drained_and_its_folder_goes(settings):
    write_and_die(settings, 3)
    with recording(settings):
        wait_until(lambda: not [*spool(settings).iterdir()], "the folder is drained")
    assert stored(settings) == names(0, 1, 2)


def test_a_torn_last_line_is_left_out(settings):
    folder = write_and_die(settings, 3)
    (segment,) = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes()[:-10])
    with recording(settings):
        wait_until(lambda: not folder.exists(), "the folder is drained")
    assert stored(settings) == names(0, 1)


def test_a_living_workers_segments_are_its_own(settings):
    living = Recorder(settings, Metrics())  # it never drains
    living.append([scored(1)])
    (folder,) = spool(settings).iterdir()
    with recording(settings) as other:
        other.append([scored(2)])
        wait_until(lambda: other.backlog == 0, "the other's own row is stored")
    assert stored(settings) == names(2)
    assert [*folder.glob("*.jsonl")]
    living.stop()  # closes its lock; the row waits
    with recording(settings):
        pass
    assert stored(settings) == names(1, 2)


@contextmanager
def disk_that_ends_at(size):
    """No file of this process grows beyond `size` bytes: a write takes a part, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_write_that_a_full_disk_cuts_short_is_refused_whole(settings):
    recorder = Recorder(settings, Metrics())
    recorder.append([scored(1)])
    (segment,) = spool(settings).glob("*/*.jsonl")
    whole = segment.read_bytes()
    with disk_that_ends_at(len(whole) + 100), pytest.raises(OSError, match="space"):
        recorder.append([scored(2), scored(3)])
    assert segment.read_bytes() == whole
    assert recorder.backlog == 1
    recorder.append([scored(4)])  # the disk has room again
    recorder.start()
    recorder.stop()
    assert stored(settings) == names(1, 4)


def test_a_segment_that_cannot_be_read_is_kept_and_does_not_hold_up_others(settings):
    folder = write_and_die(settings, 2)
    (segment,) = folder.glob("*.jsonl")
    broken = b"\xff nonsense\n" + segment.read_bytes()
    segment.write_bytes(broken)
    with recording(settings) as recorder:
        recorder.append([scored(9)])
        wait_until(lambda: not segment.exists(), "the segment was read")
        wait_until(lambda: recorder.backlog == 0, "the own row is stored")
        assert recorder.problem is None
    assert stored(settings) == names(0, 1, 9)
    (kept,) = folder.glob("*.unreadable")
    assert kept.read_bytes() == broken


class Gap:
    """The recorder's guard, with something that happens the moment it is given back."""

    def __init__(self, guard, between):
        self.guard, self.between = guard, between

    def __enter__(self):
        return self.guard.__enter__()

    def __exit__(self, *error):
        self.guard.__exit__(*error)
        between, self.between = self.between, None
        if between:
            between()


def test_a_segment_that_is_opened_while_others_drain_is_not_taken_for_a_closed_one(settings):
    recorder, store = Recorder(settings, Metrics()), Store.open(settings)
    try:
        recorder.append([scored(1)])
        recorder._guard = Gap(
            recorder._guard, lambda: recorder.append([scored(2)])
        )  # as the drain lets go of the guard
        recorder._drain_all(store)
        recorder.append([scored(3)])  # into the segment that was opened meanwhile
        recorder._drain_all(store)
        assert stored(settings) == names(1, 2, 3)
        assert recorder.backlog == 0
    finally:
        store.engine.dispose()
        recorder.stop()
