"""The log of the test's own process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_as_it_was() -> Iterator[None]:
    """Whatever is done to the log within, as ``log.start`` does: afterwards all of it is as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    known = {name: logging.getLogger(name) for name in list(root.manager.loggerDict)}
    before = {name: (logger.level, logger.handlers[:], logger.propagate) for name, logger in known.items()}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in list(root.manager.loggerDict):
            logger = logging.getLogger(name)
            logger.level, logger.handlers[:], logger.propagate = before.get(name, (logging.NOTSET, [], True))
