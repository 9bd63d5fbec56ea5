"""The master key: it protects the data keys, and nothing else is encrypted with it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from keyrelay.errors import DataDirUnusable, SettingsInvalid

_BYTES = 32
FILE_NAME = "master.key"


@dataclass(frozen=True, slots=True)
class MasterKey:
    """32 bytes that never leave this process, and the name by which the database knows them."""

    key: bytes = field(repr=False)
    id: str

    @classmethod
    def of(cls, key: bytes) -> MasterKey:
        return cls(key, hashlib.sha256(b"keyrelay master key\0" + key).hexdigest()[:16])

    @classmethod
    def read(cls, text: str, origin: str) -> MasterKey:
        """Decode a key given in base64, either alphabet. Raises SettingsInvalid, which names ``origin``."""
        try:
            raw = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != _BYTES:
            raise SettingsInvalid(
                f"{origin} is not {_BYTES} bytes in base64.",
                remedy="Make a key with: openssl rand -base64 32. If the file was damaged, restore it from a backup.",
            )
        return cls.of(raw)


def read_file(data_dir: Path) -> MasterKey | None:
    """The key kept in the data directory, or None when there is none."""
    path = data_dir / FILE_NAME
    try:
        return MasterKey.read(path.read_text(encoding="ascii", errors="replace"), str(path))
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise DataDirUnusable(f"{path} cannot be read: {problem.strerror}.") from problem


def create_file(data_dir: Path) -> MasterKey:
    """Make a new key and keep it in the data directory, mode 0600, on disk before this returns.

    When another process was faster, its key is the one.
    """
    path = data_dir / FILE_NAME
    key = secrets.token_bytes(_BYTES)
    draft = data_dir / f".{FILE_NAME}.{secrets.token_hex(8)}"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # whole or not at all, and never over a key that is there
        except FileExistsError:
            existing = read_file(data_dir)
            assert existing is not None  # noqa: S101 - it was there a moment ago
            return existing
        finally:
            draft.unlink()
        directory = os.open(data_dir, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    except OSError as problem:
        raise DataDirUnusable(f"{path} cannot be written: {problem.strerror}.") from problem
    return MasterKey.of(key)
