"""SQLite's own mark of the newest commit, read without asking SQLite.

In WAL mode the file "-shm" is memory that all processes of a database share. It begins with 48 bytes that every commit
changes before it is over (SQLite's "WAL-mode file format", 2.1): SQLite itself compares them to know whether what it
holds is still the newest. Beside them stands how long the log is.
"""

from __future__ import annotations

import mmap
import os
import struct
from functools import cache
from pathlib import Path

_HEADER_BYTES = 48
_FORMAT = 3_007_000  # the only one there has been, since 2010
_FRAMES_AT, _WRITTEN_AT = 16, 96
_MAPPED_BYTES = 100


class WalIndex:
    """``header`` differs after every commit of any process. Valid while a connection to the database is open."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    @classmethod
    def of(cls, database: Path) -> WalIndex | None:
        """None when the database has no index of the format that is known."""
        file = database.with_name(database.name + "-shm")
        try:
            shared = _map(file, file.stat().st_ino)
        except (OSError, ValueError):
            return None
        (form,) = struct.unpack_from("=I", shared)
        return cls(shared) if form == _FORMAT else None

    def header(self) -> bytes:
        return self._shared[:_HEADER_BYTES]

    def pages(self) -> int:
        """How many pages stand in the log, which begins anew with the first commit after all were written back."""
        return self._number(_FRAMES_AT)

    def written(self) -> int:
        """How many of them were written into the file."""
        return self._number(_WRITTEN_AT)

    def _number(self, place: int) -> int:
        (number,) = struct.unpack_from("=I", self._shared, place)
        return int(number)


@cache
def _map(file: Path, inode: int) -> mmap.mmap:  # noqa: ARG001 - a file made anew is another one
    # Never closed: closing any descriptor of a file ends all locks that the process holds on it (POSIX), SQLite's too.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    return mmap.mmap(descriptor, _MAPPED_BYTES, access=mmap.ACCESS_READ)
