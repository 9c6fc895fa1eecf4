"""The drift verdict: a pure function of two windows and the task's policy."""

from __future__ import annotations

from datetime import datetime

from monitoring.signals import measure
from monitoring.windows import Window
from undertone.records import DriftVerdict, Signal
from undertone.tasks import TaskSpec


def judge(
    spec: TaskSpec, reference: Window, current: Window, *, model_version: int, start: datetime, end: datetime
) -> DriftVerdict:
    """Compare `current` with `reference`.

    ``too_few`` below ``spec.drift.min_rows`` on either side, never "stable"; ``drifted`` when a signal fires. ``act``
    asks the retrain policy to consider a retrain: an embedding AUC over its higher threshold, or two signals.
    """
    fewest = spec.drift.min_rows
    signals: tuple[Signal, ...] = ()
    fired: list[Signal] = []
    if min(reference.rows, current.rows) < fewest:
        verdict = "too_few"
        reason = (
            f"{current.rows} messages against {reference.rows} in the reference; {fewest} a side are needed to tell"
        )
    else:
        signals = measure(reference, current, spec.drift, spec.labels)
        fired = [signal for signal in signals if signal.fired]
        verdict = "drifted" if fired else "stable"
        reason = _reason(fired, signals)
    for name, side in (("left out", current), ("left out of the reference", reference)):
        if side.left_out:
            reason += f"; {name}: " + ", ".join(f"{count} {why}" for why, count in sorted(side.left_out.items()))
    return DriftVerdict(
        task=spec.name,
        verdict=verdict,  # type: ignore[arg-type]
        signals=signals,
        reference_rows=reference.rows,
        current_rows=current.rows,
        window_start=start,
        window_end=end,
        model_version=model_version,
        reason=reason,
        act=any(signal.severe for signal in fired) or len(fired) >= 2,
    )


def _reason(fired: list[Signal], signals: tuple[Signal, ...]) -> str:
    able = sum(not signal.name.endswith(" mix") for signal in signals)  # mixes explain and cannot fire
    if fired:
        parts = [f"{s.name} {s.effect:.3f} (floor {s.floor:.3f}, p {s.p_value:.1g})" for s in fired]
        reason = f"{len(fired)} of {able} signals fired: {', '.join(parts)}"
    else:
        reason = f"none of {able} signals reached both significance and its effect floor"
    if not any(signal.name == "embedding" for signal in signals):
        reason += ", but there are not enough embeddings to compare: a change of topic would not be seen"
    return reason
