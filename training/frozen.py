"""Sentence embeddings of a base model as it came: nothing of the rows' own labels is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from undertone.text import repair

#: Texts in one call: of about one length, so little of a batch is padding.
_BATCH = 64


def embed(texts: Sequence[str], base_model: Path, max_tokens: int, *, threads: int = 1) -> NDArray[np.float32]:
    """Unit vectors of `texts`: the mean over a text's tokens of the encoder's last states, scaled to length 1.

    Shows a progress bar on standard error.

    Args:
        texts: n messages.
        base_model: folder of an encoder with a fast tokenizer.
        max_tokens: longer texts are cut.
        threads: processor threads.

    Returns:
        float32 [n, hidden].

    Raises:
        TrainingError: the folder has no fast tokenizer, or its weights do not load.
    """
    import torch
    from tqdm.auto import tqdm
    from transformers import AutoModel

    from training.finetune import load_tokenizer
    from undertone.errors import TrainingError

    tokenizer = load_tokenizer(base_model, max_tokens)
    try:
        model = AutoModel.from_pretrained(base_model, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"an encoder in {base_model}", f"{type(error).__name__}: {error}", "use another base model"
        ) from error
    torch.set_num_threads(threads)
    ids = tokenizer([repair(text) for text in texts], truncation=True, max_length=max_tokens)["input_ids"]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    found = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)
    with tqdm(total=len(ids), desc="embedding", unit="row", leave=False) as bar, torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            states = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
            means = (states * mask).sum(1) / mask.sum(1).clamp(min=1.0)
            found[rows] = torch.nn.functional.normalize(means, dim=1).numpy()
            bar.update(len(rows))
    return found
