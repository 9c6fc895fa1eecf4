"""What does a drift watch cost at 1,000 to 1,000,000 messages a window? `python -m benchmarks.drift_scale`

For each size a SQLite store is filled with made-up messages and predictions (embeddings for a share of them, as
`UNDERTONE_EMBEDDING_SHARE` would keep), and a process of its own does what a watch does: read the reference and the
window, gate 0, judge, and write the report with Evidently. Beside it another process runs a plain Evidently
`DataDriftPreset` over the same rows in a pandas frame: text, label, confidence, length, channel and segment, its own
defaults. Times are of work, after imports; memory is the process's peak. Filling the store is not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (1_000, 10_000, 100_000, 1_000_000)
HIDDEN = 384
EMBEDDED = 10_000
START = datetime(2026, 10, 5, tzinfo=UTC)
DAYS = 7
LABELS = ("negative", "neutral", "positive")
CHANNELS = ("chat", "email", "social", "ticket")
SEGMENTS = ("pay_per_use", "starter", "growth", "enterprise")
WORDS = tuple(f"word{number}" for number in range(400))


def main() -> None:
    """Fill, measure in child processes, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--child", choices=("watch", "preset"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps((_watch if options.child == "watch" else _preset)(options.folder)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"evidently {version('evidently')}, scikit-learn {version('scikit-learn')}\n")  # fmt: skip
    print("| messages | watch s | watch MB | preset s | preset MB | time, watch / preset | memory, watch / preset |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="undertone-scale-") as folder:
            _fill(Path(folder), size)
            ours, plain = (_measured(name, Path(folder)) for name in ("watch", "preset"))
            cells = [f"{size:,}"]
            cells += [f"{side['seconds']:.1f} | {side['mb']:.0f}" for side in (ours, plain)]
            cells += [f"{ours[name] / plain[name]:.2f}" for name in ("seconds", "mb")]
            print(f"| {' | '.join(cells)} |", flush=True)


def _measured(child: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.drift_scale", "--child", child, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{child} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _fill(folder: Path, size: int) -> None:
    from sqlalchemy import insert

    from undertone.schema import messages, predictions
    from undertone.shares import in_share
    from undertone.store import Store

    store = Store(f"sqlite:///{folder / 'store.db'}")
    store.migrate()
    share = min(1.0, EMBEDDED / size)
    rows = 20_000
    for first in range(0, size, rows):
        chunk = _rows(first, min(rows, size - first))
        with store.transaction() as connection:
            connection.execute(insert(messages), [row["message"] for row in chunk])
            for row in chunk:
                if not in_share(row["message"]["id"], share):
                    row["prediction"]["embedding"] = None
            connection.execute(insert(predictions), [row["prediction"] for row in chunk])
        print(f"\r{first + len(chunk):,} of {size:,} rows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    store.engine.dispose()
    _write_reference(folder)


def _rows(first: int, count: int) -> list[dict[str, dict[str, Any]]]:
    random = np.random.default_rng(first)
    probabilities = random.dirichlet([2, 3, 3], size=count)
    vectors = random.normal(size=(count, HIDDEN)).astype("<f2")
    lengths = random.integers(5, 25, size=count)
    made = []
    for index in range(count):
        name = f"m-{first + index:08}"
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") >> 1
        sent = START + timedelta(seconds=DAYS * 86_400 * random.random())
        text = " ".join(random.choice(WORDS, size=lengths[index]))
        message = {
            "id": name, "text": text, "channel": CHANNELS[int(random.integers(4))],
            "segment": SEGMENTS[int(random.integers(4))], "customer_id": None, "sent_at": sent, "received_at": sent,
            "truncated": False, "final_sentiment": None, "final_reason": None,
        }  # fmt: skip
        row = probabilities[index]
        prediction = {
            "message_id": name, "task": "sentiment", "event_at": sent, "label": LABELS[int(row.argmax())],
            "probabilities": [round(float(p), 6) for p in row], "confidence": float(row.max()), "model_version": 1,
            "model_digest": "d" * 64, "scored_at": sent, "sample_key": key, "embedding": vectors[index].tobytes(),
        }  # fmt: skip
        made.append({"message": message, "prediction": prediction})
    return made


def _write_reference(folder: Path) -> None:
    import pandas as pd

    from training.evaluate import write_reference
    from undertone.engine import Scores
    from undertone.tasks import get_task

    rows = _rows(10_000_000, 5_000)
    probabilities = np.array([row["prediction"]["probabilities"] for row in rows])
    frame = pd.DataFrame([row["message"] for row in rows]).assign(label=[row["prediction"]["label"] for row in rows])
    embeddings = np.stack([np.frombuffer(row["prediction"]["embedding"], "<f2") for row in rows]).astype(np.float32)
    scores = Scores(np.log(probabilities + 1e-9), probabilities, embeddings, np.zeros(len(rows), dtype=np.bool_))
    write_reference(folder, frame, scores, get_task("sentiment"))


def _watch(folder: Path) -> dict[str, float]:
    import evidently  # noqa: F401  imports are not counted on either side
    import sklearn.linear_model  # noqa: F401

    from monitoring import quality
    from monitoring.drift import judge
    from monitoring.report import write_report
    from monitoring.windows import current_window, read_reference
    from undertone.store import Store
    from undertone.tasks import get_task

    spec, end = get_task("sentiment"), START + timedelta(days=DAYS)
    started = time.perf_counter()
    store = Store(f"sqlite:///{folder / 'store.db'}")
    reference = read_reference(folder, spec)
    current = current_window(store, spec, START, end, model_version=1)
    findings = quality.check(spec, reference, current, quality.facts(store, spec, START, end))
    verdict = judge(spec, reference, current, model_version=1, start=START, end=end, quality=findings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_report(spec, reference, current, verdict, folder / "report")
    return _spent(started)


def _preset(folder: Path) -> dict[str, float]:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    from undertone.store import Store

    started = time.perf_counter()
    store = Store(f"sqlite:///{folder / 'store.db'}")
    query = """select m.text, p.label, p.confidence, length(m.text) as length, m.channel, m.segment
               from predictions p join messages m on m.id = p.message_id where p.task = 'sentiment'"""
    current = pd.read_sql(query, store.engine)
    reference = current.sample(min(5_000, len(current)), random_state=0)
    definition = DataDefinition(
        text_columns=["text"], numerical_columns=["confidence", "length"],
        categorical_columns=["label", "channel", "segment"],
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = [Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference)]
        Report([DataDriftPreset()]).run(*sides).save_html(str(folder / "preset.html"))
    return _spent(started)


def _spent(started: float) -> dict[str, float]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes
    return {"seconds": time.perf_counter() - started, "mb": peak}


if __name__ == "__main__":
    main()
