"""Keeping other sites' pages from sending our forms (CSRF): what a browser says of the sender, and a token."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request

from keyrelay.errors import FormNotOurs
from keyrelay.portal.forms import FORM_TOKEN, Form


def require_own_form(request: Request, form: Form, token: str) -> None:
    """Raise FormNotOurs for a form that is not of a page of ours, in this session."""
    require_own_page(request)
    if not hmac.compare_digest(form.raw(FORM_TOKEN).encode(), token.encode()):
        raise FormNotOurs("The form does not belong to this session.")


def require_own_page(request: Request) -> None:
    """Raise FormNotOurs when the browser says that another site's page has sent this (Fetch Metadata, or Origin)."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in {"same-origin", "none"}:
            raise FormNotOurs("Another site's page has sent this form.")
        return
    origin, host = request.headers.get("origin"), request.headers.get("host")
    if origin is not None and _host_of(origin) != host:
        raise FormNotOurs("Another site's page has sent this form.")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as of a bracket that is never closed
        return ""
