"""How requests are read (api/conventions.py, api/preconditions.py): the smallest pieces, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.api.conventions import Fields, Pairs, asked_version, parse_object
from keyrelay.api.preconditions import entity_tag, match, none_match
from keyrelay.errors import MalformedBody, UnknownVersion
from keyrelay.profile.model import RequestHeader
from keyrelay.secrets.model import FromPam, SecretText

NAMES = {"host": "Host", "port": "Port", "secret": "Secret", "headers": "Headers"}
SECRET = {"secret_value": "SecretValue", "parameters": "Parameters", "provider": "Provider"}
HEADER = {"name": "Name", "value": "Value"}


def fields(body: object, *, exact: bool = False) -> Fields:
    return Fields(parse_object(json.dumps(body).encode()), NAMES, exact=exact)


def codes(read: Fields) -> list[tuple[str, str]]:
    return [(violation.field, violation.code) for violation in read.violations]


def test_an_object_keeps_its_order_and_its_repeated_keys():
    assert parse_object(b'{"b": 1, "a": {"c": null}, "b": 2}') == (("b", 1), ("a", (("c", None),)), ("b", 2))
    assert parse_object(b"\xef\xbb\xbf{}") == ()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "line 1, column 1"),
        (b'{\n"a": }', "line 2, column 6"),
        (b"\xff", "not UTF-8"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "a number that is none"),
        (b'{"a": ' + b"9" * 5000 + b"}", "far too long"),
    ],
)
def test_what_is_no_object_says_why(body, told):
    with pytest.raises(MalformedBody, match=told) as refused:
        parse_object(body)
    assert refused.value.__cause__ is None


@given(st.binary(max_size=50))
def test_any_octets_are_an_object_or_malformed(body):
    try:
        value = parse_object(body)
    except MalformedBody:
        return
    assert isinstance(value, Pairs)


@given(st.text(alphabet="hosTPRt_", max_size=6), st.booleans())
def test_keys_match_in_any_case_or_to_the_letter(key, exact):
    read = fields({key: "x"}, exact=exact)
    known = {"host", "port"} if not exact else {"Host", "Port"}
    assert read.has("host" if key.lower() == "host" else "port") == ((key if exact else key.lower()) in known)
    assert bool(read.violations) == (exact and key not in known)


@pytest.mark.parametrize("exact", [False, True])
def test_a_key_given_twice_is_a_violation(exact):
    read = Fields(parse_object(b'{"Host": "a", "Host": "b"}'), NAMES, exact=exact)
    assert codes(read) == [("host", "duplicate")]
    read = Fields(parse_object(b'{"Host": "a", "host": "b"}'), NAMES, exact=exact)
    assert codes(read) == ([("host", "unknown")] if exact else [("host", "duplicate")])


@pytest.mark.parametrize(
    ("value", "number"),
    [(25, 25), (0, 0), (-7, -7), ("25", 25), ("-7", -7), ("", None), (None, None), (2**31 - 1, 2**31 - 1), ("007", 7)],
)
def test_a_whole_number_may_be_a_text_of_digits(value, number):
    read = fields({"Port": value})
    assert read.integer("port") == number
    assert read.violations == []


@pytest.mark.parametrize(
    "value", [True, False, 1.0, [], {}, "x", "1.0", " 1", "+1", "\u0661", 2**31, -(2**31) - 1, "9" * 10]
)
def test_anything_else_is_no_whole_number(value):
    read = fields({"Port": value})
    assert read.integer("port") is None
    assert [field for field, _ in codes(read)] == ["port"]


@pytest.mark.parametrize(
    ("value", "flag"), [(True, True), (False, False), ("true", True), ("FALSE", False), (None, False)]
)
def test_a_flag_may_be_a_text(value, flag):
    read = fields({"Host": value})
    assert read.flag("host") is flag
    assert read.violations == []


@pytest.mark.parametrize("value", [0, 1, "yes", [], {}, 0.0])
def test_anything_else_is_no_flag(value):
    read = fields({"Host": value})
    read.flag("host")
    assert codes(read) == [("host", "wrong_type")]


@pytest.mark.parametrize(
    ("value", "source"),
    [
        (None, None),
        ({}, None),
        ({"SecretValue": ""}, None),
        ({"SecretValue": "a"}, SecretText("a")),
        ({"secretvalue": "a", "PROVIDER": None, "parameters": None}, SecretText("a")),
        ({"Provider": 7}, FromPam(7, {})),
        ({"Provider": "7", "Parameters": {"Secret": "a", "secret": None}}, FromPam(7, {"Secret": "a", "secret": None})),
        ({"Provider": 0}, FromPam(0, {})),
    ],
)
def test_a_secret_is_a_value_or_a_reference(value, source):
    read = fields({"Secret": value})
    assert read.secret("secret", SECRET) == source
    assert read.violations == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("a", "wrong_type"),
        ({"SecretValue": "a", "Provider": 7}, "ambiguous"),
        ({"SecretValue": "a", "Parameters": {"b": "c"}}, "ambiguous"),
        ({"SecretValue": 1}, "wrong_type"),
        ({"Provider": 7, "Parameters": {"a": 1}}, "wrong_type"),
        ({"Provider": 7, "Parameters": ["a"]}, "wrong_type"),
    ],
)
def test_a_secret_that_is_neither_is_a_violation_of_its_field(value, code):
    read = fields({"Secret": value})
    read.secret("secret", SECRET)
    ((field, found),) = codes(read)
    assert (field.partition(".")[0], found) == ("secret", code)
    assert "{field}" in read.violations[0].message


def test_a_text_may_stand_for_a_secret_where_both_are_known():
    read = fields({"Secret": "a"})
    assert read.secret("secret", SECRET, or_text=True) == SecretText("a")
    assert read.violations == []


@pytest.mark.parametrize("value", [{}, {"SecretValue": ""}, {"SecretValue": None}, {"Provider": None}])
def test_where_null_clears_an_object_without_a_secret_is_a_violation(value):
    read = fields({"Secret": value})
    assert read.given_secret("secret", SECRET) is None
    assert codes(read) == [("secret", "no_secret")]
    assert fields({"Secret": None}).given_secret("secret", SECRET) is None


def test_request_headers_are_read_with_their_blanks():
    read = fields({"Headers": [{"Name": "a", "value": "b"}, {}]})
    assert read.request_headers("headers", HEADER) == (RequestHeader("a", "b"), RequestHeader("", ""))
    assert read.violations == []


KEYS = st.text(max_size=5) | st.sampled_from(["Host", "host", "SecretValue", "Provider", "Parameters", "Name"])
LEAVES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
SHAPES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=8)


@pytest.mark.parametrize("exact", [False, True])
@given(body=SHAPES)
def test_no_value_of_any_shape_breaks_the_reading(body: Any, exact):
    for field, key in NAMES.items():
        read = fields({key: body}, exact=exact)
        read.text(field), read.integer(field), read.flag(field)
        read.secret(field, SECRET), read.given_secret(field, SECRET), read.request_headers(field, HEADER)
        for violation in read.violations:
            assert violation.field.partition(".")[0] == field
            assert "{field}" in violation.message


@pytest.mark.parametrize(
    ("given", "version"), [([], 1), (["1"], 1), (["1.0"], 1), (["2"], 2), ([" 2.0 "], 2), (["2", "2.0"], 2)]
)
def test_the_version_comes_from_the_header(given, version):
    assert asked_version(given, (1, 2)) == version


@pytest.mark.parametrize("given", [["3"], ["x"], [""], ["1", "2"], ["1,2"], ["1", "x"], ["\u00b2"]])
def test_an_unknown_version_names_those_there_are(given):
    with pytest.raises(UnknownVersion, match=r"1\.0 and 2\.0"):
        asked_version(given, (1, 2))
    with pytest.raises(UnknownVersion, match=r"has version 1\.0;"):
        asked_version(["2"], (1,))


@given(
    st.from_regex(r"[0-9]{1,4}-[0-9a-f]{1,12}", fullmatch=True),
    st.sampled_from(["", "-v1", "-v2"]),
    st.text(max_size=9),
)
def test_a_tag_matches_itself_and_nothing_else(tag, variant, other):
    own = entity_tag(tag, variant)
    assert match(own, tag)
    assert match(f'"x", {own}', tag)
    assert match("*", tag)
    assert match(None, tag)
    assert none_match(own, own)
    assert none_match(f"W/{own}", own)
    assert not none_match(None, own)
    assert not match(f"W/{own}", tag)  # If-Match compares strongly (RFC 9110 section 13.1.1)
    if other.strip() != "*":
        assert not match(f'"{tag}-{other}x"', tag)
        assert not match(tag, tag)
