"""The support bundle: what is in it, who can read it, how large it becomes, and how long it takes."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api import pam_kit
from doctoring import environment
from keyrelay.doctor.bundle import archive
from keyrelay.doctor.bundle.archive import MEMBERS, REPORT, Member
from keyrelay.doctor.case import opened
from keyrelay.doctor.checks import CHECKS
from keyrelay.doctor.examination import examine
from keyrelay.outbox.model import Recipient, Said
from keyrelay.outbox.records import new_id, stamp, written, written_said
from live import BASIC, OAUTH, run_keyrelay
from relaying import running
from submissions import hand_in


def packed(environ, *, checks=CHECKS):
    """The bundle's octets, and its members by name."""

    async def pack():
        async with opened(environ, offline=True) as case:
            return await archive.pack(case, await examine(case, checks))

    octets = asyncio.run(pack())
    with zipfile.ZipFile(io.BytesIO(octets)) as found:
        return octets, {name: found.read(name).decode() for name in found.namelist()}


def read(environ, name):
    return json.loads(packed(environ, checks=())[1][name])


@pytest.fixture
def full(fresh_settings, start):
    """A server with a profile, providers, and a message that a relay has refused for one of two."""
    server = start(replace(fresh_settings, retry_waits=(3600,)))
    inside = pam_kit.provider(server, "The vault of Jo")
    pam_kit.vault(server, "Another of Jo's")
    pam_kit.entry(server, inside, "smtp-user", "mailer")
    refusing = {"al@refused.example": "550 5.1.1 no al here, hunter2"}
    with running(rcpt_replies=refusing) as relay:
        body = BASIC | {"Host": "127.0.0.1", "Port": relay.port, "RelayAuthenticationType": 0, "UseSSL": False}
        server.put_v2({name: value for name, value in body.items() if "Relay" not in name or "Type" in name})
        hand_in(server, {"to": ["jo@good.example", "al@refused.example"], "subject": "s", "text": "t"})
        deadline = time.monotonic() + 20
        while not server.run(lambda node: node.store.rows("SELECT 1 FROM attempt")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return server


def test_it_has_a_page_about_itself_and_every_member_that_this_names(full):
    octets, members = packed(environment(full.settings))
    names = ["README.txt", *REPORT, *(member.name for member in MEMBERS)]
    assert list(members) == names
    for name in names[1:]:
        assert name in members["README.txt"]
    for name, text in members.items():
        if name.endswith(".json"):
            assert "not_here" not in json.loads(text), name
    assert len(octets) < 100_000


def test_the_report_in_it_is_that_of_the_doctor(full):
    _, members = packed(environment(full.settings))
    document = json.loads(members["doctor.json"])
    assert [one["id"] for one in document["checks"]] == [check.id for check in CHECKS]
    assert " settings " in members["doctor.txt"]


def test_attempts_tell_domain_stage_code_and_cause_and_neither_mailbox_nor_words(full):
    (attempt,) = read(environment(full.settings), "attempts.json")
    accepted, refused = attempt["replies"]
    assert accepted == {
        "domain": "good.example",
        "outcome": "accepted",
        "stage": "data",
        "kind": "reply",
        "code": 250,
        "enhanced": "2.0.0",
        "cause": None,
    }
    assert refused["domain"] == "refused.example"
    facts = (refused["outcome"], refused["stage"], refused["code"], refused["enhanced"], refused["cause"])
    assert facts == ("refused", "recipient", 550, "5.1.1", "recipient-unknown")
    assert "hunter2" not in json.dumps(attempt)


def test_providers_are_told_by_number_and_type_alone(full):
    found = read(environment(full.settings), "providers.json")
    assert [(one["id"], one["type"]) for one in found] == [(1, "LocalDB"), (2, pam_kit.VAULT)]
    assert found[1]["parameters"] == ["Host", "Path", "Token"]
    assert "Jo" not in json.dumps(found)
    assert "vault.example.org" not in json.dumps(found)


def test_the_profile_is_told_by_shapes(server):
    headers = [{"Name": "X-Tenant", "Value": "of Jo"}]
    server.put_v2(OAUTH | {"RequestHeaders": headers, "SenderAccount": "jo@example.org", "Audience": "of-jo"})
    found = read(environment(server.settings), "profile.json")
    assert found["host"] == "smtp.example.org"
    assert found["sender_account"] == "…@example.org"
    assert found["client_id"] == {"stored": True, "shape": "a UUID"}
    assert set(found["client_secret"]) == {"stored", "given_at"}
    assert found["token_endpoint"] == "https://login.example.org/…/oauth2/v2.0/token"
    assert found["scope"] == "https://outlook.example.org/.default"
    assert found["audience"] == "a text"
    assert found["request_headers"] == [{"name": "X-Tenant", "value": "…"}]
    server.put_v2(BASIC)
    named = read(environment(server.settings), "profile.json")["relay_username"]
    assert named == {"stored": True, "shape": "…@example.org"}


def test_settings_tell_where_they_come_from_and_no_secret(server, tmp_path):
    file = tmp_path / "password"
    file.write_text("correct horse battery")
    environ = environment(server.settings, PORT="1234", HISTORY_SECRETS="x", PROT="1", ADMIN_PASSWORD_FILE=file)
    del environ["KEYRELAY_ADMIN_PASSWORD"]
    found = read(environ, "settings.json")
    told = {one["name"]: one for one in found["settings"]}
    assert told["KEYRELAY_PORT"] == {"name": "KEYRELAY_PORT", "from": "variable", "value": 1234}
    assert told["KEYRELAY_ADMIN_PASSWORD"] == {"name": "KEYRELAY_ADMIN_PASSWORD", "from": "file"}
    assert told["KEYRELAY_HISTORY_SECRETS"]["problem"].startswith("must be a whole number")
    assert told["KEYRELAY_WORKERS"] == {"name": "KEYRELAY_WORKERS", "from": "default", "value": 1}
    assert found["not_settings"] == ["KEYRELAY_PROT"]
    if server.settings.database_url:
        assert re.fullmatch(r"postgresql://127\.0\.0\.1:\d+/test_\w+", told["KEYRELAY_DATABASE_URL"]["value"])


def test_the_rest_is_figures(full):
    environ = environment(full.settings)
    _, members = packed(environ, checks=())
    documents = {name: json.loads(text) for name, text in members.items() if name.endswith(".json")}
    assert documents["versions.json"]["libraries"]["starlette"]
    assert documents["outbox.json"]["counts"]["refused"] == 1
    assert "nodes" not in documents["outbox.json"]
    assert {"version", "works", "seen_at"} <= set(documents["nodes.json"][0])
    assert "name" not in documents["nodes.json"][0]
    assert documents["schema.json"]["version"] == documents["schema.json"]["newest_known"]
    assert "message" in {one["table"] for one in documents["tables.json"]["tables"]}
    assert set(documents["audit.json"][0]) == {"id", "at", "category", "operation", "level"}
    assert documents["audit.json"][0]["category"] == "SMTP"
    assert documents["process.json"]["limits"]["nofile"]
    assert 'keyrelay_outbox_messages{state="refused"} 1' in members["metrics.txt"]


def test_what_cannot_be_had_is_told_and_the_rest_is_there(tmp_path, monkeypatch):
    async def never(_):
        await asyncio.sleep(60)

    async def broken(_):
        raise KeyError("hunter2")

    async def huge(_):
        return "x" * 20_000_000

    more = (Member("never.json", "a", never), Member("broken.json", "b", broken), Member("huge.txt", "c", huge))
    monkeypatch.setattr(archive, "MEMBERS", (*MEMBERS, *more))
    monkeypatch.setattr(archive, "_SECONDS", 0.5)
    octets, members = packed({"KEYRELAY_DATA_DIR": str(tmp_path / "nowhere")})
    assert "within 0.5 seconds" in json.loads(members["never.json"])["not_here"]
    assert json.loads(members["broken.json"])["not_here"].startswith("KeyError at test_support_bundle.py:")
    assert "larger" in members["huge.txt"]
    assert json.loads(members["outbox.json"]) == {"not_here": "The database could not be opened."}
    assert json.loads(members["settings.json"])["settings"]
    assert b"hunter2" not in b"".join(text.encode() for text in members.values())
    assert len(octets) < 1_000_000


# --- The command ---------------------------------------------------------------------------------------------


def test_the_file_is_for_nobody_else_and_never_over_another(sqlite_settings, start, tmp_path):
    start(sqlite_settings).stop()
    environ = environment(sqlite_settings)
    file = tmp_path / "bundle.zip"
    done = run_keyrelay(environ, "support-bundle", str(file), "--offline")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(file) in done.stdout
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as found:
        assert found.testzip() is None
    before = file.read_bytes()
    refused = run_keyrelay(environ, "support-bundle", str(file), "--offline")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is there already" in refused.stderr
    assert file.read_bytes() == before
    (tmp_path / "link.zip").symlink_to(tmp_path / "elsewhere.zip")
    assert run_keyrelay(environ, "support-bundle", str(tmp_path / "link.zip"), "--offline").returncode == 1
    assert not (tmp_path / "elsewhere.zip").exists()
    assert run_keyrelay(environ, "support-bundle", str(tmp_path / "no" / "x.zip"), "--offline").returncode == 1


def test_without_a_name_it_gets_one_with_the_time(sqlite_settings, start, tmp_path, monkeypatch):
    start(sqlite_settings).stop()
    monkeypatch.chdir(tmp_path)
    done = run_keyrelay(environment(sqlite_settings), "support-bundle", "--offline")
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.zip")
    assert re.fullmatch(r"keyrelay-support-\d{8}T\d{6}Z\.zip", file.name)


def test_a_bundle_is_made_when_keyrelay_cannot_start(tmp_path):
    environ = {"KEYRELAY_DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x", "KEYRELAY_PROT": "1"}
    done = run_keyrelay(environ, "support-bundle", str(tmp_path / "b.zip"))
    assert (done.returncode, done.stderr) == (0, "")
    with zipfile.ZipFile(tmp_path / "b.zip") as found:
        assert "✗ database" in found.read("doctor.txt").decode()


# --- Size and time -------------------------------------------------------------------------------------------

_MESSAGES = 10_000


def stuff(server):
    """10,000 messages, each tried three times, in every state."""
    said = Said("recipient", "reply", 450, "4.2.1", "the mailbox is busy; " * 40)
    now = datetime.now(UTC)

    async def fill(node):
        async with node.store.change() as change:
            for number in range(_MESSAGES):
                name = new_id(now - timedelta(seconds=number))
                state = ("accepted", "deferred", "refused", "held", "expired")[number % 5]
                next_at = now + timedelta(hours=1) if state == "deferred" else None
                address = f"somebody-{number}@domain-{number % 500}.example"
                recipient = Recipient(address, now + timedelta(days=1), next_at, state, 3, 0, said)
                await change.run(
                    "INSERT INTO message (id, message_id, sender, submitted_by, submitted_at, size, priority,"
                    " needs_smtputf8, needs_8bit, recipients, state, due_at, claimed, attempts)"
                    " VALUES ($1, $2, 'pki@example.org', 'admin', $3, 1000, 0, 0, 0, $4, $5, $6, 0, 3)",
                    *(name, f"<{number}@x>", stamp(now), written((recipient,)), state),
                    stamp(next_at) if next_at else None,
                )
                for attempt in (1, 2, 3):
                    at = stamp(now - timedelta(minutes=attempt))
                    await change.run(
                        "INSERT INTO attempt (message, number, node, started_at, ended_at, said)"
                        " VALUES ($1, $2, 'box', $3, $4, $5)",
                        *(name, attempt, at, at + 1_000_000, written_said(((address, said),))),
                    )

    return asyncio.run_coroutine_threadsafe(fill(server.node), server._loop).result(240)


def test_ten_thousand_messages_make_no_large_bundle_and_take_no_long_time(fresh_settings, start, tmp_path):
    server = start(replace(fresh_settings, worker=False))
    stuff(server)
    server.put_v2(BASIC)
    began = time.monotonic()
    done = run_keyrelay(environment(server.settings), "support-bundle", str(tmp_path / "b.zip"), "--offline")
    assert time.monotonic() - began < 20
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "b.zip").stat().st_size < 10_000_000
    with zipfile.ZipFile(tmp_path / "b.zip") as found:
        assert sum(info.file_size for info in found.infolist()) < 10_000_000
        assert len(json.loads(found.read("attempts.json"))) == 100
        counted = {one["table"]: one["rows"] for one in json.loads(found.read("tables.json"))["tables"]}
        assert "message" in counted
