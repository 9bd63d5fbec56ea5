"""A demo's pages as they are delivered: values stand in them as text, and nothing in them ever runs."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

# No script, nothing from elsewhere, not within other pages.
STRICT = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def page(name: str, status: int = 200, **values: Any) -> Response:
    return HTMLResponse(_environment().get_template(name).render(values), status, STRICT)


async def _style(_: Request) -> Response:
    return Response(_stylesheet(), 200, STRICT, "text/css")


STYLE = Route("/style.css", _style)


@cache
def _stylesheet() -> bytes:
    return resources.files("keyrelay.demo").joinpath("pages", "style.css").read_bytes()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("keyrelay.demo", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
