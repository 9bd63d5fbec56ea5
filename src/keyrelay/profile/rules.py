"""What makes a profile valid. Every violation is found and reported at once, and nothing is corrected silently."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from keyrelay.errors import BadInput, SecretRequired, UnknownReference, Violation
from keyrelay.profile.addresses import control_character, envelope_address, no_address
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.model import (
    SECRET_FIELDS,
    Anonymous,
    Authentication,
    Basic,
    OAuthClientCredentials,
    RequestHeader,
    SecretField,
    SmtpProfile,
)
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText, has_control, is_mask

_HOST_OCTETS = 253  # RFC 1035 section 2.3.4, without the root's dot
_ADDRESS_CHARACTERS = 320
_NAME_CHARACTERS = 255
_SECRET_CHARACTERS = 4096
_KEY_CHARACTERS = 16_384
_PRIVATE_KEY = "-----BEGIN"
_URL_CHARACTERS = 2048
_PARAMETERS = 32
_REQUEST_HEADERS = 32
_LAST_PORT = 65535
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # RFC 9110 section 5.6.2
# Headers that steer the connection or that the token request sets itself.
_OWN_HEADERS = {"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "upgrade", "trailer"}

_NEEDED: dict[str, tuple[SecretField, ...]] = {
    "anonymous": (),
    "basic": ("relay_username", "relay_password"),
    "oauth_client_credentials": ("client_id", "client_secret"),
}


_SPECIAL: dict[str, type[BadInput]] = {kind.code: kind for kind in (UnknownReference, SecretRequired)}


References = Callable[[str, FromPam], Iterable[Violation]]
"""What is wrong with a reference in a field (``pam.catalogue.Catalogue.violations``)."""


def _no_providers(field: str, source: FromPam) -> Iterator[Violation]:
    told = f"{{field}}: PAM provider {source.provider} does not exist."
    yield Violation(f"{field}.provider", UnknownReference.code, told)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules, with what the operator's settings allow."""

    allow_insecure_sign_in: bool = False

    def check(
        self, draft: ProfileDraft, earlier: tuple[Violation, ...] = (), references: References = _no_providers
    ) -> SmtpProfile:
        """Turn a draft into a profile.

        ``earlier``: violations that reading the request has found, to be reported together with these; a field that
        has one is not complained about again. ``references`` looks at references into providers. Raises BadInput, or
        its subclass when that is all there is to say.
        """
        spoken = {violation.field.partition(".")[0] for violation in earlier}
        found = [
            *earlier,
            *(
                violation
                for violation in self._violations(draft, references)
                if violation.field.partition(".")[0] not in spoken
            ),
        ]
        if found:
            codes = {violation.code for violation in found}
            special = _SPECIAL.get(codes.pop()) if len(codes) == 1 else None
            raise (special or BadInput)(tuple(found))
        return _profile(draft)

    def _violations(self, draft: ProfileDraft, references: References) -> Iterator[Violation]:
        yield from _texts(draft)
        yield from _host(draft.host)
        yield from _port(draft.port)
        yield from address("sender_account", draft.sender_account)
        if not draft.sender_name:
            yield _missing("sender_name")
        yield from _secrets(draft, references)
        if draft.authentication == "oauth_client_credentials":
            yield from self._token_endpoint(draft.token_endpoint)
            yield from _request_headers(draft.request_headers)

    def _token_endpoint(self, url: str | None) -> Iterator[Violation]:
        if not url:
            yield _missing("token_endpoint")
            return
        try:
            parts = urlsplit(url)
            usable = bool(parts.hostname) and parts.port != 0 and len(url) <= _URL_CHARACTERS
        except ValueError:
            usable = False
        if not usable or not url.isascii() or " " in url:
            yield Violation(
                "token_endpoint", "bad_url", "{field} is not a URL such as https://login.example.org/token."
            )
        elif parts.username is not None or parts.fragment:
            yield Violation("token_endpoint", "bad_url", "{field} must not hold a user name, a password or a fragment.")
        elif parts.scheme != "https" and not (parts.scheme == "http" and self.allow_insecure_sign_in):
            yield Violation(
                "token_endpoint",
                "insecure",
                "{field} must begin with https://, because the client secret is sent there.",
            )


def address(field: str, text: str | None) -> Iterator[Violation]:
    """The violations of an e-mail address in a field; one without any can be mailed from and to."""
    if not text:
        yield _missing(field)
        return
    if said := list(_text(field, text, _ADDRESS_CHARACTERS)):
        yield from said
        return
    import email_validator  # not needed to start and to read
    from email_validator import EmailNotValidError

    # Mail inside corp.local or to localhost is mail too.
    email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()
    try:
        email_validator.validate_email(
            text, check_deliverability=False, globally_deliverable=False, allow_domain_literal=True
        )
        envelope_address(text)
    except (EmailNotValidError, BadInput):
        yield no_address(field)


def _profile(draft: ProfileDraft) -> SmtpProfile:
    assert draft.host and draft.port and draft.sender_account and draft.sender_name  # noqa: S101,PT018 - just checked
    return SmtpProfile(
        host=draft.host,
        port=draft.port,
        use_ssl=draft.use_ssl,
        sender_account=draft.sender_account,
        sender_name=draft.sender_name,
        authentication=_authentication(draft),
    )


def _authentication(draft: ProfileDraft) -> Authentication:
    # What the sign-in does not use is not kept (docs/decisions/0006).
    if draft.authentication == "basic":
        assert draft.relay_username and draft.relay_password  # noqa: S101,PT018
        return Basic(draft.relay_username, draft.relay_password)
    if draft.authentication == "oauth_client_credentials":
        assert draft.client_id and draft.client_secret and draft.token_endpoint  # noqa: S101,PT018
        return OAuthClientCredentials(
            draft.client_id,
            draft.client_secret,
            draft.token_endpoint,
            draft.scope or None,
            draft.audience or None,
            draft.request_headers,
            draft.type_number,
        )
    return Anonymous()


def _missing(field: str) -> Violation:
    return Violation(field, "missing", "{field} is required.")


def _host(host: str | None) -> Iterator[Violation]:
    if not host:
        yield _missing("host")
        return
    if has_control(host) or len(host) > _HOST_OCTETS:
        return
    if host != host.strip(" \"'<>") or " " in host:
        yield Violation("host", "bad_host", "{field} has spaces, quotes or brackets around or in it.")
    elif "://" in host or "/" in host:
        yield Violation("host", "bad_host", "{field} must be a name such as smtp.example.org, not a URL.")
    elif not _is_host(host):
        yield Violation("host", "bad_host", "{field} is not a host name or IP address; the port has its own field.")


def _is_host(host: str) -> bool:
    address, _, zone = (host[1:-1] if host.startswith("[") and host.endswith("]") else host).partition("%")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return not host.startswith("[") and _is_name(host.removesuffix("."))
    return zone.isalnum() or "%" not in host


def _is_name(name: str) -> bool:
    import idna  # not needed to start and to read

    try:
        ascii_name = name if name.isascii() else idna.encode(name.lower()).decode("ascii")
    except UnicodeError:
        return False
    labels = ascii_name.split(".")
    return len(ascii_name) <= _HOST_OCTETS and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()


def _port(port: int | None) -> Iterator[Violation]:
    if not port:
        yield _missing("port")
    elif not 1 <= port <= _LAST_PORT:
        yield Violation("port", "out_of_range", f"{{field}} must be from 1 to {_LAST_PORT}; usual are 25, 587 and 465.")


def _texts(draft: ProfileDraft) -> Iterator[Violation]:
    """What holds for every text: no control characters, and a length that makes sense."""
    longest = {
        "host": _HOST_OCTETS,
        "sender_name": _NAME_CHARACTERS,
        "token_endpoint": _URL_CHARACTERS,
    }
    for field in ("host", "sender_name", "token_endpoint", "scope", "audience"):
        text: str | None = getattr(draft, field)
        if text:
            yield from _text(field, text, longest.get(field, 1024))


def _text(field: str, text: str, longest: int) -> Iterator[Violation]:
    if has_control(text):
        yield control_character(field)
    elif len(text) > longest:
        yield Violation(field, "too_long", f"{{field}} has more than {longest} characters.")


def _secrets(draft: ProfileDraft, references: References) -> Iterator[Violation]:
    needed = _NEEDED[draft.authentication]
    for field in SECRET_FIELDS:
        source: GivenSecret | None = getattr(draft, field)
        if source is None:
            if field in needed:
                yield _missing(field)
            continue
        if isinstance(source, FromPam):
            yield from _parameters(field, source)
            yield from references(field, source)
        elif isinstance(source, SecretText):
            yield from _secret(field, source.reveal())


def _secret(field: str, text: str) -> Iterator[Violation]:
    if field == "client_secret" and _PRIVATE_KEY in text:  # signs assertions; a PEM file has lines
        yield from _text(field, text.replace("\r", "").replace("\n", ""), _KEY_CHARACTERS)
    else:
        yield from _text(field, text, _SECRET_CHARACTERS)
    if is_mask(text):
        yield Violation(
            field, "mask", "{field} is a row of mask characters, which is a picture of a secret and not one."
        )


def _parameters(field: str, source: FromPam) -> Iterator[Violation]:
    if len(source.parameters) > _PARAMETERS:
        yield Violation(f"{field}.parameters", "too_many", f"{{field}} has more than {_PARAMETERS} parameters.")
        return
    for name, value in source.parameters.items():
        yield from _text(f"{field}.parameters", name, _NAME_CHARACTERS)
        yield from _text(f"{field}.parameters", value or "", _SECRET_CHARACTERS)


def _request_headers(headers: tuple[RequestHeader, ...]) -> Iterator[Violation]:
    field = "request_headers"
    if len(headers) > _REQUEST_HEADERS:
        yield Violation(field, "too_many", f"{{field}} has more than {_REQUEST_HEADERS} headers.")
        return
    for header in headers:
        if not _TOKEN.fullmatch(header.name):
            yield Violation(
                field, "bad_header", "{field} needs for each header a Name that HTTP allows (RFC 9110 5.6.2)."
            )
        elif header.name.lower() in _OWN_HEADERS:
            yield Violation(
                field, "bad_header", "{field} must not set " + header.name + ", which belongs to the connection."
            )
        elif not header.value.isascii() or header.value != header.value.strip():
            yield Violation(
                field, "bad_header", "{field} has a Value with spaces around it or characters outside ASCII."
            )
        yield from _text(field, header.value, _SECRET_CHARACTERS)
