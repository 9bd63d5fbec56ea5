"""A PAM plug-in for keyrelay, as an example: secrets in a JSON file, behind a pass phrase."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.secrets.model import SecretText

_SIZE_LIMIT = 64 * 1024


class ExampleSafe:
    """Reads ``{"pass_phrase": "...", "secrets": {name: value}}`` from a file that the operator lets keyrelay read."""

    name: ClassVar[str] = "Example-Safe"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("File", "File of the safe"),
        Parameter("PassPhrase", "Pass phrase", secret=True),
        Parameter("Secret", "Name of the secret", instance=True),
    )

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        if means.secret_files is None:
            raise VaultFailed("bad_parameter", "no file may be read, because KEYRELAY_SECRET_FILES is not set")
        # Reading waits for a disk, so it waits in a thread, and the event loop goes on.
        safe = await asyncio.to_thread(_read, means.secret_files, _clear(given["File"]))
        pass_phrase, secrets = safe.get("pass_phrase"), safe.get("secrets")
        if not isinstance(pass_phrase, str) or not isinstance(secrets, dict):
            raise VaultFailed("bad_answer", "the safe has no pass phrase or no secrets")
        if not _same(_clear(given["PassPhrase"]), pass_phrase):
            raise VaultFailed("denied", "the pass phrase is another one")
        if wanted["Secret"] not in secrets:
            raise VaultFailed("not_found", "the safe has no such secret")
        value = secrets[wanted["Secret"]]
        if not isinstance(value, str):
            raise VaultFailed("bad_answer", "the secret is no text")
        return SecretText(value)


def _read(directory: Path, name: str) -> dict[str, Any]:
    """The safe's content. Raises VaultFailed, after the ``except`` clauses: what stands in a file is in none of it."""
    safe: object = None
    try:
        file = (directory / name).resolve()
        if not file.is_relative_to(directory.resolve()):
            failure = VaultFailed("denied", "File leads out of the directory of KEYRELAY_SECRET_FILES")
        elif not file.is_file():
            failure = VaultFailed("unreachable", "there is no such file")
        else:
            failure = VaultFailed("bad_answer", "the file is no safe")
            with file.open("rb") as opened:
                safe = json.loads(opened.read(_SIZE_LIMIT))
    except OSError:
        failure = VaultFailed("unreachable", "the file cannot be read")
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or no name of a file
        failure = VaultFailed("bad_answer", "the file is no safe")
    if isinstance(safe, dict):
        return safe
    raise failure


def _clear(value: SecretText | str) -> str:
    return value.reveal() if isinstance(value, SecretText) else value


def _same(one: str, other: str) -> bool:
    # However much of it is right, comparing takes the same time.
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))
