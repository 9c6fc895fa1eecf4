"""A trial's decisions, without clock or I/O: who takes part, what is counted, when the champion gets everybody back."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from undertone.records import Message
from undertone.shares import in_share
from undertone.tasks import TrialPolicy
from undertone.trial_figures import Figures

#: Values of channel and segment that are counted on their own; more are counted together, under `OTHER`.
SLICES = 40
OTHER = "other"

#: Bets whose mean is the evidence: timid ones see a small excess late, bold ones a large one soon.
_BETS = 40


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial's figures say. ``reason``: why the champion gets everybody back; None: the trial goes on."""

    reason: str | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the trial goes on."""
        return self.reason is None


def takes_part(task: str, message: Message, share: float) -> bool:
    """Whether a message's customer is in the `share` of a trial; where no customer is named, the message itself.

    The same customers every time, on every worker, and those of a smaller share among those of a larger one.
    """
    return in_share(f"{task}:{message.customer_id or message.id}", share)


def verdict(figures: Figures, policy: TrialPolicy) -> Verdict:
    """Whether a trial goes on.

    It ends when the challenger could not answer too many messages, or when it differs from the champion in more than
    ``max_disagreement`` of them: when the lower end of a confidence sequence is above (see `evidence`).
    """
    tried = figures.compared + figures.errors
    if figures.errors >= policy.max_errors or figures.errors > policy.max_error_rate * tried:
        return Verdict(f"the challenger could not answer {figures.errors} of {tried:,} messages")
    if figures.compared < policy.min_messages:
        return Verdict()
    if evidence(figures.disagreed, figures.compared, policy.max_disagreement) < math.log(1 / policy.level):
        return Verdict()
    least = at_least(figures.disagreed, figures.compared, policy.level)
    return Verdict(
        f"challenger and champion differ in {figures.disagreed:,} of {figures.compared:,} messages: at least"
        f" {least:.1%} of all, more than {policy.max_disagreement:.0%}"
    )


def evidence(disagreed: int, compared: int, limit: float) -> float:
    """Natural logarithm of the evidence that more than `limit` of the messages get different answers.

    It is the capital of a gambler who starts with 1 and bets on every message that it will be a disagreement, at odds
    that are fair where `limit` of them are: the mean over constant bets (Waudby-Smith and Ramdas, "Estimating means of
    bounded random variables by betting", JRSS B 86(1), 2024, https://arxiv.org/abs/2010.09686). As long as the chance
    of a disagreement, whatever came before, is at most `limit`, it ever reaches 1 / level with a probability of at most
    `level` (Ville's inequality): one may look after every message.
    """
    if limit >= 1 or not disagreed:
        return -math.inf
    if limit <= 0:
        return math.inf
    won, lost = _factors(limit)
    agreed = compared - disagreed
    gains = [disagreed * up + agreed * down for up, down in zip(won, lost, strict=True)]
    most = max(gains)
    return most + math.log(sum(math.exp(gain - most) for gain in gains) / len(gains))


def at_least(disagreed: int, compared: int, level: float = 0.05) -> float:
    """Lower end of the disagreement's confidence sequence: true at all times at once with probability 1 - `level`."""
    low, high = 0.0, disagreed / compared if compared else 0.0
    for _ in range(30):
        middle = (low + high) / 2
        if evidence(disagreed, compared, middle) >= math.log(1 / level):
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=64)
def _factors(limit: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Logarithms of what each bet makes of the capital at a disagreement and at an agreement."""
    bets = [(index + 0.5) / _BETS for index in range(_BETS)]
    return tuple(math.log1p(bet * (1 - limit) / limit) for bet in bets), tuple(math.log1p(-bet) for bet in bets)


class Comparison:
    """Counts what one worker sees of a trial; every method may be called from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._compared = self._disagreed = self._errors = self._dropped = self._timed = 0
        self._difference = self._champion_s = self._challenger_s = 0.0
        self._champion_labels: Counter[str] = Counter()
        self._challenger_labels: Counter[str] = Counter()
        self._slices: dict[str, tuple[int, int]] = {}

    def compare(
        self, message: Message, labels: Sequence[str], champion: Sequence[float], challenger: Sequence[float]
    ) -> bool:
        """Count both models' probabilities for one message. Gives whether they agree on the label."""
        ours, theirs = (labels[max(range(len(labels)), key=row.__getitem__)] for row in (champion, challenger))
        differs = ours != theirs
        distance = sum(abs(one - other) for one, other in zip(champion, challenger, strict=True)) / 2
        with self._guard:
            self._compared += 1
            self._disagreed += differs
            self._difference += distance
            self._champion_labels[ours] += 1
            self._challenger_labels[theirs] += 1
            for name, value in (("channel", message.channel), ("segment", message.segment)):
                if value is not None:
                    self._slice(name, value, differs)
        return not differs

    def fail(self, messages: int = 1) -> None:
        """Count messages that the challenger could not answer."""
        with self._guard:
            self._errors += messages

    def drop(self, messages: int = 1) -> None:
        """Count messages that were not compared."""
        with self._guard:
            self._dropped += messages

    def time(self, champion_s: float, challenger_s: float) -> None:
        """Count processor seconds of both models on one message."""
        with self._guard:
            self._timed += 1
            self._champion_s += champion_s
            self._challenger_s += challenger_s

    def figures(self) -> Figures:
        """What was counted so far."""
        with self._guard:
            return Figures(
                compared=self._compared,
                disagreed=self._disagreed,
                errors=self._errors,
                dropped=self._dropped,
                difference=self._difference,
                timed=self._timed,
                champion_s=self._champion_s,
                challenger_s=self._challenger_s,
                champion_labels=dict(self._champion_labels),
                challenger_labels=dict(self._challenger_labels),
                slices=dict(self._slices),
            )

    def _slice(self, name: str, value: str, differs: bool) -> None:
        key = f"{name}={value}"
        if key not in self._slices and len(self._slices) >= SLICES:
            key = f"{name}={OTHER}"
        compared, disagreed = self._slices.get(key, (0, 0))
        self._slices[key] = compared + 1, disagreed + differs
