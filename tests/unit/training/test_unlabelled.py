from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.insight_rows import fill
from training.repairs import text_key
from training.unlabelled import read_texts
from undertone.errors import DataError
from undertone.settings import Settings
from undertone.workspace import Workspace


def write(folder: Path, **files: list[str]) -> Path:
    for name, texts in files.items():
        (folder / f"{name}.csv").write_text("\n".join(["text", *texts]) + "\n", encoding="utf-8")
    return folder


def test_texts_come_once_in_order_and_need_no_label(tmp_path: Path) -> None:
    folder = write(tmp_path, one=["Late again", "fine", "late AGAIN!"], two=["fine", "new"])
    assert read_texts(f"{folder / 'one.csv'}+{folder / 'two.csv'}") == ["Late again", "fine", "new"]


@pytest.mark.parametrize("source", ["{0}", "{0}/train.csv+{0}/val.csv", "{0}/others.csv+{0}/test.csv"])
def test_what_a_model_is_judged_on_is_not_read(source: str, tmp_path: Path) -> None:
    write(tmp_path, train=["to learn from"], val=["to judge on"], test=["to judge on too"])
    write(tmp_path, others=["to learn from"])
    assert read_texts(source.format(tmp_path)) == ["to learn from"]
    with pytest.raises(DataError, match="validation and test files alone"):
        read_texts(str(tmp_path / "val.csv"))


def test_the_store_s_messages(tmp_path: Path) -> None:
    store = Workspace(Settings(home=tmp_path)).store
    fill(store, datetime(2025, 3, 3, tzinfo=UTC), days=1, rows=20, prefix="a", seed=1)
    texts = read_texts("messages", store)
    assert len(store.texts()) == 20
    assert len(set(texts)) == len(texts) > 1
    assert {text_key(text) for text in texts} == {text_key(text) for text in store.texts()}


def test_a_wrong_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_texts(str(tmp_path / "nothing.csv"))
    (tmp_path / "other.csv").write_text("words\nhello\n")
    with pytest.raises(DataError, match="--text-column"):
        read_texts(str(tmp_path / "other.csv"))
    assert read_texts(str(tmp_path / "other.csv"), text_column="words") == ["hello"]
