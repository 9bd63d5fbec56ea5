"""From the form of the profile to values for it, and the other way round."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keyrelay.portal.forms import Form
from keyrelay.portal.smtp_form import filled, given, shown_again
from keyrelay.profile.draft import draft_of
from keyrelay.profile.keeper import UNCONFIGURED, Snapshot
from keyrelay.profile.model import Anonymous, Basic, OAuthClientCredentials, RequestHeader, SmtpProfile
from keyrelay.profile.patch import merge
from keyrelay.profile.rules import Rules
from keyrelay.secrets.model import FromPam, SecretText, Stored

WHEN = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
GENERAL = {"host": "smtp.example.org", "port": "587", "sender_account": "a@example.org", "sender_name": "A"}
STORED_BASIC = Basic(Stored("u1", WHEN), Stored("p1", WHEN))
STORED_OAUTH = OAuthClientCredentials(
    Stored("c1", WHEN),
    Stored("s1", WHEN),
    "https://login.example.org/token",
    "scope-1",
    None,
    (RequestHeader("X-One", "a: b"), RequestHeader("X-Two", "")),
    4,
)
FROM_PAM = Basic(FromPam(3, {"SecretName": "user"}), FromPam(12, {"Secret": "smtp", "Key": "password"}))


def snapshot(authentication, **visible) -> Snapshot:
    profile = SmtpProfile("smtp.example.org", 587, True, "a@example.org", "A", authentication)
    return Snapshot(1, profile, WHEN, "somebody", None, visible)


KEPT = [
    snapshot(Anonymous()),
    snapshot(STORED_BASIC, relay_username="mailer"),
    snapshot(STORED_OAUTH, client_id="client-1"),
    snapshot(FROM_PAM),
]


def form(**fields: str) -> Form:
    return Form(tuple(fields.items()))


def basic(**more: str) -> Form:
    return Form((*GENERAL.items(), ("authentication", "basic"), *((k.replace("__", "."), v) for k, v in more.items())))


@pytest.mark.parametrize("kept", KEPT)
def test_the_form_of_a_profile_that_is_sent_back_untouched_changes_nothing(kept):
    values, violations = given(filled(kept))
    draft, found = merge(kept, values)
    assert (violations, found) == ((), ())
    assert Rules().check(draft, (), lambda _field, _source: ()) == kept.profile


def test_a_form_of_nothing_is_a_form_that_says_what_is_missing():
    values, violations = given(form())
    assert [(one.field, one.code) for one in violations] == [("authentication", "unknown_type")]
    draft, _ = merge(UNCONFIGURED, values)
    assert (draft.host, draft.port, draft.use_ssl) == ("", None, False)


def test_a_new_profile_begins_with_tls():
    values, _ = given(filled(UNCONFIGURED))
    assert (values["use_ssl"], values["port"]) == (True, 25)


def test_spaces_that_were_copied_along_are_no_part_of_host_and_name_and_are_part_of_a_password():
    values, _ = given(basic(relay_username__source="here", relay_username__secret_value=" mailer ", host=" h "))
    assert values["relay_username"] == SecretText("mailer")
    values, _ = given(basic(relay_password__source="here", relay_password__secret_value=" p "))
    assert values["relay_password"] == SecretText(" p ")


def test_what_is_kept_is_not_among_the_values_and_what_is_not_used_is_cleared():
    values, _ = given(basic(relay_password__source="keep", relay_password__secret_value="typed and then kept"))
    assert "relay_password" not in values
    unused = ("client_id", "client_secret", "token_endpoint", "scope", "audience", "request_headers")
    assert {field: values[field] for field in unused} == dict.fromkeys(unused)


def test_a_new_value_that_is_empty_clears_and_so_is_missing():
    values, _ = given(basic(relay_password__source="here"))
    assert values["relay_password"] is None


def test_without_a_choice_a_typed_value_counts_and_an_empty_one_keeps():
    assert given(basic(relay_password__secret_value="x"))[0]["relay_password"] == SecretText("x")
    assert "relay_password" not in given(basic())[0]


def test_a_reference_has_the_parameters_of_its_own_provider_only():
    values, violations = given(
        Form(
            (
                *basic(relay_password__source="pam", relay_password__provider="3").pairs,
                ("relay_password.parameter.3.SecretName", " smtp "),
                ("relay_password.parameter.3.Empty", ""),
                ("relay_password.parameter.31.SecretName", "another provider's"),
            )
        )
    )
    assert values["relay_password"] == FromPam(3, {"SecretName": "smtp"})
    assert violations == ()


@pytest.mark.parametrize("provider", ["", "x", "3.5", "-1", "٣"])
def test_a_reference_without_a_provider_is_told_at_the_field(provider):
    values, violations = given(basic(relay_password__source="pam", relay_password__provider=provider))
    assert values["relay_password"] is None
    assert [one.field for one in violations] == ["relay_password.provider"]


@pytest.mark.parametrize("port", ["x", "5.5", "-1", "٥٨٧", "1" * 30])
def test_a_port_that_is_no_number_is_told(port):
    _, violations = given(form(**{**GENERAL, "port": port}, authentication="anonymous"))
    assert [(one.field, one.code) for one in violations] == [("port", "wrong_type")]


def test_headers_stand_one_in_a_line():
    oauth = {**GENERAL, "authentication": "oauth_client_credentials"}
    values, _ = given(form(**oauth, request_headers="X-Tenant: abc\n\n X-B :a:b "))
    assert values["request_headers"] == (RequestHeader("X-Tenant", "abc"), RequestHeader("X-B", "a:b"))
    _, violations = given(form(**oauth, request_headers="nonsense"))
    assert [one.field for one in violations] == ["request_headers"]


def test_a_client_secret_may_be_a_private_key_of_several_lines():
    key = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----"
    oauth = Form(
        (
            ("authentication", "oauth_client_credentials"),
            ("client_secret.source", "here"),
            ("client_secret.key", key + "\n"),
        )
    )
    assert given(oauth)[0]["client_secret"] == SecretText(key)
    twice = Form((*oauth.pairs, ("client_secret.secret_value", "x")))
    assert [one.code for one in given(twice)[1]] == ["ambiguous"]


def test_no_typed_secret_is_shown_again_and_names_are():
    typed = Form(
        (
            ("relay_username.secret_value", "mailer"),
            ("relay_password.secret_value", "p1"),
            ("client_secret.secret_value", "p2"),
            ("client_secret.key", "p3"),
        )
    )
    assert shown_again(typed) == Form((("relay_username.secret_value", "mailer"),))


def test_nothing_of_a_stored_password_is_in_the_form():
    assert [name for name, _ in filled(KEPT[1]).pairs if name.startswith("relay_password")] == ["relay_password.source"]


def test_another_name_for_the_same_password_asks_for_it_again():
    current = KEPT[1]
    values, _ = given(basic(relay_username__secret_value="somebody else", relay_password__source="keep", use_ssl="yes"))
    _, violations = merge(current, values)
    assert [(one.field, one.code) for one in violations] == [("relay_password", "secret_required")]
    same, _ = given(basic(relay_username__secret_value="mailer", relay_password__source="keep", use_ssl="yes"))
    draft, violations = merge(current, same)
    assert violations == ()
    assert draft == draft_of(current.profile)
