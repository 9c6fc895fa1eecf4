"""May a person approve this challenger? A pure decision: no clock, no files, everything it saw is in its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from training.behaviour import INVARIANCES, NEGATION, Check
from training.comparison import Comparison, Paired, compare, lost_too_much
from training.latency import Latency
from training.verdict import GateLine, GateVerdict, SliceLine, is_number, show
from undertone.tasks import GatePolicy

if TYPE_CHECKING:
    from training.evaluate import Evaluation
    from training.fidelity import Fidelity

__all__ = ["GateLine", "GateVerdict", "Paired", "SliceLine", "decide"]


def decide(
    challenger: Evaluation,
    champion: Evaluation | None,
    policy: GatePolicy,
    *,
    challenger_labels: Sequence[str],
    champion_labels: Sequence[str] | None,
    paired: Paired | None,
    fidelity: Fidelity | None,
    latency: Latency | None,
    behaviour: Sequence[Check],
    seed: int = 0,
) -> GateVerdict:
    """Judge `challenger` against the policy and, where there is one, against the champion on the same rows.

    Fails closed: a number, a slice or a check that is missing is a requirement not met. A challenger that gets one more
    row right never loses a pass by it, calibration error and agreement with the exact engine aside.

    Args:
        challenger: evaluation of the challenger on the holdout.
        champion: evaluation of the champion on the same holdout; None where there is no champion.
        policy: every limit.
        challenger_labels: label words in the order of the challenger's outputs.
        champion_labels: the champion's; None where there is no champion.
        paired: both models' predictions, row by row; None without a champion.
        fidelity: the engine that serves the challenger beside the exact one, on the holdout.
        latency: of both models, measured in one run.
        behaviour: the challenger's behavioural checks.
        seed: of the bootstrap.
    """
    first = champion is None and champion_labels is None and paired is None
    labels, champions = tuple(challenger_labels), None if champion_labels is None else tuple(champion_labels)
    compared = None
    if champion is not None and paired is not None and labels == champions:
        compared = compare(challenger, champion, paired, len(labels), policy, seed)
    slices = compared.slices if compared else tuple(_own_slices(challenger, policy))
    lines = (
        _at_least("rows", challenger.rows, policy.min_rows),
        _at_least("macro-F1", challenger.macro_f1, policy.floor),
        _at_most("calibration error", challenger.ece, policy.max_ece),
        _slice_floor(slices, policy),
        _engine(fidelity, policy),
        *(() if first else (_label_map(labels, champions), *_against_champion(compared, policy))),
        _latency(latency, policy, first),
        *_behaviour(behaviour, policy),
    )
    return GateVerdict(
        passed=all(line.passed for line in lines),
        verdict=compared.verdict if compared else "first" if first else "too_few",
        lines=lines,
        difference=compared.difference if compared else None,
        interval=compared.interval if compared else None,
        mcnemar_p=compared.p_value if compared else None,
        slices=slices,
        fidelity=fidelity,
        latency=latency,
        behaviour=tuple(behaviour),
    )


def _own_slices(challenger: Evaluation, policy: GatePolicy) -> Iterator[SliceLine]:
    for name, entry in challenger.slices.items():
        rows, score = entry.get("rows"), entry.get("macro_f1")
        few = is_number(rows) and rows < policy.slice_min_rows
        holds = few or (is_number(rows) and is_number(score) and score >= policy.slice_floor)
        score = float(score) if is_number(score) else None
        yield SliceLine(name, int(rows) if is_number(rows) else 0, score, None, None, None, None, holds, few)


def _slice_floor(slices: Sequence[SliceLine], policy: GatePolicy) -> GateLine:
    required = f"at least {policy.slice_floor:g} on each slice of {policy.slice_min_rows} rows and more"
    judged = [part for part in slices if not part.too_few]
    if not judged:
        return GateLine("slices", True, "no slice has so many rows", required)
    worst = min(judged, key=lambda part: (part.challenger is not None, part.challenger))
    passed = all(part.challenger is not None and part.challenger >= policy.slice_floor for part in judged)
    return GateLine("slices", passed, f"{worst.name}: {show(worst.challenger)}", required)


def _engine(fidelity: Fidelity | None, policy: GatePolicy) -> GateLine:
    most = f"no significant loss of more than {policy.max_engine_loss:g} macro-F1"
    required = f"exact, or {policy.min_agreement:.1%} the same label and {most}"
    if fidelity is None:
        return GateLine("engine", False, None, required)
    return GateLine("engine", fidelity.holds(policy), str(fidelity), required)


def _against_champion(compared: Comparison | None, policy: GatePolicy) -> tuple[GateLine, GateLine]:
    required = f"95 % interval above {-policy.margin:g}"
    limit = f"no significant loss of more than {policy.slice_margin:g}"
    if compared is None:
        return (
            GateLine("macro-F1 against the champion", False, None, required),
            GateLine("slices against the champion", False, None, limit),
        )
    low, high = compared.interval
    found = f"{compared.difference:+.4f} ({low:+.4f} to {high:+.4f}), {compared.verdict.replace('_', ' ')}"
    return (
        GateLine("macro-F1 against the champion", compared.verdict in ("better", "not_worse"), found, required),
        _slice_regression(compared.slices, policy, limit),
    )


def _slice_regression(slices: Sequence[SliceLine], policy: GatePolicy, required: str) -> GateLine:
    judged = [part for part in slices if not part.too_few]
    if not judged:
        return GateLine("slices against the champion", True, "no slice has enough rows", required)
    lost = [part for part in judged if lost_too_much(part, policy)]
    worst = min(lost or judged, key=lambda part: (part.difference is not None, part.difference))
    found = f"{worst.name}: {'missing' if worst.difference is None else format(worst.difference, '+.4f')}"
    return GateLine("slices against the champion", not lost, found, required)


def _label_map(labels: tuple[str, ...], champions: tuple[str, ...] | None) -> GateLine:
    if champions is None:
        return GateLine("label map", False, "none", "the champion's labels in its order")
    return GateLine("label map", labels == champions, ", ".join(labels), ", ".join(champions))


def _latency(latency: Latency | None, policy: GatePolicy, first: bool) -> GateLine:
    name, required = "latency of one message", f"at most {policy.max_latency_ratio:g} times the champion's"
    if latency is None or not is_number(latency.challenger_ms):
        return GateLine(name, False, None, "measured" if first else required)
    if first:
        return GateLine(name, True, f"{latency.challenger_ms:.1f} ms", "measured")
    if not is_number(latency.champion_ms) or not is_number(latency.ratio):
        return GateLine(name, False, None, required)
    found = f"{latency.ratio:.2f} times ({latency.challenger_ms:.1f} ms against {latency.champion_ms:.1f} ms)"
    return GateLine(name, latency.ratio <= policy.max_latency_ratio, found, required)


def _behaviour(checks: Sequence[Check], policy: GatePolicy) -> Iterator[GateLine]:
    shares = {check.name: check.share for check in checks}
    required = dict.fromkeys(INVARIANCES, policy.min_invariance)
    if policy.min_negation is not None:
        required[NEGATION] = policy.min_negation
    for name, least in required.items():
        yield _at_least(name, shares.get(name), least)


def _at_least(name: str, found: Any, required: float) -> GateLine:
    return GateLine(name, is_number(found) and found >= required, found, f"at least {required:g}")


def _at_most(name: str, found: Any, required: float) -> GateLine:
    return GateLine(name, is_number(found) and found <= required, found, f"at most {required:g}")
