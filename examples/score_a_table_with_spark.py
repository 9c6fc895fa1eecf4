"""Score a table of messages on Spark with an approved Undertone model.

    python examples/score_a_table_with_spark.py messages.csv scores.parquet --task sentiment

The table (CSV with a header, or Parquet) needs a column ``text``; its other columns are kept. Added are ``label``,
``score`` (torch's, not calibrated), ``model_version`` and ``model_digest``. Blank texts are left out: the worker
refuses them, too.

docs/how-to/score-a-table.md says what to install, and what this does not give.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from undertone import governance
from undertone.errors import DataError, UndertoneError
from undertone.model_folder import MODEL, TOKENIZER
from undertone.settings import QUIET
from undertone.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

#: A character that tokenizers of the BERT family drop, and that no Python literal begins with. MLflow's wrapper runs
#: `ast.literal_eval` on texts: without it "123" fails, '"fine"' loses its quotes, and a long one can raise MemoryError.
GUARD = "\u200b"


def approved(workspace: Workspace, task: str, version: int | None, into: Path) -> tuple[Path, int, str]:
    """Folder, version and digest of the champion of `task` (or `version`), its approval verified as the worker does.

    MLflow's alias alone is not enough: whoever may edit the registry can move it.

    Raises:
        DataError: the task has no champion, or its tokenizer keeps the guard.
        VerificationError: nobody who is trusted here signed for these bytes.
    """
    version = version or workspace.registry.champion_version(task)
    if version is None:
        raise DataError(f"a champion of {task!r}", "none", f"approve one: `undertone models approve {task} VERSION`")
    statement = governance.fetch(workspace, task, version, into)
    _check_guard(into / MODEL / TOKENIZER)
    return into / MODEL, version, statement.manifest_sha256


def score(spark: SparkSession, table: DataFrame, model: str | Path) -> DataFrame:
    """`table` with ``label`` and ``score`` behind it, without its blank texts.

    Args:
        spark: the session.
        table: has a column ``text``.
        model: a model folder, or a URI as ``models:/sentiment/3``.
    """
    import mlflow

    columns = "label string, score double"
    classify = mlflow.pyfunc.spark_udf(spark, str(model), result_type=columns, env_manager="local")
    messages = table.where("text rlike '[^\\\\s\\\\p{Cc}]'")
    scored = messages.withColumn("_answer", classify(readable(messages["text"])))
    return scored.select(*table.columns, "_answer.label", "_answer.score")


def readable(text: Column) -> Column:
    """`text` as the worker reads it (`undertone.text.repair`), behind the guard."""
    from pyspark.sql import functions

    return functions.concat(functions.lit(GUARD), functions.regexp_replace(text, r"\p{Cc}", " "))


def read(spark: SparkSession, path: str) -> DataFrame:
    """The table at `path`.

    Raises:
        DataError: it has no column ``text``.
    """
    if path.endswith(".csv"):
        table = spark.read.csv(path, header=True, multiLine=True, escape='"')
    else:
        table = spark.read.parquet(path)
    if "text" not in table.columns:
        raise DataError(f"a column `text` in {path}", ", ".join(table.columns), "rename the column")
    return table


def _check_guard(path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.encode(f"{GUARD}fine").ids != tokenizer.encode("fine").ids:
        raise DataError("a tokenizer that drops U+200B", "one that keeps it", "score through the worker's /v1/score")


def main() -> int:
    """Score a file."""
    parser = argparse.ArgumentParser(description="Score a table of messages on Spark with an approved model.")
    parser.add_argument("table", help="CSV with a header, or Parquet; with a column `text`")
    parser.add_argument("scores", help="folder of Parquet files to write; it must not exist")
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--version", type=int, help="an approved version; default: the champion")
    parser.add_argument("--master", default="local[*]", help="Spark's master")
    chosen = parser.parse_args()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else Spark's workers start whatever python3 is first

    from pyspark.sql import SparkSession, functions

    with tempfile.TemporaryDirectory() as scratch:
        try:
            model, version, digest = approved(Workspace(), chosen.task, chosen.version, Path(scratch))
            spark = SparkSession.builder.master(chosen.master).appName("undertone").getOrCreate()
            scored = score(spark, read(spark, chosen.table), model)
        except UndertoneError as error:
            print(error, file=sys.stderr)
            return 1
        scored = scored.withColumn("model_version", functions.lit(version))
        scored.withColumn("model_digest", functions.lit(digest)).write.parquet(chosen.scores)
        spark.stop()
    print(f"{chosen.task} {version} scored {chosen.table}: {chosen.scores}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
