"""Cleaning, normalising and fingerprinting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from undertone.text import fingerprint, install_cleaning, normalise, repair


@pytest.fixture
def tokenizer() -> Tokenizer:
    vocabulary = {"[UNK]": 0, "thanks": 1, "@user": 2, "http": 3}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def test_cleaning_masks_links_and_mentions_and_survives_saving(tokenizer: Tokenizer) -> None:
    cleaned = Tokenizer.from_str(install_cleaning(tokenizer).to_str())
    tokens = cleaned.encode("THANKS @some_Body https://example.com/x?y=1 www.example.org").tokens
    assert tokens == ["thanks", "@user", "http", "http"]


def test_cleaning_is_installed_once(tokenizer: Tokenizer) -> None:
    once = install_cleaning(tokenizer).to_str()
    assert install_cleaning(tokenizer).to_str() == once


@given(st.text())
def test_repair_makes_any_text_encodable_and_is_idempotent(text: str) -> None:
    repaired = repair(text)
    repaired.encode("utf-8")
    assert "\x00" not in repaired
    assert repair(repaired) == repaired


def test_repair_replaces_lone_surrogates_and_keeps_emoji() -> None:
    assert repair("ok \ud83d x") == "ok � x"
    assert repair("fine 👍🏽 ñ") == "fine 👍🏽 ñ"
    assert repair("a\x00b\tc") == "a b c"


def test_normalise_keeps_only_words() -> None:
    assert normalise("@me GREAT!!! 3rd parcel… https://a.b/c") == "great rd parcel"
    assert normalise("Straße") == normalise("STRASSE")
    assert normalise("123 !!!") == ""


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_fingerprint_sees_every_field(rows: list[tuple[str, str]]) -> None:
    first, *rest = rows
    assert fingerprint(rows) == fingerprint(list(rows))
    assert fingerprint([(first[0] + "x", first[1]), *rest]) != fingerprint(rows)
    assert fingerprint([(first[0], first[1] + "x"), *rest]) != fingerprint(rows)
    assert fingerprint([*rows, first]) != fingerprint(rows)


def test_fingerprint_does_not_join_fields() -> None:
    assert fingerprint([("ab", "c")]) != fingerprint([("a", "bc")])
    assert fingerprint([("a",), ("b",)]) != fingerprint([("a", "b")])
