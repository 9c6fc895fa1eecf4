"""LitServe with dynamic batching; a request holds a list of texts, so many messages fit into one."""

import os

import litserve
from torch_model import Model


class Classifier(litserve.LitAPI):
    """Joins the texts of the requests in a batch, and parts the answers."""

    def setup(self, device: str) -> None:
        """Load the model in the inference process."""
        self.model = Model()

    def decode_request(self, request: dict) -> list[str]:
        """The request's texts."""
        return request["texts"]

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        """Requests as they are: predict joins them."""
        return inputs

    def predict(self, batch: list[list[str]]) -> list[list[dict]]:
        """The answers of each request."""
        answers = iter(self.model([text for texts in batch for text in texts]))
        return [[next(answers) for _ in texts] for texts in batch]

    def unbatch(self, output: list[list[dict]]) -> list[list[dict]]:
        """One answer a request."""
        return output

    def encode_response(self, output: list[dict]) -> dict:
        """The answers as JSON."""
        return {"answers": output}


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.005, api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, log_level="warning")
