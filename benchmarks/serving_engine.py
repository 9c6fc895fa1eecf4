"""What the machine can do without a server around it: the raw engine, and its matrix products.

Run by `benchmarks.serving` in a process of its own, so that thread counts are those asked for: it prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

#: Texts handed to the engine in one call; the best of these is its ceiling.
CALLS = (1, 8, 16, 32, 64, 256)
SIDE = 2_048


def ceiling(model: Path, texts: Sequence[str], cores: int, seconds: float) -> dict[str, Any]:
    """Texts a second of the engine that serves, in-process: the best of call sizes and of two ways to use the cores."""
    from undertone.engine import Engine

    tried = []
    for engines in sorted({1, cores}):
        made = [Engine(model, cores // engines) for _ in range(engines)]
        for call in CALLS:
            rate = _rate([engine.score for engine in made], texts, call, seconds)
            tried.append({"engines": engines, "threads": cores // engines, "texts_a_call": call, "texts_s": rate})
    best = max(tried, key=lambda row: row["texts_s"])
    return {"best": best, "tried": tried}


def labels(model: Path, texts: Sequence[str], cores: int) -> list[str]:
    """The engine's labels."""
    from undertone.engine import Engine

    engine = Engine(model, cores)
    return [engine.labels[index] for index in engine.score(texts).probabilities.argmax(axis=1)]


def float_limit(seconds: float) -> float:
    """GFLOP/s of a float32 matrix product in NumPy, with the threads that the environment gives its BLAS."""
    left, right = np.ones((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32)
    return _best(lambda: left @ right, seconds)


def integer_limit(threads: int, seconds: float) -> float:
    """GOP/s of a u8s8 matrix product with constant weights in ONNX Runtime."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((SIDE, SIDE), np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["product"])],
        "limit",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [SIDE, SIDE])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = np.ones((SIDE, SIDE), np.uint8)
    return _best(lambda: session.run(None, {"rows": rows}), seconds)


def _best(product: Callable[[], object], seconds: float) -> float:
    """10^9 operations a second of the fastest of the products that fit into `seconds`."""
    product()
    best, deadline = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        began = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - began)
    return float(2 * SIDE**3 / best / 1e9)


def _rate(
    scorers: Sequence[Callable[[Sequence[str]], object]], texts: Sequence[str], call: int, seconds: float
) -> float:
    """Texts a second when each scorer works through texts of its own, `call` at a time."""

    def work(at: int) -> tuple[int, float]:
        scorer, done, deadline = scorers[at], 0, began + seconds
        first = at * len(texts) // len(scorers)
        while time.perf_counter() < deadline:
            chunk = [texts[(first + done + offset) % len(texts)] for offset in range(call)]
            scorer(chunk)
            done += call
        return done, time.perf_counter() - began

    for scorer in scorers:
        scorer(list(texts[:call]))
    began = time.perf_counter()
    with ThreadPoolExecutor(len(scorers)) as pool:
        return sum(done / took for done, took in pool.map(work, range(len(scorers))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("speed", "limits", "ceiling", "labels"))
    parser.add_argument("--model", type=Path, help="model folder")
    parser.add_argument("--texts", type=Path, help="JSON list of texts")
    parser.add_argument("--cores", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3)
    asked = parser.parse_args()
    made: Any
    if asked.what == "speed":
        made = float_limit(asked.seconds)
    elif asked.what == "limits":
        made = {
            "float32_gflop_s": float_limit(asked.seconds),
            "u8s8_gop_s": integer_limit(asked.cores, asked.seconds),
        }
    else:
        texts = json.loads(asked.texts.read_text(encoding="utf-8"))
        if asked.what == "labels":
            made = labels(asked.model, texts, asked.cores)
        else:
            made = ceiling(asked.model, texts, asked.cores, asked.seconds)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
