"""Turn a fine-tuned checkpoint into the model folder that is evaluated, registered, signed and served."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.silence import hush
from undertone import model_folder
from undertone.errors import TrainingError
from undertone.model_folder import ModelCardData
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    import torch

#: Greatest difference allowed between the exported graph and torch, in logits and in embeddings.
TOLERANCE = 1e-4

#: Texts on which graph and torch are compared: short, long (cut at the limit), empty, other scripts.
PROBES = (
    "Thanks!",
    "",
    "The parcel came a day early, lovely! 🎉 ¿Y la factura?",
    "@help still no refund after three weeks, see https://example.com/ticket/81. Great service, really. " * 30,
)

_REQUIREMENTS = ("mlflow", "transformers", "torch", "accelerate")


def assemble(checkpoint: Path, spec: TaskSpec, into: Path) -> Path:
    """Build the model folder of `undertone.model_folder` at `into`, and give its path.

    `into` then holds a standard MLflow transformers model, the engine's graph and the tokenizer. The card and
    the reference window are not known yet; `write_card` and `training.evaluate.write_reference` add them.

    Args:
        checkpoint: what `training.finetune.finetune` gave.
        spec: labels and text limit.
        into: a folder that does not exist yet, or is empty.

    Raises:
        TrainingError: `into` is taken, the checkpoint's labels are not the spec's, or the graph's answers
            differ from torch's.
        VerificationError: the folder came out with a file that could run code.
    """
    if into.exists() and any(into.iterdir()):
        raise TrainingError("a new or empty folder", f"files in {into}", "remove it, or name another folder")
    with hush(prints=True):
        model, tokenizer = _load(checkpoint, spec)
        save_mlflow(model, tokenizer, spec, into)
        extras = into / model_folder.EXTRAS
        extras.mkdir(exist_ok=True)
        shutil.copyfile(checkpoint / "tokenizer.json", into / model_folder.TOKENIZER)
        export_graph(model, tokenizer, spec.max_tokens, into / model_folder.GRAPH)
    model_folder.refuse_code(into)
    return into


def write_card(folder: Path, card: ModelCardData) -> None:
    """Write ``undertone/model.json`` into `folder`."""
    card.write(folder)


def save_mlflow(model: Any, tokenizer: Any, spec: TaskSpec, into: Path) -> None:
    """Save the standard MLflow transformers model: text in, label word and score out.

    Requirements and signature are given, so that MLflow need not guess them by loading the model in a new process.
    """
    import mlflow.transformers
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from transformers import TextClassificationPipeline

    signature = ModelSignature(
        inputs=Schema([ColSpec("string")]),
        outputs=Schema([ColSpec("string", "label"), ColSpec("double", "score")]),
    )
    # MLflow writes this name down and looks for its card and licence on the hub: a name that no repository can have
    # keeps it off the network, and this machine's paths out of the model.
    model.name_or_path = model.config._name_or_path = f"undertone:{spec.name}"
    mlflow.transformers.save_model(
        TextClassificationPipeline(model=model, tokenizer=tokenizer, task="text-classification", device="cpu"),
        str(into),
        task="text-classification",
        signature=signature,
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS],
        model_config={"truncation": True, "max_length": spec.max_tokens},
        metadata={"undertone_task": spec.name},
    )
    (into / "LICENSE.txt").unlink(missing_ok=True)  # MLflow's advice to visit a repository that does not exist


def export_graph(model: Any, tokenizer: Any, max_tokens: int, target: Path) -> None:
    """Write `model` as one ONNX file: ``input_ids``, ``attention_mask`` to ``logits``, ``sentence_embedding``.

    Both inputs are int64 [batch, tokens]; outputs are float32. The fused graph is kept where ONNX Runtime knows
    the architecture and the fused graph gives the same answers; else the plain one.

    Raises:
        TrainingError: the graph's answers differ from torch's by more than `TOLERANCE`.
    """
    import torch

    network = _network(model)
    probes = [_encode(tokenizer, texts, max_tokens) for texts in ([PROBES[0]], PROBES, [PROBES[3]])]
    with torch.inference_mode():
        expected = [[output.numpy() for output in network(*probe)] for probe in probes]
    with tempfile.TemporaryDirectory() as folder:
        plain, fused = Path(folder) / "plain.onnx", Path(folder) / "fused.onnx"
        _export(network, probes[1], plain)
        difference = _difference(plain, probes, expected)
        if not difference <= TOLERANCE:
            raise TrainingError(
                f"an exported graph within {TOLERANCE} of torch",
                f"a difference of {difference:.2g}",
                "report the base model's architecture; another base model will do meanwhile",
            )
        chosen = fused if _fuse(plain, fused, model.config, probes, expected) else plain
        _copy_without_notes(chosen, target)


def _load(checkpoint: Path, spec: TaskSpec) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="eager",  # the plain products that ONNX Runtime knows how to fuse
        )
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"a fine-tuned model in {checkpoint}", f"{type(error).__name__}: {error}", "train the model again"
        ) from error
    labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    if labels != spec.labels:
        raise TrainingError(
            f"labels {', '.join(spec.labels)} in that order", ", ".join(labels), "train the model again for this task"
        )
    return model.eval().cpu(), tokenizer


def _network(model: Any) -> torch.nn.Module:
    """`model` as a module of two tensors to two tensors, for any encoder with a classification head."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            output = self.model(
                input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True
            )
            last = output.hidden_states[-1]
            mask = attention_mask.unsqueeze(-1).to(last.dtype)
            return output.logits, (last * mask).sum(1) / mask.sum(1).clamp(min=1.0)

    return Network().eval()


def _encode(tokenizer: Any, texts: Any, max_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def _export(network: torch.nn.Module, probe: tuple[torch.Tensor, torch.Tensor], target: Path) -> None:
    import torch

    batch, tokens = torch.export.Dim("batch", min=1, max=65_536), torch.export.Dim("tokens", min=2, max=512)
    try:
        torch.onnx.export(
            network,
            probe,
            target,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits", "sentence_embedding"],
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


def _copy_without_notes(graph: Path, target: Path) -> None:
    """Copy `graph` without what the exporter notes of its source: paths of this machine, which differ on the next."""
    import onnx

    model = onnx.load(str(graph))
    parts = (model.graph.node, model.graph.initializer, model.graph.value_info, model.graph.input, model.graph.output)
    for item in (model, model.graph, *(item for part in parts for item in part)):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    onnx.save(model, str(target))


def _difference(graph: Path, probes: list[Any], expected: list[list[Any]]) -> float:
    """Greatest absolute difference between the graph's answers and the expected ones; infinity where shapes differ."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    greatest = 0.0
    for (ids, mask), wanted in zip(probes, expected, strict=True):
        found = session.run(
            ["logits", "sentence_embedding"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        )
        for one, other in zip(found, wanted, strict=True):
            if one.shape != other.shape or not np.isfinite(one).all():
                return float("inf")
            greatest = max(greatest, float(np.abs(one - other).max()))
    return greatest


def _fuse(plain: Path, fused: Path, config: Any, probes: list[Any], expected: list[list[Any]]) -> bool:
    """Write the fused form of `plain`, where the model is a BERT; True when it gives the same answers."""
    if config.model_type != "bert":
        return False
    try:
        from onnxruntime.transformers import optimizer

        smaller = optimizer.optimize_model(
            str(plain),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            opt_level=0,
        )
        smaller.save_model_to_file(str(fused))
        return _difference(fused, probes, expected) <= TOLERANCE
    except Exception:  # noqa: BLE001 - fusion is a bonus, its library raises anything, and the plain graph was checked
        return False
