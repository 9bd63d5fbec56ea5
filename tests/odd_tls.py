"""Server sides of TLS that go wrong in ways that the chaos relay has not."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID


@functools.cache
def authority() -> trustme.CA:
    """Trusted in every scene."""
    return trustme.CA()


def server_context(issuer: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (issuer or authority()).issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def with_old_ciphers() -> ssl.SSLContext:
    """Only ciphers that need an RSA key; the certificate has another one."""
    context = server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA")
    return context


def with_alert(alert: ssl.AlertDescription) -> Callable[[], ssl.SSLContext]:
    def make() -> ssl.SSLContext:
        context = server_context()
        context.sni_callback = lambda *_: alert
        return context

    return make


@functools.cache
def foreign_authority() -> trustme.CA:
    return trustme.CA()


def showing_its_authority() -> ssl.SSLContext:
    """The chain with its root, which is not trusted."""
    issuer = foreign_authority()
    leaf = issuer.issue_cert("localhost")
    return _loaded(leaf.private_key_and_cert_chain_pem.bytes() + issuer.cert_pem.bytes())


def without_the_root() -> ssl.SSLContext:
    """A certificate and that of its issuer, whose own is not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    foreign_authority().create_child_ca().issue_cert("localhost").configure_cert(context)
    return context


def for_clients_only() -> ssl.SSLContext:
    """A certificate of the trusted authority whose purpose is another one."""
    issuer = authority()
    signer = serialization.load_pem_private_key(issuer.private_key_pem.bytes(), None)
    parent = x509.load_pem_x509_certificate(issuer.cert_pem.bytes())
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]  # trustme's keys can sign
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _loaded(pem + certificate.public_bytes(serialization.Encoding.PEM))


def _loaded(pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with trustme.Blob(pem).tempfile() as file:
        context.load_cert_chain(file)
    return context
