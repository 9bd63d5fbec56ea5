"""Mail: the profile and its secrets, vaults and what they need, and how the outbox stands."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api import pam_kit
from canary import new_canary
from doctoring import environment, found, looked
from keyrelay import __version__
from keyrelay.outbox.books import CONTENT
from keyrelay.outbox.model import Said
from keyrelay.outbox.pressure import Pressure
from keyrelay.outbox.records import new_id, stamp
from keyrelay.pam.blocking import Library
from live import ANONYMOUS, BASIC, OAUTH
from pam.double import says
from submissions import hand_in
from vaulting import TYPE, SimpleVault


@pytest.fixture
def idle(fresh_settings, start):
    """A server that takes in and sends nothing."""
    server = start(replace(fresh_settings, worker=False))
    server.put_v2(ANONYMOUS).raise_for_status()
    return server


def change(server, sql, *values):
    async def run(node):
        async with node.store.change() as made:
            return await made.run(sql, *values)

    return server.run(run)


# --- The profile ---------------------------------------------------------------------------------------------


def test_a_profile_is_missed_before_there_is_one_and_named_by_its_relay_then(server):
    environ = environment(server.settings)
    findings = looked(environ, "profile", "profile-secrets", "relay", "microsoft-basic", offline=True)
    assert [findings[name].verdict for name in findings] == ["warning", "skipped", "skipped", "skipped"]
    server.put_v2(BASIC).raise_for_status()
    found(environ, "profile", "ok", "smtp.example.org, port 587")
    found(environ, "profile-secrets", "ok", "can be opened")


def test_a_profile_that_the_rules_would_refuse_by_now_is_a_failure(server):
    given = OAUTH | {"RequestHeaders": [{"Name": "X-Tenant", "Value": "abc"}]}
    server.put_v2(given).raise_for_status()
    environ = environment(server.settings)
    found(environ, "profile", "ok")
    ((text,),) = server.run(lambda node: node.store.rows("SELECT document FROM profile_revision"))
    change(server, "UPDATE profile_revision SET document = $1", text.replace("https://login", "http://login"))
    found(environ, "profile", "failure", "token_endpoint")
    found(environ | {"KEYRELAY_ALLOW_INSECURE_SIGN_IN": "yes"}, "profile", "ok")


def test_a_stored_secret_that_does_not_open_any_more_is_a_failure(server):
    server.put_v2(BASIC).raise_for_status()
    change(server, "UPDATE stored_secret SET sealed = $1 WHERE field = 'relay_password'", b"x" * 60)
    found(environment(server.settings), "profile-secrets", "failure", "relay password")


@pytest.mark.parametrize(
    ("body", "host", "verdict"),
    [
        (BASIC, "smtp.office365.com", "warning"),
        (BASIC, "SMTP-mail.outlook.com.", "warning"),
        (BASIC, "smtp.office365.com.example.org", "ok"),
        (OAUTH, "smtp.office365.com", "ok"),
        (ANONYMOUS, "smtp.office365.com", "ok"),
    ],
)
def test_a_password_for_microsoft_is_a_warning_with_its_dates_and_no_claim(sqlite_server, body, host, verdict):
    sqlite_server.put_v2(body | {"Host": host}).raise_for_status()
    finding = found(environment(sqlite_server.settings), "microsoft-basic", verdict)
    if verdict == "warning":
        for fact in ("end of December 2026", "second half of 2027", "MC786329", "2026-01-27", "may switch it on again"):
            assert fact in finding.found


# --- Vaults --------------------------------------------------------------------------------------------------


@pytest.fixture
def vault(tmp_path):
    with SimpleVault(tmp_path) as vault:
        vault.secrets["mail/smtp"] = new_canary()
        yield vault


@pytest.fixture
def vaulted(fresh_settings, vault, start):
    """A server whose profile has its password in the vault, and its user name in an entry here."""
    server = start(replace(fresh_settings, ca_bundle=vault.authority))
    outside = pam_kit.provider(server, "Vault", TYPE, vault.values)
    inside = pam_kit.provider(server)
    pam_kit.entry(server, inside, "smtp-user", "mailer")
    password = {"Provider": outside, "Parameters": {"Secret": "mail/smtp", "Key": "value"}}
    body = BASIC | {"RelayUsername": pam_kit.local(inside, "smtp-user"), "RelayPassword": password}
    server.put_v2(body).raise_for_status()
    return server


def test_a_profile_without_vaults_asks_none(server):
    server.put_v2(BASIC).raise_for_status()
    found(environment(server.settings), "vault", "ok", "No secret")


def test_vaults_are_asked_for_every_secret_and_never_show_one(vaulted, vault):
    environ = environment(vaulted.settings, CA_BUNDLE=vault.authority)
    found(environ, "vault", "ok", "all 2 secrets")
    vault.secrets["mail/smtp"] += "\n"
    finding = found(environ, "vault", "warning", "relay password", "line breaks")
    del vault.secrets["mail/smtp"]
    finding = found(environ, "vault", "failure", "relay password", "PAM provider 1", "no such secret")
    vault.trouble = says({"errors": []}, 503)
    assert finding.advice
    found(environ, "vault", "failure", "cannot serve now")


def test_a_vault_is_not_asked_offline_and_whether_it_is_there_is_seen_all_the_same(vaulted, vault):
    environ = environment(vaulted.settings, CA_BUNDLE=vault.authority)
    asked = len(vault.asked)
    found(environ, "vault", "skipped", "--offline", offline=True)
    change(vaulted, "DELETE FROM pam_provider WHERE id = 1")
    found(environ, "vault", "failure", "provider 1 does not exist", offline=True)
    assert len(vault.asked) == asked


def test_a_vault_that_is_not_trusted_or_whose_trust_cannot_be_read_is_a_failure(vaulted, vault, tmp_path):
    found(environment(vaulted.settings), "vault", "failure", "cannot be reached", "KEYRELAY_CA_BUNDLE", "In detail: ")
    (tmp_path / "broken.pem").write_text("-----BEGIN NOTHING-----")
    findings = looked(environment(vaulted.settings, CA_BUNDLE=tmp_path / "broken.pem"), "vault", "relay", "ca-bundle")
    assert {finding.verdict for finding in findings.values()} == {"failure"}
    assert "ca-bundle" in findings["vault"].advice


def test_an_extra_that_a_type_in_use_needs_is_missed(sqlite_server, monkeypatch):
    environ = environment(sqlite_server.settings)
    found(environ, "vault-libraries", "ok")
    number = pam_kit.provider(sqlite_server, "Cloud", "AWS-SecretsManager", {"Region": "eu-central-1"})
    found(environ, "vault-libraries", "ok")
    from keyrelay.pam.backends import aws

    monkeypatch.setattr(aws.AwsSecrets, "library", Library("not_installed.session", "aws"))
    found(environ, "vault-libraries", "warning", "aws")
    password = {"Provider": number, "Parameters": {"SecretId": "mail"}}
    sqlite_server.put_v2(BASIC | {"RelayPassword": password}).raise_for_status()
    finding = found(environ, "vault-libraries", "failure", "aws")
    assert finding.advice == "pip install 'keyrelay[aws]'"


# --- The outbox ----------------------------------------------------------------------------------------------


def pressed(server, **facts):
    import msgspec

    pressure = Pressure(since=datetime.now(UTC), **facts)
    change(server, "UPDATE outbox SET pressure = $1", msgspec.json.encode(pressure).decode())


def test_what_holds_the_outbox_up_is_told_with_its_reason_and_without_the_relays_words(idle):
    environ = environment(idle.settings)
    found(environ, "outbox", "ok")
    said = Said("auth", "reply", 535, "5.7.8", "no, hunter2 is wrong")
    pressed(idle, mode="paused", why="sign_in", said=said)
    finding = found(environ, "outbox", "failure", "paused", "credentials are refused", "535")
    assert "hunter2" not in str(finding)
    pressed(idle, mode="paused", why="operator")
    assert "resume" in found(environ, "outbox", "warning", "somebody has paused it").advice
    pressed(idle, mode="slowed", why="throttled", said=said)
    found(environ, "outbox", "warning", "slowed", "takes less at a time")


def aged(server, hours):
    """A message that has waited for so long."""
    name = hand_in(server).json()["id"]
    at = datetime.now(UTC) - timedelta(hours=hours)
    older = new_id(at)
    for table, column in (("message_content", "message"), ("message_recipient", "message"), ("message", "id")):
        change(server, f"UPDATE {table} SET {column} = $1 WHERE {column} = $2", older, name)
    change(server, "UPDATE message SET submitted_at = $1 WHERE id = $2", stamp(at), older)


def test_messages_that_wait_for_long_are_told(idle):
    environ = environment(idle.settings)
    found(environ, "outbox-waiting", "ok", "No message waits")
    hand_in(idle)
    found(environ, "outbox-waiting", "ok", "1 message waits")
    aged(idle, 2)
    found(environ, "outbox-waiting", "warning", "2 messages wait", "2 h")
    aged(idle, 50)
    found(environ, "outbox-waiting", "failure", "3 messages wait", "2 d 2 h")


def test_messages_that_wait_for_a_person_are_told(idle):
    environ = environment(idle.settings)
    hand_in(idle)
    change(idle, "UPDATE message SET state = 'held', due_at = NULL")
    change(idle, "UPDATE outbox_tally SET state = 'held' WHERE state = 'queued'")
    found(environ, "outbox-waiting", "warning", "1 message waits for a person")
    hand_in(idle)
    found(environ, "outbox-waiting", "warning", "1 message waits, the oldest", "1 message waits for a person")


def test_waiting_messages_that_nobody_sends_are_a_failure(idle):
    environ = environment(idle.settings)
    found(environ, "outbox-workers", "warning", "Nobody would send")
    hand_in(idle)
    found(environ, "outbox-workers", "failure", "1 message waits, and nobody sends")
    register(idle, "worker", works=True)
    found(environ, "outbox-workers", "ok", "1 process sends")


def test_an_outbox_that_fills_up_is_told_before_it_refuses(idle):
    environ = environment(idle.settings, OUTBOX_MEGABYTES=1, MESSAGE_MEGABYTES=1)
    found(environ, "outbox-room", "ok", "of 1.0 MiB")
    hand_in(idle)
    for octets, verdict in ((900 * 1024, "warning"), (1020 * 1024, "failure")):
        change(idle, "UPDATE outbox_tally SET octets = $1 WHERE state = $2", octets, CONTENT)
        found(environ, "outbox-room", verdict, "KiB of 1.0 MiB" if octets < 1024 * 1000 else "of 1.0 MiB")


def test_limits_of_the_relay_that_are_used_up_are_told(idle):
    found(environment(idle.settings), "relay-limits", "ok", "No limit")
    environ = environment(idle.settings, RELAY_MESSAGES_PER_MINUTE=100)
    found(environ, "relay-limits", "ok", "0 of 100 messages in 1 min")
    for messages, verdict in ((90, "warning"), (100, "warning")):
        change(idle, "DELETE FROM node WHERE id = 'sender'")
        register(idle, "sender", works=True, messages=messages)
        found(environ, "relay-limits", verdict, f"{messages} of 100 messages")


# --- Nodes ---------------------------------------------------------------------------------------------------


def register(server, name, *, works, messages=0, version=__version__):
    """A node that has just given a sign of life."""
    until = stamp(datetime.now(UTC) + timedelta(hours=1))
    change(
        server,
        "INSERT INTO node (id, name, version, started_at, until, works, connections, messages, recipients)"
        " VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
        *(name, f"box-of-jo:{name}", version, stamp(datetime.now(UTC)), until, int(works), messages, messages),
    )


def forget_itself(server):
    """The server's own sign of life, which it gives soon after its start, is taken out of the table."""
    deadline = time.monotonic() + 10
    while not server.run(lambda node: node.store.rows("SELECT 1 FROM node")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    change(server, "DELETE FROM node")


def test_nodes_are_counted_and_their_versions_compared(fresh_settings, start):
    server = start(replace(fresh_settings, worker=False))
    environ = environment(server.settings)
    forget_itself(server)
    found(environ, "nodes", "warning", "No server and no worker")
    register(server, "a", works=True, version="0.0.1")
    found(environ, "nodes", "warning", "1 node is alive, of version 0.0.1", f"this command is of version {__version__}")
    register(server, "b", works=False)
    finding = found(environ, "nodes", "warning", f"of the versions 0.0.1, {__version__}")
    assert "box-of-jo" not in str(finding)
    change(server, "DELETE FROM node WHERE id = 'a'")
    found(environ, "nodes", "ok", f"of version {__version__}")


def test_a_node_that_gives_no_sign_of_life_does_not_count(fresh_settings, start):
    server = start(replace(fresh_settings, worker=False))
    forget_itself(server)
    register(server, "gone", works=True)
    change(server, "UPDATE node SET until = 1 WHERE id = 'gone'")
    found(environment(server.settings), "outbox-workers", "warning", "Nobody would send")


def test_a_document_that_cannot_be_read_is_no_reason_to_stop_looking(idle):
    change(idle, "UPDATE profile_revision SET document = $1", json.dumps({"not": "a profile"}))
    findings = looked(environment(idle.settings), offline=True)
    assert findings["profile"].verdict != "ok"
    assert findings["outbox-room"].verdict == "ok"
