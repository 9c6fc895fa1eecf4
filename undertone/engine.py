"""The scoring engine: ONNX Runtime and a fast tokenizer, without torch.

Training evaluates and the gate judges through this very class, so what is measured is what serves.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from undertone import model_folder
from undertone.errors import VerificationError
from undertone.join import Join
from undertone.model_folder import ModelCardData
from undertone.text import repair

#: Texts in one call of the graph. More are no faster on a core, and keep whoever comes next waiting.
BATCH = 8
SMOKE_TEXTS = ("The parcel came a day early, lovely!", "Still no refund after three weeks. Great service, really.")


@dataclass(frozen=True, slots=True)
class Scores:
    """Answers for n texts.

    Attributes:
        logits: float32 [n, labels], before calibration.
        probabilities: float32 [n, labels], calibrated, rows sum to 1.
        embeddings: float32 [n, hidden], mean over the text's tokens of the states that the last layer reads.
        truncated: bool [n], the text was longer than the model's token limit.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Texts as one model's tokenizer reads them: token ids of each, and whether it was cut to the limit."""

    ids: list[list[int]]
    truncated: list[bool]


@dataclass(frozen=True, slots=True)
class States:
    """What a trunk gives for n texts, and heads take.

    Attributes:
        values: float32 [tokens of all texts, hidden].
        mask: int64 [n, width], 1 where a text has a token.
        embeddings: as in `Scores`.
    """

    values: NDArray[np.float32]
    mask: NDArray[np.int64]
    embeddings: NDArray[np.float32]


class _Graph:
    """A graph in memory: on one thread for calls side by side, and on `threads` for a call that is alone."""

    def __init__(self, source: str | bytes, threads: int) -> None:
        self.narrow = _session(source, 1)
        self.wide = _session(source, threads) if threads > 1 else self.narrow

    def run(self, outputs: list[str], feed: dict[str, Any], *, alone: bool) -> list[Any]:
        found: list[Any] = (self.wide if alone else self.narrow).run(outputs, feed)
        return found


#: Trunks that engines of this process hold, by SHA-256 and threads: equal bytes are loaded once.
_trunks: WeakValueDictionary[tuple[str, int], _Graph] = WeakValueDictionary()
_trunks_lock = threading.Lock()


def _shared_trunk(path: Path, threads: int) -> tuple[str, _Graph]:
    data = path.read_bytes()
    key = hashlib.sha256(data).hexdigest()
    with _trunks_lock:
        trunk = _trunks.get((key, threads))
        if trunk is None:
            trunk = _trunks[key, threads] = _Graph(data, threads)
    return key, trunk


class Engine:
    """One loaded model. Every method may be called from several threads at once.

    Args:
        folder: a model folder as `undertone.model_folder` describes it.
        threads: threads that `score`, and a `run` that is alone, may use.
        engine: a key of `undertone.model_folder.GRAPHS` in place of the one that the card names.

    Raises:
        VerificationError: the folder does not load, or its graph does not fit its labels.
    """

    def __init__(self, folder: Path, threads: int = 1, *, engine: str | None = None) -> None:
        from tokenizers import Tokenizer

        self.card = ModelCardData.read(folder)
        #: How its answers hear other models', where the folder says so.
        self.join = Join.read(folder, self.card.labels)
        # int8 kernels are the processor's; a GPU runs the exact graph
        self.name = engine or (model_folder.EXACT if on_gpu() else self.card.engine)
        self._threads = threads
        try:
            words = (folder / model_folder.TOKENIZER).read_bytes()
            self._tokenizer = Tokenizer.from_buffer(words)
            *trunk, graph = model_folder.graphs_of(folder, self.name)
            self._graph = _Graph(str(graph), threads)
            shared = _shared_trunk(trunk[0], threads) if trunk else None
        except Exception as error:  # tokenizers and ONNX Runtime raise bare Exception subclasses of their own
            raise VerificationError(
                "a graph and a tokenizer that load", f"{type(error).__name__}: {error}", "train the model again"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.card.max_tokens)
        #: Engines with the same key read texts alike: what one tokenised, the other may run.
        self.tokenizer_key = hashlib.sha256(words + str(self.card.max_tokens).encode()).hexdigest()
        #: Engines with the same key, not None, share a trunk: what one encoded, the other may decide on.
        self.trunk_key: str | None = shared[0] if shared else None
        self._trunk = shared[1] if shared else None
        width = self._graph.narrow.get_outputs()[0].shape[-1]
        if width != len(self.card.labels):
            raise VerificationError(
                f"{len(self.card.labels)} outputs, one per label", f"{width} in the graph", "train the model again"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Label words in the order of the probabilities."""
        return self.card.labels

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of `texts`, in their order. Runs outside the interpreter lock."""
        encodings = self._tokenizer.encode_batch_fast([repair(text) for text in texts])
        return Tokens([encoding.ids for encoding in encodings], [bool(encoding.overflowing) for encoding in encodings])

    def run(self, ids: Sequence[list[int]], *, alone: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One call of the graph, on one core and outside the interpreter lock; of trunk and head where it is split.

        Args:
            ids: token ids of n texts, of about the same length.
            alone: no other call runs just now, so this one may use every thread.

        Returns:
            Logits [n, labels] and embeddings [n, hidden].
        """
        if self._trunk is not None:
            states = self.encode(ids, alone=alone)
            return self.decide(states, alone=alone), states.embeddings
        logits, embeddings = self._graph.run(["logits", "sentence_embedding"], _feed(ids), alone=alone)
        return logits, embeddings

    def encode(self, ids: Sequence[list[int]], *, alone: bool = False) -> States:
        """The first half of a `run`, for every engine with this `trunk_key` and `tokenizer_key`.

        Raises:
            ValueError: the engine has no trunk, its `trunk_key` being None.
        """
        if self._trunk is None:
            raise ValueError(f"{self.card.task} has a graph without a trunk: use run")
        feed = _feed(ids)
        values, embeddings = self._trunk.run(["token_states", "sentence_embedding"], feed, alone=alone)
        return States(values, feed["attention_mask"], embeddings)

    def decide(self, states: States, *, alone: bool = False) -> NDArray[np.float32]:
        """The second half of a `run`: logits [n, labels] from what an engine with this `trunk_key` encoded."""
        feed = {"token_states": states.values, "attention_mask": states.mask}
        logits: NDArray[np.float32] = self._graph.run(["logits"], feed, alone=alone)[0]
        return logits

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated probabilities [n, labels] of `logits`."""
        return calibrated(logits, self.card.temperature)

    def score(self, texts: Sequence[str]) -> Scores:
        """Score `texts`; results stand in their order.

        Texts are batched by length, so little of a batch is padding. An empty sequence gives empty arrays.
        """
        tokens = self.tokenize(texts)
        order = sorted(range(len(texts)), key=lambda index: len(tokens.ids[index]))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        embeddings = np.zeros((len(texts), 0), dtype=np.float32)
        for rows, (batch_logits, batch_embeddings) in zip(batches, self._run_all(tokens, batches), strict=True):
            if not embeddings.shape[1]:
                embeddings = np.zeros((len(texts), batch_embeddings.shape[1]), dtype=np.float32)
            logits[rows] = batch_logits
            embeddings[rows] = batch_embeddings
        return Scores(logits, self.probabilities(logits), embeddings, np.array(tokens.truncated, dtype=np.bool_))

    def smoke(self) -> None:
        """Score two fixed texts, in every way that a worker does: the first real call finds the graph warm.

        Raises:
            VerificationError: the answer is not a probability distribution.
        """
        tokens = self.tokenize(SMOKE_TEXTS)
        for alone in (False, True):
            probabilities = self.probabilities(self.run(tokens.ids, alone=alone)[0])
            if not np.all(np.isfinite(probabilities)) or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
                raise VerificationError(
                    "probabilities that sum to 1", f"{probabilities.tolist()}", "train the model again"
                )

    def _run_all(self, tokens: Tokens, batches: list[list[int]]) -> list[tuple[Any, Any]]:
        """Every batch's answers; several cores take a batch each, which is faster than sharing one."""
        ids = [[tokens.ids[row] for row in rows] for rows in batches]
        if len(batches) < 2 or self._threads < 2:
            return [self.run(batch, alone=True) for batch in ids]
        with ThreadPoolExecutor(self._threads) as lanes:
            return list(lanes.map(self.run, ids))


def _feed(ids: Sequence[list[int]]) -> dict[str, NDArray[np.int64]]:
    """Token ids of texts as the graph takes them, padded on the right."""
    width = max(1, max(len(row) for row in ids))
    input_ids = np.zeros((len(ids), width), dtype=np.int64)
    attention_mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, values in enumerate(ids):
        input_ids[row, : len(values)] = values
        attention_mask[row, : len(values)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def _session(graph: str | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    providers = ["CUDAExecutionProvider"] if on_gpu() else []
    return onnxruntime.InferenceSession(graph, options, providers=[*providers, "CPUExecutionProvider"])


def on_gpu() -> bool:
    """Whether ONNX Runtime's GPU package is installed and finds a CUDA device. Graphs run there in float32."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def calibrated(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Softmax of ``logits / temperature``, row by row."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True, initial=-np.inf)
    exponent = np.exp(scaled)
    probabilities: NDArray[np.float32] = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities
