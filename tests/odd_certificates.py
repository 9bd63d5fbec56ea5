"""Certificates that OpenSSL shows and cryptography does not read: what a relay shows is its own choice."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ALTERNATIVE_NAMES = x509.ObjectIdentifier("2.5.29.17")
SOME_EXTENSION = x509.ObjectIdentifier("2.5.29.99")
X400_ADDRESS = bytes.fromhex("3004a3023000")
EDI_PARTY_NAME = bytes.fromhex("300ea50ca10a0c086564692e74657374")
NOT_DER = bytes.fromhex("3005616263")
ONE_NAME = bytes.fromhex("3003820162")
KEY_ALGORITHM, UNKNOWN_ALGORITHM = bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d027e")


def certificate(*names: bytes) -> tuple[bytes, bytes]:
    """A certificate for ``odd`` that it has signed itself, in DER, and its key in PEM.

    ``names`` are its alternative names, each an extension of its own, in DER.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=10))
    )
    for oid, value in zip((ALTERNATIVE_NAMES, SOME_EXTENSION), names, strict=False):
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    # No builder takes an extension twice; another number of the same length becomes that of the first.
    der = der.replace(bytes.fromhex("0603551d63"), bytes.fromhex("0603551d11"))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return der, pem


def with_unknown_key() -> bytes:
    der, _ = certificate(ONE_NAME)
    assert der.count(KEY_ALGORITHM) == 1
    return der.replace(KEY_ALGORITHM, UNKNOWN_ALGORITHM)


def as_pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()
