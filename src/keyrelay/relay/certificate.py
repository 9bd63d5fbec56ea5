"""What a TLS connection shows of itself: protocol, cipher, and the chain of certificates, verified or not."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

_MOST_CERTIFICATES = 10
_MOST_NAMES = 50
# What the other side sends is its own choice: for some of it cryptography has no type.
_UNREADABLE = (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension, UnsupportedAlgorithm)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate of a chain."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key: str
    signature: str
    fingerprint: str

    def days_left(self, now: datetime) -> int:
        """Whole days until it ends; negative when it has."""
        return (self.not_after - now).days

    def shown(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "not_before": self.not_before.isoformat().replace("+00:00", "Z"),
            "not_after": self.not_after.isoformat().replace("+00:00", "Z"),
            "days_left": self.days_left(datetime.now(UTC)),
            "key": self.key,
            "signature": self.signature,
            "sha256": self.fingerprint,
        }


def tls_facts(connection: ssl.SSLObject) -> dict[str, Any]:
    """Protocol, cipher and chain, as they may be shown."""
    cipher = connection.cipher()
    return {
        "protocol": connection.version(),
        "cipher": cipher[0] if cipher else None,
        "certificates": [facts.shown() for facts in chain_of(connection)],
    }


def chain_of(connection: ssl.SSLObject) -> tuple[CertificateFacts, ...]:
    """The certificates the server has sent, its own first."""
    return tuple(facts for der in _ders(connection)[:_MOST_CERTIFICATES] if (facts := _facts(der)) is not None)


def _ders(connection: ssl.SSLObject) -> list[bytes]:
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        return list(connection.get_unverified_chain())
    # Before it was public, the same function stood one object deeper.
    chain = connection._sslobj.get_unverified_chain() or []  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in chain]


def _facts(der: bytes) -> CertificateFacts | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        return CertificateFacts(
            subject=_name(certificate.subject),
            issuer=_name(certificate.issuer),
            names=_alternative_names(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            key=_key(certificate),
            signature=certificate.signature_algorithm_oid._name,  # noqa: SLF001 - its only name for people
            fingerprint=certificate.fingerprint(SHA256()).hex(),
        )
    except _UNREADABLE:
        return None  # what OpenSSL reads and cryptography does not; the other facts still help


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()[:500]


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return ()
    shown = [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    return tuple(name[:255] for name in shown[:_MOST_NAMES])


def _key(certificate: x509.Certificate) -> str:
    try:
        public_key = certificate.public_key()
    except _UNREADABLE:
        return "unknown"
    match public_key:
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return f"EC {key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case other:
            return type(other).__name__
