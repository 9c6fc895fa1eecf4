"""What an erasure finds in files of every kind, and in the rows of a store; and who does not come back."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from serving.recorder import LOCK, UNREADABLE
from serving.spool_erasure import Spool, names
from serving.spool_line import encode
from undertone import erasure, tombstones
from undertone.records import Message, ScoredMessage
from undertone.redaction import ERASED, Sought, redact, redact_value
from undertone.schema import erasures, messages
from undertone.store import Store

NOW = datetime(2026, 11, 3, tzinfo=UTC)
TEXT = 'My "parcel" & it\'s zebra late,\tnever came'
SOUGHT = Sought("customer-7", frozenset({"m1", "m2"}), frozenset({TEXT, "ok", "=my zebra cell"}))


def message(name: str, customer: str | None, at: datetime = NOW, text: str = TEXT) -> ScoredMessage:
    return ScoredMessage(Message(name, text, "chat", None, customer, at, at), ())


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", json.dumps([{"text": TEXT, "label": "a"}, {"text": "kept words", "label": "b"}], indent=1)),
        (".json", json.dumps({"examples": ["m1", "kept"], "note": f"as in: {TEXT}"})),
        (".jsonl", json.dumps({"text": TEXT}) + "\n" + json.dumps({"text": "kept words"}) + "\n"),
        (".csv", f'text,label\n"{TEXT.replace(chr(34), chr(34) * 2)}",a\nkept words,b\n'),
        (".tsv", "text\tlabel\n'=my zebra cell\ta\nkept words\tb\n"),
        (".html", "<p>My &#34;parcel&#34; &amp; it&#39;s zebra late,\tnever came</p><p>kept words</p>"),
        (".html", "<p>My &quot;parcel&quot; &amp; it&#x27;s zebra late,\tnever came</p><p>kept words</p>"),
        (".md", f"- for example {TEXT!r}\n- {TEXT}\n kept words"),
        (".log", f"INFO customer-7 wrote {json.dumps(TEXT)}, kept words"),
    ],
)
def test_a_text_is_found_however_it_is_written(suffix: str, content: str) -> None:
    made, count = redact(content.encode(), suffix, SOUGHT)
    assert count > 0
    assert b"kept" in made
    for word in (b"zebra", b"customer-7", b'"m1"'):
        assert word not in made
    assert redact(made, suffix, SOUGHT) == (made, 0)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".html", ".txt"])
@given(data=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_other_files_stay_as_they_are(suffix: str, data: bytes) -> None:
    sought = Sought("customer-7", frozenset({"message-1"}), frozenset({"a text that nobody else wrote"}))
    assert redact(data, suffix, sought) == (data, 0)


def test_a_short_text_or_id_is_erased_as_a_whole_value_only() -> None:
    value = {"text": "ok", "note": "it is ok so far", "customer": "7"}
    made, count = redact_value(value, Sought("7", frozenset(), frozenset({"ok"})))
    assert (made, count) == ({"text": ERASED, "note": "it is ok so far", "customer": ERASED}, 2)


def test_the_same_words_beside_a_text_go_with_it() -> None:
    value = {"text": TEXT, "changed": "My parcel did not come", "answer": "negative"}
    assert redact_value(value, SOUGHT)[0] == {"text": ERASED, "changed": ERASED, "answer": "negative"}


def test_nothing_sought_is_nothing_found() -> None:
    assert not Sought()
    assert redact(b'{"text": ""}', ".json", Sought(texts=frozenset({""}))) == (b'{"text": ""}', 0)
    assert not names(encode(message("m9", None)), Sought(message_ids=frozenset({"m1"})))


def test_deleted_bytes_are_gone_from_sqlite(store: Store, tmp_path: Path) -> None:
    store.record([message(f"own-{n}", "customer-7", text=f"zebra {n} " * 300) for n in range(50)])
    store.record([message(f"other-{n}", "customer-8", text=f"horse {n}") for n in range(50)])
    found = erasure.collect(store, "customer-7")
    assert len(found.message_ids) == 50
    assert erasure.delete_rows(store, found) == {"messages": 50}
    assert erasure.shred(store) == []
    left = b"".join(path.read_bytes() for path in tmp_path.glob("store.db*"))
    assert b"zebra" not in left
    assert b"customer-7" not in left
    assert b"horse 49" in left


def test_a_reader_in_the_way_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PATIENCE_S", 0.0)
    store.record([message("m1", "customer-7")])
    with store.reading() as connection:
        connection.execute(select(messages)).all()
        store.record([message("m2", "customer-8")])
        assert "run the erasure again" in erasure.shred(store, whole=False)[0]
    assert erasure.shred(store, whole=False) == []


def test_an_erased_customer_is_known_by_a_hash_that_ends_at_the_store(tmp_path: Path) -> None:
    hashes = set()
    for name in ("a", "b"):
        store = Store(f"sqlite:///{tmp_path / name}.db")
        store.migrate()
        with store.transaction() as connection:
            first = tombstones.bury(connection, "customer-7", NOW)
            assert tombstones.bury(connection, "customer-7", NOW + timedelta(days=1)) == first
            assert tombstones.bury(connection, "customer-8", NOW) != first
            assert tombstones.known_as(connection, "customer-7") == first
            assert len(connection.execute(select(erasures)).all()) == 2
        hashes.add(first)
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("sent", "received", "comes_back"),
    [(-1, -1, False), (-1, 1, False), (1, -1, False), (1, 1, True), (None, -1, False), (None, 1, True)],
)
def test_what_was_sent_or_received_before_the_erasure_is_not_stored(
    store: Store, sent: int | None, received: int, comes_back: bool
) -> None:
    with store.transaction() as connection:
        tombstones.bury(connection, "customer-7", NOW)
    at = {hours: NOW + timedelta(hours=hours) for hours in (-1, 1)}
    own = Message("m1", "hello", customer_id="customer-7", sent_at=at.get(sent or 0), received_at=at[received])
    assert store.record([ScoredMessage(own, ()), message("m2", "customer-8", at[-1]), message("m3", None, at[-1])]) == (
        2 + comes_back
    )


def test_a_dead_workers_lines_are_taken_out_and_the_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "dead"
    folder.mkdir()
    (folder / LOCK).touch()
    own, other = encode(message("m1", "customer-7")), encode(message("m9", "customer-8", text="horse"))
    (folder / "1.jsonl").write_bytes(own + other)
    (folder / "2.jsonl").write_bytes(own)
    (folder / f"3.jsonl{UNREADABLE}").write_bytes(other + own[:120] + b"\n" + b"\xff\xfe broken\n")
    spool = Spool(tmp_path)
    assert spool.find(SOUGHT) == {"lines": 2, "unreadable lines": 1}
    assert spool.erase(SOUGHT) == ({"lines": 2, "unreadable lines": 1}, [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        LOCK: b"",
        "1.jsonl": other,
        f"3.jsonl{UNREADABLE}": other + b"\xff\xfe broken\n",
    }
    assert spool.erase(SOUGHT) == ({}, [])
    assert Spool(tmp_path / "none").erase(SOUGHT) == ({}, [])


def test_files_that_nobody_could_read_end_with_the_retention(tmp_path: Path) -> None:
    folder = tmp_path / "dead"
    folder.mkdir()
    for name in ("1.jsonl", f"2.jsonl{UNREADABLE}"):
        (folder / name).write_bytes(b"x\n")
    written = datetime.fromtimestamp((folder / "1.jsonl").stat().st_mtime, UTC)
    assert Spool(tmp_path).expire(written - timedelta(days=1)) == 0
    assert Spool(tmp_path).expire(written + timedelta(days=1)) == 1
    assert [path.name for path in folder.iterdir()] == ["1.jsonl"]
