"""A runtime class of our own for MLServer, with adaptive batching: `mlserver start .` beside its settings."""

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from torch_model import Model


class Classifier(MLModel):
    """Texts in, labels out, in the Open Inference Protocol."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A label for each text."""
        texts = StringCodec.decode_input(payload.inputs[0])
        labels = [answer["label"] for answer in self.model(texts)]
        output = StringCodec.encode_output("label", labels, use_bytes=False)
        return InferenceResponse(model_name=self.name, outputs=[output])
