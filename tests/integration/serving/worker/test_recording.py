"""Scored messages reach the store once, whatever happens to the store, the disk and the worker."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from undertone.store import Store


@pytest.fixture
def ready(settings, shelf):
    """Settings of a home with a champion."""
    shelf.publish()
    return settings


def ids(found):
    return [row["id"] for row in found[0]]


def stop_draining(served):
    """The recorder's thread ends as at a kill, without a last turn: what is appended from here on stays on disk."""
    recorder = served.worker.recorder
    recorder._drain_all = lambda store: None
    return recorder


def test_a_store_out_of_reach_at_start_and_back_loses_nothing(ready, serve, rows, until):
    blocked = ready.state_dir / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    settings = ready.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    with serve(settings) as served:  # without the ledger nothing new comes into service
        assert "the store at" in served.wait_refused(1)["expected"]
    with serve(ready) as served:
        served.wait_version(1)
    with serve(settings) as served:  # what served before serves on
        served.wait_version(1)
        until(lambda: served.ready()["store_problem"], "the problem shown")
        for number in range(30):
            served.score({"id": f"m-{number:02}", "text": "good"})
        assert served.ready()["store_backlog"] == 30
        assert "undertone_store_backlog_messages 30.0" in served.client.get("/metrics").text
        blocked.unlink()
        served.wait_stored()
    assert ids(rows(settings)) == [f"m-{number:02}" for number in range(30)]


def test_a_store_locked_while_running_delays_rows_only(ready, serve, rows, until):
    with serve(ready) as served:
        served.wait_version(1)
        served.score({"id": "before", "text": "good"})
        served.wait_stored()
        lock = sqlite3.connect(ready.state_dir / "undertone.db", isolation_level=None)
        lock.execute("begin exclusive")
        for number in range(5):
            served.score({"id": f"while-{number}", "text": "good"})
        until(lambda: served.ready()["store_problem"], "the problem shown", 30)
        lock.execute("rollback")
        lock.close()
        served.wait_stored()
    assert ids(rows(ready)) == ["before", *[f"while-{number}" for number in range(5)]]


def leave_behind(settings, serve, *names):
    """What a killed worker leaves: segments and a lock that nobody holds. Gives its folder."""
    with serve(settings) as served:
        served.wait_version(1)
        recorder = stop_draining(served)
        for name in names:
            served.score({"id": name, "text": "good parcel", "channel": "chat"})
    return recorder._folder


def test_what_a_killed_worker_left_is_drained_and_its_torn_line_left_out(ready, serve, rows, until):
    folder = leave_behind(ready, serve, "left-1", "left-2")
    (segment,) = folder.glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole.splitlines()[0][:-40])
    with serve(ready):
        until(lambda: not folder.exists(), "the folder is drained")
    found = rows(ready)
    assert ids(found) == ["left-1", "left-2"]
    assert len(found[1]) == 2


def test_a_segment_drained_twice_is_stored_once(ready, serve, rows, until, tmp_path):
    folder = leave_behind(ready, serve, "once-1", "once-2")
    shutil.copytree(folder, tmp_path / "copy")
    for _ in range(2):  # the worker dies after the commit and before it deletes the segment
        with serve(ready):
            until(lambda: not folder.exists(), "the folder is drained")
        shutil.copytree(tmp_path / "copy", folder)
    found = rows(ready)
    assert ids(found) == ["once-1", "once-2"]
    assert len(found[1]) == 2


def test_a_line_that_cannot_be_read_is_kept_and_holds_nothing_up(ready, serve, rows, until):
    folder = leave_behind(ready, serve, "fine-1", "fine-2")
    (segment,) = folder.glob("*.jsonl")
    first, second = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first + b'{"message": nonsense}\n' + second)
    with serve(ready):
        until(lambda: [*folder.glob("*.unreadable")], "the broken segment is kept")
    assert ids(rows(ready)) == ["fine-1", "fine-2"]


def test_a_living_workers_segments_are_its_own(ready, serve, rows):
    with serve(ready) as one:
        one.wait_version(1)
        recorder = stop_draining(one)
        one.score({"id": "mine", "text": "good"})
        with serve(ready) as two:
            two.wait_version(1)
            two.score({"id": "theirs", "text": "good"})
            two.wait_stored()
            assert ids(rows(ready)) == ["theirs"]
            assert [*recorder._folder.glob("*.jsonl")]
        del recorder._drain_all
        one.wait_stored()
    assert ids(rows(ready)) == ["mine", "theirs"]


def test_a_stop_writes_everything_and_leaves_no_folder(ready, serve, rows):
    with serve(ready) as served:
        served.wait_version(1)
        served.score(*[{"id": f"m-{number:03}", "text": "good"} for number in range(500)])
    assert len(ids(rows(ready))) == 500
    assert [*(ready.state_dir / "spool").iterdir()] == []


def test_a_spool_that_cannot_be_written_is_a_503_and_mends(ready, serve, rows):
    spool = ready.state_dir / "spool"
    with serve(ready) as served:
        served.wait_version(1)
        spool.write_text("in the way")
        refused = served.score({"id": "lost", "text": "good"}, status=503)
        assert "disk" in refused["error"]["expected"]
        assert set(refused["error"]) == {"expected", "found", "next_step"}
        spool.unlink()
        served.score({"id": "kept", "text": "good"})
        served.wait_stored()
    assert ids(rows(ready)) == ["kept"]


def test_a_long_outage_fills_many_small_segments(ready, serve, monkeypatch, rows):
    monkeypatch.setattr("serving.recorder.SEGMENT_BYTES", 2_000)
    with serve(ready) as served:
        served.wait_version(1)
        recorder = stop_draining(served)
        for number in range(20):
            served.score({"id": f"m-{number:02}", "text": "good"})
        assert len([*recorder._folder.glob("*.jsonl")]) > 3
        del recorder._drain_all
        served.wait_stored()
    assert len(ids(rows(ready))) == 20


def test_the_share_with_embeddings_comes_first_in_the_stores_sample(ready, serve):
    settings = ready.model_copy(update={"embedding_share": 0.3})
    with serve(settings) as served:
        served.wait_version(1)
        served.score(*({"id": f"m-{number:03}", "text": "good"} for number in range(200)))
        served.wait_stored()
    now = datetime.now(UTC)
    window = now - timedelta(hours=1), now + timedelta(hours=1)
    sample = Store(settings.database_url).window("sentiment", *window, limit=40)
    assert all(row["embedding"] is not None for row in sample)
    every = Store(settings.database_url).window("sentiment", *window)
    assert 40 < sum(row["embedding"] is not None for row in every) < 100
