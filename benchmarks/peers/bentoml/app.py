"""BentoML with adaptive batching: `bentoml serve app:Classifier`."""

import bentoml
from torch_model import Model


@bentoml.service(traffic={"timeout": 120}, workers=1)
class Classifier:
    """One worker that batches across requests."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=10_000)
    def score(self, texts: list[str]) -> list[dict]:
        """A label for each text; BentoML joins the texts of many requests."""
        return self.model(texts)
