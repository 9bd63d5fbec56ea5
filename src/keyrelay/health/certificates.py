"""Certificates: our own, those we show to others, and the authorities we trust."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from keyrelay import self_signed
from keyrelay.health.finding import SOON, Finding, failure, ok, warning
from keyrelay.setting_values import PREFIX, is_loopback
from keyrelay.settings import Settings

_SOON, _NOW = SOON.days, 7
_RENEWED = 30  # days before its end, a start makes a self-signed certificate anew
_UNREADABLE = (OSError, ValueError, UnsupportedAlgorithm)
_MOST_NAMES = 5


def ours_found(chosen: Settings) -> Finding:
    if chosen.self_signed:
        return _self_made(chosen)
    if chosen.tls_cert is None:
        return ok("keyrelay speaks http, and has no certificate.")
    if (broken := _unfitting(chosen.tls_cert, chosen.tls_key, "TLS_CERT", "TLS_KEY")) is not None:
        return broken
    leaf = _read(chosen.tls_cert)[0]
    named = _names(leaf)
    if not _names_host(named, chosen.host):
        return warning(
            f"The certificate of {PREFIX}TLS_CERT is for {_listed(named)}, and not for {PREFIX}HOST.",
            "Get one that names what clients call this machine.",
        )
    return _lasting(
        leaf, f"The certificate of {PREFIX}TLS_CERT (for {_listed(named)})", _SOON, "Renew it, and restart."
    )


def _self_made(chosen: Settings) -> Finding:
    folder = self_signed.authority_file(chosen.data_dir).parent
    file, key = folder / "server.pem", folder / "server-key.pem"
    if not file.exists():
        return ok("There is no self-signed certificate yet; the first start makes it.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password=lambda: b"")
        leaf = _read(file)[0]
    except (*_UNREADABLE, ssl.SSLError):
        return failure(
            "The self-signed certificate in the data directory cannot be used.",
            "Remove the directory tls in the data directory; the next start makes new ones, and clients trust it anew.",
        )
    return _lasting(leaf, "The self-signed certificate", _RENEWED, "Restart keyrelay: it makes a new one.")


def authority_found(file: Path) -> Finding:
    try:
        found = _read(file)[0]
    except FileNotFoundError:
        return ok("There is no authority of our own yet; the first start makes it.")
    except _UNREADABLE:
        return failure("The authority in the data directory (tls/ca.pem) cannot be read.", _ANEW)
    return _lasting(found, "The authority of --self-signed", _SOON, _ANEW)


_ANEW = "Remove the directory tls in the data directory and restart; clients have to trust the new tls/ca.pem."


def client_certificates_found(chosen: Settings) -> Finding:
    shown = (
        (chosen.relay_client_cert, chosen.relay_client_key, "RELAY_CLIENT"),
        (chosen.vault_client_cert, chosen.vault_client_key, "VAULT_CLIENT"),
    )
    findings = []
    for certificate, key, name in shown:
        if certificate is None:
            continue
        if (broken := _unfitting(certificate, key, f"{name}_CERT", f"{name}_KEY")) is not None:
            return broken
        about = f"The certificate of {PREFIX}{name}_CERT"
        findings.append(_lasting(_read(certificate)[0], about, _SOON, "Renew it, and restart every node."))
    worst = [one for verdict in ("failure", "warning", "ok") for one in findings if one.verdict == verdict]
    return worst[0] if worst else ok("keyrelay shows no certificate to relays and vaults.")


def authorities_found(file: Path | None) -> Finding:
    if file is None:
        return ok("The authorities that the system trusts are trusted, and no others.")
    try:
        _trust(file, file.read_bytes())
        found = _read(file)
    except (*_UNREADABLE, ssl.SSLError) as problem:
        why = problem.strerror if isinstance(problem, OSError) and not isinstance(problem, ssl.SSLError) else None
        return failure(
            f"The file of {PREFIX}CA_BUNDLE cannot be used: {why or 'it is no PEM file with certificates'}.",
            "Name a PEM file with the certificates of authorities.",
        )
    ended = sum(_days(one) < 0 for one in found)
    if ended:
        return warning(
            f"{ended} of {len(found)} authorities in {PREFIX}CA_BUNDLE have ended.", "Renew them in the file."
        )
    if (days := min(map(_days, found))) < _SOON:
        which = "The authority" if len(found) == 1 else f"One of the {len(found)} authorities"
        return warning(
            f"{which} in {PREFIX}CA_BUNDLE ends in {_of_days(days)}.",
            "Add the one that follows it to the file, and restart every node.",
        )
    return ok(f"{PREFIX}CA_BUNDLE has {len(found)} {'authority' if len(found) == 1 else 'authorities'}.")


# --- All of them, for a page ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A certificate that this node shows or trusts. ``ends_at``: of several, the first end; None when none is read."""

    title: str
    ends_at: datetime | None
    finding: Finding


def kept(chosen: Settings) -> tuple[Kept, ...]:
    """All that this node has, as its files are now."""
    own = our_file(chosen)
    found = [Kept("Our TLS certificate", None if own is None else end_of(own), ours_found(chosen))]
    if chosen.self_signed:
        file = self_signed.authority_file(chosen.data_dir)
        found.append(Kept("Authority of our own", _first_end(file), authority_found(file)))
    shown = [file for file in (chosen.relay_client_cert, chosen.vault_client_cert) if file is not None]
    ends = min((end for file in shown if (end := end_of(file)) is not None), default=None)
    found.append(Kept("Client certificates for relays and vaults", ends, client_certificates_found(chosen)))
    bundle = chosen.ca_bundle
    found.append(
        Kept("Authorities trusted besides", None if bundle is None else _first_end(bundle), authorities_found(bundle))
    )
    return tuple(found)


def our_file(chosen: Settings) -> Path | None:
    """The certificate that callers see; None when we speak http."""
    if chosen.self_signed:
        return self_signed.authority_file(chosen.data_dir).with_name("server.pem")
    return chosen.tls_cert


def end_of(file: Path) -> datetime | None:
    """When the first certificate of a file ends; None when none can be read."""
    return _first_end(file, 1)


def _first_end(file: Path, most: int | None = None) -> datetime | None:
    try:
        return min(one.not_valid_after_utc for one in _read(file)[:most])
    except _UNREADABLE:
        return None


# --- What one certificate says -------------------------------------------------------------------------------


def _unfitting(certificate: Path, key: Path | None, named: str, key_named: str) -> Finding | None:
    """Why a certificate cannot be used; its file is named by the setting, which may hold anything."""
    try:
        _read(certificate)
    except _UNREADABLE as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is no PEM file with a certificate"
        return failure(f"The file of {PREFIX}{named} cannot be used: {why}.", f"Correct {PREFIX}{named}.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except ssl.SSLError:
        return failure(
            f"The private key of {PREFIX}{key_named} does not belong to {PREFIX}{named}, or has a pass phrase.",
            "Give the key that belongs to the certificate, as a PEM file without a pass phrase.",
        )
    except OSError as problem:
        return failure(
            f"The file of {PREFIX}{key_named} cannot be read: {problem.strerror}.", f"Correct {PREFIX}{key_named}."
        )
    return None


def _read(file: Path) -> list[x509.Certificate]:
    """Raises OSError, or ValueError when there is none in it."""
    return list(_parsed(file.read_bytes()))


# A bundle of all authorities takes longer to read than a page may.
@lru_cache(maxsize=2)
def _trust(file: Path, content: bytes) -> None:  # noqa: ARG001 - what the file is known by
    """Raises SSLError or OSError when TLS cannot take the authorities from the file."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=file)


@lru_cache(maxsize=8)
def _parsed(content: bytes) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(content))


def _days(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - datetime.now(UTC)).days


def _of_days(days: int) -> str:
    return f"{days} {'day' if days == 1 else 'days'}"


def _lasting(certificate: x509.Certificate, about: str, soon: int, advice: str) -> Finding:
    days = _days(certificate)
    if certificate.not_valid_before_utc > datetime.now(UTC):
        return failure(f"{about} is not valid yet.", "Look at the clock of this machine, and at the certificate.")
    if days < 0:
        return failure(f"{about} has ended {-days} days ago.", advice)
    told = f"{about} ends in {_of_days(days)}."
    if days < _NOW:
        return failure(told, advice)
    return warning(told, advice) if days < soon else ok(told)


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "") if names else "no name at all"


def _names_host(names: list[str], host: str) -> bool:
    """Whether a client that calls us what we listen on is content; what stands for every address names nobody."""
    if not names:
        return False
    try:
        anywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        anywhere = False
    if anywhere or is_loopback(host):
        return True
    wild = "*." + host.partition(".")[2]
    return any(name.lower() in {host.lower(), wild.lower()} for name in names)
