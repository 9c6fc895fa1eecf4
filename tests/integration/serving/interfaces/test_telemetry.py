"""A worker's process that logs JSON and sends its traces to a collector, here a few lines of HTTP."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def collector():
    """Its address, and the spans that came."""
    spans = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {item.key: item.value.string_value for item in resource.resource.attributes}["service.name"]
                for scope in resource.scope_spans:
                    spans.extend((self.path, service, span) for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()
    thread.join()


def test_logs_and_traces_of_a_worker(ready, process, tmp_path, collector, monkeypatch, until):
    address, spans = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    log = tmp_path / "log"
    with process(ready.model_copy(update={"log_format": "json"}), log) as worker:
        headers = {"X-Request-ID": "mine", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        body = {"messages": [{"text": "good"}, {"text": "bad"}]}
        assert httpx.post(f"{worker.url}/v1/score", json=body, headers=headers).status_code == 200
        until(lambda: len(spans) >= 3, "three spans at the collector")
        assert worker.stop() == 0
    by_name = {span.name: span for _, _, span in spans}
    assert {(path, service) for path, service, _ in spans} == {("/v1/traces", "undertone")}
    assert set(by_name) == {"POST /v1/score", "queue", "score"}
    assert {span.trace_id.hex() for span in by_name.values()} == {TRACE}
    assert by_name["score"].parent_span_id == by_name["POST /v1/score"].span_id
    attributes = {item.key: item.value.int_value for item in by_name["score"].attributes}
    assert attributes["undertone.version.sentiment"] == 1
    told = [json.loads(line) for line in log.read_text().splitlines()]  # every line, whoever wrote it
    (line,) = [item for item in told if item["logger"] == "undertone.requests"]
    assert (line["request_id"], line["status"], line["messages"], line["trace_id"]) == ("mine", 200, 2, TRACE)
    assert line["ms"] > 0
