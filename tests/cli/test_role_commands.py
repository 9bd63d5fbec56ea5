"""``keyrelay role``, as an administrator types it."""

from __future__ import annotations

import re


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
