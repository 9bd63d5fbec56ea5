"""Access-control strings: what grants what (contract 1.8 and D19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.access.permissions import SUBMIT, SUBMIT_AS, beyond, broadest, granted, permission, sending_as
from keyrelay.errors import Unsuitable

READ, MODIFY = "/system_settings/read/", "/system_settings/modify/"
AS_PKI = "/messages/submit/as/pki@example.org/"


@pytest.mark.parametrize(
    ("held", "needed", "allowed"),
    [
        ("/", READ, True),
        ("/", "/anything/at/all/", True),
        ("/system_settings/", READ, True),
        ("/system_settings/", MODIFY, True),
        (READ, READ, True),
        (READ, MODIFY, False),
        (MODIFY, READ, False),
        ("/system_settings/read/smtp/", READ, False),
        ("/system_setting/modify/", MODIFY, True),
        ("/system_setting/", MODIFY, True),
        ("/system_setting/", READ, True),
        ("/system_set/", READ, False),
        ("/system_settings/re/", READ, False),
        ("/pam/read/", "/pam/read/7/", True),
        ("/pam/read/7/", "/pam/read/", False),
        ("/pam/read/7/", "/pam/read/77/", False),
        ("/security/", READ, False),
        ("/", AS_PKI, True),
        ("/messages/", SUBMIT, True),
        ("/messages/", AS_PKI, True),
        (SUBMIT_AS, AS_PKI, True),
        (AS_PKI, AS_PKI, True),
        (SUBMIT, SUBMIT, True),
        (SUBMIT, SUBMIT + "anything/", True),
        (SUBMIT, AS_PKI, False),
        (SUBMIT, SUBMIT_AS, False),
        (AS_PKI, SUBMIT_AS, False),
        (AS_PKI, SUBMIT, False),
        (AS_PKI, "/messages/submit/as/pki@example.org.evil.example/", False),
        ("/messages/submit/as/pki/", AS_PKI, False),
    ],
)
def test_a_string_grants_itself_and_all_below_it(held, needed, allowed):
    assert granted([held], needed) is allowed
    assert granted(["/auditing/read/", held], needed) is allowed


def test_nothing_held_grants_nothing():
    assert not granted([], READ)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("/", "/"),
        (" / ", "/"),
        ("system_settings/read", READ),
        ("/System_Settings/READ", READ),
        (" /system_settings/read/ ", READ),
        ("/pam/read/7/", "/pam/read/7/"),
        ("/a.b/c-d/e@f/", "/a.b/c-d/e@f/"),
        ("/messages/submit/as/PKI+ca@Example.org", "/messages/submit/as/pki+ca@example.org/"),
        ("/" + "x" * 254, "/" + "x" * 254 + "/"),
    ],
)
def test_every_spelling_is_brought_into_one_form(text, form):
    assert permission(text) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "//",  # a slip must not grant everything
        "///",
        "/a b/",
        "/pam//read/",
        "SystemSettings:Read",
        "/*/",
        "/[red]/",
        "/ä/",
        "/a\n/",
        "/a\0/",
        "/" + "x" * 255 + "/",
        "/a" * 9,
    ],
)
def test_what_is_no_permission_string_is_refused(text):
    with pytest.raises(Unsuitable):
        permission(text)


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        ([], []),
        ([READ, READ], [READ]),
        ([READ, MODIFY], [MODIFY, READ]),
        (["/pam/read/7/", "/pam/read/", READ], ["/pam/read/", READ]),
        ([READ, "/"], ["/"]),
        ([READ, "/system_setting/"], ["/system_setting/"]),
        ([SUBMIT, AS_PKI], [SUBMIT, AS_PKI]),
        ([SUBMIT, SUBMIT_AS, AS_PKI], [SUBMIT, SUBMIT_AS]),
        (["/messages/", SUBMIT, SUBMIT_AS, AS_PKI], ["/messages/"]),
    ],
)
def test_strings_that_a_broader_one_covers_are_left_out(held, shown):
    assert broadest(held) == shown


def test_the_two_spellings_of_one_permission_do_not_leave_each_other_out():
    assert granted(broadest(["/system_setting/modify/", "/system_settings/modify/"]), MODIFY)


@pytest.mark.parametrize(
    ("address", "needed"),
    [
        ("pki@example.org", AS_PKI),
        ("PKI@Example.ORG", AS_PKI),
        ("pki+ca@example.org", "/messages/submit/as/pki+ca@example.org/"),
        ("o'brien@example.org", SUBMIT_AS),
        ("pki/as@example.org", SUBMIT_AS),
        ("müller@example.org", SUBMIT_AS),
        ("p\N{KELVIN SIGN}i@example.org", SUBMIT_AS),  # in lower case, that is a letter of ASCII
        ("", SUBMIT_AS),
    ],
)
def test_to_send_as_somebody_needs_the_string_with_the_address_or_that_for_all(address, needed):
    assert sending_as(address) == needed
    if needed != SUBMIT_AS:
        assert permission(needed) == needed


parts = st.sampled_from(["messages", "submit", "as", "system_settings", "system_setting", "pam", "read", "modify", "7"])
strings = st.lists(parts, max_size=4).map(lambda path: "/" + "".join(part + "/" for part in path))


of_messages = st.sampled_from(["/messages/", SUBMIT, SUBMIT_AS, AS_PKI])


@given(st.lists(strings | of_messages, max_size=6), strings | of_messages)
def test_the_short_list_grants_exactly_what_the_long_one_does(held, needed):
    short = broadest(held)
    assert short == sorted(set(short))
    assert set(short) <= set(held)
    assert granted(short, needed) == granted(held, needed)


@given(st.text(max_size=30))
def test_any_text_is_refused_or_brought_into_a_form_that_stays(text):
    try:
        form = permission(text)
    except Unsuitable:
        return
    assert form.startswith("/")
    assert form.endswith("/")
    assert permission(form) == form
    assert granted([form], form)


# --- What may be given -------------------------------------------------------------------------------------------

_SEGMENTS = ["system_settings", "system_setting", "read", "modify", "messages", "submit", "as", "a@b.c", "pam", "5"]
_STRINGS = st.lists(st.sampled_from(_SEGMENTS), max_size=4).map(
    lambda parts: "/" + "".join(f"{part}/" for part in parts)
)


@given(st.sets(_STRINGS, max_size=4), st.sets(_STRINGS, max_size=4), _STRINGS)
def test_what_may_be_given_opens_nothing_that_is_not_open_to_who_gives_it(held, strings, needed):
    if beyond(held, strings) == [] and granted(strings, needed):
        assert granted(held, needed)


@given(st.sets(_STRINGS, max_size=4))
def test_everybody_may_give_what_they_hold(held):
    assert beyond(held, held) == []
    assert beyond(held, broadest(held)) == []
