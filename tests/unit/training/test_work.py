"""A work folder: found again by the same command, and never half there."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from training.data import Splits
from training.failures import RESERVE
from training.work import Request, Work, open_work, whole

REQUEST = Request("sentiment", "rows.csv", "smoke", 1, datetime(2026, 10, 5, tzinfo=UTC), "tom")


@pytest.fixture
def splits() -> Splits:
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["positive", "negative"]})
    return Splits(frame, frame[:1], frame[1:], "rows.csv", "0" * 64, 4, False, (), None)


def opened(root: Path, splits: Splits, request: Request = REQUEST) -> Work:
    return open_work(root, request, splits, "1" * 64, "a summary")


def test_the_same_command_finds_the_same_folder_later(tmp_path: Path, splits: Splits) -> None:
    first = opened(tmp_path, splits)
    later = opened(tmp_path, splits, replace(REQUEST, now=datetime(2026, 10, 6, tzinfo=UTC)))
    assert (first.folder, first.id) == (later.folder, later.id)
    assert opened(tmp_path, splits, replace(REQUEST, seed=2)).id != first.id


@pytest.mark.parametrize("name", ["train.parquet", "id", "request.json"])
def test_what_a_kill_left_half_written_is_written_again(tmp_path: Path, splits: Splits, name: str) -> None:
    work = opened(tmp_path, splits)
    expected = work.rows_of("train")
    for later in ("id", "request.json"):
        (work.folder / later).unlink()
    (work.folder / (name if name == "train.parquet" else f"new-{name}")).write_bytes(b"PAR1")
    again = opened(tmp_path, splits)
    pd.testing.assert_frame_equal(again.rows_of("train"), expected)
    assert len(again.id) == 32
    assert (work.folder / "request.json").read_text().endswith("}")


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note"
    with pytest.raises(OSError, match="directory"), whole(path) as fresh:
        (fresh / "half").write_text("ha")
    assert not path.exists()
    with whole(path) as fresh:
        fresh.write_text("whole")
    assert path.read_text() == "whole"


def test_of_a_folder_that_is_half_deleted_no_training_goes_on(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = opened(tmp_path, splits)
    before = work.id
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)  # as if the kill came right then
        work.remove()
    assert not work.folder.exists()
    again = opened(tmp_path, splits)
    assert again.id != before
    assert [path.name for path in tmp_path.iterdir()] == [work.folder.name], "what was left is gone"


def test_each_folder_holds_a_reserve_for_the_day_the_disk_is_full(tmp_path: Path, splits: Splits) -> None:
    work = opened(tmp_path, splits)
    (work.folder / RESERVE).unlink()
    opened(tmp_path, splits)
    assert (work.folder / RESERVE).is_file()
