"""Reasons not to start."""

from __future__ import annotations

from keyrelay.errors.root import KeyrelayError


class CannotStart(KeyrelayError):
    """A reason not to start; the command ends with one line and exit code 1."""

    code = "cannot_start"
    remedy = "See the message."


class SettingsInvalid(CannotStart):
    """One or more KEYRELAY_ settings cannot be used."""

    code = "settings_invalid"
    remedy = "Correct the settings named; docs/reference/settings.md lists them all."


class PortInUse(CannotStart):
    """Another program listens on the address and port."""

    code = "port_in_use"
    remedy = "Stop it, or choose another port with --port or KEYRELAY_PORT."


class CannotListen(CannotStart):
    """The address cannot be listened on."""

    code = "cannot_listen"
    remedy = "Choose an address of this machine with --host, and a port you may use (below 1024 needs rights)."


class PlainHttpRefused(CannotStart):
    """Passwords would cross a network unencrypted."""

    code = "plain_http_refused"
    remedy = (
        "Give --tls-cert and --tls-key, or --self-signed. Behind a proxy that does TLS on the same trusted network, "
        "set KEYRELAY_ALLOW_PLAIN_HTTP=yes."
    )


class TlsUnusable(CannotStart):
    """The certificate or its key cannot be used."""

    code = "tls_unusable"
    remedy = "Give a certificate chain and the private key that belongs to it, both as PEM files without a pass phrase."


class TrustUnusable(CannotStart):
    """The file of own authorities, or a client certificate for the relay or for vaults, cannot be used."""

    code = "trust_unusable"
    remedy = "Correct KEYRELAY_CA_BUNDLE, or the client certificate and key that the message names: PEM files."


class DataDirUnusable(CannotStart):
    """The data directory cannot be written."""

    code = "data_dir_unusable"
    remedy = "Make the directory writable for this user, or name another with KEYRELAY_DATA_DIR."


class DatabaseUnreachable(CannotStart):
    """The database cannot be opened."""

    code = "database_unreachable"
    remedy = "Check KEYRELAY_DATABASE_URL, that the database runs, and that user and password are right."


class DatabaseNewer(CannotStart):
    """The database was last used by a newer keyrelay."""

    code = "database_newer"
    remedy = "Install that version or a later one; going back needs a backup from before the upgrade."


class MasterKeyMissing(CannotStart):
    """The database holds encrypted secrets and there is no master key to open them."""

    code = "master_key_missing"
    remedy = (
        "Put the key file back, or give the key with KEYRELAY_MASTER_KEY or KEYRELAY_MASTER_KEY_FILE. "
        "keyrelay never makes a new key for old data."
    )


class MasterKeyWrong(CannotStart):
    """The master key is not the one that protects this database."""

    code = "master_key_wrong"
    remedy = (
        "Give the key that belongs to this database with KEYRELAY_MASTER_KEY or KEYRELAY_MASTER_KEY_FILE; "
        "while changing it, the old one as KEYRELAY_PREVIOUS_MASTER_KEY."
    )


class TracesUnusable(CannotStart):
    """Traces were asked for, and what sends them is not installed."""

    code = "traces_unusable"
    remedy = 'Install it (pip install "keyrelay[otel]"), or leave KEYRELAY_OTLP_ENDPOINT out.'
