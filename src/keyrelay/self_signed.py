"""``--self-signed``: an authority of our own and a certificate from it, made in the data directory.

Clients trust the authority once (``ca.pem``); the certificate is made anew when it is about to end or does not name
the address we listen on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyrelay.errors import DataDirUnusable, TlsUnusable

_AUTHORITY_LIFE = timedelta(days=3650)
_CERTIFICATE_LIFE = timedelta(days=397)  # what browsers accept at the most
_RENEW_BEFORE = timedelta(days=30)


def authority_file(data_dir: Path) -> Path:
    """The certificate that clients have to trust."""
    return data_dir / "tls" / "ca.pem"


def certificate_for(data_dir: Path, host: str) -> tuple[Path, Path]:
    """Files with the certificate for ``host`` and its key, made if need be.

    Raises DataDirUnusable, or TlsUnusable when files of an earlier start are damaged.
    """
    folder = data_dir / "tls"
    certificate, key = folder / "server.pem", folder / "server-key.pem"
    try:
        names = _names(host)
    except ValueError as problem:
        raise TlsUnusable(
            f"No certificate can name the host {host}.", remedy="Give its name in ASCII (xn--...) with --host."
        ) from problem
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if not authority_file(data_dir).exists():
            _make_authority(folder)
        if not _still_good(folder, names):
            _make_certificate(folder, names)
    except OSError as problem:
        raise DataDirUnusable(f"{folder} cannot be written: {problem.strerror}.") from problem
    except ValueError as problem:
        raise TlsUnusable(
            f"The certificate files in {folder} are damaged.", remedy="Remove that directory; new ones are made then."
        ) from problem
    return certificate, key


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for name in ("localhost", "127.0.0.1", "::1", host, socket.gethostname()):
        try:
            general: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            general = x509.DNSName(name)
        if general not in names:
            names.append(general)
    return names


def _still_good(folder: Path, names: list[x509.GeneralName]) -> bool:
    file, key = folder / "server.pem", folder / "server-key.pem"
    if not (file.exists() and key.exists()):
        return False
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    try:
        # Both fit after every undisturbed start; a crash or an operator may have parted them.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()))
    except (ssl.SSLError, InvalidSignature):
        return False
    held = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    return certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE and all(name in held for name in names)


def _make_authority(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"keyrelay on {socket.gethostname()}"[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(folder / "ca-key.pem", _pem(key))
    _write(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _make_certificate(folder: Path, names: list[x509.GeneralName]) -> None:
    issuer = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    issuer_key = serialization.load_pem_private_key((folder / "ca-key.pem").read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)  # noqa: S101 - we made it
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyrelay")])
    certificate = (
        _builder(subject, issuer.subject, key, _CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(folder / "server-key.pem", _pem(key))
    _write(folder / "server.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + life)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)
