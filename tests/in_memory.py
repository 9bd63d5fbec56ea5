"""Where files can be that need no disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 4 * 1024**3


def directory() -> Path | None:
    """A directory in memory that has room for the files of all tests, or None where there is none.

    Tests end processes, never the machine, so nothing they look at depends on a disk. There a directory of a few
    hundred files, as each database of PostgreSQL is one, costs several times as much, however little is synced.
    """
    if not os.access(_SHARED_MEMORY, os.W_OK | os.X_OK):
        return None
    if os.statvfs(_SHARED_MEMORY).f_flag & os.ST_NOEXEC:  # some tests write programs
        return None
    return _SHARED_MEMORY if shutil.disk_usage(_SHARED_MEMORY).free >= _ROOM else None
