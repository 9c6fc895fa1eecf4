"""Labels by the fine-tuned checkpoint in torch, float32, text by text: what all answers are compared with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.serving_run import COMPARED


def main() -> None:
    """Print the labels of the first `COMPARED` texts of a JSON file as a JSON list."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder, texts = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    labels = []
    with torch.inference_mode():
        for text in texts[:COMPARED]:
            row = tokenizer(text, truncation=True, max_length=128, return_tensors="pt")
            labels.append(network.config.id2label[int(network(**row).logits.argmax())])
    print(json.dumps(labels))


if __name__ == "__main__":
    main()
