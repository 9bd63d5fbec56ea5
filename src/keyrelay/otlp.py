"""Traces go to an OpenTelemetry collector (OTLP, protobuf over HTTP). Imported only where that is asked for.

Events and links are not used, and no error is recorded with a span: its words could hold what a caller has sent.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from keyrelay import __version__, traces
from keyrelay.errors import TracesUnusable

try:
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as problem:
    raise TracesUnusable("KEYRELAY_OTLP_ENDPOINT is set, and OpenTelemetry is not installed.") from problem

_PATH = "/v1/traces"
_GOODBYE_SECONDS = 3.0
_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_parents = TraceContextTextMapPropagator()


class _Recorded:
    """A span as OpenTelemetry has it."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: traces.Attributes) -> None:
        self._span.set_attributes(attributes)

    def failed(self) -> None:
        self._span.set_status(StatusCode.ERROR)


class Otlp:
    """Sends the spans of this process to ``endpoint``, from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxy that is meant for others, and no .netrc
        url = endpoint.rstrip("/")
        exporter = OTLPSpanExporter(url if url.endswith(_PATH) else url + _PATH, session=session)
        # What several processes send can be told apart by their number.
        name = os.environ.get("OTEL_SERVICE_NAME", "keyrelay")
        about: dict[str, str | int] = {"service.name": name, "service.version": __version__, "process.pid": os.getpid()}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("keyrelay", __version__)

    @contextmanager
    def span(self, name: str, kind: traces.Kind, parent: str | None) -> Iterator[traces.Span]:
        # A header that cannot be read gives no parent, and the span begins a trace of its own.
        context = None if parent is None else _parents.extract({"traceparent": parent})
        with self._tracer.start_as_current_span(
            name, context, _KINDS[kind], record_exception=False, set_status_on_exception=False
        ) as span:
            yield _Recorded(span)

    def note(self, attributes: traces.Attributes) -> None:
        if (span := get_current_span()) is not INVALID_SPAN:
            span.set_attributes(attributes)

    def close(self) -> None:
        """Send what is left, for a few seconds at most: a collector that is away keeps nobody from stopping."""
        goodbye = threading.Thread(target=self._provider.shutdown, name="keyrelay-traces", daemon=True)
        goodbye.start()
        goodbye.join(_GOODBYE_SECONDS)


@contextmanager
def recording(endpoint: str) -> Iterator[None]:
    """Record what is done within, and send it to ``endpoint``."""
    sender = Otlp(endpoint)
    traces.record(sender)
    try:
        yield
    finally:
        traces.record(None)
        sender.close()
