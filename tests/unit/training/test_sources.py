"""Every source is read, and whatever cannot be read is named: the file, the byte, the line, the column."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import datasets
import pandas as pd
import pytest

from training.data import Table, load
from training.sources import located, parts
from undertone.errors import DataError
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task

SPEC = TaskSpec(name="mood", labels=("bad", "very_good"), min_rows_per_class=2)
ROWS = [("late again", "bad"), ("lovely team", "very_good"), ("broken cup", "bad"), ("great price", "very_good")]
NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)


def write_csv(path: Path, rows: list[tuple[str, ...]], header: str = "text,label") -> str:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return str(path)


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return str(path)


def as_pairs(table: Table) -> set[tuple[str, str]]:
    return set(zip(table.rows["text"], table.rows["label"], strict=True))


def counts(table: Table) -> dict[str, int]:
    return {item.name: item.count for item in table.repairs}


def refuse(source: str, *words: str, spec: TaskSpec = SPEC, **options: str) -> DataError:
    with pytest.raises(DataError) as caught:
        load(source, spec, **options)
    for word in words:
        assert word in str(caught.value)
    return caught.value


def hub_set(folder: Path, splits: dict[str, list[tuple[str, int]]]) -> str:
    folder.mkdir()
    for name, rows in splits.items():
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=SPEC.labels)}
        )
        texts, labels = zip(*rows, strict=True)
        table = datasets.Dataset.from_dict({"text": list(texts), "label": list(labels)}, features=features)
        table.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return f"hf:{folder}"


NUMBERS = [(text, SPEC.labels.index(label)) for text, label in ROWS]


# files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda frame, path: frame.to_csv(path, index=False)),
        ("a.tsv", lambda frame, path: frame.to_csv(path, index=False, sep="\t")),
        ("a.jsonl", lambda frame, path: frame.to_json(path, orient="records", lines=True)),
        ("a.ndjson", lambda frame, path: frame.to_json(path, orient="records", lines=True)),
        ("a.json", lambda frame, path: frame.to_json(path, orient="records", lines=True)),
        ("a.parquet", lambda frame, path: frame.to_parquet(path)),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(
    name: str, write: Callable[[pd.DataFrame, Path], object], tmp_path: Path
) -> None:
    write(pd.DataFrame(ROWS, columns=["text", "label"]), tmp_path / name)
    table = load(str(tmp_path / name), SPEC)
    assert as_pairs(table) == set(ROWS)
    assert table.rows["split"].isna().all()
    assert not table.synthetic


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = Path(write_csv(tmp_path / "a.csv", ROWS))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert as_pairs(load(str(path), SPEC)) == set(ROWS)


def test_words_like_na_and_ids_like_007_stay_as_written(tmp_path: Path) -> None:
    rows = [("007", "NA", "bad"), ("008", "null", "bad"), ("9", "fine", "very_good"), ("10", "good", "very_good")]
    table = load(write_csv(tmp_path / "a.csv", rows, "id,text,label"), SPEC)
    assert set(table.rows["text"]) == {"NA", "null", "fine", "good"}
    assert {"007", "008"} <= set(table.rows["message_id"])


def test_a_line_separator_inside_a_json_string_is_text(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in [*ROWS, ("one\u2028two", "bad")]]
    assert len(load(write_jsonl(tmp_path / "a.jsonl", rows), SPEC).rows) == 5


def test_a_lone_surrogate_is_replaced_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"text": text, "label": label} for text, label in ROWS])
    path.write_text(path.read_text() + '\n{"text": "half \\ud83d an emoji", "label": "bad"}')
    table = load(str(path), SPEC)
    assert "half � an emoji" in set(table.rows["text"])
    assert counts(table)["characters"] == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refuse(str(tmp_path / "none.csv"), "none.csv", "does not exist")


def test_a_kind_of_file_that_is_not_known_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    refuse(str(tmp_path / "a.xlsx"), "a.xlsx", ".parquet")


@pytest.mark.parametrize(
    ("name", "data"), [("a.csv", b""), ("a.jsonl", b" \n"), ("a.parquet", b""), ("b.csv", b"text,label\n")]
)
def test_a_file_without_rows_is_named(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    refuse(str(tmp_path / name), name, "empty")


def test_a_parquet_file_without_rows_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"text": [], "label": []}, dtype=str).to_parquet(tmp_path / "a.parquet")
    refuse(str(tmp_path / "a.parquet"), "a.parquet", "empty")


def test_bytes_that_are_not_utf8_are_named_with_offset_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\nfine,bad\ncaf\xe9,bad\n")
    refuse(str(tmp_path / "a.csv"), "0xe9", "offset 23", "line 3", "iconv")


def test_a_broken_json_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "label": "bad"}\n\n{"text": \n')
    refuse(str(tmp_path / "a.jsonl"), "line 3")


def test_json_that_is_one_array_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"text": "x", "label": "bad"}]')
    refuse(str(tmp_path / "a.json"), "one JSON object a line", "list in line 1")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.parquet", "no parquet"),
        ("a.csv", "text,label\nx,bad\na,b,c,d\n"),
        ("b.csv", 'text,label\nx,bad\n"open,bad\n'),
    ],
)
def test_a_broken_file_is_named_with_the_readers_reason(name: str, data: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(data)
    assert str(tmp_path / name) in refuse(str(tmp_path / name), "readable").next_step


def test_rows_with_more_fields_than_columns_are_refused_not_shifted(tmp_path: Path) -> None:
    refuse(write_csv(tmp_path / "a.csv", [(*row, "") for row in ROWS]), "more fields", "2 column names")


# folders ----------------------------------------------------------------------------------------


def test_a_folder_names_its_splits_and_joins_training_files(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_jsonl(tmp_path / "own_train.jsonl", [{"text": "no cup", "label": "bad", "rephrase": "x"}])
    write_csv(tmp_path / "dev.csv", [("sad team", "bad")])
    write_csv(tmp_path / "mood-test-2.csv", [("glad team", "very_good")])
    rows = load(str(tmp_path), SPEC).rows
    assert rows["split"].value_counts().to_dict() == {"train": 5, "val": 1, "test": 1}
    assert "rephrase" not in rows.columns


def test_ids_of_different_files_may_be_alike(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [(str(n), *row) for n, row in enumerate(ROWS)], "id,text,label")
    write_csv(tmp_path / "val.csv", [(str(n), f"new {row[0]}", row[1]) for n, row in enumerate(ROWS)], "id,text,label")
    assert load(str(tmp_path), SPEC).rows["split"].value_counts().to_dict() == {"train": 4, "val": 4}


def test_a_file_whose_name_tells_no_split_is_reported(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "testimonials.csv", [("x", "y")])
    table = load(str(tmp_path), SPEC)
    assert [(item.name, item.count, item.example) for item in table.repairs] == [("unused_file", 1, "testimonials.csv")]


def test_a_folder_without_training_rows_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", ROWS)
    refuse(str(tmp_path), "`train` in its name", "rows.csv")


# columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["Message,LABEL", "tweet,mood", "body,target", "content,Class", "sentence,label"])
def test_usual_names_of_columns_are_found_in_any_case(header: str, tmp_path: Path) -> None:
    assert as_pairs(load(write_csv(tmp_path / "a.csv", ROWS, header), SPEC)) == set(ROWS)


def test_label_comes_before_the_specs_own_column(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"label_column": "verdict"})
    rows = [(text, label, "other") for text, label in ROWS]
    assert as_pairs(load(write_csv(tmp_path / "a.csv", rows, "text,label,verdict"), spec)) == set(ROWS)
    assert as_pairs(load(write_csv(tmp_path / "b.csv", ROWS, "text,verdict"), spec)) == set(ROWS)


def test_named_columns_are_taken(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", [("x", *row) for row in ROWS], "text,words,stars")
    assert as_pairs(load(source, SPEC, text_column="words", label_column="stars")) == set(ROWS)


@pytest.mark.parametrize(
    ("header", "options", "words"),
    [
        ("words,label", {}, ("'text'", "words, label", "--text-column")),
        ("text,stars", {}, ("'label'", "text, stars", "--label-column")),
        ("text,label", {"text_column": "words"}, ("'words'", "text, label")),
    ],
)
def test_a_missing_column_is_named_beside_those_there_are(
    header: str, options: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    refuse(write_csv(tmp_path / "a.csv", ROWS, header), *words, **options)


def test_numbers_where_text_should_be_are_refused(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": n, "label": "bad"} for n in range(5)]
    refuse(write_jsonl(tmp_path / "a.jsonl", rows), "'text'", "row 1", "--text-column")


@pytest.mark.parametrize("name", ["sent_at", "created_at", "timestamp", "time"])
def test_times_channels_and_segments_are_kept_and_gaps_are_none(name: str, tmp_path: Path) -> None:
    stamps = [
        ("2026-09-07T08:30:00+02:00", "chat", ""),
        ("2026-09-08 08:30:00.5", "", "big"),
        ("", "", ""),
        ("", "", ""),
    ]
    rows = [(*row, *stamp) for row, stamp in zip(ROWS, stamps, strict=True)]
    frame = load(write_csv(tmp_path / "a.csv", rows, f"text,label,{name},channel,segment"), SPEC).rows
    frame = frame.set_index("text")
    assert frame.loc["late again", "sent_at"] == pd.Timestamp("2026-09-07T06:30:00Z")
    assert frame.loc["lovely team", "sent_at"] == pd.Timestamp("2026-09-08T08:30:00.5Z")
    assert frame["sent_at"].isna().sum() == 2
    assert list(frame["channel"]) == ["chat", None, None, None]
    assert list(frame["segment"]) == [None, "big", None, None]


@pytest.mark.parametrize("factor", [1, 1_000, 1_000_000])
def test_numbers_since_1970_are_times(factor: int, tmp_path: Path) -> None:
    rows = [(*row, str(1_757_203_200 * factor)) for row in ROWS]
    frame = load(write_csv(tmp_path / "a.csv", rows, "text,label,timestamp"), SPEC).rows
    assert set(frame["sent_at"]) == {pd.Timestamp("2025-09-07T00:00:00Z")}


def test_a_time_that_is_none_is_named_with_its_row(tmp_path: Path) -> None:
    rows = [(*row, stamp) for row, stamp in zip(ROWS, ("", "2026-09-07", "yesterday", ""), strict=True)]
    refuse(write_csv(tmp_path / "a.csv", rows, "text,label,time"), "'yesterday'", "row 3", "'time'")


def test_rows_without_ids_get_ids_that_follow_from_the_text(tmp_path: Path) -> None:
    first = load(write_csv(tmp_path / "a.csv", [("", *row) for row in ROWS], "id,text,label"), SPEC).rows
    second = load(write_csv(tmp_path / "b.csv", ROWS[::-1]), SPEC).rows
    assert first["message_id"].is_unique
    assert dict(zip(first["text"], first["message_id"], strict=True)) == dict(
        zip(second["text"], second["message_id"], strict=True)
    )


# hub --------------------------------------------------------------------------------------------


def test_a_hub_set_gives_class_names_and_splits(tmp_path: Path) -> None:
    table = load(hub_set(tmp_path / "set", {"train": NUMBERS, "validation": [("sad team", 0)]}), SPEC)
    assert as_pairs(table) == {*ROWS, ("sad team", "bad")}
    assert table.rows["split"].value_counts().to_dict() == {"train": 4, "val": 1}


def test_one_lone_split_of_a_hub_set_is_no_split(tmp_path: Path) -> None:
    assert load(hub_set(tmp_path / "set", {"train": NUMBERS}), SPEC).rows["split"].isna().all()


def test_hidden_labels_of_a_hub_set_count_as_unlabelled(tmp_path: Path) -> None:
    table = load(hub_set(tmp_path / "set", {"train": [*NUMBERS, ("who knows", -1)]}), SPEC)
    assert as_pairs(table) == set(ROWS)
    assert counts(table) == {"unlabelled": 1}


def test_a_hub_set_that_is_not_to_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    refuse("hf:nobody/nothing-of-this-name", "nobody/nothing-of-this-name", "HF_HUB_OFFLINE")
    refuse(f"hf:{tmp_path / 'none'}", "none")


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    refuse(f"{hub_set(tmp_path / 'set', {'train': NUMBERS})}:other", "other")


# labels -----------------------------------------------------------------------------------------


def test_letter_case_spaces_and_hyphens_of_labels_do_not_matter(tmp_path: Path) -> None:
    rows = [("a b", "BAD"), ("c d", "Very Good"), ("e f", " bad "), ("g h", "very-good")]
    assert set(load(write_csv(tmp_path / "a.csv", rows), SPEC).rows["label"]) == {"bad", "very_good"}


def test_unknown_labels_are_counted_and_never_dropped(tmp_path: Path) -> None:
    rows = [*ROWS, *((f"row {letter}", f"odd_{letter}") for letter in "abcdef"), ("row z", "odd_a")]
    found = refuse(write_csv(tmp_path / "a.csv", rows), "bad, very_good", "'odd_a' (2 rows)", "and 1 more").found
    assert found.count("odd_") == 5


def test_digits_are_no_labels_where_the_source_names_no_classes(tmp_path: Path) -> None:
    rows = [(text, str(number)) for text, number in NUMBERS]
    refuse(write_csv(tmp_path / "a.csv", rows), "bad, very_good", "'0' (2 rows)", "'1' (2 rows)", "number")


# sample, feedback, joins ------------------------------------------------------------------------


def test_the_sample_is_synthetic_and_counts_what_has_no_label() -> None:
    table = load("sample:5", get_task("emotion"))
    assert table.synthetic
    assert counts(table)["unlabelled"] > 0
    span = table.rows["sent_at"].max() - table.rows["sent_at"].min()
    assert pd.Timedelta(weeks=4) < span < pd.Timedelta(weeks=5)
    assert table.rows["channel"].notna().all()


@pytest.mark.parametrize("source", ["sample:", "sample:0", "sample:9", "sample:two", "sample:-1"])
def test_weeks_of_the_sample_are_checked(source: str) -> None:
    refuse(source, "1 to 8 weeks", source)


def tell(store: Store, message_id: str, text: str, label: str, at: datetime = NOW) -> None:
    prediction = Prediction(message_id, SPEC.name, "bad", (0.5, 0.5), 1, "ab" * 32, at, None)
    store.record([ScoredMessage(Message(message_id, text, "chat", None, None, at, at), (prediction,))])
    store.add_feedback([Feedback(message_id, SPEC.name, label, "ann", at)])


def test_feedback_is_read_from_the_store(store: Store) -> None:
    for number, (text, label) in enumerate(ROWS):
        tell(store, f"m{number}", text, label)
    table = load("feedback", SPEC, store=store)
    assert as_pairs(table) == set(ROWS)
    assert set(table.rows["channel"]) == {"chat"}
    assert set(table.rows["sent_at"]) == {pd.Timestamp(NOW)}


@pytest.mark.parametrize("order", ["{file}+feedback", "feedback+{file}"])
def test_feedback_stands_beside_a_row_with_the_same_text_until_the_split(
    order: str, store: Store, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "a.csv", [*ROWS, ("the app", "bad")])
    tell(store, "m1", "The app!", "very_good")
    table = load(order.format(file=file), SPEC, store=store)
    assert as_pairs(table) == {*ROWS, ("the app", "bad"), ("The app!", "very_good")}
    assert table.rows.set_index("text")["feedback"].to_dict() == {
        **dict.fromkeys([text for text, _ in [*ROWS, ("the app", "bad")]], False),
        "The app!": True,
    }


def test_feedback_takes_the_named_split_of_its_text(store: Store, tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [*ROWS, ("the app", "bad")])
    write_csv(tmp_path / "test.csv", [("the app", "bad"), ("the end", "bad")])
    tell(store, "m1", "the app", "very_good")
    rows = load(f"{tmp_path}+feedback", SPEC, store=store).rows
    assert rows.loc[rows["feedback"], ["label", "split"]].to_numpy().tolist() == [["very_good", "test"]]


def test_feedback_counts_from_its_message_or_else_from_its_label(store: Store) -> None:
    for number, (text, label) in enumerate(ROWS):
        tell(store, f"m{number}", text, label)
    later = NOW + timedelta(days=1)
    store.record([ScoredMessage(Message("m9", "no time", None, None, None, None, NOW), ())])
    store.add_feedback([Feedback("m9", SPEC.name, "bad", "ann", later, suggested=True)])
    rows = load("feedback", SPEC, store=store).rows.set_index("message_id")
    assert rows["feedback"].all()
    assert rows.loc["m0", "told_at"] == pd.Timestamp(NOW)
    assert rows.loc["m9", "told_at"] == pd.Timestamp(later)
    assert rows.index[rows["suggested"]].tolist() == ["m9"]


def test_a_suggested_label_never_stands_against_another(store: Store, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", [*ROWS, ("the app", "bad")])
    for message_id, text in (("m1", "The app!"), ("m2", "the shop"), ("m3", "The shop!")):
        store.record([ScoredMessage(Message(message_id, text, None, None, None, NOW, NOW), ())])
    store.add_feedback(
        [
            Feedback(message_id, SPEC.name, label, "ann", NOW, suggested=suggested)
            for message_id, label, suggested in (
                ("m1", "very_good", True),
                ("m2", "bad", False),
                ("m3", "very_good", True),
            )
        ]
    )
    table = load(f"{file}+feedback", SPEC, store=store)
    assert as_pairs(table) == {*ROWS, ("the app", "bad"), ("the shop", "bad")}
    assert counts(table) == {"suggested": 2}


def test_messages_sent_at_or_after_rows_until_are_left_out(store: Store) -> None:
    for number, (text, label) in enumerate(ROWS):
        tell(store, f"m{number}", text, label, NOW - timedelta(days=2))
    tell(store, "m9", "a new one", "bad", NOW - timedelta(days=1))
    whole = load("feedback", SPEC, store=store, until=NOW)
    assert "a new one" in set(whole.rows["text"])
    early = load("feedback", SPEC, store=store, until=NOW, rows_until=NOW - timedelta(days=1))
    assert as_pairs(early) == set(ROWS)
    assert counts(early) == {"after_until": 1}


def test_no_feedback_yet_is_no_error_beside_another_source(store: Store, tmp_path: Path) -> None:
    assert as_pairs(load(f"{write_csv(tmp_path / 'a.csv', ROWS)}+feedback", SPEC, store=store)) == set(ROWS)


def test_feedback_needs_a_store() -> None:
    refuse("feedback", "store")


def test_a_path_with_a_plus_stays_whole(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a+b.csv", ROWS)
    assert parts(f"sample:5+{path}+feedback") == ["sample:5", path, "feedback"]


def test_located_paths_are_absolute_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv", ROWS)
    (tmp_path / "sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert located("sample:5+a.csv+hf:name/set:en@main+feedback+none.csv") == (
        f"sample:5+{tmp_path / 'a.csv'}+hf:name/set:en@main+feedback+none.csv"
    )
    assert located("sample") == "sample"
    assert located("hf:.") == f"hf:{tmp_path}"


def test_files_joined_by_plus_are_splits_where_their_names_say_so(tmp_path: Path) -> None:
    train, val = write_csv(tmp_path / "train.csv", ROWS), write_csv(tmp_path / "val.csv", [("fine", "very_good")])
    more = write_csv(tmp_path / "more.csv", [("broken again", "bad")])
    splits = {row["text"]: row["split"] for row in load(f"{train}+{val}", SPEC).rows.to_dict("records")}
    assert splits["fine"] == "val"
    assert splits["late again"] == "train"
    alone = load(f"{train}+{more}", SPEC).rows
    assert alone["split"].isna().all()
