"""The same fine-tuned weights for every peer that brings code: torch, float32, padded to the batch's longest."""

import os

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

MAX_TOKENS = 128
#: Texts in one forward pass; the sweet spot of this model on a processor.
BATCH = 32


class Model:
    """Classifies texts; longer lists go through in batches of similar length."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ["THREADS"]))
        folder = os.environ["CHECKPOINT"]
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        self.words = self.network.config.id2label
        self(["warm"])

    @torch.inference_mode()
    def __call__(self, texts: list[str]) -> list[dict]:
        """A label with its probability for each text."""
        answers: list[dict] = [{} for _ in texts]
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = self.tokenizer(
                [texts[at] for at in rows], padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            shares = self.network(**batch).logits.softmax(dim=1)
            best = shares.max(dim=1)
            for at, label, score in zip(rows, best.indices.tolist(), best.values.tolist(), strict=True):
                answers[at] = {"label": self.words[label], "score": score}
        return answers
