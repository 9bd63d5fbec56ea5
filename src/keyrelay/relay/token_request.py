"""One request to a token endpoint (RFC 6749 section 4.4): what is sent, and the answer as it came."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode

from keyrelay.network.exchange import HttpRequest, NoAnswer, exchange
from keyrelay.profile.model import RequestHeader
from keyrelay.relay.client_assertion import ASSERTION_TYPE, signing_key
from keyrelay.relay.model import Kind, failed
from keyrelay.secrets.model import SecretText

BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Everything that decides which token a provider issues.

    A ``client_secret`` that is a private key (PEM or JWK) signs an assertion, whatever ``client_authentication`` says.
    """

    endpoint: str
    client_id: SecretText
    client_secret: SecretText
    scope: str | None
    audience: str | None
    headers: tuple[RequestHeader, ...]
    client_authentication: Literal["client_secret_post", "client_secret_basic"] = "client_secret_post"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the token endpoint answered, not yet judged. ``body`` is None when it is longer than BODY_LIMIT.

    ``facts``: how the endpoint was reached. ``sent``: the secrets that the answer may repeat.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)
    asked_at: datetime
    received_at: datetime
    facts: Mapping[str, Any]
    sent: tuple[SecretText, ...]


@dataclass(frozen=True, slots=True)
class _Message:
    form: dict[str, str] = field(repr=False)
    headers: list[tuple[str, str]] = field(repr=False)
    secrets: tuple[SecretText, ...]


async def ask(
    request: TokenRequest, context: ssl.SSLContext, *, within: float, clock: Callable[[], datetime]
) -> Answer:
    """Send the request and read the answer, within so many seconds in all.

    The context gets ALPN for HTTP, so it must be none that other protocols use. Raises StageFailed.
    """
    asked_at = clock()
    message = _message(request, asked_at)
    content = urlencode(message.form, errors="surrogatepass").encode("ascii")
    asking = HttpRequest("POST", request.endpoint, message.headers, content)
    try:
        answer = await exchange(asking, context, within=within, limit=BODY_LIMIT)
    except NoAnswer as problem:
        kind: Kind = "not_json" if problem.kind == "not_http" else problem.kind
        raise failed("token", kind, detail=problem.detail, **problem.facts) from None
    return Answer(answer.status, answer.headers, answer.body, asked_at, clock(), answer.facts, message.secrets)


def _message(request: TokenRequest, now: datetime) -> _Message:
    client_id, secret = request.client_id.reveal(), request.client_secret
    form = {"grant_type": "client_credentials"}
    form |= {"scope": request.scope} if request.scope else {}
    form |= {"audience": request.audience} if request.audience else {}
    fixed = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept-Encoding", "identity")]
    sent: tuple[SecretText, ...] = (secret,)
    if (key := signing_key(secret)) is not None:
        assertion = key.assertion(client_id, request.endpoint, now)
        form |= {
            "client_id": client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion.reveal(),
        }
        sent = (secret, assertion)
    elif request.client_authentication == "client_secret_basic":
        credentials = _basic(client_id, secret.reveal())
        fixed.append(("Authorization", "Basic " + credentials))
        sent = (secret, SecretText(credentials))
    else:
        form |= {"client_id": client_id, "client_secret": secret.reveal()}
    return _Message(form, _headers(request.headers, fixed), sent)


def _basic(client_id: str, secret: str) -> str:
    """Both are form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    pair = ":".join(quote_plus(part, errors="surrogatepass") for part in (client_id, secret))
    return base64.b64encode(pair.encode("ascii")).decode("ascii")


def _headers(wished: tuple[RequestHeader, ...], fixed: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The profile's headers win over our habits, and not over what this request depends on."""
    ours = {name.lower() for name, _ in fixed}
    given = [(header.name, header.value) for header in wished if header.name.lower() not in ours]
    named = {name.lower() for name, _ in given}
    habits = [("User-Agent", "keyrelay"), ("Accept", "application/json")]
    return [*(habit for habit in habits if habit[0].lower() not in named), *given, *fixed]
