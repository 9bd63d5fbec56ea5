"""One request to a token endpoint (RFC 6749 section 4.4): what is sent, and the answer as it came."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode

from keyrelay.profile.model import RequestHeader
from keyrelay.relay.client_assertion import ASSERTION_TYPE, signing_key
from keyrelay.relay.model import Kind, failed
from keyrelay.relay.security import network_kind, tls_kind
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
    import httpx2  # not needed to start

    asked_at = clock()
    message = _message(request, asked_at)
    facts: dict[str, Any] = {"encrypted": request.endpoint.lower().startswith("https:")}
    try:
        async with asyncio.timeout(within):
            status, headers, body = await _exchange(request.endpoint, message, context, facts)
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as problem:
        kind, detail = _meaning(problem)
    else:
        return Answer(status, headers, body, asked_at, clock(), facts, message.secrets)
    # Raised here, where the library's error, which holds the request, is no longer its context.
    raise failed("token", kind, detail=detail, **facts)


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


async def _exchange(
    url: str, message: _Message, context: ssl.SSLContext, facts: dict[str, Any]
) -> tuple[int, Mapping[str, str], bytes | None]:
    import httpx2

    opened: list[Any] = []

    async def note(event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])
            facts["address"] = info["return_value"].get_extra_info("server_addr")[0]
        elif event == "connection.start_tls.complete":
            facts["tls"] = info["return_value"].get_extra_info("ssl_object").version()

    try:
        # A client for each request: no cookie and no connection of one profile serves another.
        #
        # Nothing is taken from the environment: a proxy named there for other programs would be sent the secret of an
        # http:// endpoint, its failures would be told as the endpoint's, and a .netrc would add a sign-in of its own.
        async with (
            httpx2.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=None) as client,
            client.stream(
                "POST",
                url,
                content=urlencode(message.form, errors="surrogatepass").encode("ascii"),
                headers=message.headers,
                extensions={"trace": note},
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():  # raw: unpacking has no bound
                body += chunk
                if len(body) > BODY_LIMIT:
                    return response.status_code, response.headers, None
            return response.status_code, response.headers, bytes(body)
    except asyncio.CancelledError:
        for connection in opened:  # the client does not close one whose handshake was given up
            await connection.aclose()
        raise


def _meaning(problem: BaseException) -> tuple[Kind, str]:
    """What a request that got no answer failed of, and the words of whoever knows."""
    import httpx2

    beneath = list(_chain(problem))
    for error in beneath:
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError):
            return tls_kind(error)
    if any(isinstance(error, TimeoutError | httpx2.TimeoutException) for error in beneath):
        return "timeout", ""
    # Of several addresses, those that cannot be reached at all tell the least.
    network = [
        (network_kind(error), error.strerror or "")
        for error in beneath
        if isinstance(error, OSError) and error.errno is not None
    ]
    if network:
        return next((one for one in network if one[0] != "unreachable"), network[0])
    if isinstance(problem, httpx2.RemoteProtocolError) and not _ended(problem):
        return "not_json", "no HTTP answer"
    if isinstance(problem, ValueError | httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return "name_unknown", "the host in the URL is none"
    return "closed", ""


def _ended(problem: Exception) -> bool:
    return any(word in str(problem) for word in ("disconnected", "closed"))


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it, however it was raised; libraries wrap what the system said several times."""
    while problem is not None:
        yield problem
        if isinstance(problem, BaseExceptionGroup):
            for one in problem.exceptions:
                yield from _chain(one)
        problem = problem.__cause__ or problem.__context__
