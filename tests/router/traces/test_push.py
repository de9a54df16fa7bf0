"""Traces reach a collector over HTTP; one that is away or refuses is an error that tells no secret."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from policies.ledger import Ledger
from router.trace_errors import PushFailed
from router.traces import as_protobuf, push, read_trace, spans_of
from router.traces.push import endpoint_url
from tests.router.traces.fakes import keep


class Collector(HTTPServer):
    """Keeps what it is sent, and answers as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.answer = (200, "application/x-protobuf", b"")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Collector)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.received.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        code, content_type, answer = server.answer
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *of: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_trace_is_a_request_in_the_encoding_that_was_asked_for(ledger: Ledger, collector: Collector) -> None:
    for i in range(2):
        keep(ledger, f"trace-{i}")
    solves = [spans_of(read_trace(ledger, f"trace-{i}")) for i in range(2)]

    assert push(solves, collector.url, version="1", headers={"x-experiment": "7"}) == 2
    assert push(solves[:1], f"{collector.url}/otlp/traces", version="1", encoding="json") == 1

    (path, headers, body), _, (json_path, json_headers, json_body) = collector.received
    assert (path, headers["content-type"], headers["x-experiment"]) == ("/v1/traces", "application/x-protobuf", "7")
    assert body == as_protobuf(solves[0], version="1")
    assert (json_path, json_headers["content-type"]) == ("/otlp/traces", "application/json")
    assert json.loads(json_body)["resourceSpans"]


def test_a_collector_that_refuses_says_why_and_tells_no_secret(ledger: Ledger, collector: Collector) -> None:
    keep(ledger, "trace-0")
    collector.answer = (415, "text/plain", b"give me\nprotobuf, password=hunter2")

    with pytest.raises(PushFailed, match="answered 415: give me protobuf") as failed:
        push(
            [spans_of(read_trace(ledger, "trace-0"))], collector.url, version="1", headers={"authorization": "hunter2"}
        )

    assert "hunter2" not in str(failed.value)


def test_spans_that_were_not_taken_are_counted(ledger: Ledger, collector: Collector) -> None:
    keep(ledger, "trace-0")
    collector.answer = (200, "application/x-protobuf", b"\x0a\x07\x08\x02\x12\x03old")

    with pytest.raises(PushFailed, match=r"did not take 2 of \d+ spans: old"):
        push([spans_of(read_trace(ledger, "trace-0"))], collector.url, version="1")


def test_a_collector_that_is_away_is_named_without_its_password(ledger: Ledger) -> None:
    keep(ledger, "trace-0")

    with pytest.raises(PushFailed, match="cannot be reached") as failed:
        push([spans_of(read_trace(ledger, "trace-0"))], "http://me:hunter2@127.0.0.1:9", version="1")

    assert "hunter2" not in str(failed.value)


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://host", "file:///etc/hosts", "http://", ""])
def test_what_is_no_http_url_is_refused(endpoint: str) -> None:
    with pytest.raises(PushFailed, match="is no HTTP URL"):
        endpoint_url(endpoint)


def test_a_path_that_is_given_is_kept() -> None:
    assert endpoint_url("http://host:1/") == "http://host:1/v1/traces"
    assert endpoint_url("https://host/api/public/otel/v1/traces") == "https://host/api/public/otel/v1/traces"
