from __future__ import annotations

import numpy as np
import pytest

from training.behaviour import CASES, EMOJI, EXAMPLES, NAMES, NEGATION, TYPOS, check_behaviour
from training.latency import measure_latency

LABELS = ("negative", "positive")
TEXTS = [f"the parcel number {number} arrived today" for number in range(300)]


def scorer(positive):
    return lambda texts: np.array([[1 - positive(text), positive(text)] for text in texts]).reshape(-1, 2)


def shares(positive, texts=TEXTS, **changes):
    return {
        check.name: check.share for check in check_behaviour(scorer(positive), texts, LABELS, "positive", **changes)
    }


def test_a_model_that_reads_not_and_nothing_else_behaves():
    found = shares(lambda text: 0.2 if " not " in text else 0.9)
    assert found == {NAMES: 1, EMOJI: 1, TYPOS: 1, NEGATION: 1}


@pytest.mark.parametrize(
    ("flaw", "positive"),
    [
        (NAMES, lambda text: 0.1 if "Emily" in text or "Jamal" in text else 0.4 if " not " in text else 0.9),
        (EMOJI, lambda text: 0.1 if "📦" in text else 0.4 if " not " in text else 0.9),
        (TYPOS, lambda text: 0.9 if "parcel" in text or " " not in text[:4] else 0.1),
        (NEGATION, lambda text: 0.9),
    ],
)
def test_each_flaw_is_found_by_its_check(flaw, positive):
    found = shares(positive)
    assert found[flaw] < 1
    if flaw != TYPOS:
        assert all(share == 1 for name, share in found.items() if name != flaw)


def test_failures_are_kept_as_examples():
    checks = {check.name: check for check in check_behaviour(scorer(lambda text: 0.9), TEXTS, LABELS, "positive")}
    assert len(checks[NEGATION].examples) == EXAMPLES
    assert checks[NEGATION].examples[0] == {
        "text": "I am happy with the parcel",
        "changed": "I am not happy with the parcel",
        "answer": "positive 0.90",
        "changed_answer": "positive 0.90",
    }
    assert checks[NAMES].cases == CASES
    assert checks[NAMES].examples == ()


def test_the_same_seed_asks_the_same_whatever_the_order_of_texts():
    asked = [[], []]
    for number, texts in enumerate((TEXTS, TEXTS[::-1])):

        def score(batch, into=asked[number]):
            into.extend(batch)
            return np.full((len(batch), 2), 0.5)

        check_behaviour(score, texts, LABELS, seed=3)
    assert asked[0] == asked[1]


def test_a_typo_leaves_links_mentions_and_short_words_alone():
    changed = set()

    def score(texts):
        changed.update(texts)
        return np.full((len(texts), 2), 0.5)

    text = "so it is: @somebody #hashtag https://example.com/parcels late"
    checks = {check.name: check for check in check_behaviour(score, [text], LABELS)}
    assert checks[TYPOS].cases == 0
    assert np.isnan(checks[TYPOS].share)
    assert NEGATION not in checks


def test_a_known_name_in_the_text_is_swapped_in_place():
    seen = set()

    def score(texts):
        seen.update(texts)
        return np.full((len(texts), 2), 0.5)

    check_behaviour(score, ["ask Anna about it"], LABELS)
    assert "ask Jamal about it" in seen


def test_latency_is_the_median_of_single_messages_in_turns():
    calls = []
    found = measure_latency(
        TEXTS, lambda texts: calls.append(("ours", *texts)), lambda texts: calls.append(("theirs", *texts))
    )
    assert all(len(call) == 2 for call in calls)
    assert [name for name, _ in calls].count("ours") == [name for name, _ in calls].count("theirs") == 105
    assert calls[10:14] == [("ours", TEXTS[0]), ("theirs", TEXTS[0]), ("theirs", TEXTS[1]), ("ours", TEXTS[1])]
    assert found.ratio == pytest.approx(found.challenger_ms / found.champion_ms)
    alone = measure_latency(TEXTS, lambda texts: None)
    assert alone.champion_ms is None
    assert alone.ratio is None
