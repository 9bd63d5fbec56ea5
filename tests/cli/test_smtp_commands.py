"""``keyrelay smtp`` and ``keyrelay keys``, as an administrator types them."""

from __future__ import annotations

import json
import re

import pytest

PROFILE = {
    "host": "smtp.example.org",
    "port": 587,
    "use_ssl": True,
    "sender_account": "mailer@example.org",
    "sender_name": "PKI [bold]mailer[/bold]",
    "authentication": "basic",
    "relay_username": {"secret_value": "mailer@example.org"},
    "relay_password": {"secret_value": "canary-command-line"},
}


@pytest.fixture
def configured(keyrelay):
    assert keyrelay.ok("smtp", "set", "-", given=json.dumps(PROFILE)) == "The profile is now revision 1.\n"
    return keyrelay


def change(keyrelay, **fields) -> str:
    return keyrelay.ok("smtp", "set", "-", given=json.dumps(fields))


def test_a_profile_nobody_has_set_says_how_to_set_one(keyrelay):
    assert "keyrelay smtp set" in keyrelay.ok("smtp", "get")
    assert keyrelay.read("smtp", "get")["host"] is None
    assert keyrelay.read("smtp", "history") == []


def test_a_profile_is_set_from_standard_input_and_shown_without_its_password(configured):
    shown = configured.read("smtp", "get")
    given_at = shown["relay_password"].pop("given_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", given_at)
    assert {field: shown[field] for field in PROFILE} == PROFILE | {"relay_password": {"stored": True}}


def test_a_profile_is_set_from_a_file(keyrelay, written):
    file = written(json.dumps(PROFILE))
    assert keyrelay.ok("smtp", "set", str(file)) == "The profile is now revision 1.\n"
    assert keyrelay.read("smtp", "get")["host"] == "smtp.example.org"


def test_the_text_shows_names_that_look_like_markup_as_they_are(configured):
    text = configured.ok("smtp", "get")
    assert "PKI [bold]mailer[/bold]" in text
    assert re.search(r"^use_ssl +yes *$", text, re.MULTILINE)
    assert "relay_password" in text
    assert "canary-command-line" not in text


def test_a_patch_keeps_what_it_does_not_name(configured):
    assert change(configured, sender_name="Mail") == "The profile is now revision 2.\n"
    shown = configured.read("smtp", "get")
    assert (shown["sender_name"], shown["host"], shown["relay_password"]["stored"]) == (
        "Mail",
        "smtp.example.org",
        True,
    )


def test_history_tells_who_changed_what_newest_first_and_no_secret(configured):
    change(configured, sender_name="Mail")
    change(configured, relay_password={"secret_value": "canary-second"})
    third, second, first = configured.read("smtp", "history")
    assert third["changes"] == [{"field": "relay_password", "secret": "changed"}]
    assert second["changes"] == [{"field": "sender_name", "before": PROFILE["sender_name"], "after": "Mail"}]
    assert {entry["changed_by"] for entry in (first, second, third)} == {first["changed_by"]}
    assert first["changed_by"].endswith("(command line)")
    text = configured.ok("smtp", "history") + configured.ok("smtp", "history", "--json")
    assert "canary" not in text
    assert re.search(r"^2 .*sender_name PKI \[bold\]mailer\[/bold\] → Mail", text, re.MULTILINE)
    assert [entry["revision"] for entry in configured.read("smtp", "history", "--limit", "2")] == [3, 2]


def test_restore_brings_an_old_profile_back_as_a_new_revision(configured):
    change(configured, authentication="anonymous", relay_username=None, relay_password=None)
    printed = configured.ok("smtp", "restore", "1")
    assert printed == "The profile is as it was at revision 1; this is revision 3.\n"
    assert configured.read("smtp", "get")["relay_password"]["stored"] is True
    newest = configured.read("smtp", "history")[0]
    assert (newest["revision"], newest["restored_from"]) == (3, 1)
    assert "restored from 1" in configured.ok("smtp", "history")


@pytest.mark.parametrize("revision", ["2", "-1", "99999999999999999999"])
def test_a_revision_that_never_was_cannot_be_restored(configured, revision):
    assert revision in configured.refused("unknown_name", "smtp", "restore", revision)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("", "malformed_body"),
        ("[" * 100_000, "malformed_body"),
        ('{"hots": "smtp.example.org", "port": 70000}', "bad_input"),
        ('{"host": "a\\r\\nb\\u0000\\u001b[31m"}', "bad_input"),
        (json.dumps(PROFILE | {"relay_password": {"provider": 7}}), "unknown_reference"),
    ],
    ids=["nothing", "deep nesting", "unknown field", "control characters", "unknown provider"],
)
def test_input_that_cannot_be_used_is_one_line_and_changes_nothing(keyrelay, given, code):
    line = keyrelay.refused(code, "smtp", "set", "-", given=given)
    assert line.rstrip("\n").isprintable()
    assert keyrelay.read("smtp", "history") == []


def test_another_host_needs_the_secret_again(configured):
    given = json.dumps({"host": "elsewhere.example.org"})
    line = configured.refused("secret_required", "smtp", "set", "-", given=given)
    assert "relay_password" in line
    assert configured.read("smtp", "get")["host"] == "smtp.example.org"


def test_a_file_that_cannot_be_read_is_named(keyrelay, tmp_path):
    assert "missing.json" in keyrelay.refused("unsuitable", "smtp", "set", str(tmp_path / "missing.json"))
    assert str(tmp_path) in keyrelay.refused("unsuitable", "smtp", "set", str(tmp_path))


def test_keys_rotate_keeps_the_profile_and_throws_the_old_key_away(configured):
    before = configured.read("smtp", "get")
    printed = configured.ok("keys", "rotate")
    assert "Data key 2 is in use; old keys thrown away: 1." in printed
    assert configured.read("smtp", "get") == before
