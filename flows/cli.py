"""The `undertone` command. Bare verbs for acts; noun and verb for stored things.

Exit codes: 0 fine, 1 failed, 2 misuse, 3 drift found, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import (
    apikeys,
    drift,
    feedback,
    insights,
    keys,
    labels,
    ledger,
    models,
    privacy,
    reviews,
    tasks,
    trials,
)
from flows.commands import revenue as _revenue  # noqa: F401  # registers its commands with insights
from flows.commands.options import Json, LabelColumn, Task, TextColumn

DRIFT_FOUND = 3
STOPPED = 130

app = typer.Typer(
    name="undertone",
    help="Train, gate, approve, serve and watch classifiers of customer messages.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models.app.add_typer(trials.app)
app.add_typer(models.app, name="models")
app.add_typer(tasks.app, name="tasks")
app.add_typer(keys.app, name="keys")
app.add_typer(apikeys.app, name="apikeys")
app.add_typer(ledger.app, name="ledger")
app.add_typer(drift.app, name="drift")
app.add_typer(feedback.app, name="feedback")
app.add_typer(reviews.app, name="reviews")
app.add_typer(labels.app, name="labels")
app.add_typer(insights.app, name="insights")
app.add_typer(privacy.app, name="privacy")

Now = Annotated[str, typer.Option(help="the clock, ISO 8601; default: this moment", metavar="TIME")]
Effort = Annotated[str, typer.Option(help="smoke (about a minute), standard or thorough")]
Source = Annotated[
    str,
    typer.Option(
        help="sample[:WEEKS], hf:NAME[:CONFIG][@REVISION], feedback, a CSV, JSONL or Parquet file, or a folder"
        " with train, val and test files; several joined by +"
    ),
]
Seed = Annotated[int | None, typer.Option(help="default: the settings' seed")]
BaseModel = Annotated[str | None, typer.Option(help="a hub name or a folder; default: the task's own")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="a hyperparameter in place of the effort's, such as epochs=4; repeatable", metavar="NAME=VALUE"
    ),
]


@contextmanager
def _going_on(where: str) -> Iterator[None]:
    """Ctrl-C in the block ends the command with `STOPPED`, and says where the same command goes on."""
    from flows.terminal import say

    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on {where}")
        raise typer.Exit(STOPPED) from None


@app.command()
def train(
    task: Task,
    source: Source = "",
    effort: Effort = "standard",
    seed: Seed = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    base_model: BaseModel = None,
    trunk: Annotated[
        str | None,
        typer.Option(
            help="train a head alone, on the layers of models:/TASK/VERSION or of a model's folder, which a worker then"
            " runs once for all tasks on them; own: let other tasks do so with this one's"
        ),
    ] = None,
    overrides: Set = None,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Fine-tune, calibrate, evaluate, register, and let the gate judge.

    Stopped with Ctrl-C, the same command goes on from the last checkpoint.
    """
    from flows import running
    from flows.terminal import emit, moment, prove_trainer
    from training.effort import parse_overrides

    prove_trainer()
    given = parse_overrides(overrides or [])
    with _going_on("from the last checkpoint"), running.prefect_ready():
        from flows.retrain import retrain

        result = retrain(
            task,
            source=source,
            effort=effort,
            seed=seed,
            now=moment(now) if now else None,
            text_column=text_column,
            label_column=label_column,
            base_model=base_model,
            trunk=trunk,
            overrides=given,
        )
    emit(result, as_json=as_json, text=running.training_text(result))


@app.command()
def sweep(
    task: Task,
    source: Source = "",
    trials: Annotated[int, typer.Option(help="how many in all: the same command again runs what is missing")] = 20,
    effort: Effort = "standard",
    seed: Seed = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    base_model: BaseModel = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="what is searched, as learning_rate=1e-5..1e-3 or batch_size=16,32; repeatable; default: learning"
            " rate, epochs, batch size, balance and layer decay around the effort's own",
            metavar="NAME=SPACE",
        ),
    ] = None,
    overrides: Set = None,
    study: Annotated[str, typer.Option(help="default: TASK-EFFORT", metavar="NAME")] = "",
    no_retrain: Annotated[bool, typer.Option("--no-retrain", help="end with the trials, register nothing")] = False,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Search hyperparameters on validation rows, train the best ones again, register, and let the gate judge.

    Stopped or killed, the same command goes on. Started several times at once, the processes share the trials.
    """
    from flows import running
    from flows.terminal import emit, moment, prove_trainer
    from training.effort import parse_overrides

    prove_trainer()
    given = parse_overrides(overrides or [])
    with _going_on("with the trials that are missing"), running.prefect_ready():
        from flows import sweep as sweeping

        result = sweeping.sweep(
            task,
            source=source,
            trials=trials,
            effort=effort,
            seed=seed,
            now=moment(now) if now else None,
            text_column=text_column,
            label_column=label_column,
            base_model=base_model,
            space=tuple(space or ()),
            overrides=given,
            study=study,
            retrain_best=not no_retrain,
        )
    emit(result, as_json=as_json, text=sweeping.text(result))


@app.command()
def adapt(
    out: Annotated[Path, typer.Argument(help="folder to write: a base model for --base-model")],
    source: Annotated[
        str,
        typer.Option(
            help="texts, labels unused: messages (those in the store), sample, hf:NAME, files or folders; several"
            " joined by +; validation and test files are left out"
        ),
    ] = "messages",
    base_model: Annotated[str | None, typer.Option(help="where to start; default: the package's own")] = None,
    passes: Annotated[int | None, typer.Option(help="over all texts; default 3")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="default 1e-4")] = None,
    seed: Seed = None,
    text_column: TextColumn = None,
    as_json: Json = False,
) -> None:
    """Let a base model read your own messages before it is fine-tuned: masked-language training, no labels.

    Stopped with Ctrl-C, the same command goes on from the last checkpoint.
    """
    from flows import adapt as adapting
    from flows.terminal import emit, talk
    from undertone.workspace import Workspace

    talk()
    with _going_on("from the last checkpoint"):
        made = adapting.adapt(
            Workspace(),
            out,
            source,
            base=base_model,
            passes=passes,
            learning_rate=learning_rate,
            seed=seed,
            text_column=text_column,
        )
    emit(made, as_json=as_json, text=adapting.text(made))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on; default 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="port; default 8400")] = None,
) -> None:
    """Start the serving worker: the champions of all tasks over HTTP, followed as they change."""
    if host is not None:
        os.environ["UNDERTONE_HOST"] = host
    if port is not None:
        os.environ["UNDERTONE_PORT"] = str(port)
    from serving.__main__ import main as serve_worker

    raise typer.Exit(serve_worker() or 0)


@app.command()
def stream(
    source: Annotated[
        str,
        typer.Option(
            help="kafka://HOST:PORT[,…]/TOPIC?group=NAME, kinesis://STREAM?region=NAME, a JSON Lines or CSV file; -:"
            " standard input",
            metavar="URL",
        ),
    ] = "-",
    sink: Annotated[
        str, typer.Option(help="where scores go beside the store; -: standard output; none: nowhere", metavar="URL")
    ] = "-",
    dead_letters: Annotated[
        str,
        typer.Option(
            help="where messages go that cannot be scored, with the reason; default: SOURCE-dead-letters beside the"
            " source, standard error for standard input",
            metavar="URL",
        ),
    ] = "",
    batch: Annotated[int, typer.Option(help="messages at most that are scored and committed together")] = 200,
    metrics_port: Annotated[
        int | None, typer.Option(help="port of a page for Prometheus, on the settings' host")
    ] = None,
    with_values: Annotated[
        bool, typer.Option("--with-values", help="dead letters hold what was sent, customers' words among it")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of a message, and end")] = False,
) -> None:
    """Score messages from a stream or a file: results go to another, and to the store; then they are committed.

    SIGTERM or Ctrl-C finishes the batch in hand. A file goes on where the last run of its group ended.
    """
    from flows import streaming

    if schema:
        streaming.show_schema()
    else:
        streaming.run(source, "" if sink == "none" else sink, dead_letters, batch, metrics_port, with_values)


@app.command()
def console(
    host: Annotated[str | None, typer.Option(help="address to listen on; default: the settings' host")] = None,
    port: Annotated[int | None, typer.Option(help="port; default 8500")] = None,
) -> None:
    """Start the console: pages that show what serves, and on which a person approves or rejects."""
    from console.__main__ import main as show_console

    raise typer.Exit(show_console(host, port))


@app.command()
def watch(
    task: Task,
    days: Annotated[
        float | None, typer.Option(help="length of the current window; default: the settings' watch_days")
    ] = None,
    effort: Effort = "standard",
    now: Now = "",
    decide_only: Annotated[bool, typer.Option("--decide-only", help="record the decision, start no retrain")] = False,
    replay: Annotated[
        tuple[str, str],
        typer.Option(
            metavar="FROM TO", help="play the daily watches between two times over the stored messages; writes nothing"
        ),
    ] = ("", ""),
    rows: Annotated[int, typer.Option(help="messages a side that a replayed watch looks at")] = 1_000,
    out: Annotated[str, typer.Option(help="a file for the replay's answer, as JSON", metavar="FILE")] = "",
    as_json: Json = False,
) -> None:
    """Compare recent messages with the champion's reference, decide, and retrain if the policy says so.

    Ends with exit code 3 when drift was found. A replay always ends with 0.
    """
    if any(replay):
        _replay_watches(task, replay, days, rows, out, as_json)
        return
    from flows import running
    from flows.terminal import emit, moment

    with running.prefect_ready():
        from flows.watch_drift import watch as watch_flow

        result = watch_flow(
            task, now=moment(now) if now else None, days=days, effort=effort, start_retrain=not decide_only
        )
    emit(result, as_json=as_json, text=running.watch_text(result))
    from undertone.records import WARNINGS

    if result["verdict"] in WARNINGS:
        raise typer.Exit(DRIFT_FOUND)


def _replay_watches(
    task: str, between: tuple[str, str], days: float | None, rows: int, out: str, as_json: bool
) -> None:
    import json
    from pathlib import Path

    from flows import watch_replay
    from flows.terminal import emit, moment, talk

    talk()
    first, last = (moment(value) for value in between)
    result = watch_replay.replay(task, first, last, days=days, rows=rows)
    if out:
        Path(out).write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    emit(result, as_json=as_json, text=watch_replay.text(result))


@app.command()
def replay(
    file: Annotated[
        str, typer.Argument(help="CSV, JSONL or Parquet with text and, if it has them, id, time, channel, segment")
    ],
    url: Annotated[str, typer.Option(help="the serving worker; default: the settings' host and port")] = "",
    shift_to: Annotated[
        str, typer.Option(help="move message times so that the last one is at this time", metavar="TIME")
    ] = "",
    limit: Annotated[int | None, typer.Option(help="at most this many messages")] = None,
    to: Annotated[
        str, typer.Option(help="a stream in place of the worker, as kafka://HOST:PORT/TOPIC", metavar="URL")
    ] = "",
    speed: Annotated[
        float, typer.Option(help="with --to: how many times as fast as they were sent; 0: without a pause")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Send stored messages through the serving worker, as traffic; or into a stream at the pace they were sent in.

    Into a stream, message times become the moments at which they are sent now.
    """
    from flows import replay as replaying
    from flows.terminal import emit, moment

    if to:
        sent = replaying.replay_into(file, to, speed, limit)
        emit(sent, as_json=as_json, text=replaying.stream_text(sent))
        return
    result = replaying.replay_file(file, url, moment(shift_to) if shift_to else None, limit)
    emit(result, as_json=as_json, text=replaying.text(result))
    raise typer.Exit(1 if result["failed_requests"] else 0)


@app.command()
def up() -> None:
    """Start MLflow, Prefect with its schedules, the serving worker and the console; Ctrl-C stops them all."""
    from flows.up import run

    raise typer.Exit(run())


@app.command()
def demo(
    home: Annotated[str, typer.Option(help="folder for the demo's models, store and reports; emptied first")] = "demo",
) -> None:
    """Play the whole loop on synthetic messages, without a person, in minutes."""
    os.environ["UNDERTONE_HOME"] = home
    from flows.demo import play

    raise typer.Exit(play())


def main() -> None:
    """Run the command line; errors come as expected, found, next step."""
    try:
        app()
    except Exception as error:  # the process edge: known errors are told in three parts, others keep their traceback
        from undertone.errors import ConfigError, UndertoneError

        if not isinstance(error, UndertoneError):
            raise
        for part, text in error.as_dict().items():
            print(f"{part.replace('_', ' ') + ':':<10} {text}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
