"""Years of daily watches over healthy messages for `benchmarks.drift`: how often does the drift watch cry wolf?

A day brings 143 healthy messages, a watch looks at the last seven days (1,001 messages). The messages of a year are
drawn from the pool without a repetition until it is used up, then anew: days are exchangeable, there is no drift.

With a watch every day, the earlier windows that count beside today's are those of four and eight days ago (less than
half of theirs is in the later one's): daily watches are four interleaved chains, and each chain is complete in itself.
Chains are judged one after another, so that an interrupted run still holds whole chains of whole years.

A verdict to act takes two windows that act among three in a row of a chain. So every third window of a chain is judged
only where one of the two before or after it acts: alone it can be no verdict. The count of verdicts to act is exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_run import MONDAY, WEEK, Judge, read
from benchmarks.drift_scenarios import Pool
from benchmarks.drift_texts import SPEC
from monitoring import drift
from undertone.records import LedgerEntry, Level

A_DAY, DAYS, SPAN, CHAINS = 143, 365, 7, 4
#: In which order chains are judged: the second lies midway between two windows of the first.
ORDER = (0, 2, 1, 3)
KEY = ("model", "seed", "year", "day", "policy")


def year(pool: Pool, number: int) -> NDArray[np.int64]:
    """Rows of the messages of `DAYS` + `SPAN` days, [days, messages]."""
    generator = np.random.default_rng([pool.seed, 7, number])
    wanted = (DAYS + SPAN) * A_DAY
    rounds = -(-wanted // len(pool.healthy))
    drawn = np.concatenate([generator.permutation(pool.healthy) for _ in range(rounds)])
    return np.asarray(drawn[:wanted].reshape(DAYS + SPAN, A_DAY))


def replay(judges: Sequence[Judge], years: int, chains: int, target: Path) -> Iterator[dict[str, Any]]:
    """Judge what `target` does not hold; yields a row for each watch that was judged."""
    known = {tuple(row[name] for name in KEY): row for row in read(target)}
    with target.open("a", encoding="utf-8") as file:
        for chain in ORDER[:chains]:
            for number in range(years):
                for judge in judges:
                    named = {"model": judge.pool.scored.name, "seed": judge.pool.seed, "year": number}
                    policy = drift.policy_sha256(SPEC, judge.floors)[:12]
                    messages = year(judge.pool, number)
                    acting: set[int] = set()
                    for place, day in _places(chain, acting):
                        row = named | {"day": day, "policy": policy}
                        key = tuple(row[name] for name in KEY)
                        if key not in known:
                            row |= {"scenario": "quiet", "rows": SPAN * A_DAY}
                            row |= judge.look(messages[day : day + SPAN].ravel(), ())
                            file.write(json.dumps(row) + "\n")
                            file.flush()
                            known[key] = row
                        if known[key]["level"] in ("act", "severe"):
                            acting.add(place)
                        yield known[key]


def _places(chain: int, acting: set[int]) -> Iterator[tuple[int, int]]:
    """Place in the chain and day of what is to be judged; `acting` grows meanwhile."""
    days = list(enumerate(range(chain, DAYS, CHAINS)))
    yield from ((place, day) for place, day in days if place % 3 != 2)
    yield from ((p, day) for p, day in days if p % 3 == 2 and acting & {p - 2, p - 1, p + 1, p + 2})


def complete(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of chains that were judged to their end."""
    days: dict[tuple[Any, ...], set[int]] = {}
    for row in rows:
        days.setdefault(_chain(row), set()).add(row["day"])
    ends = {chain: {day for place, day in _places(chain[-1], set()) if place % 3 != 2} for chain in days}
    return [row for row in rows if ends[_chain(row)] <= days[_chain(row)]]


def _chain(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["seed"], row["year"], row["day"] % CHAINS


def verdicts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`rows` with the verdict after persistence, each from the ledger rows of the days before it."""
    made = []
    by_year: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_year.setdefault((row["model"], row["seed"], row["year"]), {})[row["day"]] = row
    for days in by_year.values():
        for day, row in sorted(days.items()):
            # a day of this chain that was not judged has no neighbour that acts: no verdict hangs on it
            before = [_entry(d, days[d]["level"] if d in days else "none") for d in range(day % CHAINS, day, CHAINS)][
                -4:
            ]
            history = drift.earlier_levels(before, _ends(day), WEEK, SPEC.drift.memory)
            made.append(row | {"verdict": drift.persisted(row["level"], history, SPEC.drift)})
    return made


def _ends(day: int) -> Any:
    return MONDAY + timedelta(days=day + SPAN)


def _entry(day: int, level: Level) -> LedgerEntry:
    window = [_ends(day - SPAN).isoformat(), _ends(day).isoformat()]
    payload = {"level": level, "verdict": "stable", "window": window}
    return LedgerEntry(day, _ends(day), "drift", SPEC.name, 1, "watch", "", payload)
