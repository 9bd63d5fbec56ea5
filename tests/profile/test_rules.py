"""What makes a profile valid (profile/rules.py)."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.errors import BadInput, SecretRequired, UnknownReference, Violation
from keyrelay.profile.addresses import envelope_address
from keyrelay.profile.draft import ProfileDraft, draft_of
from keyrelay.profile.model import Anonymous, Basic, OAuthClientCredentials, RequestHeader, SmtpProfile
from keyrelay.profile.rules import Rules, address
from keyrelay.secrets.model import FromPam, SecretText, has_control

RULES = Rules()
ANONYMOUS = ProfileDraft(host="h.example.org", port=25, sender_account="a@example.org", sender_name="A")
BASIC = replace(
    ANONYMOUS, authentication="basic", relay_username=SecretText("user"), relay_password=SecretText("password")
)
OAUTH = replace(
    ANONYMOUS,
    authentication="oauth_client_credentials",
    client_id=SecretText("client"),
    client_secret=SecretText("secret"),
    token_endpoint="https://login.example.org/token",
)
DRAFTS = [ANONYMOUS, BASIC, OAUTH]
COMMON = {"host", "port", "sender_account", "sender_name"}
REQUIRED = {
    "anonymous": COMMON,
    "basic": COMMON | {"relay_username", "relay_password"},
    "oauth_client_credentials": COMMON | {"client_id", "client_secret", "token_endpoint"},
}


def violations(draft: ProfileDraft, rules: Rules = RULES) -> set[tuple[str, str]]:
    """(field, code) of everything that is wrong with a draft."""
    try:
        rules.check(draft)
    except BadInput as refused:
        return {(violation.field, violation.code) for violation in refused.violations}
    return set()


@pytest.mark.parametrize("draft", DRAFTS)
def test_a_valid_draft_becomes_the_profile_it_describes(draft):
    profile = RULES.check(draft)
    assert draft_of(profile) == draft


@pytest.mark.parametrize("sign_in", REQUIRED)
def test_every_missing_field_is_named_at_once(sign_in):
    assert violations(ProfileDraft(authentication=sign_in)) == {(field, "missing") for field in REQUIRED[sign_in]}


@pytest.mark.parametrize("draft", DRAFTS)
def test_empty_texts_and_port_0_count_as_missing(draft):
    for field in REQUIRED[draft.authentication] - {"port", "relay_username", "relay_password"}:
        if isinstance(getattr(draft, field), str):
            assert violations(replace(draft, **{field: ""})) == {(field, "missing")}
    assert violations(replace(draft, port=0)) == {("port", "missing")}


def test_what_the_sign_in_does_not_use_is_not_kept():
    everything = replace(
        OAUTH, relay_username=SecretText("user"), relay_password=SecretText("password"), scope="s", audience="a"
    )
    assert RULES.check(replace(everything, authentication="anonymous")).authentication == Anonymous()
    basic = RULES.check(replace(everything, authentication="basic")).authentication
    assert basic == Basic(SecretText("user"), SecretText("password"))
    oauth = RULES.check(everything).authentication
    assert isinstance(oauth, OAuthClientCredentials)
    assert (oauth.scope, oauth.audience) == ("s", "a")


@pytest.mark.parametrize("port", [1, 25, 465, 587, 2525, 65535])
def test_ports_that_exist_are_accepted(port):
    assert RULES.check(replace(ANONYMOUS, port=port)).port == port


@pytest.mark.parametrize("port", [-1, 65536, 2**31 - 1, -(2**31)])
def test_ports_that_do_not_exist_are_refused(port):
    assert violations(replace(ANONYMOUS, port=port)) == {("port", "out_of_range")}


@pytest.mark.parametrize(
    "host",
    ["smtp", "a.b.c", "a-b.example", "_smtp.example", "127.0.0.1", "::1", "fe80::1%eth0", "b\u00fccher.example", "a."],
)
def test_host_names_and_addresses_are_accepted(host):
    assert RULES.check(replace(ANONYMOUS, host=host)).host == host


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("https://h", "bad_host"),
        ("h:25", "bad_host"),
        ("h h", "bad_host"),
        (" h", "bad_host"),
        ("<h>", "bad_host"),
        ("a..b", "bad_host"),
        ("[::1", "bad_host"),
        ("::1%a b", "bad_host"),
        ("1.2.3.4.5", "bad_host"),
        ("\U0001f600", "bad_host"),
        ("a\u200b", "bad_host"),
        ("a" * 254, "too_long"),
        ("a\r\nb", "control_character"),
        ("a\0", "control_character"),
        ("\ud800", "control_character"),
    ],
)
def test_hosts_that_cannot_be_are_refused_once(host, code):
    assert violations(replace(ANONYMOUS, host=host)) == {("host", code)}


@pytest.mark.parametrize(
    "text", ["a@b.example", "a+b.c@d.example", "a@server", "a@[127.0.0.1]", "pki@corp.local", "a@localhost"]
)
def test_addresses_of_real_networks_are_accepted(text):
    assert list(address("sender_account", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "@",
        "a@",
        "@b",
        "a@b@c",
        "a b@c.example",
        "A <a@b.example>",
        "a@b..c",
        "=?x@example.org",
    ],
)
def test_what_is_no_address_is_refused_in_every_field_that_takes_one(text):
    for field in ("sender_account", "test_recipient"):
        assert {violation.field for violation in address(field, text)} == {field}


@given(text=st.emails() | st.from_regex(r"[a-z=?.é_\[\]-]{1,9}@[a-z0-9é_.:\[\]-]{1,9}", fullmatch=True))
def test_every_address_that_is_accepted_can_be_told_to_a_relay(text):
    if not list(address("sender_account", text)):
        told, _ = envelope_address(text)
        assert told.rpartition("@")[0] == text.rpartition("@")[0]


@pytest.mark.parametrize("field", ["host", "sender_account", "sender_name", "token_endpoint", "scope", "audience"])
@given(text=st.text(max_size=8), control=st.characters(categories=["Cc", "Cs", "Zl", "Zp"]), more=st.text(max_size=8))
def test_no_text_with_a_control_character_gets_through(field, text, control, more):
    assert (field, "control_character") in violations(replace(OAUTH, **{field: text + control + more}))


SECRET_FIELDS = ["relay_username", "relay_password", "client_id", "client_secret"]


@pytest.mark.parametrize("field", SECRET_FIELDS)
@pytest.mark.parametrize(
    ("text", "code"),
    [("*" * 8, "mask"), ("\u2022" * 8, "mask"), ("a\n", "control_character"), ("a" * 4097, "too_long")],
)
def test_a_secret_that_cannot_be_one_is_refused_and_not_repeated(field, text, code):
    draft = BASIC if field.startswith("relay") else OAUTH
    with pytest.raises(BadInput) as refused:
        RULES.check(replace(draft, **{field: SecretText(text)}))
    assert [(violation.field, violation.code) for violation in refused.value.violations] == [(field, code)]
    assert text not in str(refused.value)


@pytest.mark.parametrize("field", SECRET_FIELDS)
def test_a_provider_that_does_not_exist_is_an_unknown_reference(field):
    draft = BASIC if field.startswith("relay") else OAUTH
    with pytest.raises(UnknownReference, match="77"):
        RULES.check(replace(draft, **{field: FromPam(77, {"SecretName": "a"})}))
    assert (f"{field}.parameters", "control_character") in violations(
        replace(draft, **{field: FromPam(77, {"SecretName": "a\n"})})
    )


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://login.example.org/t", "insecure"),
        ("ftp://login.example.org/t", "insecure"),
        ("login.example.org/t", "bad_url"),
        ("https://", "bad_url"),
        ("https://h:0/", "bad_url"),
        ("https://h:99999/", "bad_url"),
        ("https://[::1/", "bad_url"),
        ("https://u:p@h/", "bad_url"),
        ("https://h/#x", "bad_url"),
        ("https://h/a b", "bad_url"),
    ],
)
def test_token_endpoints_that_cannot_be_trusted_are_refused(url, code):
    assert violations(replace(OAUTH, token_endpoint=url)) == {("token_endpoint", code)}


def test_an_operator_may_allow_http_and_nothing_more():
    allowing = Rules(allow_insecure_sign_in=True)
    assert violations(replace(OAUTH, token_endpoint="http://login.example.org/t"), allowing) == set()
    assert violations(replace(OAUTH, token_endpoint="ftp://login.example.org/t"), allowing) == {
        ("token_endpoint", "insecure")
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "a"),
        ("X A", "a"),
        ("X:", "a"),
        ("\u00e4", "a"),
        ("X", "\u00e4"),
        ("X", " a"),
        ("Host", "a"),
        ("content-LENGTH", "1"),
    ],
)
def test_headers_that_http_or_we_do_not_allow_are_refused(name, value):
    draft = replace(OAUTH, request_headers=(RequestHeader("X-Fine", "yes"), RequestHeader(name, value)))
    assert violations(draft) == {("request_headers", "bad_header")}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: b", "a\nb", "a\0", "\x7f", "a\rb"])
def test_no_header_value_ends_its_line(value):
    headers = (RequestHeader("X-A", value),)
    assert ("request_headers", "control_character") in violations(replace(OAUTH, request_headers=headers))


def test_headers_and_parameters_have_a_bound():
    many = tuple(RequestHeader(f"X-{number}", "a") for number in range(33))
    assert violations(replace(OAUTH, request_headers=many[:32])) == set()
    assert violations(replace(OAUTH, request_headers=many)) == {("request_headers", "too_many")}
    parameters = {str(number): "a" for number in range(33)}
    assert ("client_id.parameters", "too_many") in violations(replace(OAUTH, client_id=FromPam(7, parameters)))


# --- Properties ----------------------------------------------------------------------------------------------

TEXTS = (
    st.none() | st.text(max_size=12) | st.sampled_from(["h.example.org", "a@example.org", "https://h/t", "a" * 5000])
)
SOURCES = (
    st.none() | st.text(max_size=12).map(SecretText) | st.builds(FromPam, st.integers(-2, 2), st.just({"a": None}))
)
ANY_DRAFT = st.builds(
    ProfileDraft,
    host=TEXTS,
    port=st.none() | st.integers(-(2**31), 2**31 - 1) | st.just(25),
    use_ssl=st.booleans(),
    sender_account=TEXTS,
    sender_name=TEXTS,
    authentication=st.sampled_from(sorted(REQUIRED)),
    relay_username=SOURCES,
    relay_password=SOURCES,
    client_id=SOURCES,
    client_secret=SOURCES,
    token_endpoint=TEXTS,
    scope=TEXTS,
    audience=TEXTS,
    request_headers=st.lists(st.builds(RequestHeader, st.text(max_size=5), st.text(max_size=5)), max_size=2).map(tuple),
)
DRAFT_FIELDS = {field.name for field in fields(ProfileDraft)}


@given(ANY_DRAFT)
def test_any_draft_becomes_a_clean_profile_or_a_list_of_violations(draft):
    found = violations(draft)
    assert {field.partition(".")[0] for field, _ in found} <= DRAFT_FIELDS
    if found:
        return
    profile = RULES.check(draft)
    assert not any(has_control(text) for text in (profile.host, profile.sender_account, profile.sender_name))
    assert all(isinstance(source, SecretText) and source.reveal() for _, source in profile.secrets())
    assert RULES.check(draft_of(profile)) == profile


BREAKS = {
    "host": "no host",
    "port": 70000,
    "sender_account": "nobody",
    "sender_name": "a\n",
    "client_id": SecretText("***"),
    "client_secret": None,
    "token_endpoint": "http://h",
    "scope": "a\0",
    "audience": "a" * 2000,
    "request_headers": (RequestHeader("", ""),),
}


@given(st.sets(st.sampled_from(sorted(BREAKS)), min_size=1))
def test_what_is_wrong_together_is_the_sum_of_what_is_wrong_alone(broken):
    together = violations(replace(OAUTH, **{field: BREAKS[field] for field in broken}))
    assert together == set().union(*(violations(replace(OAUTH, **{field: BREAKS[field]})) for field in broken))
    assert {field for field, _ in together} == broken


def test_a_field_that_reading_has_complained_about_is_not_mentioned_twice():
    earlier = (Violation("port", "wrong_type", "{field} must be a whole number."),)
    with pytest.raises(BadInput) as refused:
        RULES.check(replace(ANONYMOUS, port=None, host=None), earlier)
    assert [violation.field for violation in refused.value.violations] == ["port", "host"]
    assert refused.value.sentences(str.upper)[0] == "PORT must be a whole number."


def test_a_single_kind_of_violation_keeps_its_own_error():
    needed = Violation("relay_password", SecretRequired.code, "{field} again.")
    with pytest.raises(SecretRequired):
        RULES.check(BASIC, (needed,))
    with pytest.raises(BadInput) as refused:
        RULES.check(replace(BASIC, port=None), (needed,))
    assert type(refused.value) is BadInput


@pytest.mark.parametrize(
    ("port", "use_ssl", "spoken"),
    [(465, True, "implicit-tls"), (587, True, "starttls-required"), (465, False, "starttls-when-offered")],
)
def test_the_port_and_use_ssl_say_what_is_spoken(port, use_ssl, spoken):
    profile = SmtpProfile("h", port, use_ssl, "a@b.example", "A")
    assert profile.security.value == profile.destination.security.value == spoken
