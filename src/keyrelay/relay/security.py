"""What we trust, and what it means when TLS or the network fails. One trust for relay, token endpoint and vaults."""

from __future__ import annotations

import errno
import socket
import ssl
from functools import cache
from pathlib import Path

from keyrelay.errors import TrustUnusable
from keyrelay.relay.model import Kind

_ERRNO_KINDS: dict[int, Kind] = {
    errno.ECONNREFUSED: "refused",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.EAFNOSUPPORT: "unreachable",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.ETIMEDOUT: "timeout",
}
_RESOLVER_KINDS: dict[int, Kind] = {
    socket.EAI_NONAME: "name_unknown",
    socket.EAI_AGAIN: "dns_unavailable",
    socket.EAI_FAIL: "dns_unavailable",
    getattr(socket, "EAI_NODATA", -5): "no_address",
    getattr(socket, "EAI_ADDRFAMILY", -9): "no_address",
}

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_CERTIFICATE_KINDS: dict[int, Kind] = {
    9: "not_yet_valid",
    10: "expired",
    18: "self_signed",
    2: "unknown_issuer",
    19: "unknown_issuer",
    20: "unknown_issuer",
    21: "unknown_issuer",
    62: "name_mismatch",
    63: "name_mismatch",
    64: "name_mismatch",
    66: "weak",
    67: "weak",
    68: "weak",
}
# OpenSSL's names of reasons.
_REASON_KINDS: dict[str, Kind] = {
    "WRONG_VERSION_NUMBER": "not_tls",
    "HTTP_REQUEST": "not_tls",
    "PACKET_LENGTH_TOO_LONG": "not_tls",
    "RECORD_LAYER_FAILURE": "not_tls",
    "UNEXPECTED_EOF_WHILE_READING": "closed",
    "UNSUPPORTED_PROTOCOL": "weak",
    "TLSV1_ALERT_PROTOCOL_VERSION": "weak",
    "NO_PROTOCOLS_AVAILABLE": "weak",
    "DH_KEY_TOO_SMALL": "weak",
    "EE_KEY_TOO_SMALL": "weak",
    "CA_KEY_TOO_SMALL": "weak",
    "CA_MD_TOO_WEAK": "weak",
    "BAD_DH_VALUE": "weak",
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": "weak",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "client_certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "client_certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "client_certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "client_certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "client_certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "client_certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "client_certificate",
}


class Trust:
    """Which certificates we accept, and which we show: the system's authorities, and the operator's own."""

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
        self.for_http = cache(self._verified)

    def _verified(self) -> ssl.SSLContext:
        """A context that accepts only a certificate of a trusted authority for the name asked for.

        Raises TrustUnusable.
        """
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self._authorities is not None:
                context.load_verify_locations(cafile=self._authorities)
        except (OSError, ssl.SSLError) as problem:
            raise TrustUnusable(f"The authorities in {self._authorities} cannot be used: {_words(problem)}.") from None
        self._show_client(context)
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


def tls_kind(error: BaseException) -> tuple[Kind, str]:
    """What a failed handshake means, and OpenSSL's words for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE_KINDS.get(error.verify_code, "certificate"), error.verify_message
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASON_KINDS.get(reason, "handshake"), reason.replace("_", " ").lower()
    if isinstance(error, ssl.CertificateError):
        return "name_mismatch", str(error)
    if isinstance(error, TimeoutError):
        return "timeout", ""
    if isinstance(error, OSError):
        return network_kind(error), error.strerror or ""
    return "closed", ""


def network_kind(error: OSError) -> Kind:
    """What a failed name look-up or connection means."""
    if isinstance(error, socket.gaierror):
        return _RESOLVER_KINDS.get(error.errno or 0, "name_unknown")
    if isinstance(error, TimeoutError):
        return "timeout"
    return _ERRNO_KINDS.get(error.errno or 0, "closed")


def _words(problem: OSError) -> str:
    return problem.strerror or "not a usable PEM file"
