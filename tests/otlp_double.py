"""An OpenTelemetry collector of ours: takes OTLP over HTTP on loopback, decodes it, and keeps the spans.

with Collector() as collector:
    ...  # traces to collector.url
    assert collector.wait_for("outbox attempt").attributes["keyrelay.outcome"] == "accepted"
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    """One span, as it came."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    seconds: float
    links: int
    events: int
    resource: dict[str, Any]


@dataclass
class Collector:
    """``status`` and ``headers`` are those of its answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    spans: list[Received] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name: str, count: int = 1, within: float = 15.0) -> Received:
        """The last of so many spans of that name."""
        deadline = time.monotonic() + within
        while len(found := self.named(name)) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {name!r}; there are {[s.name for s in self.spans]}"
            time.sleep(0.02)
        return found[-1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                collector.asked.append((self.path, headers, body))
                if self.path == "/v1/traces" and headers["content-type"] == "application/x-protobuf":
                    octets = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
                    collector.spans += _read(ExportTraceServiceRequest.FromString(octets))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                for name, value in {**collector.headers, "content-length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

        return Handler


def _read(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _values(span.attributes),
            span.status.code == 2,
            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            len(span.links),
            len(span.events),
            _values(group.resource.attributes),
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
