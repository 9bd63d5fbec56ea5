"""What it means when TLS or the network fails."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Literal

from keyrelay.network.names import LookUpsBusy

FailureKind = Literal[
    "name_unknown",  # the name does not exist
    "no_address",  # the name exists and has no address
    "dns_unavailable",  # no name server answered
    "dns_busy",  # it was not asked about: too many other names wait for an answer
    "refused",  # nobody listens there
    "unreachable",  # no route
    "forbidden",  # this machine's own rules forbid it
    "timeout",  # no answer in time
    "closed",  # the other side ended the connection
    "not_tls",  # the answer to our first TLS message was no TLS
    "expired",
    "not_yet_valid",
    "name_mismatch",
    "unknown_issuer",
    "self_signed",
    "weak",  # key, signature or protocol version too weak for today's TLS
    "client_certificate",  # the other side wants a certificate of ours, or does not like it
    "certificate",  # refused for another reason
    "handshake",  # TLS failed otherwise
]

_ERRNO_KINDS: dict[int, FailureKind] = {
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
_RESOLVER_KINDS: dict[int, FailureKind] = {
    socket.EAI_NONAME: "name_unknown",
    socket.EAI_AGAIN: "dns_unavailable",
    socket.EAI_FAIL: "dns_unavailable",
    getattr(socket, "EAI_NODATA", -5): "no_address",
    getattr(socket, "EAI_ADDRFAMILY", -9): "no_address",
}

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_CERTIFICATE_KINDS: dict[int, FailureKind] = {
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
_REASON_KINDS: dict[str, FailureKind] = {
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
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "client_certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "client_certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "client_certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "client_certificate",
}


def tls_kind(error: BaseException) -> tuple[FailureKind, str]:
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


def network_kind(error: OSError) -> FailureKind:
    """What a failed name look-up or connection means."""
    if isinstance(error, socket.gaierror):
        return _RESOLVER_KINDS.get(error.errno or 0, "name_unknown")
    if isinstance(error, LookUpsBusy):
        return "dns_busy"
    if isinstance(error, TimeoutError):
        return "timeout"
    return _ERRNO_KINDS.get(error.errno or 0, "closed")
