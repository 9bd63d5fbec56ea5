"""What is left of texts in a support bundle: shapes and domains, and never a piece of a password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canary import leaks, new_canary
from keyrelay.doctor.bundle import reduction


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("jo.smith@Example.org", "…@example.org"),
        ("jo smith@example.org ", "…@…"),
        ("CORP\\jsmith", "DOMAIN\\name"),
        ("11111111-2222-3333-4444-555555555555", "a UUID"),
        ("jsmith", "a text"),
        ("", "a text"),
    ],
)
def test_a_name_is_reduced_to_its_shape(text, left):
    assert reduction.shape(text) == left


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (
            "https://login.example.org/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token",
            "https://login.example.org/…/oauth2/v2.0/token",
        ),
        ("https://login.example.org/token?client_secret=hunter2#x", "https://login.example.org/token"),
        ("https://jo:hunter2@login.example.org:8443/hunter2", "https://login.example.org/…"),
        ("https://outlook.office365.com/.default", "https://outlook.office365.com/.default"),
        ("hunter2", "a text"),
        ("https://[", "a text"),
        ("api://hunter2", "a text"),
    ],
)
def test_a_url_is_reduced_to_its_host_and_what_is_the_same_for_everybody(url, left):
    assert reduction.endpoints(url) == left


@pytest.mark.parametrize(
    ("url", "left"),
    [
        (
            "postgresql://jo:hunter2@db.example.org:5432/keyrelay?sslmode=require",
            "postgresql://db.example.org:5432/keyrelay",
        ),
        ("postgres://a,b:5432/x", "postgres://a,b:5432/x"),
        ("postgresql:///x", "postgresql:///x"),
        ("postgresql://jo:hun@ter2@db/x", "an address"),
        ("postgresql://jo:hun/ter2@db/x", "an address"),
        ("postgresql://jo:hun?ter2@db/x", "an address"),
        ("postgresql://jo:hun#ter2@db/x", "an address"),
        ("postgresql://jo:hun:ter2@db/x", "an address"),
        ("postgresql://db/x?password=hunter2", "postgresql://db/x"),
        ("postgresql://db/x?user=jo@example.org&password=hunter2", "an address"),
    ],
)
def test_the_address_of_a_database_has_neither_user_nor_password_however_badly_it_is_written(url, left):
    assert reduction.database(url) == left


@given(st.text(min_size=8, max_size=40), st.booleans())
def test_no_password_in_the_address_of_a_database_is_seen(password, encoded):
    given = quote(password, safe="") if encoded else password
    left = reduction.database(f"postgresql://user-name:{given}@db/x")
    assert left in {"an address", "postgresql://db/x"}


def test_a_sentence_names_no_user_mailbox_or_home():
    homes = ("home", "Users")
    told = 'role "jo" of jo.smith@example.org in /{}/jo/keyrelay and /{}/jo is refused'.format(*homes)
    left = 'role "…" of …@example.org in /{}/…/keyrelay and /{}/… is refused'.format(*homes)
    assert reduction.sentence(told) == left


def test_a_path_that_names_nothing_may_be_a_key_and_is_not_shown(tmp_path):
    secret = new_canary()
    assert reduction.path(tmp_path) == str(tmp_path)
    for text in (secret, "/" + secret, "-----BEGIN PRIVATE KEY----- " + secret * 50):
        assert leaks({"key": secret}, reduction.path(Path(text)).encode()) == []


def test_a_domain_that_is_none_is_left_out():
    assert reduction.domain("jo@[192.0.2.1]") == "…"
    assert reduction.domain("jo@b\u00fccher.example") == "…"
    assert reduction.domain("jo@Example.ORG.") == "example.org"
