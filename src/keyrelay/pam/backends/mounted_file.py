"""Secrets in files that the platform mounts: Kubernetes secrets, systemd credentials, container secrets."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from keyrelay.pam.asking import secret
from keyrelay.pam.backend import Means, Parameter, Problem, VaultFailed
from keyrelay.secrets.model import SecretText, has_control

SIZE_LIMIT = 64 * 1024
_TRIES = 3
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a pipe without a writer would wait for one
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class MountedFile:
    """Reads ``Path`` below the directory of KEYRELAY_SECRET_FILES, and nothing outside of it.

    The directory is the mount point of a Kubernetes secret, systemd's ``$CREDENTIALS_DIRECTORY``, or ``/run/secrets``
    of a container. Each fetch reads the file anew, so a secret that Kubernetes updates needs no restart; systemd never
    changes a running service's credentials, and Kubernetes none that is mounted by ``subPath``. One newline at the
    end is not part of the secret. With ``Key``, the file is a JSON object or lines of KEY=VALUE, and one member is
    taken.

    Sources: Kubernetes, "Distribute Credentials Securely Using Secrets" and "Secrets" (mounted files are links into
    the directory, which are exchanged at each update); systemd, "System and Service Credentials".
    """

    name: ClassVar[str] = "Mounted-File"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Path", "File below the directory of KEYRELAY_SECRET_FILES", instance=True),
        Parameter("Key", "Key in a JSON or KEY=VALUE file", instance=True, required=False),
    )

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:  # noqa: ARG002 - nothing is given with the provider
        if means.secret_files is None:
            raise VaultFailed("bad_parameter", "no file may be read, because KEYRELAY_SECRET_FILES is not set")
        content = await asyncio.to_thread(_content, means.secret_files, _parts(wanted["Path"]))
        text = _text(content)
        return SecretText(text) if wanted.get("Key") is None else _member(text, wanted["Key"])


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    if has_control(path) or any(part in {"", ".", ".."} for part in parts):
        raise VaultFailed("bad_parameter", "Path must be relative to the directory of KEYRELAY_SECRET_FILES, as in a/b")
    return parts


def _content(directory: Path, parts: list[str]) -> bytes:
    # Kubernetes exchanges the link to all of a secret's files at once, maybe between our looking and our reading.
    for tries_left in reversed(range(_TRIES)):
        try:
            return _read(directory, parts)
        except OSError as problem:
            if problem.errno not in _GONE or not tries_left:
                failure = VaultFailed(*_meaning(problem))
                break
        except ValueError:  # a name that this system cannot write
            failure = VaultFailed("bad_parameter", "Path is no name of a file")
            break
    raise failure  # here, where the system's words are no longer its context


def _read(directory: Path, parts: list[str]) -> bytes:
    """The file's bytes. Links are followed while they stay in the directory.

    The real path is opened part by part without following anything, so that nobody can exchange a part of it for a
    link to elsewhere once it has been checked.
    """
    fence = Path(os.path.realpath(directory))
    real = Path(os.path.realpath(fence.joinpath(*parts)))
    if not real.is_relative_to(fence):
        raise VaultFailed("denied", "Path leads out of the directory of KEYRELAY_SECRET_FILES")
    *folders, file = real.relative_to(fence).parts or (".",)
    with ExitStack() as opened:
        place = _opened(opened, fence)
        for folder in folders:
            place = os.open(folder, _DIRECTORY, dir_fd=place)
            opened.callback(os.close, place)
        place = os.open(file, _FILE, dir_fd=place)
        opened.callback(os.close, place)
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise VaultFailed("bad_answer", "Path names something that is not a regular file")
        with open(place, "rb", closefd=False) as readable:
            content = readable.read(SIZE_LIMIT + 1)
    if len(content) > SIZE_LIMIT:
        raise VaultFailed("bad_answer", f"the file has more than {SIZE_LIMIT} bytes")
    return content


def _opened(opened: ExitStack, fence: Path) -> int:
    try:
        place = os.open(fence, _DIRECTORY)
    except OSError as problem:
        if problem.errno not in _GONE:
            raise
    else:
        opened.callback(os.close, place)
        return place
    raise VaultFailed("unreachable", "the directory of KEYRELAY_SECRET_FILES is not there")


def _meaning(problem: OSError) -> tuple[Problem, str]:
    if problem.errno in _GONE:
        return "not_found", "there is no such file"
    if problem.errno in {errno.EACCES, errno.EPERM}:
        return "denied", "keyrelay may not read the file"
    if problem.errno == errno.ENAMETOOLONG:
        return "bad_parameter", "Path is too long"
    return "unreachable", f"the file cannot be read ({errno.errorcode.get(problem.errno or 0, 'unknown')})"


def _text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark of its encoding
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise VaultFailed("bad_answer", "the file is not UTF-8 text")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise VaultFailed("not_found", "the file is empty")
    return text


def _member(text: str, key: str) -> SecretText:
    held = _of_json(text) if text.lstrip().startswith("{") else _of_lines(text)
    if key not in held:
        raise VaultFailed("not_found", "the file has no such key")
    return secret(held[key], "the key")


def _of_json(text: str) -> dict[str, object]:
    try:
        # Numbers stay as they are written: 1.10 is not 1.1 in a password.
        held: dict[str, object] = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        held = {}
    else:
        return held
    raise VaultFailed("bad_answer", "the file begins like JSON and is none")


def _of_lines(text: str) -> dict[str, object]:
    """KEY=VALUE lines; empty ones and comments are left out, as are ``export`` and one pair of quotes around a value.

    Nothing inside a value is replaced.
    """
    held: dict[str, object] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        if line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise VaultFailed("bad_answer", "the file is neither JSON nor lines of KEY=VALUE")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        held[key.removeprefix("export ").strip()] = value
    return held
