"""The token server: OAuth 2.0 client credentials (RFC 6749 section 4.4) for signing in at the catcher, over TLS."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keyrelay.demo.credentials import CLIENT_ID, SCOPE, Credentials
from keyrelay.demo.local_http import here_alone
from keyrelay.demo.signing import LIFE_SECONDS, Signer

PATH = "/oauth2/token"
_LONGEST_FORM = 16 * 1024
_NOT_KEPT = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def application(credentials: Credentials, signer: Signer) -> Starlette:
    async def token(request: Request) -> Response:
        form = await read_form(request)
        if not _proven(request.headers.get("authorization", ""), form, credentials):
            return refused("invalid_client", "The client did not prove itself.", 401)
        if form.get("grant_type") != "client_credentials":
            return refused("unsupported_grant_type", "This server knows client_credentials alone.")
        if form.get("scope", SCOPE) != SCOPE:
            return refused("invalid_scope", f"This server gives tokens for {SCOPE} alone.")
        return issued(signer.signed(SCOPE, CLIENT_ID, roles=["SMTP.SendAsApp"]))

    return Starlette(routes=[Route(PATH, token, methods=["POST"])], middleware=here_alone())


async def read_form(request: Request) -> Mapping[str, str]:
    """The form that was sent; an empty one where there is none, or far too much of it."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_FORM:
            return {}
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return {}


def issued(access_token: str, **members: Any) -> Response:
    answer = {"access_token": access_token, "token_type": "Bearer", "expires_in": LIFE_SECONDS, **members}
    return JSONResponse(answer, headers=_NOT_KEPT)


def refused(error: str, description: str, status: int = 400) -> Response:
    """As RFC 6749 section 5.2 has it."""
    return JSONResponse({"error": error, "error_description": description}, status, _NOT_KEPT)


def _proven(basic: str, form: Mapping[str, str], credentials: Credentials) -> bool:
    client, secret = form.get("client_id", ""), form.get("client_secret", "")
    if basic.lower().startswith("basic "):
        try:
            user, _, password = base64.b64decode(basic[6:], validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        client, secret = unquote_plus(user), unquote_plus(password)
    known = credentials.client_secret.reveal().encode()
    return client == CLIENT_ID and hmac.compare_digest(secret.encode("utf-8", "replace"), known)
