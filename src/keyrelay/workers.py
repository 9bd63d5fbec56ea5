"""Several server processes on one socket: the first makes them, and makes anew which of them ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from uvicorn.supervisors import Multiprocess


class Workers(Multiprocess):
    """The processes. A Ctrl+C reaches each once it can end without a traceback, and the end of one is seen at once."""

    def init_processes(self) -> None:
        with self._making():
            super().init_processes()

    def handle_signals(self) -> None:
        with self._making():
            super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        with self._making():
            super().keep_subprocess_alive()

    @contextmanager
    def _making(self) -> Iterator[None]:
        # New processes inherit what is blocked, and lift it themselves; the first one gets its Ctrl+C a moment later.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
        for process in self.processes:
            process.child_conn.close()  # held open here as well, it would hide that the process has ended
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
