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
from functools import lru_cache
from typing import Any

from keyrelay import request_id
from keyrelay.errors import KeyrelayError

# At DEBUG these print statements with their parameters, or bytes from the wire.
_TALKATIVE = (
    *("asyncpg", "sqlalchemy", "alembic", "asyncio", "httpx2", "httpcore2"),
    *("botocore", "urllib3", "azure", "msal", "google", "opentelemetry", "requests"),
)


def start(level: str, form: str) -> None:
    """Send the log of this process to standard error, as ``text`` or ``json``, from ``level`` upwards."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
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


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = dict(getattr(record, "facts", {}))
    if (current := request_id.current()) is not None:
        facts.setdefault("request_id", current)
    if record.exc_info and record.exc_info[1] is not None:
        facts.update(failure(record.exc_info[1]))
    return facts


def _stamp(record: logging.LogRecord) -> str:
    return f"{_second(int(record.created))}.{int(record.msecs):03d}Z"


@lru_cache(maxsize=4)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _stamp(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        return json.dumps(line | _facts(record), default=str, ensure_ascii=False)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {name}={value!r}" for name, value in _facts(record).items())
        # One event is one line, whatever a caller put into a name.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        return f"{_stamp(record)} {record.levelname.lower():7} {message}{facts}"
