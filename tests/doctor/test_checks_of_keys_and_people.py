"""Keys, people, and the audit trail."""

from __future__ import annotations

import base64

import pytest

from doctoring import environment, found, looked
from keyrelay.audit.model import Category, Deed, Kind, Operation
from keyrelay.doctor import trail
from live import BASIC

OTHER_KEY = base64.b64encode(b"another master key, of 32 octets").decode()
DEED = Deed(Category.SMTP, Operation.UPDATED, Kind.PROFILE, "SMTP profile", "1")


@pytest.fixture
def environ(server):
    return environment(server.settings)


def change(server, sql, *values):
    async def run(node):
        async with node.store.change() as made:
            return await made.run(sql, *values)

    return server.run(run)


def rotated_key(server):
    """The key of the key file, as a setting."""
    return (server.settings.data_dir / "master.key").read_text().strip()


# --- Keys ----------------------------------------------------------------------------------------------------


def test_the_master_key_opens_every_data_key_or_the_one_that_it_does_not_open_is_named(environ, server):
    found(environ, "master-key", "ok", "opens the data key")

    async def another(node):
        async with node.store.change("keys") as made:
            await node.keyring.add_key(made)

    server.run(another)
    found(environ, "master-key", "ok", "all 2 data keys")
    change(server, "UPDATE data_key SET wrapped = $1 WHERE id = 2", b"x" * 60)
    found(environ, "master-key", "failure", "1 of 2 data keys cannot be opened (2)")


def test_a_wrong_master_key_is_told_and_what_needs_it_is_skipped(environ, server):
    server.put_v2(BASIC).raise_for_status()
    findings = looked(environ | {"KEYRELAY_MASTER_KEY": OTHER_KEY}, "master-key", "profile", "profile-secrets", "users")
    assert findings["master-key"].verdict == "failure"
    assert "not the one" in findings["master-key"].found
    assert OTHER_KEY not in str(findings)
    assert [findings[name].verdict for name in ("profile", "profile-secrets", "users")] == ["ok", "skipped", "ok"]


def test_a_missing_master_key_is_told_and_none_is_made(environ, server):
    file = server.settings.data_dir / "master.key"
    file.rename(file.with_name("away"))
    found(environ, "master-key", "failure", "no master key")
    assert not file.exists()
    file.write_text("not a key")
    found(environ, "master-key", "failure", "32 bytes in base64")


def test_a_previous_master_key_is_told_while_it_is_needed_and_when_it_can_go(environ, server):
    found(environ, "previous-master-key", "ok")
    replacing = environ | {"KEYRELAY_MASTER_KEY": OTHER_KEY, "KEYRELAY_PREVIOUS_MASTER_KEY": rotated_key(server)}
    finding = found(replacing, "previous-master-key", "warning", "still under the old one")
    assert "keyrelay keys rotate" in finding.advice
    done = environ | {"KEYRELAY_MASTER_KEY": rotated_key(server), "KEYRELAY_PREVIOUS_MASTER_KEY": OTHER_KEY}
    found(done, "previous-master-key", "warning", "nothing needs it any more")
    found(environ | {"KEYRELAY_MASTER_KEY": rotated_key(server)}, "previous-master-key", "ok")
    found(environ | {"KEYRELAY_MASTER_KEY": OTHER_KEY}, "previous-master-key", "warning", "not in use lies")


# --- People --------------------------------------------------------------------------------------------------


def test_an_administrator_with_a_password_is_what_is_wanted(environ, server):
    found(environ, "administrator", "ok", "1 user")
    change(server, "DELETE FROM role_holder")
    found(environ, "administrator", "failure", "Nobody may do everything")
    change(server, "INSERT INTO claim VALUES (1, 1, 'mail-admins', 'corp', 'x')")
    change(server, "INSERT INTO role_claim (role, claim) VALUES ('Administrator', 1)")
    found(environ, "administrator", "warning", "identity provider")
    change(server, "DELETE FROM account")
    found(environ, "administrator", "warning", "no users yet")


def test_users_who_can_do_nothing_are_counted_and_not_named(environ, server):
    found(environ, "users", "ok")
    server.add_user("roleless-jo", "correct horse battery")
    finding = found(environ, "users", "warning", "1 user has no role")
    assert "roleless-jo" not in str(finding)
    server.add_user("roleless-al", "correct horse battery")
    found(environ, "users", "warning", "2 users have no role")
    for number, name in enumerate(("roleless-jo", "Roleless-Al"), 1):
        change(server, f"INSERT INTO claim VALUES ({number}, 0, '{name}', 'keyrelay', 'x')")
        change(server, "INSERT INTO role_claim (role, claim) VALUES ('Administrator', $1)", number)
    found(environ, "users", "ok")


# --- The audit trail -----------------------------------------------------------------------------------------


def write(server, times):
    async def run(node):
        async with node.store.change("profile") as made:
            await node.journal.write(made, *[DEED] * times)

    server.run(run)


def test_an_unbroken_trail_is_ok_however_long_it_is(environ, server, monkeypatch):
    found(environ, "audit-trail", "ok", "newest 1 of 1")  # the first user's
    write(server, 12)
    found(environ, "audit-trail", "ok", "newest 13 of 13")
    monkeypatch.setattr(trail, "_ENTRIES", 5)
    found(environ, "audit-trail", "ok", "newest 5 of 13")


TAMPERINGS = {
    "edited": ("UPDATE audit_entry SET actor = 'nobody' WHERE id = 8", "entry 8"),
    "deleted": ("DELETE FROM audit_entry WHERE id = 8", "entry 8"),
    "cut off": ("DELETE FROM audit_entry WHERE id = 9", "entry 9"),
    "its beginning changed": ("UPDATE audit_entry SET hash = 'x' WHERE id = 4", "entry 5"),
    "its beginning deleted": ("DELETE FROM audit_entry WHERE id = 4", "entry 4"),
    "head turned back": ("UPDATE audit_head SET last = 8", "head"),
    "head and seal emptied": ("UPDATE audit_head SET last = 0, hash = '', seal = ''", "head"),
    "key taken away": ("UPDATE audit_head SET key_id = NULL, sealed = NULL", "no key"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_trail_that_somebody_has_changed_is_a_failure(environ, server, monkeypatch, name):
    monkeypatch.setattr(trail, "_ENTRIES", 5)
    sql, word = TAMPERINGS[name]
    write(server, 8)  # behind the first user's
    change(server, sql)
    found(environ, "audit-trail", "failure", word)


def test_entries_beyond_the_sealed_head_are_a_failure(environ, server):
    write(server, 2)
    change(
        server,
        "INSERT INTO audit_entry SELECT 4, at, category, operation, level, actor, address, kind, name, object, details,"
        " hash, signature FROM audit_entry WHERE id = 3",
    )
    found(environ, "audit-trail", "failure", "beyond")


def test_a_trail_without_a_key_waits_for_the_next_start(environ, server):
    change(server, "DELETE FROM audit_entry")
    change(server, "UPDATE audit_head SET key_id = NULL, sealed = NULL, last = 0, hash = '', seal = ''")
    found(environ, "audit-trail", "warning", "no key to sign with yet")


def test_a_trail_whose_key_cannot_be_opened_is_a_failure(environ, server):
    write(server, 1)
    change(server, "UPDATE audit_head SET sealed = $1", b"x" * 60)
    found(environ, "audit-trail", "failure", "key that signs the audit trail cannot be opened")
