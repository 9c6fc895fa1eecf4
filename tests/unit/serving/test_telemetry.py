"""Logs and traces: what a line holds, when spans begin and end, what happens where a package is missing."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serving import telemetry
from serving.batcher import Passage
from serving.http import Answer, Call, Route
from serving.telemetry import RequestLog, Tracer
from undertone.errors import ConfigError
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOW = datetime(2026, 11, 2, tzinfo=UTC)
SCORED = ScoredMessage(Message("m", "t"), (Prediction("m", "sentiment", "positive", (1.0,), 7, "d", NOW),), None, None)


async def nothing(call):
    return Answer()


SCORE = Route("POST", "/v1/score", nothing, "")
PROBE = Route("GET", "/healthz", nothing, "", open=True)


def call(**changes):
    made = Call(
        method="POST", path="/v1/score", query="", headers={"traceparent": PARENT}, received_at=NOW, request_id="r-1",
        deadline=0.0, peer="10.0.0.1",
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def lines():
    """What is logged as JSON, line by line."""
    written = []

    class Keeper(logging.Handler):
        def emit(self, record):
            written.append(self.format(record))

    keeper = Keeper()
    keeper.setFormatter(telemetry.json_formatter())
    for name in ("undertone.requests", "undertone.serving"):
        logging.getLogger(name).addHandler(keeper)
        logging.getLogger(name).setLevel(logging.INFO)
    yield written
    for name in ("undertone.requests", "undertone.serving"):
        logging.getLogger(name).removeHandler(keeper)
        logging.getLogger(name).setLevel(logging.NOTSET)


def test_a_request_is_one_line_of_json(lines):
    made = call(caller="shop", scored=[SCORED] * 3, path='/v1/score"\n\ud800' + "x" * 500)
    RequestLog().seen(made, SCORE, Answer(503), 0.01234)
    (line,) = lines
    assert "\n" not in line
    told = json.loads(line)
    assert len(told.pop("path")) == telemetry.PATH_CHARS
    assert datetime.fromisoformat(told.pop("time")).tzinfo is not None
    assert told == {
        "level": "INFO", "logger": "undertone.requests", "message": "request", "request_id": "r-1", "caller": "shop",
        "peer": "10.0.0.1", "method": "POST", "status": 503, "ms": 12.34, "messages": 3,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }  # fmt: skip


def test_probes_are_told_of_only_where_they_fail(lines):
    RequestLog().seen(call(), PROBE, Answer(200), 0.1)
    assert lines == []
    RequestLog().seen(call(), PROBE, Answer(503), 0.1)
    RequestLog().seen(call(), None, Answer(404), 0.1)
    assert [json.loads(line)["status"] for line in lines] == [503, 404]


def test_a_failure_keeps_its_traceback_in_one_line(lines):
    try:
        raise ValueError("bad\nnews")
    except ValueError:
        logging.getLogger("undertone.serving").exception("a request failed", extra={"request_id": "r-2"})
    told = json.loads(lines[0])
    assert told["request_id"] == "r-2"
    assert "ValueError" in told["exc_info"]


def spans_of(made, route=SCORE, status=200, seconds=0.5):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def see():
        now = asyncio.get_running_loop().time()
        if made.passage.began:
            made.passage = Passage(now - 0.4, now - 0.3, now - 0.1, [3, 8])
        Tracer(provider).seen(made, route, Answer(status), seconds)

    asyncio.run(see())
    return {span.name: span for span in exporter.get_finished_spans()}


def test_spans_tell_of_the_queue_and_of_the_batches():
    spans = spans_of(call(caller="shop", scored=[SCORED], passage=Passage(began=1.0)))
    whole, queue, score = spans["POST /v1/score"], spans["queue"], spans["score"]
    assert f"{whole.context.trace_id:032x}" == PARENT[3:35]
    assert f"{whole.parent.span_id:016x}" == PARENT[36:52]
    assert queue.parent.span_id == score.parent.span_id == whole.context.span_id
    assert abs(whole.end_time - time.time_ns()) < 5e9
    lengths = [(span.end_time - span.start_time) / 1e9 for span in (whole, queue, score)]
    assert lengths == pytest.approx([0.5, 0.1, 0.2], abs=0.001)
    assert (
        whole.start_time <= queue.start_time <= queue.end_time == score.start_time <= score.end_time <= whole.end_time
    )
    assert dict(score.attributes) == {
        "undertone.batches": 2, "undertone.batch_messages": 8, "undertone.version.sentiment": 7,
    }  # fmt: skip
    assert whole.attributes["enduser.id"] == "shop"
    assert whole.attributes["http.route"] == "/v1/score"
    assert whole.status.is_ok


def test_a_request_that_reached_no_batch_has_one_span():
    for headers in ({}, {"traceparent": "nonsense"}):
        spans = spans_of(call(headers=headers), status=503)
        assert list(spans) == ["POST /v1/score"]
        assert not spans["POST /v1/score"].status.is_ok
    assert spans_of(call(), PROBE) == {}


def test_traces_are_off_unless_asked_for(tmp_path, monkeypatch):
    for name in telemetry.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert telemetry.observers(Settings(home=tmp_path)) == ()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert telemetry.observers(Settings(home=tmp_path, traces="off")) == ()
    (tracer,) = telemetry.observers(Settings(home=tmp_path, traces="console"))
    assert isinstance(tracer, Tracer)


def test_a_missing_exporter_is_named(tmp_path, monkeypatch, lines):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="pip install opentelemetry-exporter-otlp-proto-http"):
        telemetry.observers(Settings(home=tmp_path, traces="otlp"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert telemetry.observers(Settings(home=tmp_path)) == ()
    assert "opentelemetry-exporter-otlp-proto-http" in lines[0]


def test_what_is_off_is_not_imported(tmp_path):
    code = (
        "import sys; from serving.app import create_app; from undertone.settings import Settings;"
        f"create_app(Settings(home={str(tmp_path)!r}, traces='off'));"
        "print(sorted({'opentelemetry.sdk.trace', 'pythonjsonlogger', 'limits', 'captum', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
