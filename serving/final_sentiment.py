"""The sentiment that a message has once sarcasm is heard: one answer, said in words, unsure where it should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from undertone.join import EMOTION, SARCASM, SARCASTIC, Join

#: From this probability on a message is said to be heard as sarcastic.
HEARD = 0.5


@dataclass(frozen=True, slots=True)
class Voice:
    """One model's answer for a message: its labels, their calibrated probabilities, and which bytes gave it."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    version: int
    digest: str

    @property
    def top(self) -> tuple[str, float]:
        """The likeliest label and its probability."""
        best = max(self.probabilities)
        return self.labels[self.probabilities.index(best)], best


@dataclass(frozen=True, slots=True)
class FinalSentiment:
    """The sentiment to act on. ``needs_review`` is None where the model brings no limit of confidence."""

    label: str
    probability: float
    needs_review: bool | None
    reason: str


def decide(
    sentiment: Voice, heard: Mapping[str, Voice], join: Join | None, review_below: float | None
) -> FinalSentiment:
    """Join the sentiment model's answer with those of sarcasm and emotion.

    Where the join cannot be applied (there is none, it was not adopted, a model that it reads does not serve or has
    other labels) sentiment alone answers, and the reason says so. A partner of another version than the one the join
    was fitted with is heard, its probabilities being calibrated as well; the reason says that, too.

    Args:
        sentiment: the sentiment model's answer.
        heard: answers of other tasks, by name.
        join: of the sentiment model.
        review_below: the sentiment model's own limit of confidence, for where it answers alone.
    """
    alone = _why_alone(join, heard)
    if join is None or alone:
        label, probability = sentiment.top
        return FinalSentiment(label, probability, below(probability, review_below), f"sentiment alone: {alone}")
    answers = {task: heard[task] for task in join.partners}
    probabilities = join.probabilities(
        sentiment.probabilities, {task: voice.probabilities for task, voice in answers.items()}
    )
    probability = max(probabilities)
    label = join.labels[probabilities.index(probability)]
    reason = _reason(sentiment, answers, label) + _strangers(join, answers)
    return FinalSentiment(label, probability, below(probability, join.review_below), reason)


def below(probability: float, limit: float | None) -> bool | None:
    """Whether an answer of this probability needs a person; None where no limit is known."""
    return None if limit is None else probability < limit


def _why_alone(join: Join | None, heard: Mapping[str, Voice]) -> str:
    """What keeps the join from answering; empty where nothing does."""
    if SARCASM not in heard:
        return "no sarcasm model serves"
    if join is None:
        return "its version was trained without a sarcasm model"
    if not join.adopted:
        return "hearing sarcasm was not shown to help"
    for task, partner in join.partners.items():
        if task not in heard:
            return f"no {task} model serves"
        if heard[task].labels != partner.labels:
            return f"the {task} model has other labels than the join knows"
    return ""


def _reason(sentiment: Voice, answers: Mapping[str, Voice], final: str) -> str:
    label, probability = sentiment.top
    sarcasm = answers[SARCASM]
    sarcastic = sarcasm.probabilities[sarcasm.labels.index(SARCASTIC)]
    turned = final != label
    if sarcastic >= HEARD:
        said = f"{'but' if turned else 'and'} heard as sarcastic ({sarcastic:.2f})"
    else:
        said = f"not heard as sarcastic ({sarcastic:.2f})"
    if EMOTION in answers:
        emotion, strength = answers[EMOTION].top
        said += f", {emotion} ({strength:.2f})"
    return f"{label} words ({probability:.2f}), {said}: {'together ' if turned and sarcastic < HEARD else ''}{final}"


def _strangers(join: Join, answers: Mapping[str, Voice]) -> str:
    """Partners that are not the bytes that the join was fitted with."""
    others = [
        f"{task} {partner.version}"
        for task, partner in join.partners.items()
        if answers[task].digest != partner.manifest_sha256
    ]
    return f" (fitted with {' and '.join(others)})" if others else ""
