"""How the text of a setting becomes its value. Each raises ValueError, with words that follow the variable's name."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

PREFIX = "KEYRELAY_"

Network = IPv4Network | IPv6Network


def yes_or_no(text: str) -> bool:
    if text.lower() in {"yes", "true", "on", "1"}:
        return True
    if text.lower() in {"no", "false", "off", "0"}:
        return False
    raise ValueError("must be yes or no")


def one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return text.lower()

    return parse


def number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,19}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def base_path(text: str) -> str:
    path = "/" + text.strip("/")
    ours = path.lower().split("/")[1] in {"api", "docs"}
    if ours or not re.fullmatch(r"/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a plain path such as /KeyfactorAPI, and none of our own (/api, /docs)")
    return path


def product_version(text: str) -> str:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,5}){3}", text, re.ASCII):
        raise ValueError("must be four numbers with dots, such as 11.6.0.0")
    return text


def database_url(text: str) -> str:
    try:
        scheme = urlsplit(text).scheme
    except ValueError:  # its words may hold a part of the password
        raise ValueError(
            "cannot be read; in a password, write / @ : # [ ] and % as %2F %40 %3A %23 %5B %5D and %25"
        ) from None
    if scheme == "sqlite":
        if not text.startswith("sqlite:///") or text in {"sqlite:///", "sqlite:///:memory:"}:
            raise ValueError("must name a file, as in sqlite:///keyrelay.db or sqlite:////var/lib/keyrelay/keyrelay.db")
    elif scheme not in {"postgresql", "postgres"}:
        raise ValueError("must begin with sqlite:/// or postgresql://")
    return text


def authority(text: str) -> str:
    """The issuer of an OpenID Connect provider (OpenID Connect Discovery 1.0 section 3)."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or len(text) > 1024 or re.search(r"[^!-~]|[?#@\\\\]", text):  # noqa: PLR2004 - longer than any
        raise ValueError("must be a URL such as https://login.example.org/tenant, without user, query and fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must begin with https://; http:// is for this machine alone")
    return text


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def audience(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,512}", text):
        raise ValueError("must be 1 to 512 visible characters, such as api://keyrelay")
    return text


def client_id(text: str) -> str:
    """What a provider calls a client of its own (RFC 6749 appendix A.1), without spaces, which none uses."""
    if not re.fullmatch(r"[!-~]{1,512}", text):
        raise ValueError("must be 1 to 512 visible characters, as the identity provider shows it")
    return text


# What names of local users, of API tokens and of those on the command line begin with.
_TAKEN_SCHEMES = {"keyrelay", "token", "cli"}


def scheme(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text, re.ASCII) or text.lower() in _TAKEN_SCHEMES:
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes and underscores, and not keyrelay, token or cli"
        )
    return text


def claim_names(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What stands in which claims, as in ``roles=roles,realm_access.roles groups=groups``."""
    pairs = [(what, tuple(claims.split(","))) for what, _, claims in (word.partition("=") for word in text.split())]
    known = {"name", "roles", "groups", "subject", "client_id", "oid"}
    named = [name for _, claims in pairs for name in claims]
    if (
        {what for what, _ in pairs} - known
        or len({what for what, _ in pairs}) < len(pairs)
        or not all(re.fullmatch(r"[!-+\--~]{1,256}", name) for name in named)
        or len(named) > 60  # noqa: PLR2004 - more than anybody needs
    ):
        raise ValueError(
            "must say where name, roles, groups, subject, client_id and oid stand: roles=realm_access.roles"
        )
    return tuple(pairs)


def hello_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Za-z.:]{3,45}\]", text, re.ASCII):
        raise ValueError("must be a host name such as mail.example.org, or an address in brackets such as [192.0.2.1]")
    return text


def variable_prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{1,63}", text, re.ASCII) or text.upper().startswith(PREFIX):
        raise ValueError("must be the beginning of a name such as SMTP_, of two letters or more, and not our own")
    return text


def name_servers(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    servers = tuple(server.strip() for server in text.split(","))
    if not all(re.fullmatch(r"[0-9a-fA-F.:]{3,45}|\[[0-9a-fA-F:]{2,45}\]:\d{1,5}", server) for server in servers):
        raise ValueError("must be addresses with commas between, such as 192.0.2.1,192.0.2.2:5353, or none")
    return servers


def networks(text: str) -> tuple[Network, ...]:
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) <= 100:  # noqa: PLR2004 - each is looked at for each request
            return tuple(map(ip_network, parts))
    except ValueError:
        pass
    raise ValueError(
        "must be addresses and networks with commas between, such as 10.0.0.7,10.1.0.0/16,2001:db8::/32; at most 100"
    )


def http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username is not None or parts.query or parts.fragment or not text.isprintable():
        raise ValueError("must be a URL such as https://collector.example.org:4318, without user name or query")
    return text


def waits(text: str) -> tuple[int, ...]:
    waits = tuple(word.strip() for word in text.split(","))
    if not all(re.fullmatch(r"[1-9]\d{0,5}", wait, re.ASCII) for wait in waits) or len(waits) > 20:  # noqa: PLR2004
        raise ValueError("must be seconds with commas between, such as 60,300,900; at most 20 of them")
    return tuple(map(int, waits))


def text(text: str) -> str:
    return text
