"""``keyrelay user``, as an administrator types it."""

from __future__ import annotations

import re

import httpx2
import pytest

from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, LiveServer

MADE = re.compile(r"^Password, shown only now:  ([a-z2-9]{5}(?:-[a-z2-9]{5}){3})$", re.MULTILINE)


def users(keyrelay) -> dict[str, list[str]]:
    return {user["name"]: user["roles"] for user in keyrelay.read("user", "list")}


@pytest.fixture
def signs_in(keyrelay, start):
    """Whether a name and a password open the service, on a server that runs while commands are typed."""
    server: LiveServer = start(Settings(data_dir=keyrelay.data_dir, port=0, admin_password=ADMIN_PASSWORD))

    def signs_in(name: str, password: str) -> bool:
        answer = httpx2.get(server.url + "/KeyfactorAPI/Security/My/Permissions", auth=(name, password))
        assert answer.status_code in {200, 401}
        return answer.status_code == 200

    return signs_in


def test_a_generated_password_is_shown_once_and_works(keyrelay, signs_in):
    printed = keyrelay.ok("user", "add", "jsmith")
    (password,) = MADE.findall(printed)
    assert signs_in("jsmith", password)
    assert not signs_in("jsmith", ADMIN_PASSWORD)
    assert password not in keyrelay.ok("user", "list")
    assert password not in keyrelay.ok("user", "list", "--json")


def test_a_password_is_read_from_standard_input_and_not_shown(keyrelay, signs_in):
    printed = keyrelay.ok("user", "add", "jsmith", "--password-file", "-", given="typed elsewhere\n")
    assert printed == "User jsmith added.\n"
    assert signs_in("jsmith", "typed elsewhere")


def test_a_password_is_read_from_a_file_without_its_last_line_end(keyrelay, signs_in, written):
    file = written("  from a file, with spaces \r\n")
    assert "from a file" not in keyrelay.ok("user", "add", "jsmith", "--password-file", str(file))
    assert signs_in("jsmith", "  from a file, with spaces ")
    assert not signs_in("jsmith", "from a file, with spaces")


def test_a_password_may_hold_a_colon_and_letters_of_any_language(keyrelay, signs_in):
    keyrelay.ok("user", "add", "jsmith", "--password-file", "-", given="pass:wörd:パス")
    assert signs_in("jsmith", "pass:wörd:パス")


def test_passwd_ends_the_old_password_at_once_on_a_running_server(keyrelay, signs_in):
    keyrelay.ok("user", "add", "jsmith", "--password-file", "-", given="the first password")
    assert signs_in("jsmith", "the first password")
    assert keyrelay.ok("user", "passwd", "JSmith", "--password-file", "-", given="the second password") == (
        "Password of jsmith changed.\n"
    )
    assert not signs_in("jsmith", "the first password")
    assert signs_in("jsmith", "the second password")


def test_passwd_makes_a_password_when_none_is_given(keyrelay, signs_in):
    keyrelay.ok("user", "add", "jsmith")
    (password,) = MADE.findall(keyrelay.ok("user", "passwd", "jsmith"))
    assert signs_in("jsmith", password)


def test_a_removed_user_cannot_sign_in_any_more(keyrelay, signs_in):
    keyrelay.ok("user", "add", "jsmith", "--password-file", "-", given="the first password")
    assert signs_in("jsmith", "the first password")
    assert keyrelay.ok("user", "remove", "JSMITH") == "User jsmith removed.\n"
    assert not signs_in("jsmith", "the first password")
    assert list(users(keyrelay)) == ["admin"]


def test_names_are_kept_without_regard_to_case_and_with_their_domain(keyrelay, signs_in):
    keyrelay.ok("user", "add", r"EXAMPLE\JSmith", "--password-file", "-", given="the first password")
    assert list(users(keyrelay)) == ["admin", r"example\jsmith"]
    assert signs_in(r"example\jsmith", "the first password")
    assert signs_in(r"EXAMPLE\JSMITH", "the first password")
    assert "already" in keyrelay.refused("name_taken", "user", "add", r"Example\jsmith")


def test_roles_given_with_add_are_held_and_listed(keyrelay):
    keyrelay.ok("role", "add", "Reader", "--permission", "/system_settings/read/")
    keyrelay.ok("user", "add", "jsmith", "--role", "reader", "--role", "administrator")
    assert users(keyrelay) == {"admin": ["Administrator"], "jsmith": ["Administrator", "Reader"]}
    assert re.search(r"^jsmith +Administrator, Reader +\d{4}-", keyrelay.ok("user", "list"), re.MULTILINE)


def test_a_role_that_does_not_exist_adds_no_user(keyrelay):
    assert "no role Reader" in keyrelay.refused("unknown_name", "user", "add", "jsmith", "--role", "Reader")
    assert list(users(keyrelay)) == ["admin"]


@pytest.mark.parametrize("name", ["", "a b\n"])
def test_a_name_that_could_not_be_used_is_refused(keyrelay, name):
    keyrelay.refused("unsuitable", "user", "add", name)


@pytest.mark.parametrize("command", ["add", "passwd"])
def test_a_password_too_short_is_refused_and_not_repeated(keyrelay, command):
    line = keyrelay.refused("unsuitable", "user", command, "admin", "--password-file", "-", given="seven77")
    assert "8 to 256" in line
    assert "seven77" not in line


def test_what_does_not_exist_is_named(keyrelay):
    assert "no user nobody" in keyrelay.refused("unknown_name", "user", "passwd", "nobody")
    assert "no user nobody" in keyrelay.refused("unknown_name", "user", "remove", "nobody")


def test_a_password_file_that_cannot_be_read_is_named(keyrelay, tmp_path):
    missing = str(tmp_path / "missing")
    assert missing in keyrelay.refused("unsuitable", "user", "add", "jsmith", "--password-file", missing)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00password")
    assert "UTF-8" in keyrelay.refused("unsuitable", "user", "add", "jsmith", "--password-file", str(binary))


def test_the_last_administrator_can_neither_be_removed_nor_lose_the_role(keyrelay):
    keyrelay.ok("user", "add", "jsmith")
    keyrelay.refused("last_administrator", "user", "remove", "admin")
    keyrelay.refused("last_administrator", "role", "revoke", "Administrator", "admin")
    assert users(keyrelay) == {"admin": ["Administrator"], "jsmith": []}
    keyrelay.ok("role", "grant", "Administrator", "jsmith")
    keyrelay.ok("user", "remove", "admin")
    assert users(keyrelay) == {"jsmith": ["Administrator"]}


def test_what_looks_like_markup_in_a_name_is_shown_as_it_was_given(keyrelay):
    keyrelay.ok("user", "add", "[bold]jo[red]")
    assert "[bold]jo[red]" in keyrelay.ok("user", "list")
