"""The gate's answer: every line it rests on, as JSON for the ledger and as a page for the registry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from training.behaviour import Check
from training.latency import Latency

if TYPE_CHECKING:
    from training.fidelity import Fidelity

Verdict = Literal["better", "not_worse", "worse", "too_few", "first"]

#: Slices in the table for people.
SLICES_SHOWN = 24


@dataclass(frozen=True)
class GateLine:
    """One requirement: what was found, what was required, and whether it holds."""

    name: str
    passed: bool
    found: float | str | None
    required: str


@dataclass(frozen=True)
class SliceLine:
    """One slice of the holdout. Scores are macro-F1.

    Attributes:
        name: such as ``channel=chat``.
        rows: rows of the holdout in it.
        challenger: the challenger's score; None where it has too few rows of every label.
        champion: the champion's; None without a champion.
        difference: challenger less champion.
        interval: 95 % paired-bootstrap interval of the difference.
        upper: upper end of its one-sided interval at 95 % over all judged slices (Bonferroni).
        holds: neither the floor nor the regression limit is broken.
        too_few: fewer rows than the policy asks for; such a slice is shown and not judged.
    """

    name: str
    rows: int
    challenger: float | None
    champion: float | None
    difference: float | None
    interval: tuple[float, float] | None
    upper: float | None
    holds: bool
    too_few: bool


@dataclass(frozen=True)
class GateVerdict:
    """The gate's answer with every number it rests on.

    Attributes:
        passed: a person may approve the challenger.
        verdict: what the comparison with the champion said: ``better`` (the interval lies above 0), ``not_worse``
            (above minus the margin), ``worse`` (below 0, and reaching below minus the margin), ``too_few`` (the rows
            cannot tell); ``first`` where there is no champion.
        lines: every requirement.
        difference: macro-F1 of the challenger less the champion's, on the same rows; None without a champion.
        interval: 95 % paired-bootstrap interval of that difference.
        mcnemar_p: exact McNemar p-value of the rows on which just one of the two is right.
        slices: every slice, judged or not.
        fidelity: the engine that serves beside the exact one, on the holdout; None where it was not measured.
        latency: time for one message; None where it was not measured.
        behaviour: the behavioural checks.
    """

    passed: bool
    verdict: Verdict
    lines: tuple[GateLine, ...]
    difference: float | None = None
    interval: tuple[float, float] | None = None
    mcnemar_p: float | None = None
    slices: tuple[SliceLine, ...] = ()
    fidelity: Fidelity | None = None
    latency: Latency | None = None
    behaviour: tuple[Check, ...] = ()

    def as_dict(self, *, texts: bool = False) -> dict[str, Any]:
        """Everything, in types that JSON has: a number that is none is None.

        Args:
            texts: with the messages on which a behavioural check failed.
        """
        values: dict[str, Any] = _plain(asdict(self))
        for check in values["behaviour"]:
            check["share"] = check["held"] / check["cases"] if check["cases"] else None
            if not texts:
                del check["examples"]
        return values

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> GateVerdict:
        """The verdict that `as_dict` wrote without texts, as a row of the ledger keeps it."""
        from training.fidelity import Fidelity

        def pair(found: Sequence[float] | None) -> tuple[float, float] | None:
            return None if found is None else (found[0], found[1])

        return cls(
            passed=values["passed"],
            verdict=values["verdict"],
            lines=tuple(GateLine(**line) for line in values["lines"]),
            difference=values["difference"],
            interval=pair(values["interval"]),
            mcnemar_p=values["mcnemar_p"],
            slices=tuple(SliceLine(**part | {"interval": pair(part["interval"])}) for part in values["slices"]),
            fidelity=None if values["fidelity"] is None else Fidelity(**values["fidelity"]),
            latency=None if values["latency"] is None else Latency(**values["latency"]),
            behaviour=tuple(Check(part["name"], part["cases"], part["held"]) for part in values["behaviour"]),
        )

    def as_markdown(self) -> str:
        """A heading, the requirements and the slices as tables, for the registry's page."""
        return "\n".join(
            [
                f"### Gate: {'passed' if self.passed else 'refused'} ({self.verdict.replace('_', ' ')})",
                "",
                "| requirement | found | required | holds |",
                "| --- | --- | --- | --- |",
                *(
                    f"| {line.name} | {show(line.found)} | {line.required} | {_yes(line.passed)} |"
                    for line in self.lines
                ),
                "",
                self._comparison(),
                "",
                *self._slice_table(),
            ]
        )

    def _comparison(self) -> str:
        if self.difference is None:
            return "There is no champion to compare with." if self.verdict == "first" else "No comparison was made."
        text = f"Challenger less champion, macro-F1: {self.difference:+.4f}"
        if self.interval is not None:
            text += f" (95 % interval {self.interval[0]:+.4f} to {self.interval[1]:+.4f})"
        if self.mcnemar_p is not None:
            text += f"; McNemar p = {self.mcnemar_p:.3g}"
        return f"{text}."

    def _slice_table(self) -> Iterator[str]:
        if not self.slices:
            return
        yield "| slice | rows | challenger | champion | difference (95 % interval) | holds |"
        yield "| --- | ---: | ---: | ---: | --- | --- |"
        # what broke first, and no more than MLflow's 5,000 characters of description bear
        shown = sorted(self.slices, key=lambda part: part.holds)[:SLICES_SHOWN]
        for part in shown:
            change = "" if part.difference is None else f"{part.difference:+.4f}"
            if part.interval is not None:
                change += f" ({part.interval[0]:+.4f} to {part.interval[1]:+.4f})"
            scores = " | ".join("" if score is None else f"{score:.4f}" for score in (part.challenger, part.champion))
            holds = "too few rows" if part.too_few else _yes(part.holds)
            yield f"| {part.name.replace('|', '/')} | {part.rows} | {scores} | {change} | {holds} |"
        yield ""
        if len(self.slices) > len(shown):
            yield f"{len(self.slices) - len(shown)} more slices are in the evidence, `gate.json`."
            yield ""


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def show(found: float | str | None) -> str:
    """What was found, for people: ``missing`` where there is no finite number."""
    if found is None or (isinstance(found, float) and not math.isfinite(found)):
        return "missing"
    return f"{found:.4f}" if isinstance(found, float) else str(found)


def _yes(holds: bool) -> str:
    return "yes" if holds else "**no**"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
