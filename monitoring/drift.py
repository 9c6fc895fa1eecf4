"""The drift verdict: a pure function of two windows, the task's policy and the levels of earlier windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from monitoring.reason import explain
from monitoring.signals import Texts, measure, segment_signals
from monitoring.windows import Window
from undertone.records import LEVELS, DriftVerdict, Finding, LedgerEntry, Level, Signal, Verdict, utc
from undertone.tasks import DriftPolicy, Floor, TaskSpec
from undertone.text import sha256_of

#: A segment of at least this share on one side and of no message on the other is new, or has vanished …
SEGMENT_SHARE = 0.01
#: … where chance would leave it out of a side of that size less often than this.
SEGMENT_CHANCE = 0.001


def judge(
    spec: TaskSpec,
    reference: Window,
    current: Window,
    *,
    model_version: int,
    start: datetime,
    end: datetime,
    floors: Mapping[str, Floor] | None = None,
    quality: Sequence[Finding] = (),
    history: Sequence[Level] = (),
    merged: int = 1,
    texts: Texts | None = None,
) -> DriftVerdict:
    """Compare `current` with `reference`.

    ``too_few`` below ``spec.drift.min_rows`` on either side, never "stable". The window's level is the highest of its
    signals'; it becomes a verdict to act once ``persist`` of the last ``memory`` windows, this one included, act.

    Args:
        floors: least effects by signal; None: the policy's.
        quality: findings of the data quality gate; they are told, and change no level.
        history: levels of earlier windows of this version that count as separate, newest first (`earlier_levels`).
        merged: how many windows `current` is made of.
        texts: messages like the reference's, and the current ones: the "text" signal where there are no embeddings.
    """
    floors = spec.drift.floors if floors is None else floors
    signals: tuple[Signal, ...] = ()
    verdict: Verdict = "too_few"
    level: Level = "none"
    if min(reference.rows, current.rows) >= spec.drift.min_rows:
        signals = measure(reference, current, spec, floors, texts=texts)
        signals += segment_signals(reference, current, spec, floors)
        level = max((signal.level for signal in signals), key=LEVELS.index, default="none")
        verdict = persisted(level, history, spec.drift)
    found = DriftVerdict(
        task=spec.name,
        verdict=verdict,
        signals=signals,
        reference_rows=reference.rows,
        current_rows=current.rows,
        window_start=start,
        window_end=end,
        model_version=model_version,
        reason="",
        level=level,
        total_rows=current.total,
        merged=merged,
        quality=tuple(quality),
        new_segments=_absent(current, reference),
        vanished_segments=_absent(reference, current),
        policy_sha256=policy_sha256(spec, floors),
    )
    return replace(found, reason=explain(found, spec.drift, reference, current, history))


def persisted(level: Level, history: Sequence[Level], policy: DriftPolicy) -> Verdict:
    """What a window's level comes to, beside the levels before it (newest first)."""
    levels = [LEVELS.index(one) for one in (level, *history[: policy.memory - 1])]
    for wanted in ("severe", "act"):
        least = LEVELS.index(wanted)
        if levels[0] >= least and sum(one >= least for one in levels) >= policy.persist:
            return wanted
    return "stable" if level == "none" else "warn"


def earlier_levels(rows: Sequence[LedgerEntry], end: datetime, length: timedelta, memory: int) -> tuple[Level, ...]:
    """Levels of the at most ``memory - 1`` windows before the one that ends at `end`, newest first.

    Args:
        rows: the ledger's rows of kind "drift" of one model version, in any order. Rows of other kinds, without a
            level (of older versions of Undertone) and those that had too few messages are passed over.
        length: of a window. A window counts if at least half of it lies before the second half of the one after it
            begins: if it ends half a window or more before that one's end.
    """
    seen: list[tuple[datetime, int, Level]] = []
    for row in rows:
        level, verdict = row.payload.get("level"), row.payload.get("verdict")
        if row.kind == "drift" and level in LEVELS and verdict != "too_few":
            seen.append((utc(datetime.fromisoformat(row.payload["window"][1])), row.seq, level))
    found: list[Level] = []
    latest = utc(end)
    for ended, _, level in sorted(seen, reverse=True):
        if len(found) < memory - 1 and ended <= latest - length / 2:
            found.append(level)
            latest = ended
    return tuple(found)


def policy_sha256(spec: TaskSpec, floors: Mapping[str, Floor]) -> str:
    """SHA-256 of every number that decides: drift and quality policy and the floors in use, as canonical JSON."""
    decides = {
        "drift": spec.drift.model_dump(mode="json"),
        "quality": spec.quality.model_dump(mode="json"),
        "floors": {name: floor.model_dump(mode="json") for name, floor in floors.items()},
    }
    return sha256_of(decides)


def _absent(first: Window, second: Window) -> tuple[str, ...]:
    """Segments of `first` that `second` has not, where both know segments at all."""
    mine, others = first.counts["segment"], second.counts["segment"]
    ours, theirs = sum(mine.values()), sum(others.values())
    return tuple(
        name
        for name, count in mine.items()
        if theirs
        and name not in others
        and count / ours >= SEGMENT_SHARE
        and (1 - count / ours) ** theirs < SEGMENT_CHANCE
    )
