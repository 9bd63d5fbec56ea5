"""``keyrelay role``, as an administrator types it."""

from __future__ import annotations

import re
import sqlite3


def roles(keyrelay) -> dict[str, tuple[list[str], int]]:
    return {role["name"]: (role["permissions"], role["holders"]) for role in keyrelay.read("role", "list")}


def test_a_role_is_added_with_its_permissions_in_their_one_form(keyrelay):
    spellings = ("System_Settings/Read", "/system_settings/read/", "/pam/")
    keyrelay.ok("role", "add", "Reader", *(f"--permission={text}" for text in spellings))
    assert roles(keyrelay) == {
        "Administrator": (["/"], 1),
        "Reader": (["/pam/", "/system_settings/read/"], 0),
    }


def test_the_table_shows_what_the_json_says(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/system_settings/read/")
    table = keyrelay.ok("role", "list")
    assert re.search(r"^Role +Permissions +Held by +Claims", table)
    assert re.search(r"^Administrator +/ +1 +0 *$", table, re.MULTILINE)
    assert re.search(r"^Reader +/system_settings/read/ +0 +0 *$", table, re.MULTILINE)


def test_granting_twice_is_granting_once_and_case_does_not_matter(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/system_settings/read/")
    keyrelay.ok("user", "add", "jsmith")
    assert keyrelay.ok("role", "grant", "READER", "JSmith") == "User jsmith holds the role READER.\n"
    keyrelay.ok("role", "grant", "reader", "jsmith")
    assert roles(keyrelay)["Reader"] == (["/system_settings/read/"], 1)
    keyrelay.ok("role", "revoke", "rEADER", "JSMITH")
    assert roles(keyrelay)["Reader"] == (["/system_settings/read/"], 0)


def test_a_role_that_is_not_held_cannot_be_revoked(keyrelay):
    keyrelay.ok("user", "add", "jsmith")
    line = keyrelay.refused("unknown_name", "role", "revoke", "Administrator", "jsmith")
    assert "jsmith does not hold the role Administrator" in line


def test_what_does_not_exist_is_named(keyrelay):
    assert "no role Nothing" in keyrelay.refused("unknown_name", "role", "grant", "Nothing", "admin")
    assert "no user nobody" in keyrelay.refused("unknown_name", "role", "grant", "Administrator", "nobody")


def test_a_second_role_of_the_same_name_is_refused_in_any_case(keyrelay):
    keyrelay.refused("name_taken", "role", "add", "ADMINISTRATOR", "--permission", "/pam/")
    assert list(roles(keyrelay)) == ["Administrator"]


def test_a_role_name_that_cannot_be_printed_is_refused(keyrelay):
    keyrelay.refused("bad_input", "role", "add", "a\x1b[31m\n", "--permission", "/pam/")


def test_what_is_no_permission_string_is_refused_and_adds_nothing(keyrelay):
    line = keyrelay.refused("unsuitable", "role", "add", "Reader", "--permission", "/pam/", "--permission", "/[/x]")
    assert "'/[/x]'" in line
    assert list(roles(keyrelay)) == ["Administrator"]


def test_what_looks_like_markup_in_a_name_is_shown_as_it_was_given(keyrelay):
    keyrelay.ok("role", "add", "[/x] [bold]Reader[/bold]", "--permission", "/pam/")
    assert "[/x] [bold]Reader[/bold]" in keyrelay.ok("role", "list")
    assert "[bold]" in keyrelay.refused("unknown_name", "role", "grant", "[bold]Other", "admin")


# --- Changing and removing ---------------------------------------------------------------------------------------


def test_a_role_has_a_description_and_an_address(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/", "--description", "reads", "--email", "a@example.org")
    keyrelay.ok("role", "add", "Other", "--permission", "/pam/")
    shown = {role["name"]: (role["id"], role["description"], role["email"]) for role in keyrelay.read("role", "list")}
    assert shown == {
        "Administrator": (1, "May do everything", None),
        "Reader": (2, "reads", "a@example.org"),
        "Other": (3, "Other", None),
    }


def test_a_role_is_removed_when_nobody_holds_it(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/")
    keyrelay.ok("user", "add", "jsmith", "--role", "Reader")
    line = keyrelay.refused("in_use", "role", "remove", "reader")
    assert "held by jsmith" in line
    assert "keyrelay role revoke 'Reader' USER" in line
    keyrelay.ok("role", "revoke", "Reader", "jsmith")
    assert keyrelay.ok("role", "remove", "READER") == "Role Reader removed.\n"
    assert list(roles(keyrelay)) == ["Administrator"]
    assert "no role Reader" in keyrelay.refused("unknown_name", "role", "remove", "Reader")


def test_the_built_in_role_is_neither_removed_nor_changed(keyrelay):
    keyrelay.refused("immutable", "role", "remove", "Administrator")
    keyrelay.refused("immutable", "role", "forbid", "Administrator", "/")
    keyrelay.refused("immutable", "role", "permit", "Administrator", "/pam/")
    assert roles(keyrelay) == {"Administrator": (["/"], 1)}


def test_strings_are_added_to_a_role_and_taken_from_it(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/read/")
    printed = keyrelay.ok("role", "permit", "reader", "System_Settings/Read", "/metrics/read/")
    assert printed == "The role reader holds /metrics/read/ /system_settings/read/\n"
    keyrelay.ok("role", "permit", "reader", "/metrics/read/")  # once more is once
    assert roles(keyrelay)["Reader"][0] == ["/metrics/read/", "/pam/read/", "/system_settings/read/"]
    keyrelay.ok("role", "forbid", "reader", "/pam/read/", "/metrics/read/")
    assert roles(keyrelay)["Reader"][0] == ["/system_settings/read/"]


def test_what_a_role_does_not_hold_cannot_be_taken_from_it(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/")
    line = keyrelay.refused("unsuitable", "role", "forbid", "Reader", "/pam/read/")
    assert "does not hold /pam/read/" in line
    keyrelay.refused("unsuitable", "role", "permit", "Reader", "/[/")
    keyrelay.refused("unsuitable", "role", "permit", "Reader")
    assert roles(keyrelay)["Reader"] == (["/pam/"], 0)


# --- Claims ------------------------------------------------------------------------------------------------------


def claims(keyrelay) -> list[tuple[str, str, str, list[str]]]:
    found = keyrelay.read("role", "claim", "list")
    return [(claim["type"], claim["value"], claim["scheme"], claim["roles"]) for claim in found]


def test_a_claim_gives_a_role_until_it_is_taken_away(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/")
    printed = keyrelay.ok("role", "claim", "add", "reader", "User", r"EXAMPLE\JSmith", "--description", "J. Smith")
    assert printed == "User EXAMPLE\\JSmith (keyrelay) gives the role reader.\n"
    keyrelay.ok("role", "claim", "add", "Administrator", "User", r"example\jsmith")
    assert claims(keyrelay) == [("User", r"EXAMPLE\JSmith", "keyrelay", ["Administrator", "Reader"])]
    keyrelay.ok("user", "add", r"example\jsmith")
    users = {user["name"]: user["roles"] for user in keyrelay.read("user", "list")}
    assert users[r"example\jsmith"] == ["Administrator", "Reader"]
    table = keyrelay.ok("role", "claim", "list")
    assert re.search(r"^User +EXAMPLE\\JSmith +keyrelay +Administrator, Reader *$", table, re.MULTILINE)
    keyrelay.ok("role", "claim", "remove", "reader", "User", r"example\JSMITH")
    assert claims(keyrelay) == [("User", r"EXAMPLE\JSmith", "keyrelay", ["Administrator"])]
    line = keyrelay.refused("unknown_name", "role", "claim", "remove", "reader", "User", r"example\jsmith")
    assert "does not give the role Reader" in line
    keyrelay.ok("role", "claim", "remove", "Administrator", "User", r"example\jsmith")
    assert claims(keyrelay) == []


def test_a_claim_of_nobody_known_is_refused(keyrelay):
    line = keyrelay.refused(
        "unknown_reference", "role", "claim", "add", "Administrator", "Group", "x", "--scheme", "ad"
    )
    assert "'ad'" in line
    assert keyrelay.run("role", "claim", "add", "Administrator", "Nonsense", "x").returncode != 0
    keyrelay.refused("bad_input", "role", "claim", "add", "Administrator", "User", "x" * 513)
    keyrelay.refused("unknown_name", "role", "claim", "add", "Nothing", "User", "x")
    assert claims(keyrelay) == []


def test_the_last_administrator_by_a_claim_keeps_it(keyrelay):
    keyrelay.ok("user", "add", "jsmith")
    keyrelay.ok("role", "claim", "add", "Administrator", "User", "jsmith")
    keyrelay.ok("role", "revoke", "Administrator", "admin")
    keyrelay.refused("last_administrator", "role", "claim", "remove", "Administrator", "User", "jsmith")
    keyrelay.refused("last_administrator", "user", "remove", "jsmith")
    assert claims(keyrelay) == [("User", "jsmith", "keyrelay", ["Administrator"])]


def test_what_is_typed_is_told_with_the_name_of_who_typed_it(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/pam/")
    keyrelay.ok("user", "add", "jsmith", "--role", "Reader")
    keyrelay.ok("role", "claim", "add", "Reader", "User", "al")
    with sqlite3.connect(keyrelay.data_dir / "keyrelay.db") as database:
        told = database.execute("SELECT kind, name, actor, address FROM audit_entry ORDER BY id").fetchall()
    database.close()
    assert [entry[:2] for entry in told] == [
        ("User", "admin"),
        ("Role", "Reader"),
        ("User", "jsmith"),
        ("Claim", "User al (keyrelay)"),
        ("Role", "Reader"),
    ]
    assert told[0][2:] == ("keyrelay", None)
    assert all(entry[2].endswith(" (command line)") and entry[3] is None for entry in told[1:])
