"""The known relays (profile/presets.py): each makes a valid profile, and each setting it names is one."""

from __future__ import annotations

import pytest

from keyrelay.outbox.budget import PRESETS as LIMITS
from keyrelay.profile import exchange_online
from keyrelay.profile.draft import ProfileDraft
from keyrelay.profile.model import TransportSecurity
from keyrelay.profile.presets import PRESETS, Preset
from keyrelay.profile.rules import Rules
from keyrelay.secrets.model import SecretText
from keyrelay.settings import read

each = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
OWN = {"TENANT": "11111111-2222-3333-4444-555555555555", "DOMAIN": "example-org", "REGION": "eu-west-1"}


def filled_in(preset: Preset, text: str | None) -> str | None:
    for blank in preset.blanks:
        text = text and text.replace(blank, OWN[blank])
    return text


def draft(preset: Preset) -> ProfileDraft:
    """What a person makes of the preset: own words for the blanks, the sender and the credentials."""
    credentials = {
        "anonymous": (),
        "basic": ("relay_username", "relay_password"),
        "oauth_client_credentials": ("client_id", "client_secret"),
    }[preset.authentication]
    return ProfileDraft(
        host=filled_in(preset, preset.host),
        port=preset.port,
        use_ssl=preset.use_ssl,
        sender_account="pki@example.org",
        sender_name="PKI",
        authentication=preset.authentication,
        token_endpoint=filled_in(preset, preset.token_endpoint),
        scope=preset.scope,
        **{field: SecretText("a-secret") for field in credentials},
    )


@each
def test_a_preset_with_the_own_words_in_it_is_a_valid_profile_that_is_always_encrypted(preset):
    profile = Rules().check(draft(preset))
    assert profile.security is not TransportSecurity.STARTTLS_WHEN_OFFERED


@each
def test_every_blank_stands_somewhere_in_the_values_and_nothing_else_is_in_capitals(preset):
    values = f"{preset.host} {preset.token_endpoint or ''} {preset.scope or ''}"
    assert [blank for blank in preset.blanks if blank not in values] == []
    left = filled_in(preset, values)
    assert left == left.lower()


@each
def test_the_settings_of_its_limits_are_ones_that_keyrelay_takes(preset, tmp_path):
    read({"KEYRELAY_DATA_DIR": str(tmp_path), **preset.settings})
    assert bool(preset.settings) == bool(preset.limits)


def test_every_limit_that_keyrelay_knows_belongs_to_a_preset():
    assert {preset.settings.get("KEYRELAY_RELAY_LIMITS") for preset in PRESETS.values()} - {None} == set(LIMITS)


@each
def test_it_says_what_to_do_and_where_to_read_more(preset):
    assert preset.steps
    assert preset.more
    assert preset.name == preset.name.lower()


def test_the_clouds_of_microsoft_differ_in_host_authority_and_scope():
    clouds = [preset for preset in PRESETS.values() if preset.authentication == "oauth_client_credentials"]
    assert len(clouds) == 4
    assert len({preset.host for preset in clouds}) == len({preset.scope for preset in clouds}) == 4
    assert {filled_in(preset, preset.token_endpoint).split("/")[2] for preset in clouds} == {
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
    }
    assert all(exchange_online.is_host(preset.host) for preset in clouds)


@pytest.mark.parametrize(
    ("host", "sign_in", "ends"),
    [
        ("smtp.office365.com", "basic", True),
        ("SMTP.Office365.com.", "basic", True),
        ("smtp.office365.com", "oauth_client_credentials", False),
        ("smtp.office365.com", "anonymous", False),
        ("smtp.example.org", "basic", False),
        ("office365.com.example.org", "basic", False),
        ("smtp-mail.outlook.com", "basic", True),
    ],
)
def test_only_a_password_at_exchange_online_has_an_end(host, sign_in, ends):
    assert exchange_online.password_ends(host, sign_in) is ends


def test_what_is_said_of_the_end_does_not_say_that_it_has_come():
    text = exchange_online.PASSWORDS_END
    assert "until the end of December 2026" in text
    assert "second half of 2027" in text
    assert "MC786329" in text
