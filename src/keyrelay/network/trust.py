"""What we trust: one answer for relays, token endpoints and vaults."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path

from keyrelay.errors import TrustUnusable


class Trust:
    """Which certificates we accept: the system's authorities, and the operator's own. Relays see our certificate."""

    def __init__(
        self,
        *,
        authorities: Path | None = None,
        client_certificate: Path | None = None,
        client_key: Path | None = None,
    ) -> None:
        self._authorities = authorities
        self._client = None if client_certificate is None else (client_certificate, client_key)
        self.verified = cache(self._verified)
        self.unverified = cache(self._unverified)
        # One of its own: the HTTP client tells the server by it that it wants to speak HTTP.
        self.for_http = cache(self._trusting)

    def _verified(self) -> ssl.SSLContext:
        """A context that accepts only a certificate of a trusted authority for the name asked for.

        Raises TrustUnusable.
        """
        context = self._trusting()
        self._show_client(context)
        return context

    def _trusting(self) -> ssl.SSLContext:
        """The same without a certificate of ours, which is for relays alone. Raises TrustUnusable."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self._authorities is not None:
                context.load_verify_locations(cafile=self._authorities)
        except (OSError, ssl.SSLError) as problem:
            raise TrustUnusable(f"The authorities in {self._authorities} cannot be used: {_words(problem)}.") from None
        return context

    def _unverified(self) -> ssl.SSLContext:
        """A context that accepts any certificate: for mail without credentials, and to look at what was refused."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._show_client(context)
        return context

    def _show_client(self, context: ssl.SSLContext) -> None:
        if self._client is None:
            return
        certificate, key = self._client
        try:
            context.load_cert_chain(certificate, key, password=lambda: b"")
        except (OSError, ssl.SSLError) as problem:
            raise TrustUnusable(f"The client certificate {certificate} cannot be used: {_words(problem)}.") from None


def _words(problem: OSError) -> str:
    return problem.strerror or "not a usable PEM file"
