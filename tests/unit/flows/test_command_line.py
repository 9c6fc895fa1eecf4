"""The command line: quick help, honest exit codes, errors in three parts, a reference page that is true."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.reference import FOLDER, pages

HEAVY = (
    "torch",
    "transformers",
    "mlflow",
    "prefect",
    "evidently",
    "datasets",
    "sklearn",
    "pandas",
    "sqlalchemy",
    "numpy",
)


def undertone(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        env=os.environ | {"UNDERTONE_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom flows.cli import app\nfrom typer.main import get_command\n"
        "get_command(app)(['--help'], standalone_mode=False)\n"
        f"heavy = sorted(set({HEAVY}) & set(sys.modules))\nsys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "models" in done.stdout


@pytest.mark.parametrize("name", ["command-line.md", "settings.md", "tasks.md", "bi-views.md"])
def test_the_reference_pages_are_in_step(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == pages()[name], "run `make docs`"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("models", "list", "urgency"), "a task (sentiment, sarcasm, emotion)"),
        (("ledger", "show", "--kind", "party"), "a kind (registered,"),
        (("models", "approve", "sentiment", "1", "--now", "yesterday"), "a time such as"),
    ],
)
def test_misuse_ends_with_2_and_three_parts(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = undertone(*arguments, home=tmp_path)
    assert done.returncode == 2, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()[-3:]] == ["expected", "found", "next step"]
    assert said in done.stderr
    assert done.stdout == ""


def test_unknown_options_end_with_2(tmp_path: Path) -> None:
    assert undertone("train", "sentiment", "--fast", home=tmp_path).returncode == 2


def test_an_empty_ledger_verifies_and_shows(tmp_path: Path) -> None:
    done = undertone("ledger", "verify", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 rows, the chain is unbroken\n"), done.stderr
    done = undertone("ledger", "show", "--json", home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_labels_come_in_from_a_file_or_not_at_all(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("message_id,label\n1,negative\n2,angry\n")
    done = undertone("feedback", "add", "sentiment", str(labels), home=tmp_path)
    assert done.returncode == 1
    assert "'angry'" in done.stderr
    labels.write_text("message_id,label\n1,negative\n2,neutral\n")
    done = undertone("feedback", "add", "sentiment", str(labels), home=tmp_path)
    assert done.stdout == "2 labels added, 2 for messages never scored\n", done.stderr


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    done = undertone("replay", str(tmp_path / "nothing.csv"), home=tmp_path)
    assert done.returncode == 1
    assert "nothing.csv" in done.stderr
