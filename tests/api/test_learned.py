"""What the stages of a test have learned, in words."""

from __future__ import annotations

from typing import Any

import pytest

from keyrelay.api import learned


@pytest.mark.parametrize(
    ("facts", "lines"),
    [
        ({}, []),
        ({"clock_skew": 3}, []),  # no more than a slow answer
        ({"clock_skew": 90}, ["our clock is 90 s ahead of the token endpoint's"]),
        ({"clock_skew": -90}, ["our clock is 90 s behind the token endpoint's"]),
        ({"attempts": {"::1": "refused", "127.0.0.1": "timeout"}}, ["addresses tried: ::1 refused, 127.0.0.1 timeout"]),
        ({"other_attempts": {"::1": "refused"}}, ["other addresses: ::1 refused"]),
        ({"other_ports": {"465": "implicit-tls", "25": "plain"}}, ["other ports: 465 implicit-tls, 25 plain"]),
        ({"audience": ["a", "b"], "roles": ["c"]}, ["the token is for: a, b", "its roles: c"]),
        ({"scopes": [], "explained": None, "mechanism": "PLAIN"}, []),
        ({"explained": {"status": "401", "scope": "mail"}}, ["the relay explained: status 401, scope mail"]),
        ({"error": "invalid_client"}, ["error: invalid_client"]),
        ({"certificates": []}, []),
    ],
    ids=str,
)
def test_a_fact_has_words_and_one_without_a_value_has_none(facts, lines):
    assert learned.in_detail(facts) == lines


def chain(days_left: int, count: int = 1, **more: Any) -> list[dict[str, Any]]:
    own = {
        "subject": "CN=mail",
        "issuer": "CN=An authority",
        "names": ["mail.test", "smtp.test"],
        "not_before": "2025-01-01T00:00:00Z",
        "not_after": "2026-01-01T00:00:00Z",
        "days_left": days_left,
    }
    return [own | more] * count


@pytest.mark.parametrize(
    ("certificates", "end"),
    [
        (chain(12), "(12 days left), alone"),
        (chain(-12, 3), "(ended 12 days ago), with 2 more"),
        (chain(0), "(0 days left), alone"),
    ],
    ids=["one", "an old chain", "the last day"],
)
@pytest.mark.parametrize("refused", [False, True])
def test_a_chain_is_told_by_the_certificate_of_the_server(certificates, end, refused):
    seen = {"certificates": certificates}
    facts = {"seen_without_verification": seen} if refused else seen
    line = f"certificate: for mail.test, smtp.test, issued by CN=An authority, from 2025-01-01 to 2026-01-01 {end}"
    assert learned.in_detail(facts) == [line]


def test_a_certificate_without_names_is_told_by_its_subject():
    (line,) = learned.in_detail({"certificates": chain(1, names=[])})
    assert line.startswith("certificate: for CN=mail, issued by")


def test_what_strangers_say_is_no_command_to_the_terminal():
    (line,) = learned.in_detail({"certificates": chain(1, names=["\x1b[2Jevil\n.test", "\u202ereversed"])})
    assert line.isprintable()
    assert learned.briefly({"greeting": "hello\x1b[31m\r\nthere"}).isprintable()
