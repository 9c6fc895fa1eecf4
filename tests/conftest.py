"""What all tests share: a toy base model, made here from words, real servers that start when first asked for, and
quiet third parties."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# how long an example takes says nothing on machines that others use too
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

#: Words of the toy vocabulary; enough for toy messages of every task.
TINY_WORDS = """
the a my is was it i you this that not very so and but to of in on for with no yes
http @ user parcel refund invoice order delivery support app price team answer
love great happy thanks perfect lovely good glad joy fun
hate awful late broken angry bad terrible worst sad cry lost alone
okay fine tuesday arrived asked question hope soon better will tomorrow sure oh wow really right ! ? . , '
"""


#: Servers that a session starts once: tests that use one run in one process, so that it is started once.
SERVERS = ("prefect_api", "mlflow_auth", "postgres")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist the files that need a server stay together, and the tests of a file do."""
    groups: dict[Path, str] = {}
    for item in items:
        groups.setdefault(item.path, item.path.as_posix())
        for name in SERVERS:
            if name in getattr(item, "fixturenames", ()):
                groups[item.path] = name
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item.path]))


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer BERT (hidden 32) with a fast tokenizer over `TINY_WORDS` and all letters."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
    pieces = list(dict.fromkeys([*special, *TINY_WORDS.split(), *letters, *(f"##{letter}" for letter in letters)]))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A prediction store of the newest schema, on SQLite in the test's own folder."""
    from undertone.store import Store

    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    made.migrate()
    return made


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[str]:
    """Address of a real Prefect server for the session, on a database of its own."""
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield str(PREFECT_API_URL.value())


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: list[str], log: Path, ready: Callable[[], Any], seconds: float, stop: signal.Signals, **popen: Any
) -> Iterator[None]:
    """A server as a child process, from when it is `ready` until the block ends; then it gets the signal `stop`."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True, **popen)
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                state = "still starts" if process.returncode is None else f"ended with {process.returncode}"
                pytest.fail(f"{command[0]} {state}; its log ends:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it and its own children, where they are still there
        process.wait()


def postgresql_programs() -> Path:
    """Folder of PostgreSQL's server programs; without one the test is skipped, or fails in CI."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    program = found[-1] if found else shutil.which("postgres")
    if program is None:
        refuse = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        refuse("no PostgreSQL server on this machine: `apt-get install postgresql`")
    return Path(program).resolve().parent


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of this test session.

    Its settings are awkward on purpose: a zone that is not UTC, text sorted by a language's rules, strict isolation.
    """

    port: int
    numbers: Iterator[int]

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database, as a role that owns it and is no superuser."""
        return f"postgresql+psycopg://undertone@127.0.0.1:{self.port}/{database}"

    def rows(self, statement: str) -> list[tuple]:
        """What a statement gives, run as superuser in a transaction of its own."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with psycopg.connect(address, autocommit=True) as connection:
            answer = connection.execute(statement.encode())
            return answer.fetchall() if answer.description else []

    def database(self, template: str = "template0") -> str:
        """URL of a fresh database, a copy of `template`."""
        name = f"test_{next(self.numbers)}"
        self.rows(f"create database {name} template {template} strategy file_copy owner undertone")
        return self.url(name)

    def store(self) -> str:
        """URL of a fresh database with the newest schema of the store."""
        return self.database("migrated")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL on a free port of 127.0.0.1, its data in a temporary folder, for the session."""
    from undertone.store import Store

    programs = postgresql_programs()
    # the server refuses to run as root, and may not look into root's own temporary folders
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="undertone-postgresql-", ignore_cleanup_errors=True) as folder:
        data, port = Path(folder, "data"), free_port()
        if owner:
            shutil.chown(folder, "postgres", "postgres")
        made = subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--no-sync",
             "--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en"],
            capture_output=True, text=True, cwd=folder, **owner,
        )  # fmt: skip
        if made.returncode:
            pytest.fail(f"initdb ended with {made.returncode}:\n{made.stderr}")
        options = {
            "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "timezone": "Asia/Kolkata", "default_transaction_isolation": "serializable", "max_connections": "200",
        }  # fmt: skip
        command = [str(programs / "postgres"), "-D", str(data), *(f"--{key}={value}" for key, value in options.items())]
        server = Postgres(port, count(1))

        def ready() -> bool:
            import psycopg

            with contextlib.suppress(psycopg.OperationalError):
                server.rows("select 1")
                return True
            return False

        with running(command, Path(folder, "log"), ready, 30, signal.SIGINT, cwd=folder, **owner):
            server.rows("create role undertone login")
            server.rows("create database migrated owner undertone")
            store = Store(server.url("migrated"))
            store.migrate()
            store.engine.dispose()
            yield server


@dataclass(frozen=True)
class MlflowAuth:
    """An MLflow server with basic-auth, where everybody may edit everything (``default_permission = EDIT``)."""

    uri: str
    passwords: dict[str, str]

    def environment(self, user: str) -> dict[str, str]:
        """What an MLflow client reads to act as `user`."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": self.passwords[user],
        }


@pytest.fixture(scope="session")
def mlflow_auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowAuth]:
    """A real `mlflow server --app-name basic-auth` for the session, with an admin and the users `ann` and `tom`."""
    import httpx

    folder, port = tmp_path_factory.mktemp("mlflow-auth"), free_port()
    uri, passwords = f"http://127.0.0.1:{port}", {user: f"the-password-of-{user}" for user in ("admin", "ann", "tom")}
    (folder / "auth.ini").write_text(
        f"""[mlflow]
default_permission = EDIT
database_uri = sqlite:///{folder}/auth.db
admin_username = admin
admin_password = {passwords["admin"]}
auth_cache_ttl_seconds = 3600
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
    )
    command = [
        str(Path(sys.executable).with_name("mlflow")), "server", "--app-name", "basic-auth", "--workers", "1",
        "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")} | {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of this test session",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{uri}/health").is_success
        return False

    with running(command, folder / "log", ready, 120, signal.SIGKILL, env=environment, cwd=folder):
        for user in ("ann", "tom"):
            made = httpx.post(
                f"{uri}/api/2.0/mlflow/users/create",
                json={"username": user, "password": passwords[user]},
                auth=("admin", passwords["admin"]),
            )
            made.raise_for_status()
        yield MlflowAuth(uri, passwords)
