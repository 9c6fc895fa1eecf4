"""The scoring engine: ONNX Runtime and a fast tokenizer, without torch.

Training evaluates and the gate judges through this very class, so what is measured is what serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertone import model_folder
from undertone.errors import VerificationError
from undertone.model_folder import ModelCardData
from undertone.text import repair

MAX_BATCH = 32
SMOKE_TEXTS = ("The parcel came a day early, lovely!", "Still no refund after three weeks. Great service, really.")


@dataclass(frozen=True, slots=True)
class Scores:
    """Answers for n texts.

    Attributes:
        logits: float32 [n, labels], before calibration.
        probabilities: float32 [n, labels], calibrated, rows sum to 1.
        embeddings: float32 [n, hidden], mean of the last hidden states over the text's tokens.
        truncated: bool [n], the text was longer than the model's token limit.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    truncated: NDArray[np.bool_]


class Engine:
    """One loaded model. `score` may be called from several threads.

    Args:
        folder: a model folder as `undertone.model_folder` describes it.
        threads: threads that one call may use.

    Raises:
        VerificationError: the folder does not load, or its graph does not fit its labels.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.card = ModelCardData.read(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / model_folder.TOKENIZER))
            self._session = onnxruntime.InferenceSession(
                str(folder / model_folder.GRAPH), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # tokenizers and ONNX Runtime raise bare Exception subclasses of their own
            raise VerificationError(
                "a graph and a tokenizer that load", f"{type(error).__name__}: {error}", "train the model again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.card.max_tokens)
        width = self._session.get_outputs()[0].shape[-1]
        if width != len(self.card.labels):
            raise VerificationError(
                f"{len(self.card.labels)} outputs, one per label", f"{width} in the graph", "train the model again"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Label words in the order of the probabilities."""
        return self.card.labels

    def score(self, texts: Sequence[str]) -> Scores:
        """Score `texts`; results stand in their order.

        Texts are batched by length, so little of a batch is padding. An empty sequence gives empty arrays.
        """
        encodings = self._tokenizer.encode_batch_fast([repair(text) for text in texts])
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        embeddings: NDArray[np.float32] | None = None
        for start in range(0, len(order), MAX_BATCH):
            rows = order[start : start + MAX_BATCH]
            batch_logits, batch_embeddings = self._run([encodings[row].ids for row in rows])
            if embeddings is None:
                embeddings = np.zeros((len(texts), batch_embeddings.shape[1]), dtype=np.float32)
            logits[rows] = batch_logits
            embeddings[rows] = batch_embeddings
        return Scores(
            logits=logits,
            probabilities=calibrated(logits, self.card.temperature),
            embeddings=np.zeros((0, 0), dtype=np.float32) if embeddings is None else embeddings,
            truncated=np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_),
        )

    def smoke(self) -> None:
        """Score two fixed texts.

        Raises:
            VerificationError: the answer is not a probability distribution.
        """
        probabilities = self.score(SMOKE_TEXTS).probabilities
        if not np.all(np.isfinite(probabilities)) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
            raise VerificationError("probabilities that sum to 1", f"{probabilities.tolist()}", "train the model again")

    def _run(self, ids: list[list[int]]) -> tuple[Any, Any]:
        width = max(1, max(len(row) for row in ids))
        input_ids = np.zeros((len(ids), width), dtype=np.int64)
        attention_mask = np.zeros((len(ids), width), dtype=np.int64)
        for row, values in enumerate(ids):
            input_ids[row, : len(values)] = values
            attention_mask[row, : len(values)] = 1
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        logits, embedding = self._session.run(["logits", "sentence_embedding"], feed)
        return logits, embedding


def calibrated(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of ``logits / temperature``, row by row."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True, initial=-np.inf)
    exponent = np.exp(scaled)
    probabilities: NDArray[np.float32] = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
