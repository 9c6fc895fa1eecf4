"""Views as Parquet: what the columns hold stands in the files, no words unless asked for, no half file ever."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from insights import export as exporting
from insights.export import BY_DAY, export, schema_of
from undertone import views
from undertone.errors import DataError
from undertone.records import Message, Prediction, ScoredMessage
from undertone.schema import messages
from undertone.store import Store

START = datetime(2026, 11, 3, 12, tzinfo=UTC)


def write(store: Store, days: int, each: int = 3) -> None:
    for day in range(days):
        moment = START + timedelta(days=day)
        store.record(
            [
                ScoredMessage(
                    Message(f"m{day}-{number}", f"secret words {number}", "chat", None, f"c{number}", moment, moment),
                    (Prediction(f"m{day}-{number}", "sentiment", "negative", (0.9, 0.1), 2, "ab" * 32, moment),),
                    "negative",
                )
                for number in range(each)
            ]
        )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_view_is_a_file_or_a_folder_of_days(store: Store, tmp_path: Path) -> None:
    write(store, days=2)
    done = export(store, tmp_path)
    assert [item.view for item in done] == [view.name for view in views.VIEWS if not view.texts]
    for view in views.VIEWS:
        if view.name in BY_DAY and not view.texts:
            days = [f"{view.name}/day=2026-11-0{day}/part-0.parquet" for day in (3, 4)]
            assert [name for name in files(tmp_path) if name.startswith(f"{view.name}/")] == days
        elif not view.texts:
            assert pq.read_metadata(tmp_path / f"{view.name}.parquet").num_rows == 0
    rows = ds.dataset(tmp_path / "messages", format="parquet", partitioning="hive").to_table().to_pylist()
    assert len(rows) == 6
    assert {row["day"] for row in rows} == {"2026-11-03", "2026-11-04"}
    assert rows[0]["event_at"] == START


def test_what_columns_hold_stands_in_the_file(store: Store, tmp_path: Path) -> None:
    write(store, days=1)
    export(store, tmp_path)
    view = views.get_view("messages")
    found = pq.read_schema(tmp_path / "messages/day=2026-11-03/part-0.parquet")
    for column in view.columns:
        if column.name != "day":
            assert found.field(column.name).metadata[b"description"].decode() == column.about
    plain = pq.read_metadata(tmp_path / "messages/day=2026-11-03/part-0.parquet").metadata  # of any reader, not Arrow's
    assert plain[b"description"].decode() == view.about
    assert json.loads(plain[b"columns"])["day"] == "day of event_at in UTC"


@pytest.mark.parametrize("view", views.VIEWS, ids=lambda view: view.name)
def test_every_column_has_a_type(view: views.View) -> None:
    assert schema_of(view, by_day=False).names == [column.name for column in view.columns]


def test_words_only_where_they_are_asked_for(store: Store, tmp_path: Path) -> None:
    write(store, days=2)
    export(store, tmp_path / "plain")
    export(store, tmp_path / "texts", texts=True)
    holds = {
        name: b"secret words" in b"".join(path.read_bytes() for path in (tmp_path / name).rglob("*.parquet"))
        or any("text" in pq.read_schema(path).names for path in (tmp_path / name).rglob("*.parquet"))
        for name in ("plain", "texts")
    }
    assert holds == {"plain": False, "texts": True}
    rows = pq.read_table(tmp_path / "texts/message_texts/day=2026-11-04/part-0.parquet").to_pylist()
    assert rows[0] == {"message_id": "m1-0", "text": "secret words 0"}


def test_a_period_replaces_its_days_and_no_others(store: Store, tmp_path: Path) -> None:
    write(store, days=3)
    export(store, tmp_path)
    with store.transaction() as connection:
        connection.execute(messages.delete().where(messages.c.id.like("m0-%")))
        connection.execute(messages.delete().where(messages.c.id.like("m1-%")))
    (done, *_) = export(store, tmp_path, start=START + timedelta(days=1), end=START + timedelta(days=2))
    assert (done.view, done.rows) == ("messages", 0)
    assert [name for name in files(tmp_path) if name.startswith("messages/")] == [
        "messages/day=2026-11-03/part-0.parquet",
        "messages/day=2026-11-05/part-0.parquet",
    ]
    export(store, tmp_path)
    assert [name for name in files(tmp_path) if name.startswith("messages/")] == [
        "messages/day=2026-11-05/part-0.parquet"
    ]


def test_batches_do_not_split_days_into_files(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 2)
    write(store, days=3)
    told: list[tuple[str, int, int]] = []
    export(store, tmp_path, progress=lambda *news: told.append(news))
    assert pq.read_metadata(tmp_path / "messages/day=2026-11-04/part-0.parquet").num_rows == 3
    assert [news[1:] for news in told if news[0] == "messages"] == [(0, 9), (2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]


def test_an_export_that_breaks_leaves_the_old_files_whole(store: Store, tmp_path: Path) -> None:
    write(store, days=1)
    export(store, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def stop(view: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path, progress=stop)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_a_folder_that_cannot_be_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="choose another folder"):
        export(store, tmp_path / "file")
