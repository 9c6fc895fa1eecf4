"""Ray Serve with `@serve.batch`, one replica with all cores."""

import os
import time

import ray
from ray import serve
from starlette.requests import Request
from torch_model import Model

CORES = int(os.environ["THREADS"])


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Classifier:
    """One replica that batches across requests."""

    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.005)
    async def classify(self, batch: list[list[str]]) -> list[list[dict]]:
        """The answers of each request."""
        answers = iter(self.model([text for texts in batch for text in texts]))
        return [[next(answers) for _ in texts] for texts in batch]

    async def __call__(self, request: Request) -> list[dict]:
        """A label for each text."""
        return await self.classify((await request.json())["texts"])


if __name__ == "__main__":
    ray.init(num_cpus=CORES, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Classifier.bind(), route_prefix="/score")
    while True:
        time.sleep(3600)
