"""Words that rose and fell: found where they did, none where nothing changed, and nobody's name."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.terms import Term, changed
from undertone.model_folder import TERM_ROWS
from undertone.text import terms

VOCABULARY = [f"word{letter}{other}" for letter in "abcdefghijklmnopqrst" for other in "abcdefghij"]


@dataclass(frozen=True)
class Reference:
    rows: int
    shares: dict[str, float] = field(default_factory=dict)


def corpus(seed: int, rows: int) -> list[str]:
    """Messages of ten words by Zipf's law."""
    random = np.random.default_rng(seed)
    chances = 1 / np.arange(2, len(VOCABULARY) + 2)
    return [" ".join(random.choice(VOCABULARY, 10, p=chances / chances.sum())) for _ in range(rows)]


def reference_of(texts: list[str]) -> Reference:
    words = [word for text in texts for word in terms(text)]
    counts = {word: words.count(word) for word in set(words)}
    return Reference(len(texts), {word: count / len(texts) for word, count in counts.items() if count >= TERM_ROWS})


REFERENCE = reference_of(corpus(0, 800))


def test_words_are_those_of_the_tokeniser() -> None:
    assert terms("@me GREAT!!! a 3rd parcel, great… https://a.b/c") == {"great", "rd", "parcel"}
    assert terms("x" * 31) == set()


def test_quiet_windows_name_no_word() -> None:
    named = sum(bool(changed(REFERENCE, corpus(seed, 500))) for seed in range(1, 21))
    assert named <= 2  # 1 in 100 by design


def test_what_rose_comes_first_and_what_fell_after() -> None:
    texts = [
        text.replace("wordaa", "refund") + (" delayed" if n % 4 == 0 else "") for n, text in enumerate(corpus(5, 600))
    ]
    found = changed(REFERENCE, texts)
    assert [term.term for term in found] == ["refund", "delayed", "wordaa"]
    assert [term.z > 0 for term in found] == [True, True, False]
    assert found[1] == Term("delayed", 0.0, 0.25, found[1].z)
    assert found[2].before == pytest.approx(REFERENCE.shares["wordaa"])
    assert found[2].now == 0.0


def test_a_name_in_few_messages_is_never_named() -> None:
    texts = corpus(6, 20) + ["Margarethe wrote"] * (TERM_ROWS - 1)
    assert not any(term.term == "margarethe" for term in changed(REFERENCE, texts))


def test_the_order_of_texts_does_not_matter_and_the_limit_holds() -> None:
    texts = [f"{text} {' '.join('new' + a for a in 'abcdefghijklmnop')}" for text in corpus(7, 300)]
    found = changed(REFERENCE, texts, limit=3)
    assert found == changed(REFERENCE, texts[::-1], limit=3)
    assert sum(term.z > 0 for term in found) == 3


@pytest.mark.parametrize(
    ("reference", "texts"),
    [(REFERENCE, []), (Reference(0), ["some words"] * 9), (Reference(10), [""] * 9), (Reference(2), ["same"] * 9)],
    ids=["no texts", "no reference", "no words", "tiny"],
)
def test_nothing_to_compare_is_nothing_changed(reference: Reference, texts: list[str]) -> None:
    assert changed(reference, texts) == ()


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(0, 50))
def test_any_text_gives_finite_numbers(texts: list[str], rows: int) -> None:
    shares = {"every": 1.0, "half": 0.5} if rows >= 2 * TERM_ROWS else {}
    for term in changed(Reference(rows, shares), [*texts, *["every new"] * 40]):
        assert np.isfinite(term.z)
        assert 0 <= term.before <= 1
        assert 0 <= term.now <= 1
