"""Style, modules and icon of the pages, under a path that changes with them, so that browsers may keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from keyrelay.api.answers import Answer, Header
from keyrelay.errors import NotFound

STATIC = Path(__file__).parent / "static"
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_KEPT: Header = (b"cache-control", b"public, max-age=31536000, immutable")
_NOT_KEPT: Header = (b"cache-control", b"no-store")
_HEADERS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


@cache
def _files() -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(STATIC.iterdir()) if file.suffix in _TYPES}


@cache
def edition() -> str:
    """What is the same as long as none of the files has changed."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def asset(name: str, wanted: str) -> Answer:
    """One of the files, for a page that wants it of an edition; nobody keeps another one. Raises NotFound."""
    content = _files().get(name)
    if content is None:
        raise NotFound("There is nothing at this path.")
    kind = _TYPES["." + name.rpartition(".")[2]]
    return Answer(200, content, ((b"content-type", kind), _KEPT if wanted == edition() else _NOT_KEPT, *_HEADERS))
