"""What is left of a text that may tell of a person, or hold a secret: its shape, or its domain."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}")
_ADDRESS = re.compile(r"[^\s@\"'<>(),;:]+@(\[[^\]\s]*\]|[A-Za-z0-9.-]+)")
_QUOTED = re.compile(r'"[^"]*"')
_HOME = re.compile(r"/(home|Users)/[^/\s]+")
# Parts of the path of a token endpoint that are the same for everybody.
_WELL_KNOWN = frozenset(
    {"oauth2", "oauth", "v1", "v1.0", "v2", "v2.0", "token", "connect", "protocol", "openid-connect", ".default"}
)
# Nothing of a password may stand in what is shown: whatever is not written as it should be is not taken apart.
_DATABASE = re.compile(
    r"(postgres(?:ql)?)://(?:[^:@/?#]*(?::[^:@/?#]*)?@)?([A-Za-z0-9.,:\[\]_-]*)(/[A-Za-z0-9_.-]*)?(?:\?[^@#]*)?"
)


def shape(text: str) -> str:
    """What kind of text it is, and never how long."""
    if _UUID.fullmatch(text):
        return "a UUID"
    if "@" in text:
        return address(text)
    return "DOMAIN\\name" if "\\" in text else "a text"


def address(text: str) -> str:
    """An e-mail address without whose it is."""
    return f"…@{domain(text)}"


def domain(text: str) -> str:
    """The domain of an e-mail address."""
    found = text.rpartition("@")[2].lower().rstrip(".")
    return found if _DOMAIN.fullmatch(found) else "…"


def endpoint(url: str) -> str:
    """A URL by its host, and those parts of its path that are the same for everybody."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return shape(url)
    if parts.scheme not in {"http", "https"} or not _DOMAIN.fullmatch(host):
        return shape(url)
    path = [part if part.lower() in _WELL_KNOWN else "…" for part in parts.path.split("/") if part]
    return "/".join([f"{parts.scheme}://{host}", *path])


def endpoints(text: str) -> str:
    """A URL, a scope or an audience: where they are URLs, what ``endpoint`` leaves of them."""
    return " ".join(endpoint(part) if "://" in part else shape(part) for part in text.split()[:10])


def database(url: str) -> str:
    """The address of a PostgreSQL without user, password and parameters."""
    found = _DATABASE.fullmatch(url)
    return "an address" if found is None else f"{found[1]}://{found[2]}{found[3] or ''}"


def path(place: Path) -> str:
    """A path without whose home it is in; nothing of one that names nothing: it may be something else."""
    try:
        there = place.exists()
    except OSError:
        there = False
    return _HOME.sub(r"/\1/…", str(place)) if there else "names nothing that is there"


def plain(text: str) -> str:
    """A value of a setting, if it looks like one."""
    return text if _PLAIN.fullmatch(text) else shape(text)


def sentence(text: str) -> str:
    """A sentence of ours without names of users, mailboxes and homes."""
    return _HOME.sub(r"/\1/…", _ADDRESS.sub(r"…@\1", _QUOTED.sub('"…"', text)))
