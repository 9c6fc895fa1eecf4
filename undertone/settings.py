"""One frozen settings object: environment ``UNDERTONE_*`` first, then ``undertone.toml``, then defaults.

Paths are relative to the folder in which the command runs. Nothing is created on import.
"""

from __future__ import annotations

import getpass
import json
import os
import re
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from undertone.errors import ConfigError
from undertone.task_files import tasks_in
from undertone.tasks import BUILT_IN, GatePolicy, TaskSpec


class Settings(BaseSettings):
    """Where things live and how much of them there may be. The defaults need no server."""

    model_config = SettingsConfigDict(
        env_prefix="UNDERTONE_",
        toml_file="undertone.toml",
        frozen=True,
        extra="forbid",
        env_ignore_empty=True,
        validate_default=True,
    )

    # where things live
    home: Path = Field(Path("."), description="folder that the next three are relative to")
    mlflow_home: Path = Field(Path("mlruns"), description="local MLflow home: database and artifacts")
    state_dir: Path = Field(Path(".undertone"), description="store, keys, last good models, checkpoints, reports")
    tasks_dir: Path = Field(Path("tasks"), description="tasks beside those built in: one TOML file each")
    tracking_uri: str = Field("", description="MLflow tracking and registry URI; empty: SQLite in mlflow_home")
    artifact_uri: str = Field("", description="MLflow artifact root for new experiments; empty: mlflow_home/artifacts")
    store_url: str = Field("", description="SQLAlchemy URL of the prediction store; empty: SQLite in state_dir")
    experiment: str = "undertone"

    # who
    profile: Literal["single", "team"] = Field(
        "single", description="team: private keys have passphrases, and nobody approves what they trained"
    )
    identity: Literal["key", "mlflow"] = Field(
        "key", description="who a person is: the holder of their key, or also the user that MLflow's basic-auth knows"
    )
    actor: str = Field(default_factory=getpass.getuser, description="your name, and that of your key")
    signing_key: Path | None = Field(None, description="your private key (PEM); empty: state_dir/keys/<actor>.key")
    passphrase: SecretStr | None = Field(None, description="of your private key; empty: asked for at the terminal")
    trusted_keys: Path | None = Field(
        None, description="folder of approvers' public keys; empty: state_dir/keys/trusted"
    )
    trainer_keys: Path | None = Field(
        None, description="folder of public keys of trainers who may not approve; empty: state_dir/keys/trainers"
    )

    # serving
    host: str = "127.0.0.1"
    port: int = Field(8400, ge=0, le=65_535)
    mlflow_port: int = Field(5000, ge=1, le=65_535)
    prefect_port: int = Field(4200, ge=1, le=65_535)
    max_messages: int = Field(1_000, ge=1, description="messages in one request; more are refused with 413")
    max_body_bytes: int = Field(8_000_000, ge=1_000, description="bytes in one request; more are refused with 413")
    max_text_chars: int = Field(
        20_000, ge=1, description="characters of a text that are read; the rest is cut, flagged"
    )
    follow_seconds: float = Field(3.0, gt=0, description="seconds between two looks at the champion alias")
    latency_budget_seconds: float = Field(
        30.0, gt=0, description="longest wait for an answer; `X-Latency-Budget-Ms` on a request asks for less"
    )
    invocations_task: str = Field(
        "sentiment", description="task that MLflow's `/invocations` answers for, unless asked"
    )
    api_keys: Path | None = Field(
        None, description="file of API keys (`undertone apikeys`); empty: state_dir/keys/api_keys.json"
    )
    require_api_key: bool = Field(
        False, description="let nobody in without an API key, also while there are none; with keys that is so anyway"
    )
    proxy_identity_header: str = Field(
        "", description="header in which a reverse proxy names the person, as X-Forwarded-User; asked of everyone"
    )
    proxy_addresses: tuple[str, ...] = Field(
        (), description="addresses or networks of the proxies whose word on that header counts"
    )
    rate_limit: str = Field(
        "", description="requests of one caller, as 200/second; a key may have its own; empty: no limit"
    )
    worker_api_key: SecretStr | None = Field(None, description="API key with which `undertone replay` calls the worker")
    typeform_secret: SecretStr | None = Field(
        None, description="secret of Typeform's webhook: what it signed may post answers to `/v1/surveys` without a key"
    )
    delighted_secret: SecretStr | None = Field(
        None, description="the same for Delighted, whose webhooks are signed with its API key"
    )
    explain_seconds: float = Field(
        10.0, gt=0, description="longest time for the explanations of one request (`?explain=true`)"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="what the worker logs: text, or one JSON object a line and one line a request"
    )
    traces: Literal["auto", "off", "console", "otlp"] = Field(
        "auto", description="OpenTelemetry traces; auto: OTLP where OTEL_EXPORTER_OTLP_ENDPOINT is set, else none"
    )
    train_processes: int = Field(
        1, ge=1, description="processes that fine-tune together on this machine, as on its GPUs"
    )
    train_nodes: int = Field(1, ge=1, description="machines that fine-tune together, on storage that all of them see")
    train_rendezvous: str = Field("", description="HOST:PORT of this machine, where the others join its training")
    engine_threads: int = Field(0, ge=0, description="threads of the scoring engine; 0: one per core, at most four")

    # the console
    console_port: int = Field(8500, ge=0, le=65_535)
    console_hosts: tuple[str, ...] = Field(
        (), description="host names under which a proxy shows the console; others than this machine's are refused"
    )

    # the drift watch
    webhook_url: str = Field("", description="where alerts are posted as JSON; empty: nowhere")
    notification_blocks: tuple[str, ...] = Field(
        (), description="Prefect notification blocks that get alerts too, as type/name: slack-webhook/oncall"
    )
    watch_days: float = Field(7.0, gt=0, description="length of a drift watch's window")
    embedding_share: float = Field(
        1.0, ge=0, le=1, description="share of messages whose embedding is stored; the watch looks at 5,000 a window"
    )

    # people who label
    guideline: str = Field(
        "1", max_length=40, description="version of your labelling guideline; it goes with every label given meanwhile"
    )
    second_share: float = Field(
        0.1, ge=0, le=1, description="share of the review queue that a second person labels, for their agreement"
    )

    # privacy
    retention_days: float = Field(
        0.0, ge=0, description="days after which texts, customer ids and embeddings are removed; 0: never"
    )
    mask_personal_data: tuple[Literal["email", "phone", "card"], ...] = Field(
        (), description="what is replaced in texts before a model reads them and anything is stored"
    )
    mask_region: str = Field(
        "",
        pattern="^([A-Z]{2})?$",
        description="country, as US, whose phone numbers are known without a country code; empty: only +44 … is",
    )

    # training
    seed: int = 7
    gate: dict[str, dict[str, Any]] = Field(
        {}, description="gate policy by task, over the task's own: `[gate.sentiment]`, `floor = 0.82`"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then ``undertone.toml``."""
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    @field_validator("mlflow_home", "state_dir", "tasks_dir")
    @classmethod
    def _under_home(cls, path: Path, info: ValidationInfo) -> Path:
        home: Path = info.data["home"]
        return (home / path).absolute()

    @field_validator("invocations_task")
    @classmethod
    def _known_task(cls, task: str, info: ValidationInfo) -> str:
        _spec(task, info.data["tasks_dir"])
        return task

    @field_validator("rate_limit")
    @classmethod
    def _known_rate(cls, rate: str) -> str:
        if rate:
            check_rate(rate)
        return rate

    @field_validator("proxy_addresses")
    @classmethod
    def _known_networks(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            ip_network(address, strict=False)
        return addresses

    @field_validator("gate")
    @classmethod
    def _known_policies(cls, gate: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        for task, changes in gate.items():
            _changed(_spec(task, info.data["tasks_dir"]), changes)
        return gate

    def gate_policy(self, task: str) -> GatePolicy:
        """The gate policy of `task`: its spec's, with what the settings change."""
        return _changed(_spec(task, self.tasks_dir), self.gate.get(task, {}))

    @property
    def mlflow_uri(self) -> str:
        """Tracking and registry URI; the file store is refused by MLflow 3.13 and newer, so SQLite."""
        return self.tracking_uri or f"sqlite:///{self.mlflow_home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> str:
        """Artifact root for an experiment that this machine creates, as a URI."""
        return self.artifact_uri or (self.mlflow_home / "artifacts").as_uri()

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the prediction store, ledger and leases."""
        return self.store_url or f"sqlite:///{self.state_dir / 'undertone.db'}"

    @property
    def keys_dir(self) -> Path:
        """Private keys made on this machine."""
        return self.state_dir / "keys"

    @property
    def private_key(self) -> Path:
        """This actor's signing key."""
        return self.signing_key or self.keys_dir / f"{self.actor}.key"

    @property
    def trusted_dir(self) -> Path:
        """Public keys (``<name>.pub``) whose approvals are served."""
        return self.trusted_keys or self.keys_dir / "trusted"

    @property
    def trainers_dir(self) -> Path:
        """Public keys (``<name>.pub``) of people and flows that train and may not approve."""
        return self.trainer_keys or self.keys_dir / "trainers"

    @property
    def served_dir(self) -> Path:
        """Last good copies of approved models, one folder per task."""
        return self.state_dir / "served"

    @property
    def threads(self) -> int:
        """Threads for one scoring engine."""
        return self.engine_threads or min(4, os.cpu_count() or 1)

    def environment(self) -> dict[str, str]:
        """Environment that gives a child process these same settings, and keeps its libraries quiet and local."""
        # a secret stays with the process that it was given to
        values: dict[str, Any] = self.model_dump(exclude_none=True, exclude=_SECRETS)
        own = {f"UNDERTONE_{name.upper()}": _as_text(value) for name, value in values.items()}
        return own | {
            "MLFLOW_TRACKING_URI": self.mlflow_uri,
            "PREFECT_HOME": str(self.state_dir / "prefect"),
            **QUIET,
        }


def check_rate(rate: str) -> None:
    """Raise `ConfigError` unless `rate` is a number of requests in a time."""
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", rate):
        raise ConfigError("a rate such as 200/second, 5000/minute, /hour or /day", repr(rate[:50]), "write it so")


def _spec(task: str, folder: Path) -> TaskSpec:
    """The task of that name with these settings, which may not be those of the process.

    Raises:
        ValueError: there is none.
    """
    if task not in BUILT_IN and task not in tasks_in(folder):
        raise ValueError(f"unknown task {task!r}; expected one of {', '.join(tasks_in(folder))}")
    return BUILT_IN.get(task) or tasks_in(folder)[task]


def _changed(spec: TaskSpec, changes: dict[str, Any]) -> GatePolicy:
    return GatePolicy.model_validate(spec.gate.model_dump() | changes)


def without_password(uri: str) -> str:
    """`uri` as it may stand in a message or a log."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def _as_text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | tuple) else str(value)


#: Third-party telemetry and noise, switched off wherever Undertone starts a process.
QUIET = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "TOKENIZERS_PARALLELISM": "false",
}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings(**_typed)


#: Settings that no child process is told.
_SECRETS = {"passphrase", "worker_api_key", "typeform_secret", "delighted_secret"}

#: What was typed at the terminal: this process knows it, its environment and its children do not.
_typed: dict[str, Any] = {}


def remember_passphrase(passphrase: str) -> None:
    """Let this process's settings know a passphrase that was typed."""
    _typed["passphrase"] = SecretStr(passphrase)
    get_settings.cache_clear()
