"""``/docs``: the OpenAPI documents, kept by hand, and pages that show them without anything from elsewhere."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from keyrelay import __version__, errors
from keyrelay.api.answers import JSON, Answer, Header
from keyrelay.api.openapi import HERE, NAMES, load
from keyrelay.api.problems import SHOWN
from keyrelay.settings import Settings

Page = Callable[[], Awaitable[Answer]]

_HTML: Header = (b"content-type", b"text/html; charset=utf-8")
_CSS: Header = (b"content-type", b"text/css; charset=utf-8")
# The same for everybody until keyrelay is updated.
_SHARED: tuple[Header, ...] = ((b"cache-control", b"public, max-age=300"), (b"x-content-type-options", b"nosniff"))
_STRICT: tuple[Header, ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


async def to_portal() -> Answer:
    # Relative (RFC 9110 section 10.2.2), for a prefix that a proxy takes away.
    return Answer(307, headers=((b"location", b"portal/"), *_SHARED))


def pages(settings: Settings) -> Mapping[str, Page]:
    """The path of each page, and what answers a GET of it."""
    return {
        "/docs": _kept(partial(_operations, settings)),
        "/docs/errors": _kept(_errors),
        "/docs/style.css": _kept(_style),
        **{f"/docs/{name}.json": _kept(partial(_document, name, settings)) for name in NAMES},
    }


def _kept(make: Callable[[], Answer]) -> Page:
    """What ``make`` gives, made when it is first asked for, and beside the event loop because that takes a while."""
    kept = functools.cache(make)

    async def page() -> Answer:
        return await asyncio.to_thread(kept)

    return page


def _document(name: str, settings: Settings) -> Answer:
    body = json.dumps(load(name, settings.base_path), ensure_ascii=False, indent=1).encode()
    return Answer(200, body, (JSON, *_SHARED))


def _style() -> Answer:
    return Answer(200, (HERE / "style.css").read_bytes(), (_CSS, *_SHARED))


def _operations(settings: Settings) -> Answer:
    from keyrelay.api.openapi.outline import Outline

    origin = _origin(settings)
    outlines = [Outline(name, load(name, settings.base_path), origin) for name in NAMES]
    return _rendered("operations.html", origin=origin, outlines=outlines)


def _errors() -> Answer:
    kinds = errors.catalogue()
    return _rendered(
        "errors.html",
        answered=[(kind, SHOWN[kind]) for kind in kinds if kind in SHOWN],
        elsewhere=[kind for kind in kinds if kind not in SHOWN],
    )


def _origin(settings: Settings) -> str:
    scheme = "https" if settings.self_signed or settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{scheme}://{host}:{settings.port}"


def _rendered(template: str, **shown: Any) -> Answer:
    import jinja2  # only who asks for a page waits for it
    import markupsafe

    def prose(text: str) -> markupsafe.Markup:
        """Text as HTML, with `this` as code."""
        return markupsafe.Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))  # noqa: S704 - it is escaped

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    body = environment.get_template(template).render(version=__version__, **shown).encode()
    return Answer(200, body, (_HTML, *_SHARED, *_STRICT))
