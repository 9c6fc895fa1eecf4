"""The sentiment a message has once sarcasm is heard: one small rule, said in words with every answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Sarcasm probability from which praise is taken for its opposite. High on purpose: on messages unlike those the
#: sarcasm model learned from, 0.5 cost 9 points of macro-F1, 0.9 nearly none (docs/experiments.md).
TURNS_PRAISE = 0.9

#: A neutral message must be more surely sarcastic: facts are easily mistaken for irony.
TURNS_NEUTRAL = 0.95


@dataclass(frozen=True, slots=True)
class FinalSentiment:
    """The sentiment to act on, and why."""

    label: str
    reason: str


def decide(sentiment: str | None, sarcasm: Mapping[str, float] | None) -> FinalSentiment | None:
    """Join the sentiment label with the sarcasm model's probabilities.

    Sarcastic praise is a complaint: positive becomes negative from P(sarcastic) >= 0.9, neutral from 0.95. Negative
    stays negative. Without a sentiment model there is no answer; without a sarcasm model the label stands.

    Args:
        sentiment: label of the sentiment model.
        sarcasm: label to probability of the sarcasm model.
    """
    if sentiment is None:
        return None
    if sarcasm is None:
        return FinalSentiment(sentiment, "sentiment alone: no sarcasm model serves")
    heard = sarcasm.get("sarcastic", 0.0)
    if sentiment == "positive" and heard >= TURNS_PRAISE:
        return FinalSentiment("negative", f"praise, but sarcastic ({heard:.2f})")
    if sentiment == "neutral" and heard >= TURNS_NEUTRAL:
        return FinalSentiment("negative", f"neutral words, but sarcastic ({heard:.2f})")
    return FinalSentiment(sentiment, "as the sentiment model says")
