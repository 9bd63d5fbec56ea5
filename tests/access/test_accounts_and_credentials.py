"""Names, passwords and the Authorization header they arrive in."""

from __future__ import annotations

import asyncio
import base64

import pytest
from argon2 import extract_parameters
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.access import passwords
from keyrelay.access.accounts import account_name
from keyrelay.access.identity import Credentials, basic_credentials
from keyrelay.access.passwords import PasswordChecker, hash_password, make_password
from keyrelay.errors import Unsuitable
from keyrelay.secrets.model import SecretText


def header(text: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} ".encode() + base64.b64encode(text.encode())


# --- Names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "a b", "a:b", "a/b", "a\nb", "a\n", "a\tb", "a\x1b[31m", "a\x7f", "x" * 129])
def test_a_name_that_could_not_be_signed_in_with_is_refused(name):
    with pytest.raises(Unsuitable):
        account_name(name)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("JSmith", "jsmith"), (r"EXAMPLE\JSmith", r"example\jsmith"), ("J@Example.org", "j@example.org"), ("ß", "ss")],
)
def test_a_name_is_kept_without_regard_to_case(name, kept):
    assert account_name(name) == kept


def test_a_name_stays_short_enough_when_its_case_is_folded():
    assert len(account_name("x" * 128)) == 128


# --- Basic (RFC 7617) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "password"),
    [
        ("admin:secret", "admin", "secret"),
        ("admin:a:b:c", "admin", "a:b:c"),
        ("admin:", "admin", ""),
        (r"EXAMPLE\jo:pässwörd", r"EXAMPLE\jo", "pässwörd"),
    ],
)
@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
def test_a_basic_header_is_read(scheme, text, name, password):
    read = basic_credentials(header(text, scheme))
    assert (read.name, read.password.reveal()) == (name, password)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!!",
        b"Basic YWRtaW4",  # base64 without its padding
        b"Bearer YWRtaW46c2VjcmV0",
        b"Negotiate YWRtaW46c2VjcmV0",
        b"YWRtaW46c2VjcmV0",
        header("no colon"),
        header(":no name"),
        header("nul\0:secret"),
        b"Basic " + base64.b64encode(b"admin:\xff\xfe"),
        header("admin:" + "x" * 5000),
    ],
)
def test_a_header_that_is_not_well_formed_is_nobody(broken):
    assert basic_credentials(broken) is None


@given(st.binary(max_size=60))
def test_no_header_at_all_breaks_the_reading(text):
    for broken in (text, b"Basic " + text, b"Basic " + base64.b64encode(text)):
        read = basic_credentials(broken)
        assert read is None or read.name


@pytest.mark.parametrize(
    ("sent", "accounts"),
    [
        ("Jo", ["jo"]),
        (r"EXAMPLE\Jo", [r"example\jo", "jo@example", "jo"]),
        (r"Example.Org\Jo", [r"example.org\jo", "jo@example.org", "jo"]),
        ("jo@example.org", ["jo@example.org"]),
        ("\\jo", ["\\jo"]),
        ("example\\", ["example\\"]),
    ],
)
def test_a_name_may_mean_several_accounts_the_most_literal_first(sent, accounts):
    assert Credentials(sent, SecretText("x")).accounts() == accounts


def test_credentials_never_show_the_password():
    assert "canary" not in repr(basic_credentials(header("admin:canary")))


# --- Passwords -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["", "seven77", "x" * 257])
def test_a_password_too_short_or_too_long_is_refused_and_not_repeated(password):
    with pytest.raises(Unsuitable) as refused:
        hash_password(password)
    assert "8 to 256" in refused.value.message
    assert not password or password not in str(refused.value)


def test_a_password_is_kept_as_argon2id_with_a_salt_of_its_own():
    one, other = hash_password("the same password"), hash_password("the same password")
    assert one != other
    assert one.startswith("$argon2id$")
    assert extract_parameters(one).memory_cost >= 19 * 1024


@pytest.mark.parametrize(
    ("kept", "right"), [("the password", True), ("another one", False), ("", False), ("no hash", False), (None, False)]
)
def test_a_password_is_right_or_not_whatever_is_kept(kept, right):
    hashed = hash_password(kept) if kept in {"the password", "another one"} else kept
    assert asyncio.run(PasswordChecker().matches("the password", hashed)) is right


def test_an_unknown_user_costs_what_a_wrong_password_costs(monkeypatch):
    checked = []
    monkeypatch.setattr(passwords, "_verify", lambda hashed, _: bool(checked.append(extract_parameters(hashed))))
    checker = PasswordChecker()
    for hashed in (hash_password("the password"), None, None):
        asyncio.run(checker.matches("a wrong one", hashed))
    wrong, *unknown = checked
    assert unknown == [wrong, wrong]


def test_made_passwords_differ_and_are_accepted():
    made = {make_password() for _ in range(200)}
    assert len(made) == 200
    assert all(set(text) <= set("abcdefghjkmnpqrstuvwxyz23456789-") and len(text) == 23 for text in made)
    assert hash_password(made.pop())
