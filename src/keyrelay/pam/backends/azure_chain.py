"""The default credential chain of azure-identity, with our HTTP beneath it."""

from __future__ import annotations

import time
from typing import Any, Self
from urllib.parse import urlencode

from keyrelay.network.exchange import HttpAnswer
from keyrelay.pam.asking import require_success
from keyrelay.pam.backend import Means, VaultFailed
from keyrelay.pam.blocking import BlockingHttp, Library
from keyrelay.pam.sign_ins import Lease
from keyrelay.secrets.model import SecretText

LIBRARY = Library("azure.identity", "azure")


def chain_token(authority: str, scope: str, means: Means, *, discovery: bool) -> Lease:
    """A token from the first way of the chain that gives one; blocks. Raises VaultFailed.

    ``discovery``: whether Microsoft may be asked about the authority, which only makes sense for its own.
    """
    identity, errors = LIBRARY.load(), LIBRARY.load("azure.core.exceptions")
    transport = _Transport(BlockingHttp(means), authority, errors)
    try:
        # A new chain for each token: none that it keeps itself comes back after the vault has refused it.
        credential = identity.DefaultAzureCredential(
            authority=authority,
            transport=transport,
            retry_total=0,  # whoever wants the secret tries again
            process_timeout=max(1, int(means.seconds)),
            disable_instance_discovery=not discovery,
        )
        token = credential.get_token(scope)
    except (errors.AzureError, ValueError):
        if transport.failure is not None:
            raise transport.failure from None
        raise VaultFailed("denied", "no way of azure-identity's default chain gave a token") from None
    return Lease(SecretText(token.token), token.expires_on - time.time())


class _Transport:
    """What azure-core sends requests with (its HttpTransport).

    ``failure``: how the authority last failed, other than by refusing us; the library tells all its failures alike.
    """

    def __init__(self, http: BlockingHttp, authority: str, errors: Any) -> None:
        self._http = http
        self._authority = authority
        self._errors = errors
        self.failure: VaultFailed | None = None

    def send(self, request: Any, *, connection_timeout: float | None = None, **_: Any) -> _Response:
        content = request.content or b""
        if isinstance(content, dict):  # a form, which is encoded by whoever sends it
            content = urlencode(content, doseq=True)
        if isinstance(content, str):
            content = content.encode()
        asks_authority = request.url.startswith(f"{self._authority}/")
        try:
            answer = self._http.ask(
                request.method, request.url, request.headers, content, None if asks_authority else connection_timeout
            )
            if asks_authority and answer.status >= 429:  # noqa: PLR2004 - too many requests, and all faults of its own
                require_success(answer, "signing in")
        except VaultFailed as failure:
            if asks_authority:
                self.failure = failure
            raise self._errors.ServiceRequestError("no answer") from None
        return _Response(request, answer)

    def sleep(self, duration: float) -> None:
        self._http.pause(duration)

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Response:
    """What azure-core and MSAL read of an answer (azure-core's HttpResponse)."""

    reason = ""

    def __init__(self, request: Any, answer: HttpAnswer) -> None:
        self.request = request
        self.status_code = answer.status
        self.headers = answer.headers
        self.content_type = answer.headers.get("content-type", "")
        self.content = answer.body or b""

    def body(self) -> bytes:
        return self.content

    def text(self, encoding: str | None = None) -> str:
        return self.content.decode(encoding or "utf-8", "replace")
