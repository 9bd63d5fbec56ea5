"""Where the text of a setting comes from: its variable, or the file that its twin names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from keyrelay.setting_values import PREFIX


def ours(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables without those that only tell of a Kubernetes service called keyrelay, as every pod beside it is."""
    return {name: text for name, text in environ.items() if not _of_kubernetes(name, text)}


def given(environ: Mapping[str, str], name: str, *, secret: bool) -> str | None:
    """The text of a setting; None when it is not given. Raises ValueError, with words that follow the name.

    ``secret``: whether it has a twin that names a file.
    """
    direct = environ.get(name) or None
    path = environ.get(name + "_FILE") or None if secret else None
    if path is None:
        return direct
    if direct is not None:
        raise ValueError(f"and {name}_FILE exclude each other")
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8 text"
        raise ValueError(f"cannot be read from {_named(path)}: {reason}") from None
    if not text:
        raise ValueError(f"cannot be read from {_named(path)}: it is empty")
    return text


def _named(path: str) -> str:
    """The path, unless it is none: it may be the secret itself, put into the wrong variable."""
    file = Path(path)
    plausible = False
    with suppress(OSError):  # too long for one
        # A text without slashes would be a file in this directory, and one with slashes may be a key in base64.
        folder = file.parent
        plausible = file.exists() or (folder.is_absolute() and folder != Path("/") and folder.is_dir())
    return path if plausible else "the file that its _FILE twin names"


def _of_kubernetes(name: str, text: str) -> bool:
    told = re.fullmatch(PREFIX + r"(SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)", name) is not None
    return told or (name == PREFIX + "PORT" and "://" in text)
