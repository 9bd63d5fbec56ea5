"""Logging: the standard library's, with redaction before anything is formatted.

An event is a short fixed sentence; what varies goes into ``extra={"facts": {...}}``. Tracebacks are logged as
places in the code (file, line, function) and the kind of error, without messages or values, because either may
hold what a caller sent us (docs/decisions/0003). A line written while a request is handled carries its ``request_id``.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, TextIO

from keyrelay import request_id
from keyrelay.errors import KeyrelayError

# At DEBUG these print statements with their parameters, or bytes from the wire.
_TALKATIVE = (
    *("asyncpg", "sqlalchemy", "alembic", "asyncio", "httpx2", "httpcore2"),
    *("botocore", "urllib3", "azure", "msal", "google", "opentelemetry", "requests"),
)
# When (in seconds since 1970), how grave, from which logger, what, and its facts: a line without its end.
_Form = Callable[[float, str, str, str, Mapping[str, Any]], str]


def start(level: str, form: str) -> None:
    """Send the log of this process to standard error, as ``text`` or ``json``, from ``level`` upwards."""
    handler = _Lines(_json if form == "json" else _text)
    # Looked up for every line, and told in none; the last is how logging's own manual leaves out where a line is from.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None  # noqa: SLF001 - as the manual says
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.error").addFilter(_is_not_told_otherwise)


def failure(error: BaseException) -> dict[str, Any]:
    """What may be told of an error: its kind, where it came through, and our own words if it is one of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    told: dict[str, Any] = {
        "error": type(error).__qualname__,
        "through": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if isinstance(error, KeyrelayError):
        told["message"] = error.message
    elif isinstance(error, OSError) and error.strerror:
        told["message"] = error.strerror
    return told


def _is_not_told_otherwise(record: logging.LogRecord) -> bool:
    """What is no HTTP is told by the protocol, with the id that its answer has."""
    return record.msg != "Invalid HTTP request received."


def line(logger: logging.Logger, level: int, event: str, facts: dict[str, Any]) -> None:
    """As ``logger.log``, for what is logged of every request: in a third of the time when nobody else listens."""
    if not logger.isEnabledFor(level):
        return
    root = logging.getLogger()
    if len(root.handlers) == 1 and isinstance(ours := root.handlers[0], _Lines) and not logger.handlers:
        ours.tell(logger.name, level, event, facts)
    else:
        logger.log(level, event, extra={"facts": facts})


class _Lines(logging.StreamHandler[TextIO]):
    """Lines to standard error, written as ``form`` writes them."""

    def __init__(self, form: _Form) -> None:
        super().__init__(sys.stderr)
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        facts = _known(dict(getattr(record, "facts", {})))
        if record.exc_info and record.exc_info[1] is not None:
            facts.update(failure(record.exc_info[1]))
        return self._form(record.created, _name(record.levelno), record.name, record.getMessage(), facts)

    def tell(self, logger: str, level: int, event: str, facts: dict[str, Any]) -> None:
        text = self._form(time.time(), _name(level), logger, event, _known(facts))
        self.acquire()
        try:
            self.stream.write(text + "\n")
            self.stream.flush()
        except (OSError, ValueError):  # nobody reads it any more
            pass
        finally:
            self.release()


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    """With the request that is worked on."""
    if (current := request_id.current()) is not None:
        facts.setdefault("request_id", current)
    return facts


@cache
def _name(level: int) -> str:
    return logging.getLevelName(level).lower()


def _stamp(at: float) -> str:
    return f"{_second(int(at))}.{int(at % 1 * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _json(at: float, level: str, logger: str, event: str, facts: Mapping[str, Any]) -> str:
    whole = {"at": _stamp(at), "level": level, "event": event, "logger": logger, **facts}
    return json.dumps(whole, default=str, ensure_ascii=False)


def _text(at: float, level: str, logger: str, event: str, facts: Mapping[str, Any]) -> str:  # noqa: ARG001 - a form
    told = "".join([f" {name}={value!r}" for name, value in facts.items()])
    # One event is one line, whatever a caller put into a name.
    event = event.replace("\r", "\\r").replace("\n", "\\n")
    return f"{_stamp(at)} {level:7} {event}{told}"
