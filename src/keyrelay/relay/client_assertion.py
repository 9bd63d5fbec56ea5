"""A client that proves itself with a private key instead of a secret (RFC 7523, OpenID Connect Core section 9)."""

from __future__ import annotations

import base64
import json
import re
import secrets
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keyrelay.relay.model import StageFailed, failed
from keyrelay.secrets.model import SecretText

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 section 2.2
_LIFE = timedelta(minutes=5)
_LEAST_RSA_BITS = 2048  # RFC 7518 section 3.3
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the algorithm it signs with, and what tells the provider which key it is."""

    private: _PrivateKey = field(repr=False)
    algorithm: str
    names: Mapping[str, str]

    def assertion(self, client_id: str, endpoint: str, now: datetime) -> SecretText:
        """A JWT that proves to the endpoint, once and for five minutes, who is asking."""
        from joserfc import jwt
        from joserfc.errors import SecurityWarning
        from joserfc.jwk import ECKey, OKPKey, RSAKey

        kinds: dict[str, Any] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": endpoint,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now.timestamp()),
            "exp": int((now + _LIFE).timestamp()),
        }
        header = {"alg": self.algorithm, **self.names}
        with warnings.catch_warnings():
            # The name EdDSA is on its way out (RFC 9864), and is the one that providers know.
            warnings.simplefilter("ignore", SecurityWarning)
            key = kinds[self.algorithm[:2]].import_key(self.private)
            return SecretText(jwt.encode(header, claims, key, algorithms=[self.algorithm]))


def signing_key(secret: SecretText) -> SigningKey | None:
    """The private key that a client secret is, or None when it is an ordinary secret.

    Keys are PEM, beside their certificate or alone, or a private JWK (RFC 7517). Line breaks of a PEM may have become
    spaces or a backslash and an n, as happens when it is pasted into a field of one line. Raises StageFailed (bad_key).
    """
    text = secret.reveal().strip()
    if re.search(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", text):
        return _from_pem(text)
    if text.startswith("{"):
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(members, dict) and "kty" in members:
            return _from_jwk(members)
    return None


def _bad(detail: str) -> StageFailed:
    return failed("token", "bad_key", detail=detail)


def _from_pem(text: str) -> SigningKey:
    blocks = [(label, _unfolded(body)) for label, body in _BLOCK.findall(text)]
    keys = [block for block in blocks if block[0].endswith("PRIVATE KEY")]
    if len(keys) != 1:
        raise _bad("there is more than one private key" if keys else "the END line of the private key is missing")
    label, body = keys[0]
    if "ENCRYPTED" in label or "ENCRYPTED" in body:
        raise _bad("the private key is encrypted with a passphrase")
    private = _usable(_load(label, body))
    names = _certificate_names([_pem(*block) for block in blocks if block[0] == "CERTIFICATE"], private)
    return SigningKey(private, _algorithms(private)[0], names)


def _unfolded(body: str) -> str:
    return re.sub(r"\\[rn]|\s", "", body)


def _pem(label: str, body: str) -> bytes:
    lines = "\n".join(textwrap.wrap(body, 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("utf-8", "replace")


def _load(label: str, body: str) -> object:
    try:
        return serialization.load_pem_private_key(_pem(label, body), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad("the private key is damaged or of an unknown kind") from None


def _from_jwk(members: dict[str, Any]) -> SigningKey:
    from joserfc.errors import JoseError, SecurityWarning
    from joserfc.jwk import import_key

    if members["kty"] not in ("RSA", "EC", "OKP") or "d" not in members:
        raise _bad("the JWK is not a private key")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # about its size, which is looked at below
            loaded: Any = import_key(members)
            private = _usable(loaded.private_key)
    except (JoseError, ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        raise _bad("the JWK is damaged or of an unknown kind") from None
    wished, able = members.get("alg"), _algorithms(private)
    if wished is not None and wished not in able:
        raise _bad("the JWK names an algorithm that does not go with its key")
    kid = members.get("kid")
    return SigningKey(private, wished or able[0], {"kid": kid} if isinstance(kid, str) and kid else {})


def _usable(key: object) -> _PrivateKey:
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < _LEAST_RSA_BITS:
            raise _bad(f"an RSA key of {key.key_size} bits is too short; providers want {_LEAST_RSA_BITS} or more")
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise _bad("a key of this kind cannot sign in; use RSA, P-256, P-384, P-521 or Ed25519")


def _algorithms(key: _PrivateKey) -> tuple[str, ...]:
    """What the key can sign with, the usual first (RFC 7518 section 3.1, RFC 8037)."""
    if isinstance(key, rsa.RSAPrivateKey):
        return ("RS256", "PS256")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return (_CURVES[key.curve.name],)
    return ("EdDSA",)


def _certificate_names(certificates: list[bytes], private: _PrivateKey) -> dict[str, str]:
    """The thumbprints by which a provider finds the certificate of our key (RFC 7515 sections 4.1.7 and 4.1.8)."""
    if not certificates:
        return {}
    ours = _public_octets(private.public_key())
    try:
        read = [x509.load_pem_x509_certificate(pem) for pem in certificates]
        certificate = next((one for one in read if _public_octets(one.public_key()) == ours), None)
    except (ValueError, UnsupportedAlgorithm):
        raise _bad("the certificate beside the private key cannot be read") from None
    if certificate is None:
        raise _bad("the certificate belongs to another private key")
    # Microsoft documents the second; older installations know the first alone.
    return {
        "x5t": _base64url(certificate.fingerprint(hashes.SHA1())),  # noqa: S303 - a name, no protection
        "x5t#S256": _base64url(certificate.fingerprint(hashes.SHA256())),
    }


def _public_octets(key: Any) -> bytes:
    octets: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return octets


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
