"""Turn a fine-tuned checkpoint into the model folder that is evaluated, registered, signed and served."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.bert_graph import Precision, can_write, write_graph, write_split
from training.families import Weights, as_bert
from training.silence import hush
from training.torch_graph import OUTPUTS, as_network, export_graph
from undertone import model_folder
from undertone.errors import TrainingError
from undertone.model_folder import EXACT, INT8, ModelCardData
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    import torch

#: Greatest difference allowed between the exact graph and torch, in logits and in embeddings.
TOLERANCE = 1e-4

#: Texts on which graph and torch are compared: short, long (cut at the limit), empty, other scripts.
PROBES = (
    "Thanks!",
    "",
    "The parcel came a day early, lovely! 🎉 ¿Y la factura?",
    "@help still no refund after three weeks, see https://example.com/ticket/81. Great service, really. " * 30,
)

_REQUIREMENTS = ("mlflow", "transformers", "torch", "accelerate")


def assemble(checkpoint: Path, spec: TaskSpec, into: Path, *, split: bool = False) -> Path:
    """Build the model folder of `undertone.model_folder` at `into`, and give its path.

    `into` then holds a standard MLflow transformers model, the graphs that `write_graphs` can make of it, and the
    tokenizer. The card and the reference window are not known yet; `write_card` and `training.evaluate.write_reference`
    add them, and `training.steps.score` keeps the int8 graph or removes it.

    Args:
        checkpoint: what `training.finetune.finetune` gave.
        spec: labels and text limit.
        into: a folder that does not exist yet, or is empty.
        split: the graphs in two files each, so that other tasks' heads may stand on the trunk.

    Raises:
        TrainingError: `into` is taken, the checkpoint's labels are not the spec's, or the exact graph's
            answers differ from torch's.
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
        write_graphs(model, tokenizer, spec.max_tokens, into, split=split)
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


def write_graphs(model: Any, tokenizer: Any, max_tokens: int, folder: Path, *, split: bool = False) -> None:
    """Write the exact graph of `model` into `folder`, and the int8 one where `training.bert_graph` knows the model.

    Both take ``input_ids`` and ``attention_mask``, int64 [batch, tokens], and give ``logits`` and
    ``sentence_embedding``, float32: the mean over a text's tokens of the states before the last layer. That layer is
    the head's; where `training.pooling` added it, the states before it are the sentence encoder's own. How much of the
    answers the int8 graph keeps is measured on real texts, later.

    Raises:
        TrainingError: the exact graph's answers differ from torch's by more than `TOLERANCE`, or `split` is asked of a
            model that `training.bert_graph` does not know.
    """
    import torch

    network = as_network(model)
    probes = [_encode(tokenizer, texts, max_tokens) for texts in ([PROBES[0]], PROBES, [PROBES[3]])]
    with torch.inference_mode():
        expected = [[output.numpy() for output in network(*probe)] for probe in probes]
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    weights, config = as_bert(state, model.config)
    known = can_write(weights, config)
    if known:
        _write(weights, config, folder, EXACT, split=split)
    elif split:
        raise TrainingError(
            "a trunk of BERT's layers",
            f"{model.config.model_type}'s",
            "train without a trunk, or use a BERT base model",
        )
    else:
        export_graph(network, probes[1], folder / model_folder.GRAPH)
    difference = _difference(model_folder.graphs_of(folder, EXACT), probes, expected)
    if not difference <= TOLERANCE:
        raise TrainingError(
            f"an exported graph within {TOLERANCE} of torch",
            f"a difference of {difference:.2g}",
            "report the base model's architecture; another base model will do meanwhile",
        )
    if known:
        _write(weights, config, folder, INT8, split=split)


def _write(weights: Weights, config: Any, folder: Path, engine: str, *, split: bool) -> None:
    precision: Precision = "int8" if engine == INT8 else "fp32"
    if split:
        trunk, head = model_folder.SPLIT_GRAPHS[engine]
        write_split(weights, config, folder / trunk, folder / head, precision)
    else:
        write_graph(weights, config, folder / model_folder.GRAPHS[engine], precision)


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


def _encode(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=True, return_tensors="pt")
    return encoded["input_ids"], encoded["attention_mask"]


def _difference(graphs: Sequence[Path], probes: list[Any], expected: list[list[Any]]) -> float:
    """Greatest absolute difference between the graphs' answers and the expected ones; infinity where shapes differ.

    Each graph takes what it knows of the inputs and of what those before it gave.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"]) for graph in graphs
    ]
    greatest = 0.0
    for (ids, mask), wanted in zip(probes, expected, strict=True):
        values = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        for session in sessions:
            given = session.run(None, {value.name: values[value.name] for value in session.get_inputs()})
            values |= {value.name: array for value, array in zip(session.get_outputs(), given, strict=True)}
        for one, other in zip([values[name] for name in OUTPUTS], wanted, strict=True):
            if one.shape != other.shape or not np.isfinite(one).all():
                return float("inf")
            greatest = max(greatest, float(np.abs(one - other).max()))
    return greatest
