"""An ONNX graph of any encoder with a classification head, by torch's exporter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone.errors import TrainingError

if TYPE_CHECKING:
    import torch

OUTPUTS = ["logits", "sentence_embedding"]


def as_network(model: Any) -> torch.nn.Module:
    """`model` as a module of two tensors (token ids, mask) to two: logits, and the mean of the states before its last
    layer."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            output = self.model(
                input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
            )
            states = output.hidden_states[-2]
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            return output.logits, (states * mask).sum(1) / mask.sum(1).clamp(min=1.0)

    return Network().eval()


def export_graph(network: torch.nn.Module, probe: tuple[torch.Tensor, torch.Tensor], target: Path) -> None:
    """Write `network` as one ONNX file, traced on `probe`, for any number of texts and tokens.

    Raises:
        TrainingError: the exporter does not know the architecture.
    """
    import torch

    batch, tokens = torch.export.Dim("batch", min=1, max=65_536), torch.export.Dim("tokens", min=2, max=512)
    try:
        torch.onnx.export(
            network,
            probe,
            target,
            input_names=["input_ids", "attention_mask"],
            output_names=OUTPUTS,
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
            dynamo=True,
            external_data=False,
            optimize=True,
            verbose=False,
        )
    except Exception as error:  # the exporter raises many kinds, few of them public
        raise TrainingError(
            "a base model that exports to ONNX", f"{type(error).__name__}: {error}", "use another base model"
        ) from error
    _remove_notes(target)


def _remove_notes(graph: Path) -> None:
    """Remove what the exporter notes of its source: paths of this machine, which differ on the next."""
    import onnx

    model = onnx.load(str(graph))
    parts = (model.graph.node, model.graph.initializer, model.graph.value_info, model.graph.input, model.graph.output)
    for item in (model, model.graph, *(item for part in parts for item in part)):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    onnx.save(model, str(graph))
