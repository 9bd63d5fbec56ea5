"""Access-control strings: paths with a leading and a trailing slash; each grants all that begins with it.

Contract 1.8. ``/`` grants everything, ``/system_settings/`` both reading and changing the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from keyrelay.errors import Unsuitable

EVERYTHING = "/"
READ_SETTINGS = "/system_settings/read/"
MODIFY_SETTINGS = "/system_settings/modify/"
READ_PAM = "/pam/read/"
MODIFY_PAM = "/pam/modify/"

_SHAPE = re.compile(r"/([a-z0-9_.@-]{1,64}/){0,8}", re.ASCII)


def permission(text: str) -> str:
    """Bring a permission string into its one form: lower case, slashes at both ends. Raises Unsuitable."""
    given = text.strip().lower()
    path = given if given == EVERYTHING else "/" + given.removeprefix("/").removesuffix("/") + "/"
    if not _SHAPE.fullmatch(path):
        raise Unsuitable(
            f"{text!r} is not a permission string.", remedy="Write it as a path, such as /system_settings/read/."
        )
    return path


def granted(held: Iterable[str], needed: str) -> bool:
    """Whether one of the strings held grants the one needed."""
    return any(needed.startswith(_meaning(string)) for string in held)


def broadest(held: Iterable[str]) -> list[str]:
    """The strings held, sorted, without those that a broader one among them covers."""
    strings = {_meaning(string): string for string in sorted(set(held))}  # one for each meaning
    return sorted(
        string
        for meaning, string in strings.items()
        if not any(meaning != other and meaning.startswith(other) for other in strings)
    )


def _meaning(string: str) -> str:
    # Upstream's pages print the area both ways (contract D19).
    return (
        "/system_settings/" + string.removeprefix("/system_setting/")
        if string.startswith("/system_setting/")
        else string
    )
