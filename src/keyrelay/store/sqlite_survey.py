"""Reading in SQLite what may take long: on a connection and in a thread of its own, and not for ever."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keyrelay.errors import StoreUnavailable
from keyrelay.store.model import Row
from keyrelay.store.sqlite_writer import numbered

_SECONDS = 10.0
_STEPS = 20_000  # of SQLite's own, between two looks at the clock: a few milliseconds


class Surveyor:
    """``connect`` makes the connection, when it is needed first."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keyrelay-survey")
        self._connection: sqlite3.Connection | None = None

    async def rows(self, sql: str, *values: Any) -> Sequence[Row]:
        """Raises StoreUnavailable when it takes too long, and what SQLite raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look, numbered(sql), values)

    def _look(self, sql: str, values: Sequence[Any]) -> Sequence[Row]:
        end = time.monotonic() + _SECONDS
        if self._connection is None:
            self._connection = self._connect()
        self._connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            if time.monotonic() <= end:
                raise
            remedy = "Search for less, such as a shorter time."
            raise StoreUnavailable("The search takes too long.", remedy=remedy) from None

    async def close(self) -> None:
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)
