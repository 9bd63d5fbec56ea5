"""Certificates for every occasion: one good authority, good server certificates, and those that must be refused."""

from __future__ import annotations

import ipaddress
import os
import ssl
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyrelay.chaos.script import CertificateKind, TlsVersion
from keyrelay.errors import Unsuitable

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

HERE = ("localhost", "127.0.0.1", "::1")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_YEAR = timedelta(days=365)
_MINUTES = timedelta(minutes=5)  # clocks differ a little


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a server certificate is made. ``start`` and ``end`` are distances from now."""

    names: tuple[str, ...] = HERE
    start: timedelta = -_MINUTES
    end: timedelta = _YEAR
    issuer: str = "ours"  # or "unknown", or "itself"
    weak: bool = False


_RECIPES: Mapping[str, _Recipe] = {
    "good": _Recipe(),
    "expired": _Recipe(start=-2 * _YEAR, end=timedelta(days=-3)),
    "not_yet_valid": _Recipe(start=timedelta(days=3)),
    "wrong_name": _Recipe(names=("other.test",)),
    "unknown_ca": _Recipe(issuer="unknown"),
    "self_signed": _Recipe(issuer="itself"),
    "weak": _Recipe(weak=True),
    "a.test": _Recipe(names=("a.test",)),
    "b.test": _Recipe(names=("b.test",)),
}

_VERSIONS: Mapping[TlsVersion, tuple[ssl.TLSVersion, ssl.TLSVersion]] = {
    "1.0": (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1),
    "1.2": (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2),
    "1.3": (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
}


class Certificates:
    """An authority in a directory, and what it issued.

    ``authority`` (PEM) is what a client has to trust, ``client_certificate`` and ``client_key`` are what a relay with
    ``client_ca`` wants to see. An authority that the directory already has is used again. Raises Unsuitable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: set[str] = set()
        self._unknown = _Authority.make("An authority that nobody knows")
        self.authority = directory / "authority.pem"
        self.client_certificate = directory / "client.pem"
        self.client_key = directory / "client-key.pem"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._ours = self._kept_authority() or self._new_authority()
            self._write_client()
        except OSError as problem:
            raise Unsuitable(f"No certificates can be written in {directory}: {problem.strerror}.") from None
        except ValueError:
            raise Unsuitable(f"The authority in {directory} is damaged; remove authority.pem and its key.") from None

    def server_context(
        self,
        kind: CertificateKind = "good",
        *,
        client_ca: bool = False,
        tls_version: TlsVersion | None = None,
        asked_for: Callable[[str | None], None] = lambda _: None,
    ) -> ssl.SSLContext:
        """The server's side of TLS. ``asked_for`` is told each name that a client asks for (SNI), or None."""
        names = ("a.test", "b.test") if kind == "by_name" else ()
        by_name = {name: self._context(name, client_ca=client_ca) for name in names}
        context = self._context("good" if by_name else kind, client_ca=client_ca)
        if tls_version is not None:
            _only(context, tls_version)

        def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            asked_for(name)
            if name in by_name:
                connection.context = by_name[name]

        context.sni_callback = choose
        return context

    def _context(self, kind: str, *, client_ca: bool) -> ssl.SSLContext:
        file = self._directory / f"server-{kind}.pem"
        if kind not in self._made:
            _write(file, self._server_certificate(_RECIPES[kind]))
            self._made.add(kind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if _RECIPES[kind].weak:
            context.set_ciphers("ALL:@SECLEVEL=0")  # our own OpenSSL would refuse to show such a key
        context.load_cert_chain(file)
        if client_ca:
            context.load_verify_locations(self.authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _server_certificate(self, recipe: _Recipe) -> bytes:
        key: _Key = rsa.generate_private_key(65537, 1024) if recipe.weak else _new_key()  # noqa: S505 - that is its use
        authority = {"ours": self._ours, "itself": None}.get(recipe.issuer, self._unknown)
        return _pem_key(key) + _issue(recipe, key, authority)

    def _write_client(self) -> None:
        key = _new_key()
        _write(self.client_key, _pem_key(key))
        _write(self.client_certificate, _issue(_Recipe(names=("client.test",)), key, self._ours))

    def _kept_authority(self) -> _Authority | None:
        key_file = self._directory / "authority-key.pem"
        if not (self.authority.exists() and key_file.exists()):
            return None
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError  # noqa: TRY004 - one kind of damage
        return _Authority(x509.load_pem_x509_certificate(self.authority.read_bytes()), key)

    def _new_authority(self) -> _Authority:
        made = _Authority.make("Chaos relay's authority")
        _write(self._directory / "authority-key.pem", _pem_key(made.key))
        _write(self.authority, made.certificate.public_bytes(serialization.Encoding.PEM))
        return made


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, common: str) -> _Authority:
        key, now, name = _new_key(), datetime.now(UTC), _name(common)
        usage = {"digital_signature", "key_cert_sign", "crl_sign"}
        certificate = (
            _builder(name, name, key, now - 3 * _YEAR, now + 10 * _YEAR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(usage), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)


def _issue(recipe: _Recipe, key: _Key, authority: _Authority | None) -> bytes:
    subject, now = _name(recipe.names[0]), datetime.now(UTC)
    issuer = authority.certificate.subject if authority else subject
    signer: _Key = authority.key if authority else key
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in recipe.names])
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(subject, issuer, key, now + recipe.start, now + recipe.end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(alternatives, critical=False)
        .add_extension(purposes, critical=False)
        .add_extension(_usage({"digital_signature"}), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: _Key, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(allowed: set[str]) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in _USAGES})


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem_key(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _only(context: ssl.SSLContext, version: TlsVersion) -> None:
    lowest, highest = _VERSIONS[version]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are the point here
        context.minimum_version, context.maximum_version = lowest, highest
    if version == "1.0":
        context.set_ciphers("ALL:@SECLEVEL=0")


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
