"""The data directory and the key file: whose they are, who may read them, and what they lie on."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from keyrelay.amounts import octets_text
from keyrelay.aside import aside
from keyrelay.doctor.case import Case
from keyrelay.health.finding import Finding, failure, ok, skipped, warning
from keyrelay.secrets.master import FILE_NAME

_MEGABYTE = 1024 * 1024
_LITTLE, _NOTHING = 1024 * _MEGABYTE, 128 * _MEGABYTE  # of free disk; with less than 64 MiB the outbox takes nothing
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MOUNTS = Path("/proc/self/mounts")
# SQLite's locks and shared memory do not work across machines.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "9p"}
_PASSING = {"tmpfs": "is lost when the machine restarts", "ramfs": "is lost when the machine restarts"}
_PASSING["overlay"] = "is lost with the container"


async def data_dir(case: Case) -> Finding:
    return await aside(lambda: directory_found(case.settings.data_dir, os.geteuid(), needed=_needs_directory(case)))


def _needs_directory(case: Case) -> bool:
    chosen = case.settings
    return chosen.database_url is None or chosen.master_key is None or chosen.self_signed


def directory_found(directory: Path, user: int, *, needed: bool = True) -> Finding:
    """``user``: who looks, by number."""
    place = str(directory.absolute())
    try:
        found = directory.stat()
    except FileNotFoundError:
        return _no_directory(place) if needed else ok("There is no data directory, and none is needed.")
    except OSError as problem:
        return failure(f"The data directory {place} cannot be looked at: {problem.strerror}.", _RIGHTS)
    if not stat.S_ISDIR(found.st_mode):
        return failure(f"{place} is no directory.", "Name another with KEYRELAY_DATA_DIR.")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        return failure(f"The data directory {place} cannot be written by this user.", _RIGHTS)
    return _ownership(place, found, user)


def _no_directory(place: str) -> Finding:
    return warning(
        f"There is no data directory {place} yet.",
        "The first start makes it. If keyrelay was started here before, set KEYRELAY_DATA_DIR to what it was then.",
    )


def _ownership(place: str, found: os.stat_result, user: int) -> Finding:
    if found.st_uid != user:
        return warning(
            f"The data directory {place} belongs to another user.",
            "Run the commands as the user that keyrelay runs as, or what they make is not readable for it.",
        )
    if found.st_mode & _OTHERS:
        return warning(f"Others may look into the data directory {place}.", f"chmod 700 {place}")
    return ok(f"The data directory {place} is ours alone.")


_RIGHTS = "Run this as the user that keyrelay runs as, or give the directory to this one."


async def key_file(case: Case) -> Finding:
    if case.settings.master_key is not None:
        return ok("The master key comes from KEYRELAY_MASTER_KEY.")
    return await aside(lambda: key_file_found(case.settings.data_dir / FILE_NAME, os.geteuid()))


def key_file_found(file: Path, user: int) -> Finding:
    """``user``: who looks, by number."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return ok(f"There is no {FILE_NAME} yet; the first start makes it.")
    except OSError as problem:
        return failure(f"{FILE_NAME} cannot be looked at: {problem.strerror}.", _RIGHTS)
    if found.st_mode & _OTHERS:
        return failure(
            f"Others may read or change {FILE_NAME} in the data directory, which opens every secret.",
            f"chmod 600 {file.absolute()}; if somebody may have read it, change the master key (docs/concepts.md).",
        )
    if found.st_uid != user:
        return warning(f"{FILE_NAME} belongs to another user.", "Run the commands as the user that keyrelay runs as.")
    return ok(f"{FILE_NAME} is ours alone.")


async def disk_space(case: Case) -> Finding:
    file = case.settings.sqlite_file
    return await aside(lambda: space_found(case.settings.data_dir if file is None else file.parent, _free))


def _free(directory: Path) -> int:
    """Octets, where the directory is or would be made."""
    there = next(place for place in (directory.absolute(), *directory.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def space_found(directory: Path, free_at: Callable[[Path], int]) -> Finding:
    try:
        free = free_at(directory)
    except OSError as problem:
        return failure(f"The disk of the data directory cannot be looked at: {problem.strerror}.", _RIGHTS)
    told = f"{octets_text(free)} are free on the disk of the data directory."
    if free < _NOTHING:
        return failure(told, "Make room now: with less than 64 MiB no message is taken in.")
    if free < _LITTLE:
        return warning(told, "Make room, or lower KEYRELAY_OUTBOX_MEGABYTES.")
    return ok(told)


async def file_system(case: Case) -> Finding:
    file = case.settings.sqlite_file
    if file is None:
        return skipped("The data is in PostgreSQL.")
    return await aside(lambda: _file_system_of(file.parent))


def _file_system_of(directory: Path) -> Finding:
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return skipped("This system does not say what its file systems are.")
    return file_system_found(directory.resolve(), mounts)


def file_system_found(directory: Path, mounts: str) -> Finding:
    """``directory`` without links; ``mounts`` as the kernel lists them."""
    kind = _kind_of(directory, mounts)
    if kind is None:
        return skipped("This system does not say what the data directory lies on.")
    if kind in _NETWORK:
        return failure(
            f"The SQLite file lies on a network file system ({kind}), where it can be damaged.",
            "Move the data directory to a disk of this machine, or use PostgreSQL.",
        )
    if kind in _PASSING:
        return warning(
            f"The SQLite file lies on {kind}, and {_PASSING[kind]}.",
            "Put the data directory on a disk or a volume that stays.",
        )
    return ok(f"The SQLite file lies on {kind}.")


def _kind_of(directory: Path, mounts: str) -> str | None:
    longest, kind = -1, None
    for line in mounts.splitlines():
        _, point, found, *_ = [*line.split(), "", "", ""]
        place = point.replace("\\040", " ")
        if place and (directory == Path(place) or Path(place) in directory.parents) and len(place) >= longest:
            longest, kind = len(place), found  # the last of two in one place lies above the other
    return kind
