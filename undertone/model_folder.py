"""What a trained model looks like on disk: the folder that is evaluated, registered, signed and served.

MLmodel, model/, components/, …     a standard MLflow transformers model
undertone/model.json                `ModelCardData`: task, labels, calibration, lineage
undertone/model.onnx                the exact graph, float32 (logits and sentence embedding)
undertone/model.int8.onnx           the same with int8 weights, where training found that it keeps the answers
undertone/trunk.onnx, head.onnx     in place of model.onnx where tasks may share the trunk; trunk.int8.onnx, … alike
undertone/tokenizer.json            tokenizer with the cleaning inside
undertone/join.json                 how sentiment hears sarcasm (`undertone.join`); where there was a sarcasm champion
undertone/reference.parquet         predictions on rows the model never trained on: the drift watch's reference
undertone/reference_terms.json      in how many of these rows a word stands, for words of five rows and more
approval.json                       the signed statement; only in an approved copy

An approved copy lies in a folder of its own: ``model/`` as above, and beside it ``approval.sig``, ``order.json`` and,
if training left one, the model card as it was approved, ``card.md``.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from undertone.errors import VerificationError
from undertone.text import sha256_of

EXTRAS = "undertone"
METADATA = f"{EXTRAS}/model.json"
GRAPH = f"{EXTRAS}/model.onnx"
GRAPH_INT8 = f"{EXTRAS}/model.int8.onnx"
#: Graph file by the name of the engine that runs it.
EXACT, INT8 = "onnx-fp32", "onnx-int8"
GRAPHS = {EXACT: GRAPH, INT8: GRAPH_INT8}
#: Trunk and head in place of one graph.
SPLIT_GRAPHS = {
    EXACT: (f"{EXTRAS}/trunk.onnx", f"{EXTRAS}/head.onnx"),
    INT8: (f"{EXTRAS}/trunk.int8.onnx", f"{EXTRAS}/head.int8.onnx"),
}
TOKENIZER = f"{EXTRAS}/tokenizer.json"
JOIN = f"{EXTRAS}/join.json"
REFERENCE = f"{EXTRAS}/reference.parquet"
REFERENCE_TERMS = f"{EXTRAS}/reference_terms.json"
#: A word of fewer messages is kept and shown nowhere: it may be somebody's name.
TERM_ROWS = 5
STATEMENT = "approval.json"

#: Names in the folder that holds an approved copy.
MODEL, CARD = "model", "card.md"

#: Columns of the reference window. Texts are left out: a model folder carries no customer's words.
REFERENCE_COLUMNS = (
    *("label", "probabilities", "confidence", "length", "channel", "segment", "embedding"),
    *("truth", "words", "upper", "marks", "language"),
)


class Lineage(BaseModel):
    """Where a model came from, in values that can be checked.

    ``rows_until``: rows sent at or after it were not used; None: the same as ``trained_at``. ``trunk``: the model whose
    layers below the last are these, untouched; ``own``: others may stand on its own; None: neither.
    ``overrides``: hyperparameters that were not the effort's. ``base_model_origin``: a folder, the hub with its
    revision or a package; ``base_model_family``: such as bert; ``base_model_max_tokens``: most tokens it reads;
    ``tokenizer``: its kind and size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    text_column: str | None = None
    label_column: str | None = None
    data_sha256: str
    rows: int
    commit: str
    lock_sha256: str
    trainer: str
    trained_at: datetime
    rows_until: datetime | None = None
    seed: int
    effort: str
    overrides: dict[str, int | float | str | None] = {}
    base_model: str
    base_model_sha256: str
    base_model_origin: str | None = None
    base_model_licence: str | None = None
    base_model_family: str | None = None
    base_model_max_tokens: int | None = None
    tokenizer: str | None = None
    trunk: str | None = None
    synthetic: bool = False


class ModelCardData(BaseModel):
    """``undertone/model.json``: all that scoring needs beside the graph, and the model's lineage.

    ``temperature`` divides the logits before the softmax (Guo et al., 2017,
    https://arxiv.org/abs/1706.04599). ``engine`` is the key of `GRAPHS` that serves; ``agreement`` the share of
    validation rows on which it gives the label that the exact graph gives. ``newest_label_at`` is the time of the
    newest row trained on. ``review_below``: answers of less confidence need a person (`training.selective`); None: no
    limit was chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    task: str
    labels: tuple[str, ...]
    max_tokens: int = Field(ge=2)
    temperature: float = Field(gt=0)
    engine: Literal["onnx-fp32", "onnx-int8"] = "onnx-fp32"
    agreement: float | None = Field(None, ge=0, le=1)
    newest_label_at: datetime | None = None
    review_below: float | None = Field(None, ge=0, le=1)
    lineage: Lineage

    def write(self, folder: Path) -> None:
        """Write ``undertone/model.json`` into `folder`."""
        path = folder / METADATA
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelCardData:
        """The metadata in `folder`.

        Raises:
            VerificationError: the file is missing or is not what this version of Undertone writes.
        """
        try:
            return cls.model_validate_json((folder / METADATA).read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise VerificationError(
                f"{METADATA} in a model folder", f"{type(error).__name__}: {error}", "train the model again"
            ) from error


def graphs_of(folder: Path, engine: str) -> tuple[Path, ...]:
    """Files of `engine` in a model folder: trunk and head, or else one graph, there or not."""
    split = tuple(folder / name for name in SPLIT_GRAPHS[engine])
    return split if split[0].is_file() else (folder / GRAPHS[engine],)


def manifest(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under `folder` by its POSIX path, without the statement that an approval adds.

    Raises:
        VerificationError: the folder is missing or holds a symbolic link.
    """
    hashed: dict[str, str] = {}
    for name, path in files(folder).items():
        if name != STATEMENT:
            with path.open("rb") as stream:
                hashed[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashed


def files(folder: Path) -> dict[str, Path]:
    """Every file under `folder` by its POSIX path, sorted.

    Raises:
        VerificationError: the folder is missing or holds a symbolic link.
    """
    if not folder.is_dir():
        raise VerificationError("a model folder", f"nothing at {folder}", "download the version again")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise VerificationError(
                "plain files in a model folder", f"a symbolic link, {name}", "train the model again"
            )
        if path.is_file():
            found[name] = path
    return found


def digest(files: dict[str, str]) -> str:
    """One SHA-256 for a whole manifest: of its canonical JSON."""
    return sha256_of(files)


def refuse_code(folder: Path) -> None:
    """Refuse a model folder that could run code when it is loaded.

    MLflow's transformers flavour loads with ``trust_remote_code=True``, so a Python file or an
    ``auto_map`` entry in a model folder would run; so would a pickle.

    Raises:
        VerificationError: naming the file.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found = None
        if path.suffix.lower() in {".py", ".pyc", ".so", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"}:
            found = f"{name}, which can run code"
        elif path.suffix == ".json" and path.is_file() and b'"auto_map"' in path.read_bytes():
            found = f"an auto_map entry in {name}"
        if found:
            raise VerificationError("weights and words only in a model folder", found, "train the model again")
