"""The data quality gate on windows and counts made here."""

from dataclasses import replace

import numpy as np
import pytest

from monitoring.quality import Facts, check
from monitoring.windows import Window, window
from undertone.tasks import get_task

SPEC = get_task("sentiment")
FINE = Facts(1_000, 2, 30, 20, (900, 1_100, 1_000), (0.03, 0.02, 0.04))


def made(rows: int = 600, **columns) -> Window:
    """Even segments a, b, c; channels chat and email; English."""
    values = {
        "channel": ["chat", "email"] * (rows // 2),
        "segment": ["a", "b", "c"] * (rows // 3),
        "language": ["en"] * rows,
    } | columns
    return window(
        [
            {"label": "neutral", "probabilities": [0.2, 0.5, 0.3]}
            | {name: each[index] for name, each in values.items()}
            for index in range(rows)
        ],
        SPEC,
    )


def found(current: Window, facts: Facts = FINE, reference: Window | None = None) -> dict[str, str]:
    return {one.check: one.upstream for one in check(SPEC, reference or made(), current, facts)}


def test_ordinary_messages_pass() -> None:
    assert found(made()) == {}
    assert found(made(0), Facts(0, 0, 0, 0)) == {}  # too few to say anything, which the verdict does


@pytest.mark.parametrize(
    ("change", "name", "upstream"),
    [
        ({"empty": 40}, "empty", "the message source (empty texts)"),
        ({"duplicates": 500}, "duplicates", "the message source (repeated texts)"),
        ({"truncated": 300}, "truncated", "the serving worker (truncation)"),
        ({"rows": 100, "duplicates": 0, "truncated": 0}, "volume", "the message source (volume)"),
        ({"rows": 9_000}, "volume", "the message source (volume)"),
        ({"rows": 0, "empty": 0, "duplicates": 0, "truncated": 0}, "volume", "the message source (volume)"),
    ],
)
def test_counts_over_their_limits_name_the_upstream(change: dict, name: str, upstream: str) -> None:
    assert found(made(), replace(FINE, **change)) == {name: upstream}


def test_repeats_are_judged_against_what_is_usual() -> None:
    chatty = replace(FINE, duplicates=350, earlier_duplicates=(0.3, 0.32, 0.28))
    assert found(made(), chatty) == {}
    assert "duplicates" in found(made(), replace(chatty, earlier_duplicates=(0.1, 0.1, 0.1)))


@pytest.mark.parametrize("earlier", [(), (5_000,), (5_000, 0, 0)])
def test_a_volume_needs_two_earlier_windows_with_messages(earlier: tuple[int, ...]) -> None:
    facts = replace(FINE, earlier_rows=earlier, earlier_duplicates=(0.0,) * len(earlier))
    assert found(made(), facts) == {}


@pytest.mark.parametrize(
    "facts",
    [
        Facts(30, 1, 0, 0),
        Facts(30, 0, 6, 0),
        Facts(30, 0, 0, 5),
        Facts(0, 0, 0, 0, (4, 3, 5), (0.0, 0.0, 0.0)),
        Facts(9, 0, 0, 0, (2, 2, 2), (0.0, 0.0, 0.0)),
    ],
)
def test_small_windows_cry_no_wolf(facts: Facts) -> None:
    """Each is over its limit, and chance would do that."""
    assert found(made(), facts) == {}


def test_answers_that_are_none() -> None:
    current = replace(made(), left_out={"unknown label": 70, "scored by another version": 900})
    assert found(current) == {"unknown": "the serving worker (answers)"}


def test_messages_that_lost_their_channel() -> None:
    assert found(made(channel=(["chat", None, None] * 200))) == {
        "missing": "channel of messages",
        "vanished": "channel 'email'",
    }
    assert found(made(channel=["chat", "email", "chat", "email", "chat", None] * 100)) == {}


def test_messages_of_unseen_segments() -> None:
    assert found(made(segment=["a", "b", "c", "x", "y", "x", "x", "y"] * 75)) == {"unseen": "segment 'x'"}
    assert found(made(segment=["a", "b", "c", "x"] * 150)) == {}


def test_a_reference_without_segments_misses_none() -> None:
    bare = made(segment=[None] * 600, channel=[None] * 600)
    assert found(made(), reference=bare) == {}
    assert found(bare, reference=bare) == {}
    assert found(bare) == {"missing": "segment of messages"}


def test_a_language_switch_is_seen_overall_and_in_its_segment() -> None:
    switched = made(language=["en", "de", "en"] * 200)  # segment b
    findings = check(SPEC, made(), switched, FINE)
    assert [one.upstream for one in findings] == ["messages (language)", "segment 'b' (language)"]
    assert findings[1].found == "100 % of the messages moved to other languages: de 0 % -> 100 %"
    assert findings[0].value == pytest.approx(1 / 3)
    half = made(language=["en", "de", "en", "en", "en", "en"] * 100)  # half of segment b, a sixth of all
    assert [one.upstream for one in check(SPEC, made(), half, FINE)] == ["segment 'b' (language)"]


def test_a_reference_that_knows_no_segments_stands_for_all() -> None:
    bare = made(segment=[None] * 600)
    switched = made(language=["en", "de", "en"] * 200)
    assert "segment 'b' (language)" in [one.upstream for one in check(SPEC, bare, switched, FINE)]


def test_languages_that_are_told_wrong_now_and_then_do_not_alarm() -> None:
    random = np.random.default_rng(0)
    odd = [f"x{number}" for number in range(40)]
    for _ in range(8):
        sides = [
            made(language=[random.choice(odd) if random.random() < 0.25 else "en" for _ in range(600)])
            for _ in range(2)
        ]
        assert check(SPEC, *sides, FINE) == ()


@pytest.mark.parametrize("column", ["language", "segment", "channel"])
def test_old_references_and_empty_columns_are_no_alarm(column: str) -> None:
    assert found(made(), reference=made(**{column: [None] * 600})) == {}
