"""Spans: what one thing took part in, and how long it took. They cost next to nothing, and import nothing, while off.

What records them is set once, by whoever starts the process (``keyrelay.otlp``). An attribute is never an address of a
person, a subject or a secret; a name of a host is one that the operator has given.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Protocol, Self

Kind = Literal["server", "client"]
Value = str | int | float | bool
Attributes = Mapping[str, Value]


class Span(Protocol):
    """Something that is under way."""

    def rename(self, name: str) -> None: ...
    def note(self, attributes: Attributes) -> None: ...
    def failed(self) -> None: ...


class Recorder(Protocol):
    """What keeps spans, and sends them to where they are looked at."""

    def span(self, name: str, kind: Kind, parent: str | None) -> AbstractContextManager[Span]: ...
    def note(self, attributes: Attributes) -> None: ...


class _Nothing:
    """A span that nobody records."""

    __slots__ = ()

    def rename(self, name: str) -> None: ...
    def note(self, attributes: Attributes) -> None: ...
    def failed(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Whatever happened within: nobody wants to know."""


_NOTHING = _Nothing()
_recorder: Recorder | None = None


def record(recorder: Recorder | None) -> None:
    """From here on, spans of this process go to this recorder; or to none."""
    global _recorder  # noqa: PLW0603 - one for a process, as its log is
    _recorder = recorder


def recorded() -> bool:
    return _recorder is not None


def span(name: str, kind: Kind = "client", *, parent: str | None = None) -> AbstractContextManager[Span]:
    """What is done within is one span, within the one that is under way.

    ``parent``: the span of the caller that it belongs to, as the header ``traceparent`` gives it.
    """
    return _NOTHING if _recorder is None else _recorder.span(name, kind, parent)


def note(**attributes: Value) -> None:
    """Tell something of the span that is under way; a double underscore stands for a dot."""
    if _recorder is not None:
        _recorder.note({name.replace("__", "."): value for name, value in attributes.items()})
