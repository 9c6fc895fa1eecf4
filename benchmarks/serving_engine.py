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

#: Texts in one call of the graph; the best of these is the engine's ceiling.
CALLS = (1, 2, 4, 8, 16, 32)
#: Texts that are put in order of length before they are cut into calls.
SORTED = 256
SIDE = 2_048


def ceiling(model: Path, texts: Sequence[str], cores: int, seconds: float) -> dict[str, Any]:
    """Texts a second of the engine in-process, tokenised and in order of length.

    Each graph of the model is tried with one call on every core at once, and with one call on all cores, in several
    sizes. The best of the graph that serves is the ceiling.
    """
    from undertone.engine import Engine
    from undertone.model_folder import GRAPHS, ModelCardData, graphs_of

    tried = []
    for name in (name for name in GRAPHS if all(path.is_file() for path in graphs_of(model, name))):
        engine = Engine(model, cores, engine=name)
        for lanes in sorted({1, cores}):
            for call in CALLS:
                rate = _rate(engine, texts, lanes, call, seconds)
                tried.append({"engine": name, "lanes": lanes, "texts_a_call": call, "texts_s": rate})
    serves = ModelCardData.read(model).engine
    best = max((row for row in tried if row["engine"] == serves), key=lambda row: row["texts_s"])
    return {"best": best, "tried": tried}


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


def _rate(engine: Any, texts: Sequence[str], lanes: int, call: int, seconds: float) -> float:
    """Texts a second when `lanes` calls of `call` texts run at once, for about `seconds`."""
    engine.smoke()
    done, began = 0, time.perf_counter()
    with ThreadPoolExecutor(lanes) as pool:
        while time.perf_counter() - began < seconds:
            first = done % (len(texts) - SORTED)
            ids = sorted(engine.tokenize(texts[first : first + SORTED]).ids, key=len)
            calls = [ids[at : at + call] for at in range(0, len(ids), call)]
            list(pool.map(lambda rows: engine.run(rows, alone=lanes == 1), calls))
            done += len(ids)
    return done / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("speed", "limits", "ceiling"))
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
        made = ceiling(asked.model, json.loads(asked.texts.read_text(encoding="utf-8")), asked.cores, asked.seconds)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
