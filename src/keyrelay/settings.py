"""Every setting of keyrelay, read once from the environment into one frozen value.

A setting is a field of :class:`Settings`; its variable, default, meaning and parser stand in the field itself, and
``docs/reference/settings.md`` is generated from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from keyrelay import setting_reading
from keyrelay import setting_values as values
from keyrelay.errors import SettingsInvalid
from keyrelay.setting_fields import Variable, setting
from keyrelay.setting_problems import Problem
from keyrelay.setting_values import PREFIX


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has decided. Secret settings are left out of its representation."""

    data_dir: Path = setting(
        "Directory for the SQLite database, the master key file and self-signed certificates. Made on first start, "
        "readable by its owner alone.",
        Path,
        Path(".keyrelay"),
    )
    database_url: str | None = setting(
        "Where the data is kept: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/DATABASE` (libpq parameters such "
        "as `sslmode=verify-full` work).",
        values.database_url,
        None,
        secret=True,
        default_text="keyrelay.db in the data directory",
    )
    master_key: str | None = setting(
        "Key that protects all stored secrets: 32 random bytes in base64 (`openssl rand -base64 32`). Without it, "
        "`master.key` in the data directory is used, and made on first start.",
        values.text,
        None,
        secret=True,
        default_text="master.key in the data directory",
    )
    previous_master_key: str | None = setting(
        "The old master key, while it is being replaced: set both, restart every node, run `keyrelay keys rotate`, "
        "and take this one away.",
        values.text,
        None,
        secret=True,
    )
    admin_password: str | None = setting(
        "Password of the user `admin`, made on first start when there are no users. Without it one is generated and "
        "shown once.",
        values.text,
        None,
        secret=True,
        default_text="generated",
    )
    host: str = setting("Address to listen on.", values.text, "127.0.0.1")
    port: int = setting("Port to listen on; 0 takes any free one and prints it.", values.number(0, 65535), 8080)
    workers: int = setting("Server processes.", values.number(1, 64), 1)
    tls_cert: Path | None = setting(
        "PEM file with our certificate and its chain; with it keyrelay speaks https. It is read at the "
        "start: restart keyrelay when it was renewed.",
        Path,
        None,
    )
    tls_key: Path | None = setting("PEM file with the private key of that certificate.", Path, None)
    self_signed: bool = setting(
        "Speak https with a certificate from an own authority, made in the data directory on first start.",
        values.yes_or_no,
        False,
        default_text="no",
    )
    allow_plain_http: bool = setting(
        "Allow http without TLS on addresses other than loopback. Passwords then cross that network readable by "
        "anyone on it.",
        values.yes_or_no,
        False,
        default_text="no",
    )
    connections: int = setting(
        "How many connections may be open to each server process; a probe of /livez still gets through then.",
        values.number(1, 100_000),
        1000,
    )
    trusted_proxies: tuple[values.Network, ...] = setting(
        "Addresses and networks of proxies, with commas between: what they say in X-Forwarded-For and X-Request-Id is "
        "believed. The header Forwarded is not read.",
        values.networks,
        (),
        default_text="none",
    )
    allow_insecure_sign_in: bool = setting(
        "Allow credentials to be sent to the relay, the token endpoint or a vault over an unencrypted connection, and "
        "to the relay over an unverified one.",
        values.yes_or_no,
        False,
        default_text="no",
    )
    ca_bundle: Path | None = setting(
        "PEM file with authorities to trust beside the system's: for the relay, the token endpoint, vaults and "
        "identity providers.",
        Path,
        None,
    )
    relay_client_cert: Path | None = setting(
        "PEM file with the certificate (and its chain) that keyrelay shows to a relay that asks for one.", Path, None
    )
    relay_client_key: Path | None = setting(
        "PEM file with the private key of that certificate, without a pass phrase.", Path, None
    )
    hello_name: str | None = setting(
        "Name that keyrelay says to the relay in EHLO. Some relays look it up in DNS.",
        values.hello_name,
        None,
        default_text="this machine's name, or its address when the name has no domain",
    )
    token_authentication: Literal["client_secret_post", "client_secret_basic"] = setting(
        "How the client secret is shown to the token endpoint. A client secret that is a private key (PEM or JWK) "
        "signs an assertion instead (private_key_jwt), whatever is set here.",
        values.one_of("client_secret_post", "client_secret_basic"),
        "client_secret_post",
    )
    name_servers: tuple[str, ...] | None = setting(
        "Name servers that a diagnosis asks about the sender's domain, with commas between; `none` to ask nobody.",
        values.name_servers,
        None,
        default_text="the system's",
    )
    pam_seconds: int = setting("How many seconds a vault may take to give a secret.", values.number(1, 60), 10)
    pam_cache_seconds: int = setting(
        "For how many seconds a secret from a vault is used again without asking. One that the relay refuses is asked "
        "for anew at once.",
        values.number(0, 3600),
        30,
    )
    pam_stale_seconds: int = setting(
        "For how many seconds after that it is still used while the vault cannot be reached; 0 for not at all.",
        values.number(0, 86_400),
        0,
    )
    vault_client_cert: Path | None = setting(
        "PEM file with the certificate (and its chain) that keyrelay shows to vaults that ask for one, such as "
        "CyberArk.",
        Path,
        None,
    )
    vault_client_key: Path | None = setting(
        "PEM file with the private key of that certificate, without a pass phrase.", Path, None
    )
    secret_files: Path | None = setting(
        "Directory whose files the provider type Mounted-File may read, such as a mounted Kubernetes secret.",
        Path,
        None,
    )
    secret_variables: str | None = setting(
        "How the names of the environment variables begin that the provider type Environment may read, such as "
        "`SMTP_`.",
        values.variable_prefix,
        None,
    )
    oidc_authority: str | None = setting(
        "An OpenID Connect provider whose tokens are accepted: its issuer, letter by letter. Further ones are added "
        "with `keyrelay idp add`.",
        values.authority,
        None,
    )
    oidc_audience: str | None = setting(
        "Whom the tokens of that provider have to be for (`aud`); belongs to KEYRELAY_OIDC_AUTHORITY.",
        values.audience,
        None,
    )
    oidc_scheme: str = setting(
        "What that provider is called in claims of roles, and before the names of its users. One of the same name that "
        "`keyrelay idp add` has kept is not asked meanwhile.",
        values.scheme,
        "oidc",
    )
    oidc_claims: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        "In which claims of those tokens it stands who somebody is, where that differs from the default.",
        values.claim_names,
        (),
        default_text="name=preferred_username,sub roles=roles groups=groups subject=sub client_id=azp,client_id,appid "
        "oid=oid",
    )
    oidc_client_id: str | None = setting(
        "The client that keyrelay is registered as at that provider, so that people sign in to the portal through it. "
        "They come back to `KEYRELAY_PUBLIC_URL/portal/signed-in`.",
        values.client_id,
        None,
    )
    oidc_client_secret: str | None = setting(
        "The secret of that client; none for a public client, which PKCE alone protects.",
        values.text,
        None,
        secret=True,
    )
    worker: bool = setting(
        "Send the messages of the outbox in the server itself. With `no`, some `keyrelay worker` has to.",
        values.yes_or_no,
        True,
        default_text="yes",
    )
    relay_sessions: int = setting(
        "How many messages each process hands to the relay at once.", values.number(1, 256), 8
    )
    relay_seconds: int = setting(
        "How many seconds the relay may take for each answer when a message is delivered.", values.number(5, 900), 120
    )
    relay_limits: str = setting(
        "Limits of a known relay that all nodes together keep: `office365` (3 connections, 30 messages a minute, "
        "10,000 recipients a day), `azure-communication-services`, `google-workspace`, `google-relay`, "
        "`amazon-ses-sandbox`, or `none`.",
        values.one_of(
            *("none", "office365", "azure-communication-services", "google-workspace", "google-relay"),
            "amazon-ses-sandbox",
        ),
        "none",
    )
    relay_connections: int | None = setting(
        "How many connections to the relay all nodes together have at most.", values.number(1, 1000), None
    )
    relay_messages_per_minute: int | None = setting(
        "How many messages all nodes together send in any minute.", values.number(1, 1_000_000), None
    )
    relay_recipients_per_day: int | None = setting(
        "To how many recipients all nodes together send in any 24 hours.", values.number(1, 100_000_000), None
    )
    retry_waits: tuple[int, ...] = setting(
        "Seconds before the second, third, … attempt at a message, with commas between; the last stands for all that "
        "follow.",
        values.waits,
        (60, 300, 900, 1800, 3600, 7200, 14400),
        default_text="60,300,900,1800,3600,7200,14400",
    )
    retry_hours: int = setting("For how many hours a message is tried, before it expires.", values.number(1, 2400), 120)
    unknown_outcome: Literal["retry", "hold"] = setting(
        "What becomes of a message when the connection was lost after its last byte and before the relay's answer: "
        "`retry` sends it again with the same Message-ID, `hold` keeps it until a person decides.",
        values.one_of("retry", "hold"),
        "retry",
    )
    lease_seconds: int = setting(
        "After how many seconds without a sign of life the other nodes take a node's messages over.",
        values.number(5, 600),
        30,
    )
    message_megabytes: int = setting("How many megabytes a message may have.", values.number(1, 150), 25)
    message_recipients: int = setting("How many recipients a message may have.", values.number(1, 10_000), 500)
    message_attachments: int = setting("How many attachments a message may have.", values.number(0, 1000), 100)
    outbox_megabytes: int = setting(
        "How many megabytes of messages the outbox holds. A message that would not fit is refused (507).",
        values.number(1, 10_000_000),
        4096,
    )
    keep_accepted_content_days: int = setting(
        "For how many days the content of a message is kept after the relay has accepted it; less when the outbox is "
        "crowded.",
        values.number(0, 3650),
        1,
    )
    keep_failed_content_days: int = setting(
        "For how many days the content of a message is kept that was refused, cancelled, or has expired: so long it "
        "can be sent again.",
        values.number(0, 3650),
        14,
    )
    keep_accepted_days: int = setting(
        "For how many days it is kept what became of a message that was accepted.", values.number(1, 3650), 30
    )
    keep_failed_days: int = setting(
        "For how many days it is kept what became of a message that was refused, cancelled, or has expired.",
        values.number(1, 3650),
        90,
    )
    keep_audit_days: int = setting(
        "For how many days entries of the audit trail are kept.", values.number(1, 36_500), 2557
    )
    open_metrics: bool = setting(
        "Show /metrics to everybody who can reach it. Otherwise whoever reads it signs in, with the permission "
        "/metrics/read/.",
        values.yes_or_no,
        False,
        default_text="no",
    )
    tests_at_once: int = setting("How many tests and diagnoses each process runs at once.", values.number(1, 100), 4)
    tests_per_minute: int = setting(
        "How many tests and diagnoses each user may start in any minute, on all nodes together.",
        values.number(1, 1000),
        10,
    )
    address_tests_per_minute: int = setting(
        "How many tests and diagnoses may be started from each address in any minute, on all nodes together.",
        values.number(1, 1_000_000),
        60,
    )
    submissions_per_minute: int = setting(
        "How many messages each user may hand in over HTTP in any minute, on all nodes together.",
        values.number(1, 1_000_000_000),
        60_000,
    )
    address_submissions_per_minute: int = setting(
        "How many messages may be handed in over HTTP from each address in any minute, on all nodes together.",
        values.number(1, 1_000_000_000),
        60_000,
    )
    public_url: str | None = setting(
        "Where people reach the root of this server, such as `https://mail.example.org/keyrelay`: identity providers "
        "send them back there after signing in.",
        values.http_url,
        None,
        default_text="what the browser asks for",
    )
    session_idle_minutes: int = setting(
        "Minutes without a click after which somebody has to sign in to the portal again.",
        values.number(1, 1440),
        30,
    )
    session_hours: int = setting(
        "Hours after which everybody has to sign in to the portal again.", values.number(1, 720), 12
    )
    base_path: str = setting("Path of the compatible API.", values.base_path, "/KeyfactorAPI")
    product_version: str = setting(
        "Value of X-Keyfactor-Product-Version. kfutil refuses to change PAM providers when its first number is 12 or "
        "more.",
        values.product_version,
        "11.6.0.0",
    )
    require_requested_with: bool = setting(
        "Refuse every request without the header x-keyfactor-requested-with, as the original does.",
        values.yes_or_no,
        False,
        default_text="no",
    )
    history_secrets: int = setting(
        "How many of the newest profiles keep their stored secrets, so that they can be restored. Older ones keep "
        "their history, and their secrets are erased.",
        values.number(2, 1000),
        20,
    )
    otlp_endpoint: str | None = setting(
        "OpenTelemetry collector that gets traces (OTLP over HTTP, the extra `otel`), such as "
        "`https://collector.example.org:4318`; http only on this machine, or with KEYRELAY_ALLOW_PLAIN_HTTP.",
        values.http_url,
        None,
    )
    log_level: str = setting(
        "Least important messages that are logged.", values.one_of("debug", "info", "warning", "error"), "info"
    )
    log_format: str = setting("`text` for people, `json` for machines.", values.one_of("text", "json"), "text")

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
    settings, problems = examined(environ)
    if problems:
        raise SettingsInvalid("; ".join(map(str, problems)) + ".")
    return settings


def examined(environ: Mapping[str, str]) -> tuple[Settings, tuple[Problem, ...]]:
    """The settings as far as they can be read, and what is wrong with the others: these have their defaults."""
    found, problems = setting_reading.values(variables(), environ)
    return Settings(**found), problems
