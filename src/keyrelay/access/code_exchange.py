"""Redeeming a code at the token endpoint of an identity provider (RFC 6749 section 4.1.3): bounded and verified."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

from keyrelay.access.endpoints import Endpoints
from keyrelay.network.exchange import HttpRequest, NoAnswer, exchange
from keyrelay.secrets.model import SecretText

_SECONDS = 10.0
_LONGEST = 64 * 1024  # octets of an answer
_OK = 200
_OF_THE_CALLER = range(400, 500)
# What the errors of RFC 6749 section 5.2 mean here. Known words are no secret; others are not repeated.
_ABOUT_US = {
    "invalid_client": "it does not know keyrelay's client id, or the client secret is wrong or has expired",
    "unauthorized_client": "keyrelay's client may not sign people in there",
    "unsupported_grant_type": "keyrelay's client may not redeem codes there",
    "invalid_request": "it finds the request incomplete",
    "invalid_scope": "it does not know the scopes asked for",
}


class CodeRefused(Exception):
    """The provider does not take the code: it was used before, is too old, or is not one of its own."""


class NoIdToken(Exception):
    """There is no ID token. ``why`` is the end of a sentence about the provider.

    ``may_be_a_guess``: the provider refuses the request, and does not say that it is for something other than the code.
    """

    def __init__(self, why: str, *, may_be_a_guess: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.may_be_a_guess = may_be_a_guess


@dataclass(frozen=True, slots=True)
class Redemption:
    """A code with all that belongs to it. It shows nothing but the client."""

    client_id: str
    secret: SecretText | None
    code: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


async def redeem(asked: Redemption, endpoints: Endpoints, context: ssl.SSLContext) -> str:
    """The ID token, not yet looked at. Raises CodeRefused or NoIdToken."""
    try:
        answer = await exchange(_request(asked, endpoints), context, within=_SECONDS, limit=_LONGEST)
    except NoAnswer as problem:
        raise NoIdToken(f"its token endpoint gave no answer ({problem.kind})") from None
    members = _members(answer.body)
    if answer.status != _OK:
        error = members.get("error")
        if error == "invalid_grant":
            raise CodeRefused
        known = _ABOUT_US.get(error) if isinstance(error, str) else None
        raise NoIdToken(
            known or f"its token endpoint answers {answer.status}",
            may_be_a_guess=answer.status in _OF_THE_CALLER and (known is None or error == "invalid_request"),
        )
    token = members.get("id_token")
    if not isinstance(token, str) or not token:
        raise NoIdToken("its token endpoint gave no ID token")
    return token


def _request(asked: Redemption, endpoints: Endpoints) -> HttpRequest:
    form = {
        "grant_type": "authorization_code",
        "code": asked.code,
        "redirect_uri": asked.redirect_uri,
        "code_verifier": asked.verifier,
    }
    headers = [
        ("User-Agent", "keyrelay"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ]
    if asked.secret is None:
        form["client_id"] = asked.client_id
    elif endpoints.client_authentication == "client_secret_post":
        form |= {"client_id": asked.client_id, "client_secret": asked.secret.reveal()}
    else:
        headers.append(("Authorization", "Basic " + _basic(asked.client_id, asked.secret)))
    return HttpRequest("POST", endpoints.token, headers, urlencode(form, errors="surrogatepass").encode("ascii"))


def _basic(client_id: str, secret: SecretText) -> str:
    """Both are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    pair = ":".join(quote_plus(part, errors="surrogatepass") for part in (client_id, secret.reveal()))
    return base64.b64encode(pair.encode("ascii")).decode("ascii")


def _members(body: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(body or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
