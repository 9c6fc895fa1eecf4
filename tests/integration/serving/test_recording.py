"""Scored messages reach the store once, whatever happens to the store, the disk, the clock and the worker."""

import shutil
import sqlite3
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from undertone.engine import Engine
from undertone.settings import Settings
from undertone.store import Store
from undertone.tasks import TASKS


def named(*names):
    return [{"id": name, "text": "good"} for name in names]


def stop_draining(served):
    """The recorder's thread ends as at a kill, without a last turn: what is appended from here on stays on disk."""
    recorder = served.worker.recorder
    recorder._drain_all = lambda store: None
    return recorder


@contextmanager
def store_out_of_reach(settings):
    """Settings whose store's folder is in the way; at the end of the block the store is back."""
    blocked = settings.state_dir / "elsewhere"
    blocked.write_text("a file where the store's folder should be")
    try:
        yield settings.model_copy(update={"store_url": f"sqlite:///{blocked}/undertone.db"})
    finally:
        if blocked.is_file():
            blocked.unlink()


def test_every_message_is_stored_once_per_id_with_its_facts(desk, rows):
    item = {
        "id": "order-1", "text": "good parcel", "channel": "chat", "segment": "gold", "customer_id": "c-1",
        "time": "2026-11-24T10:30:00+01:00",
    }  # fmt: skip
    for _ in range(3):
        answer = desk.served.score(item, {"id": "order-2", "text": "bad"}, {"id": "order-2", "text": "bad"})
    desk.served.wait_stored()
    messages, predictions = rows(desk.settings)
    mine = [row for row in messages if row["id"].startswith("order-")]
    assert [row["id"] for row in mine] == ["order-1", "order-2"]
    first = mine[0]
    assert (first["channel"], first["segment"], first["customer_id"]) == ("chat", "gold", "c-1")
    assert first["sent_at"] == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert first["final_sentiment"] == answer["messages"][0]["sentiment"]
    mine = {row["task"]: row for row in predictions if row["message_id"] == "order-1"}
    assert set(mine) == set(TASKS)
    for task, row in mine.items():
        said = answer["messages"][0]["tasks"][task]
        assert row["label"] == said["label"]
        assert row["probabilities"] == pytest.approx(list(said["probabilities"].values()), abs=1e-6)
        assert (row["model_version"], row["model_digest"]) == (1, said["digest"])
        expected = Engine(desk.shelf.folder(1, task)).score(["good parcel"]).embeddings[0].astype("<f2")
        assert np.frombuffer(row["embedding"], dtype="<f2").tolist() == expected.tolist()


def test_a_store_out_of_reach_at_start_and_back_loses_nothing(ready, serve, stored_ids, until):
    names = [f"m-{number:02}" for number in range(30)]
    with store_out_of_reach(ready) as settings:
        with serve(settings) as served:  # what served before serves on
            until(lambda: served.ready()["store_problem"], "the problem shown")
            for name in names:
                served.score(*named(name))
            assert served.ready()["store_backlog"] == 30
            assert "undertone_store_backlog_messages 30.0" in served.client.get("/metrics").text
            (settings.state_dir / "elsewhere").unlink()
            served.wait_stored()
        assert stored_ids(settings) == names


def test_without_the_ledger_nothing_new_comes_into_service(settings, shelf, serve):
    shelf.publish()
    with store_out_of_reach(settings) as away, serve(away) as served:
        assert "the store at" in served.wait_refused(1)["expected"]
        (settings.state_dir / "elsewhere").unlink()
        assert served.task()["version"] is None


def test_a_store_locked_while_running_delays_rows_only(ready, serve, stored_ids, until, monkeypatch):
    opened = Store.open
    monkeypatch.setattr(Store, "open", lambda settings, timeout_s: opened(settings, 0.2))
    with serve(ready) as served:
        lock_while_scoring(served, until)
    assert stored_ids(ready) == ["before", *[f"while-{number}" for number in range(5)]]


def lock_while_scoring(served, until):
    served.score(*named("before"))
    served.wait_stored()
    lock = sqlite3.connect(served.settings.state_dir / "undertone.db", isolation_level=None)
    lock.execute("begin exclusive")
    for number in range(5):
        served.score(*named(f"while-{number}"))
    until(lambda: served.ready()["store_problem"], "the problem shown")
    lock.execute("rollback")
    lock.close()
    served.wait_stored()


def test_a_postgresql_that_goes_away_and_comes_back_delays_rows_only(ready, serve, stored_ids, until, postgres):
    settings = ready.model_copy(update={"store_url": postgres.store()})
    database = settings.store_url.rsplit("/", 1)[1]
    with serve(settings) as served:
        served.score(*named("before"))
        served.wait_stored()
        postgres.rows(f"alter database {database} with allow_connections false")
        postgres.rows(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")
        for number in range(20):
            served.score(*named(f"while-{number:02}", "before"))
        until(lambda: served.ready()["store_problem"], "the problem shown")
        assert served.ready()["store_backlog"] == 40
        postgres.rows(f"alter database {database} with allow_connections true")
        served.wait_stored()
        served.score(*named("zz-after"))
        served.wait_stored()
        assert served.ready()["store_problem"] is None
    assert stored_ids(settings) == ["before", *[f"while-{number:02}" for number in range(20)], "zz-after"]


def leave_behind(settings, serve, *names):
    """What a killed worker leaves: segments and a lock that nobody holds. Gives its folder."""
    with serve(settings) as served:
        recorder = stop_draining(served)
        for item in named(*names):
            served.score(item)
    return recorder._folder


def test_what_a_killed_worker_left_is_drained_and_its_torn_line_left_out(ready, serve, rows, stored_ids, until):
    folder = leave_behind(ready, serve, "left-1", "left-2")
    (segment,) = folder.glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole.splitlines()[0][:-40])
    with serve(ready):
        until(lambda: not folder.exists(), "the folder is drained")
    assert stored_ids(ready) == ["left-1", "left-2"]
    assert len(rows(ready)[1]) == 2


def test_a_segment_drained_twice_is_stored_once(ready, serve, rows, stored_ids, until, tmp_path):
    folder = leave_behind(ready, serve, "once-1", "once-2")
    shutil.copytree(folder, tmp_path / "copy")
    for _ in range(2):  # the worker dies after the commit and before it deletes the segment
        with serve(ready):
            until(lambda: not folder.exists(), "the folder is drained")
        shutil.copytree(tmp_path / "copy", folder)
    assert stored_ids(ready) == ["once-1", "once-2"]
    assert len(rows(ready)[1]) == 2


def test_a_line_that_cannot_be_read_is_kept_and_holds_nothing_up(ready, serve, stored_ids, until):
    folder = leave_behind(ready, serve, "fine-1", "fine-2")
    (segment,) = folder.glob("*.jsonl")
    first, second = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(first + b'{"message": nonsense}\n' + second)
    with serve(ready):
        until(lambda: [*folder.glob("*.unreadable")], "the broken segment is kept")
    assert stored_ids(ready) == ["fine-1", "fine-2"]


def test_a_living_workers_segments_are_its_own(ready, serve, stored_ids):
    with serve(ready) as one:
        recorder = stop_draining(one)
        one.score(*named("mine"))
        with serve(ready) as two:
            two.score(*named("theirs"))
            two.wait_stored()
            assert stored_ids(ready) == ["theirs"]
            assert [*recorder._folder.glob("*.jsonl")]
        del recorder._drain_all
        one.wait_stored()
    assert stored_ids(ready) == ["mine", "theirs"]


def test_a_stop_writes_everything_and_leaves_no_folder(ready, serve, stored_ids):
    with serve(ready) as served:
        served.score(*named(*(f"m-{number:03}" for number in range(500))))
    assert len(stored_ids(ready)) == 500
    assert [*(ready.state_dir / "spool").iterdir()] == []


def test_a_spool_that_cannot_be_written_is_a_503_and_mends(ready, serve, stored_ids):
    spool = ready.state_dir / "spool"
    with serve(ready) as served:
        spool.write_text("in the way")
        refused = served.score(*named("lost"), status=503)
        assert "disk" in refused["error"]["expected"]
        assert set(refused["error"]) == {"expected", "found", "next_step"}
        spool.unlink()
        served.score(*named("kept"))
        served.wait_stored()
    assert stored_ids(ready) == ["kept"]


@pytest.fixture
def small_disk(ready: Settings):
    """The spool of `ready` on a file system of its own, of 256 KiB."""
    spool = ready.state_dir / "spool"
    spool.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", spool], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no right to mount here; tests/unit/serving/test_recorder.py cuts a write short by a limit instead")
    yield ready
    subprocess.run(["umount", "--lazy", spool], check=True)


def test_a_full_disk_refuses_and_what_was_acknowledged_is_kept(small_disk, serve, stored_ids, until, caplog):
    acknowledged, refused = [], []
    with store_out_of_reach(small_disk) as settings:
        with serve(settings) as served:
            for number in range(200):
                names = [f"{number:03}-{place}" for place in range(10)]
                answer = served.client.post("/v1/score", json={"messages": named(*names)})
                assert answer.status_code in {200, 503}, answer.text
                if answer.status_code == 503:
                    assert "no space left" in answer.json()["error"]["found"].lower()
                (acknowledged if answer.status_code == 200 else refused).extend(names)
            assert acknowledged
            assert len(refused) > 100
            assert served.ready()["store_backlog"] == len(acknowledged)
            (settings.state_dir / "elsewhere").unlink()
            served.wait_stored()
            served.score(*named("zz-room-again"))
            served.wait_stored()
        assert stored_ids(settings) == [*acknowledged, "zz-room-again"]
    assert sum("cannot be written to the spool" in record.getMessage() for record in caplog.records) == 1


def test_a_long_outage_fills_many_small_segments(ready, serve, monkeypatch, stored_ids):
    monkeypatch.setattr("serving.recorder.SEGMENT_BYTES", 2_000)
    with serve(ready) as served:
        recorder = stop_draining(served)
        for number in range(20):
            served.score(*named(f"m-{number:02}"))
        assert len([*recorder._folder.glob("*.jsonl")]) > 3
        del recorder._drain_all
        served.wait_stored()
    assert len(stored_ids(ready)) == 20


class Clock(datetime):
    """A system clock that can be set."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + cls.ahead


def test_a_clock_that_is_set_while_the_worker_runs_loses_and_doubles_nothing(served, rows, monkeypatch):
    for module in ("worker", "http", "model_slot"):
        monkeypatch.setattr(f"serving.{module}.datetime", Clock)
    steps = {"a": timedelta(), "b": timedelta(days=400), "c": timedelta(days=-400), "d": timedelta()}
    for name, ahead in steps.items():
        monkeypatch.setattr(Clock, "ahead", ahead)
        served.score(*named(name, "same"))
        served.wait_stored()
    messages, predictions = rows(served.settings)
    assert [row["id"] for row in messages] == [*steps, "same"]
    at = {row["message_id"]: row["scored_at"] for row in predictions}
    assert at["c"] < at["a"] <= at["same"] < at["b"]
    assert abs(at["d"] - datetime.now(UTC)) < timedelta(minutes=5)
    received = {row["id"]: row["received_at"] for row in messages}
    assert all(abs(received[name] - at[name]) < timedelta(minutes=5) for name in at)


def test_a_sender_whose_clock_is_wrong_is_taken_at_its_word(served, rows):
    years = ("1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")
    served.score(*({"id": year, "text": "good", "sent_at": year} for year in years))
    served.wait_stored()
    messages, predictions = rows(served.settings)
    assert {row["id"]: row["sent_at"] for row in messages} == {year: datetime.fromisoformat(year) for year in years}
    assert all(abs(row["received_at"] - datetime.now(UTC)) < timedelta(minutes=5) for row in messages)
    assert {row["message_id"]: row["event_at"] for row in predictions} == {
        year: datetime.fromisoformat(year) for year in years
    }


def test_the_share_with_embeddings_comes_first_in_the_stores_sample(ready, serve):
    settings = ready.model_copy(update={"embedding_share": 0.3})
    with serve(settings) as served:
        served.score(*named(*(f"m-{number:03}" for number in range(200))))
        served.wait_stored()
    now = datetime.now(UTC)
    window = now - timedelta(hours=1), now + timedelta(hours=1)
    store = Store(settings.database_url)
    sample = store.window("sentiment", *window, limit=40)
    assert all(row["embedding"] is not None for row in sample)
    every = store.window("sentiment", *window)
    assert 40 < sum(row["embedding"] is not None for row in every) < 100
    store.engine.dispose()
