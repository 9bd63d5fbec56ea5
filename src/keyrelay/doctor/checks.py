"""All checks, in the order in which a tired person wants to read them: what a start needs, then mail, then the rest.

To add one, write its function and name it here; docs/troubleshooting.md lists them all.
"""

from __future__ import annotations

from keyrelay.doctor import (
    certificates,
    configuration,
    database,
    files,
    identities,
    keys,
    outbox,
    people,
    profile,
    programs,
    relay,
    trail,
    vaults,
)
from keyrelay.doctor.model import Check

_ASKING = 30.0  # of the explained test
_FETCHING = 65.0  # KEYRELAY_PAM_SECONDS is 60 at the most

CHECKS: tuple[Check, ...] = (
    # What a start needs.
    Check("settings", "every setting can be read, and none is misspelt", configuration.readable),
    Check("settings-fit", "no setting contradicts another", configuration.fitting),
    Check("settings-safe", "no setting makes keyrelay less safe than it is by itself", configuration.safe),
    Check("address", "keyrelay serve may listen where it is told to", configuration.address),
    Check("port", "the port is free, or nodes are alive that may have it", configuration.port),
    Check("data-dir", "the data directory is there, writable, and ours alone", files.data_dir),
    Check("database", "the database answers", database.database),
    Check("schema", "the database has a schema that this keyrelay works on", database.schema, "database"),
    Check("master-key", "the master key opens every data key", keys.master_key, "data"),
    # Mail.
    Check("profile", "there is a profile, and it keeps all rules", profile.configured, "data"),
    Check("profile-secrets", "the secrets that the profile keeps here can be opened", profile.secrets, "secrets"),
    Check("vault", "the vaults give the secrets that the profile names", vaults.secrets, "secrets", _FETCHING),
    Check("vault-libraries", "the extras that the provider types in use need are installed", vaults.libraries, "data"),
    Check("relay", "the relay can be reached, and its TLS is what was asked for", relay.relay, "profile", _ASKING),
    Check("microsoft-basic", "the profile does not wait for Microsoft to end passwords", profile.microsoft, "profile"),
    Check("outbox", "nothing pauses the outbox or slows it down", outbox.going, "data"),
    Check("outbox-waiting", "no message waits for long, or for a person", outbox.waiting, "data"),
    Check("outbox-workers", "somebody sends what waits", outbox.working, "data"),
    Check("outbox-room", "the outbox has room for more", outbox.full, "data"),
    Check("relay-limits", "the limits of the relay are not used up", outbox.limits, "data"),
    # What it stands on.
    Check("nodes", "nodes are alive, and of one version", outbox.nodes, "data"),
    Check("disk-space", "the disk of the data directory has room", files.disk_space),
    Check("file-system", "the SQLite file lies on a disk of this machine", files.file_system),
    Check("database-durability", "the database keeps what it has confirmed", database.durability, "database"),
    Check("database-connections", "PostgreSQL takes more connections", database.connections, "database"),
    Check("database-integrity", "the SQLite file is not damaged", database.integrity, "database"),
    Check("clock", "our clock agrees with the database's", database.clock, "data"),
    # Keys and certificates.
    Check("key-file", "nobody else can read the master key's file", files.key_file),
    Check("previous-master-key", "no old master key was left behind", keys.previous_master_key, "data"),
    Check("tls-certificate", "our certificate fits its key, names us, and lasts", certificates.ours),
    Check("local-authority", "the authority of --self-signed lasts", certificates.authority),
    Check("client-certificates", "the certificates that relays and vaults see last", certificates.for_others),
    Check("ca-bundle", "the authorities that are trusted besides can be read", certificates.authorities),
    # People.
    Check("administrator", "somebody with a password here may do everything", people.administrator, "data"),
    Check("users", "every user has a role", people.roleless, "data"),
    Check(
        "identity-providers",
        "those enabled give the keys that sign tokens",
        identities.providers,
        "data",
        15.0,
    ),
    Check(
        "audit-trail", "the head of the audit trail is sealed, and the newest entries are whole", trail.trail, "keys"
    ),
    # What it runs on.
    Check("python", "Python gets security fixes", programs.python),
    Check("openssl", "OpenSSL gets security fixes", programs.openssl),
    Check("uvloop", "the event loop of servers can be loaded", programs.uvloop),
    Check("locale", "texts are UTF-8", programs.locale),
)
