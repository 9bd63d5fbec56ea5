"""One HTTP request and its answer: bounded in time and size, with nothing taken from the environment."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from keyrelay.network.failures import FailureKind, network_kind, tls_kind
from keyrelay.network.names import look_up


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked. It shows nothing of itself but its method: the rest may hold secrets."""

    method: str
    url: str = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What was answered, not yet judged. ``body`` is None when it is longer than was allowed.

    ``facts`` may be shown: encrypted, address, and tls (its version).
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    facts: Mapping[str, Any]


class NoAnswer(Exception):
    """There was none. ``detail`` has the words of whoever knows why, and nothing of the request."""

    def __init__(self, kind: FailureKind | Literal["not_http"], detail: str, facts: Mapping[str, Any]) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.facts = facts


async def exchange(request: HttpRequest, context: ssl.SSLContext, *, within: float, limit: int) -> HttpAnswer:
    """Send the request and read the answer, within so many seconds in all, and at most ``limit`` bytes of its body.

    The context gets ALPN for HTTP, so it must be none that other protocols use. Redirects are answers like others.
    Raises NoAnswer.
    """
    import httpx2  # not needed to start

    facts: dict[str, Any] = {"encrypted": request.url.lower().startswith("https:")}
    try:
        async with asyncio.timeout(within):
            # The client looks names up in threads of the event loop. Those that nobody answers must not get there.
            url = httpx2.URL(request.url)
            await look_up(url.raw_host.decode("ascii"), _port(url.port))
            return await _ask(request, context, limit, facts)
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL) as problem:
        kind, detail = _meaning(problem)
    # Raised here, where the library's error, which holds the request, is no longer its context.
    raise NoAnswer(kind, detail, facts)


def _port(given: int | None) -> int:
    # Others get as far as asyncio, and an error that is none of the network.
    if given is not None and not 0 < given < 65536:  # noqa: PLR2004 - RFC 9293 section 3.1
        raise ValueError
    return given or 0


async def _ask(request: HttpRequest, context: ssl.SSLContext, limit: int, facts: dict[str, Any]) -> HttpAnswer:
    import httpx2

    opened: list[Any] = []

    async def note(event: str, info: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])
            facts["address"] = info["return_value"].get_extra_info("server_addr")[0]
        elif event == "connection.start_tls.complete":
            facts["tls"] = info["return_value"].get_extra_info("ssl_object").version()

    try:
        # A client for each request: no cookie and no connection of one user serves another.
        #
        # Nothing is taken from the environment: a proxy named there for other programs would be sent the secret of an
        # http:// endpoint, its failures would be told as the endpoint's, and a .netrc would add a sign-in of its own.
        async with (
            httpx2.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=None) as client,
            client.stream(
                request.method,
                request.url,
                content=request.content,
                headers=list(request.headers),
                extensions={"trace": note},
            ) as response,
        ):
            body = bytearray()
            async for chunk in response.aiter_raw():  # raw: unpacking has no bound
                body += chunk
                if len(body) > limit:
                    return HttpAnswer(response.status_code, response.headers, None, facts)
            return HttpAnswer(response.status_code, response.headers, bytes(body), facts)
    except asyncio.CancelledError:
        for connection in opened:  # the client does not close one whose handshake was given up
            await connection.aclose()
        raise


def _meaning(problem: BaseException) -> tuple[FailureKind | Literal["not_http"], str]:
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
        return "not_http", "no HTTP answer"
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
