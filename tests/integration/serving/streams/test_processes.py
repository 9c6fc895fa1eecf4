"""`undertone stream` as a process: killed between sink and commit, stopped by a signal, over standard streams."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import orjson

from tests.conftest import free_port
from tests.integration.serving.streams.conftest import message

ROOT = Path(__file__).parents[4]

#: The command, killed when it is about to commit its second batch.
KILLED = """
import os, signal, sys
from serving.streams import __main__ as command
from serving.streams.kafka import KafkaBatch

acknowledge, batches = KafkaBatch.ack, []

def ack(batch):
    batches.append(batch)
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    acknowledge(batch)

KafkaBatch.ack = ack
if __name__ == "__main__":
    sys.exit(command.main())
"""


def start(settings, log, *arguments, command=("-m", "serving.streams"), **popen):
    environment = os.environ | settings.environment() | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, *command, *arguments], cwd=ROOT, env=environment, stderr=stream, **popen
        )


def test_a_kill_between_sink_and_commit_loses_and_doubles_nothing(ready, kafka, until, rows, tmp_path):
    topic, scores = kafka.topic(), kafka.topic()
    kafka.produce(topic, [message(number) for number in range(100)])
    log, script, port = tmp_path / "log", tmp_path / "killed.py", free_port()
    script.write_text(KILLED)
    plan = ("--source", kafka.url(topic), "--sink", kafka.url(scores), "--dead-letters", kafka.url(kafka.topic()),
            "--batch", "20")  # fmt: skip
    killed = start(ready, log, *plan, command=(str(script),))
    assert killed.wait(120) == -signal.SIGKILL, log.read_text()
    done = kafka.committed(topic)
    assert 0 < done < len(rows(ready)[0])  # the second batch was stored, and not committed
    second = start(ready, log, *plan, "--metrics-port", str(port))
    try:

        def finished():
            assert second.poll() is None, log.read_text()
            try:
                page = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            except httpx.TransportError:
                return False
            return f"undertone_stream_messages_total {100 - done}.0" in page

        until(finished, "the second reader did the rest", 120)
        second.terminate()
        assert second.wait(60) == 0, log.read_text()
    finally:
        second.kill()
        second.wait()
    ids = [f"m-{number:04}" for number in range(100)]
    stored, answers = rows(ready)
    assert [row["id"] for row in stored] == ids
    assert [row["message_id"] for row in answers] == ids
    assert {answer["id"] for answer in kafka.read(scores, 100)} == set(ids)


def test_lines_in_and_lines_out_and_what_is_none_on_standard_error(ready, stored_ids, tmp_path):
    log = tmp_path / "log"
    process = start(ready, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    out, _ = process.communicate(b"\n".join([message(1), b"nonsense", message(2)]), timeout=120)
    assert process.returncode == 0, log.read_text()
    assert [orjson.loads(line)["id"] for line in out.splitlines()] == ["m-0001", "m-0002"] == stored_ids(ready)
    letters = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    assert [letter["place"] for letter in letters] == ["-#2"]
