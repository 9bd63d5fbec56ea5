"""Every setting of keyrelay, read once from the environment into one frozen value.

A setting is a field of :class:`Settings`; its variable, default, meaning and parser stand in the field itself, and
``docs/reference/settings.md`` is generated from them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from keyrelay.errors import SettingsInvalid

PREFIX = "KEYRELAY_"


@dataclasses.dataclass(frozen=True, slots=True)
class Variable:
    """How one setting is read: its variable, what it means, and whether it is a secret (then a _FILE twin exists)."""

    meaning: str
    parse: Callable[[str], Any]
    default_text: str
    secret: bool = False


def _setting(
    meaning: str, parse: Callable[[str], Any], default: Any, *, secret: bool = False, default_text: str | None = None
) -> Any:
    text = default_text if default_text is not None else "none" if default is None else str(default)
    variable = Variable(meaning, parse, text, secret=secret)
    return dataclasses.field(default=default, repr=not secret, metadata={"variable": variable})


def _yes_or_no(text: str) -> bool:
    if text.lower() in {"yes", "true", "on", "1"}:
        return True
    if text.lower() in {"no", "false", "off", "0"}:
        return False
    raise ValueError("must be yes or no")


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return text.lower()

    return parse


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _base_path(text: str) -> str:
    path = "/" + text.strip("/")
    ours = path.lower().split("/")[1] in {"api", "docs"}
    if ours or not re.fullmatch(r"/[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a plain path such as /KeyfactorAPI, and none of our own (/api, /docs)")
    return path


def _product_version(text: str) -> str:
    if not re.fullmatch(r"\d{1,5}(\.\d{1,5}){3}", text, re.ASCII):
        raise ValueError("must be four numbers with dots, such as 11.6.0.0")
    return text


def _database_url(text: str) -> str:
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


def _hello_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Za-z.:]{3,45}\]", text, re.ASCII):
        raise ValueError("must be a host name such as mail.example.org, or an address in brackets such as [192.0.2.1]")
    return text


def _variable_prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{1,63}", text, re.ASCII) or text.upper().startswith(PREFIX):
        raise ValueError("must be the beginning of a name such as SMTP_, of two letters or more, and not our own")
    return text


def _name_servers(text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    servers = tuple(server.strip() for server in text.split(","))
    if not all(re.fullmatch(r"[0-9a-fA-F.:]{3,45}|\[[0-9a-fA-F:]{2,45}\]:\d{1,5}", server) for server in servers):
        raise ValueError("must be addresses with commas between, such as 192.0.2.1,192.0.2.2:5353, or none")
    return servers


def _text(text: str) -> str:
    return text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has decided. Secret settings are left out of its representation."""

    data_dir: Path = _setting(
        "Directory for the SQLite database, the master key file and self-signed certificates. Made on first start, "
        "readable by its owner alone.",
        Path,
        Path(".keyrelay"),
    )
    database_url: str | None = _setting(
        "Where the data is kept: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE` (libpq parameters such "
        "as `sslmode=verify-full` work).",
        _database_url,
        None,
        secret=True,
        default_text="keyrelay.db in the data directory",
    )
    master_key: str | None = _setting(
        "Key that protects all stored secrets: 32 random bytes in base64 (`openssl rand -base64 32`). Without it, "
        "`master.key` in the data directory is used, and made on first start.",
        _text,
        None,
        secret=True,
        default_text="master.key in the data directory",
    )
    previous_master_key: str | None = _setting(
        "The old master key, while it is being replaced: set both, restart every node, run `keyrelay keys rotate`, "
        "and take this one away.",
        _text,
        None,
        secret=True,
    )
    admin_password: str | None = _setting(
        "Password of the user `admin`, made on first start when there are no users. Without it one is generated and "
        "shown once.",
        _text,
        None,
        secret=True,
        default_text="generated",
    )
    host: str = _setting("Address to listen on.", _text, "127.0.0.1")
    port: int = _setting("Port to listen on; 0 takes any free one and prints it.", _number(0, 65535), 8080)
    workers: int = _setting("Server processes.", _number(1, 64), 1)
    tls_cert: Path | None = _setting(
        "PEM file with our certificate and its chain; with it keyrelay speaks https. It is read at the "
        "start: restart keyrelay when it was renewed.",
        Path,
        None,
    )
    tls_key: Path | None = _setting("PEM file with the private key of that certificate.", Path, None)
    self_signed: bool = _setting(
        "Speak https with a certificate from an own authority, made in the data directory on first start.",
        _yes_or_no,
        False,
        default_text="no",
    )
    allow_plain_http: bool = _setting(
        "Allow http without TLS on addresses other than loopback. Passwords then cross that network readable by "
        "anyone on it.",
        _yes_or_no,
        False,
        default_text="no",
    )
    allow_insecure_sign_in: bool = _setting(
        "Allow credentials to be sent to the relay, the token endpoint or a vault over an unencrypted connection, and "
        "to the relay over an unverified one.",
        _yes_or_no,
        False,
        default_text="no",
    )
    ca_bundle: Path | None = _setting(
        "PEM file with authorities to trust beside the system's: for the relay, the token endpoint and vaults.",
        Path,
        None,
    )
    relay_client_cert: Path | None = _setting(
        "PEM file with the certificate (and its chain) that keyrelay shows to a relay that asks for one.", Path, None
    )
    relay_client_key: Path | None = _setting(
        "PEM file with the private key of that certificate, without a pass phrase.", Path, None
    )
    hello_name: str | None = _setting(
        "Name that keyrelay says to the relay in EHLO. Some relays look it up in DNS.",
        _hello_name,
        None,
        default_text="this machine's name, or its address when the name has no domain",
    )
    token_authentication: Literal["client_secret_post", "client_secret_basic"] = _setting(
        "How the client secret is shown to the token endpoint. A client secret that is a private key (PEM or JWK) "
        "signs an assertion instead (private_key_jwt), whatever is set here.",
        _one_of("client_secret_post", "client_secret_basic"),
        "client_secret_post",
    )
    name_servers: tuple[str, ...] | None = _setting(
        "Name servers that a diagnosis asks about the sender's domain, with commas between; `none` to ask nobody.",
        _name_servers,
        None,
        default_text="the system's",
    )
    pam_seconds: int = _setting("How many seconds a vault may take to give a secret.", _number(1, 60), 10)
    pam_cache_seconds: int = _setting(
        "For how many seconds a secret from a vault is used again without asking. One that the relay refuses is asked "
        "for anew at once.",
        _number(0, 3600),
        30,
    )
    pam_stale_seconds: int = _setting(
        "For how many seconds after that it is still used while the vault cannot be reached; 0 for not at all.",
        _number(0, 86_400),
        0,
    )
    vault_client_cert: Path | None = _setting(
        "PEM file with the certificate (and its chain) that keyrelay shows to vaults that ask for one, such as "
        "CyberArk.",
        Path,
        None,
    )
    vault_client_key: Path | None = _setting(
        "PEM file with the private key of that certificate, without a pass phrase.", Path, None
    )
    secret_files: Path | None = _setting(
        "Directory whose files the provider type Mounted-File may read, such as a mounted Kubernetes secret.",
        Path,
        None,
    )
    secret_variables: str | None = _setting(
        "How the names of the environment variables begin that the provider type Environment may read, such as "
        "`SMTP_`.",
        _variable_prefix,
        None,
    )
    tests_at_once: int = _setting("How many tests and diagnoses each process runs at once.", _number(1, 100), 4)
    tests_per_minute: int = _setting("How many tests and diagnoses each user may start a minute.", _number(1, 1000), 10)
    base_path: str = _setting("Path of the compatible API.", _base_path, "/KeyfactorAPI")
    product_version: str = _setting(
        "Value of X-Keyfactor-Product-Version. kfutil refuses to change PAM providers when its first number is 12 or "
        "more.",
        _product_version,
        "11.6.0.0",
    )
    require_requested_with: bool = _setting(
        "Refuse every request without the header x-keyfactor-requested-with, as the original does.",
        _yes_or_no,
        False,
        default_text="no",
    )
    history_secrets: int = _setting(
        "How many of the newest profiles keep their stored secrets, so that they can be restored. Older ones keep "
        "their history, and their secrets are erased.",
        _number(2, 1000),
        20,
    )
    log_level: str = _setting(
        "Least important messages that are logged.", _one_of("debug", "info", "warning", "error"), "info"
    )
    log_format: str = _setting("`text` for people, `json` for machines.", _one_of("text", "json"), "text")

    @property
    def sqlite_file(self) -> Path | None:
        """The SQLite database file, or None when PostgreSQL is used."""
        if self.database_url is None:
            return self.data_dir / "keyrelay.db"
        if self.database_url.startswith("sqlite:///"):
            return Path(self.database_url.removeprefix("sqlite:///"))
        return None


def variables() -> list[tuple[str, str, Variable]]:
    """(variable name, field name, how it is read) of every setting, in the order of this file."""
    return [
        (PREFIX + field.name.upper(), field.name, field.metadata["variable"]) for field in dataclasses.fields(Settings)
    ]


def read(environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    An empty variable counts as unset. Raises SettingsInvalid with every problem at once, a misspelt KEYRELAY_ name
    included; the value of a secret is never repeated.
    """
    environ = {name: text for name, text in environ.items() if not _of_kubernetes(name, text)}
    values: dict[str, Any] = {}
    problems: list[str] = []
    known: set[str] = set()
    for name, field, variable in variables():
        known.add(name)
        if variable.secret:
            known.add(name + "_FILE")
        try:
            text = _given(environ, name, variable)
            if text is not None:
                values[field] = variable.parse(text)
        except ValueError as problem:
            problems.append(f"{name} {problem}")
    problems.extend(
        f"{name} is not a setting of keyrelay"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    )
    if (values.get("tls_cert") is None) != (values.get("tls_key") is None):
        problems.append("KEYRELAY_TLS_CERT and KEYRELAY_TLS_KEY belong together")
    if values.get("relay_client_key") is not None and values.get("relay_client_cert") is None:
        problems.append("KEYRELAY_RELAY_CLIENT_KEY needs KEYRELAY_RELAY_CLIENT_CERT")
    if values.get("vault_client_key") is not None and values.get("vault_client_cert") is None:
        problems.append("KEYRELAY_VAULT_CLIENT_KEY needs KEYRELAY_VAULT_CLIENT_CERT")
    if values.get("self_signed") and values.get("tls_cert") is not None:
        problems.append("KEYRELAY_SELF_SIGNED and KEYRELAY_TLS_CERT exclude each other")
    if problems:
        raise SettingsInvalid("; ".join(problems) + ".")
    return Settings(**values)


def _of_kubernetes(name: str, text: str) -> bool:
    """Whether a variable only tells of a Kubernetes service that is called keyrelay, as every pod beside it is told."""
    told = re.fullmatch(PREFIX + r"(SERVICE_(HOST|PORT)\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)", name) is not None
    return told or (name == PREFIX + "PORT" and "://" in text)


def _given(environ: Mapping[str, str], name: str, variable: Variable) -> str | None:
    direct = environ.get(name) or None
    path = environ.get(name + "_FILE") or None if variable.secret else None
    if path is None:
        return direct
    if direct is not None:
        raise ValueError(f"and {name}_FILE exclude each other")
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "not UTF-8 text"
        raise ValueError(f"cannot be read from {path}: {reason}") from None
    if not text:
        raise ValueError(f"cannot be read from {path}: it is empty")
    return text
