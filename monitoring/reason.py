"""A drift verdict in plain words: the line that the ledger, the alert and the report begin with."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.windows import Window
from undertone.records import LEVELS, DriftVerdict, Level, Signal
from undertone.tasks import DriftPolicy

#: Signals that see a change of topic.
TOPIC = {"embedding", "mmd", "text"}


def explain(
    verdict: DriftVerdict, policy: DriftPolicy, reference: Window, current: Window, history: Sequence[Level]
) -> str:
    """Which signals counted, how far, against which floor; what was left out; what the data quality gate found."""
    parts = [_outcome(verdict, policy)]
    if verdict.verdict == "warn" and verdict.level in ("act", "severe"):
        parts.append(_not_yet(verdict.level, policy, history))
    if verdict.merged > 1:
        parts.append(f"{verdict.merged} windows merged to have enough messages")
    for name, segments in (("new", verdict.new_segments), ("vanished", verdict.vanished_segments)):
        if segments:
            parts.append(f"{name} segments: {', '.join(segments)}")
    for name, side in (("left out", current), ("left out of the reference", reference)):
        if side.left_out:
            parts.append(f"{name}: " + ", ".join(f"{count} {why}" for why, count in sorted(side.left_out.items())))
    if verdict.quality:
        parts.append("data quality: " + ", ".join(f"{one.upstream}: {one.found}" for one in verdict.quality))
    return "; ".join(parts)


def _outcome(verdict: DriftVerdict, policy: DriftPolicy) -> str:
    if verdict.verdict == "too_few":
        return (
            f"{verdict.current_rows} messages against {verdict.reference_rows} in the reference; "
            f"{policy.min_rows} a side are needed to tell"
        )
    signals = verdict.signals
    tested = sum(signal.segment is None for signal in signals)
    fired = sorted((signal for signal in signals if signal.fired), key=lambda signal: -LEVELS.index(signal.level))
    whole = [_words(signal) for signal in fired if signal.segment is None]
    parts = [_words(signal) for signal in fired if signal.segment is not None]
    if whole:
        reason = f"{len(whole)} of {tested} signals count: {', '.join(whole)}"
    else:
        reason = f"none of {tested} signals reached both significance and its effect floor"
    if parts:
        reason += f"; within segments: {', '.join(parts)}"
    if not any(signal.name in TOPIC and signal.segment is None for signal in signals):
        reason += ", but there are not enough embeddings to compare: a change of topic would not be seen"
    return reason


def _words(signal: Signal) -> str:
    where = f" in segment {signal.segment!r}" if signal.segment is not None else ""
    reached = {"act": signal.act, "severe": signal.severe}.get(signal.level, signal.floor)
    detail = f", {signal.detail}" if signal.detail else ""
    return (
        f"{signal.name}{where} {signal.effect:.3f} "
        f"({signal.level} from {reached:.3f}, p {signal.adjusted_p:.1g} corrected{detail})"
    )


def _not_yet(level: Level, policy: DriftPolicy, history: Sequence[Level]) -> str:
    acting = 1 + sum(LEVELS.index(one) >= LEVELS.index("act") for one in history[: policy.memory - 1])
    return (
        f"this window alone is {level!r}, and {acting} of the last {policy.memory} windows acted: "
        f"{policy.persist} are needed"
    )
