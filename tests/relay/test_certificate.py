"""What a relay shows of its certificates is shown, whatever it is, and never an accident of ours."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

import pytest

import odd_certificates as odd
from keyrelay.relay.certificate import chain_of
from live_causes import Scene, play, speaking_tls


@dataclass
class Connection:
    """As much of a TLS connection as has a chain."""

    ders: list[bytes]

    def get_unverified_chain(self) -> list[bytes]:
        return self.ders


def facts(der: bytes) -> dict[str, Any]:
    (found,) = chain_of(Connection([der]))  # type: ignore[arg-type]
    return found.shown()


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ((odd.ONE_NAME,), ["b"]),
        ((odd.X400_ADDRESS,), []),
        ((odd.EDI_PARTY_NAME,), []),
        ((odd.NOT_DER,), []),
        ((odd.ONE_NAME, odd.ONE_NAME), []),
        ((), []),
    ],
    ids=["a name", "an X.400 address", "an EDI party", "rubbish", "two extensions", "none"],
)
def test_names_that_cannot_be_read_leave_the_other_facts(names, read):
    shown = facts(odd.certificate(*names)[0])
    assert (shown["names"], shown["subject"], shown["issuer"]) == (read, "CN=odd", "CN=odd")
    assert shown["days_left"] == 9
    assert shown["key"] == "EC secp256r1"


def test_a_key_of_an_unknown_kind_leaves_the_other_facts():
    shown = facts(odd.with_unknown_key())
    assert (shown["key"], shown["names"], shown["subject"]) == ("unknown", ["b"], "CN=odd")


def test_what_is_no_certificate_at_all_is_left_out():
    good = odd.certificate()[0]
    assert [found.subject for found in chain_of(Connection([b"rubbish", good]))] == ["CN=odd"]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [odd.X400_ADDRESS, odd.EDI_PARTY_NAME], ids=["an X.400 address", "an EDI party"])
@pytest.mark.parametrize("insecure", [False, True], ids=["refused", "taken as it is"])
def test_a_relay_cannot_make_a_test_fail_by_what_it_shows(name, insecure, tmp_path):
    def context() -> ssl.SSLContext:
        der, key = odd.certificate(name)
        file = tmp_path / "odd.pem"
        file.write_bytes(odd.as_pem(der) + key)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(file)
        return made

    scene = Scene(
        cause="",
        stage="tls",
        place=speaking_tls(context),
        port=465,
        use_ssl=True,
        mode="connect",
        insecure=insecure,
        waits=True,
    )
    report = asyncio.run(play(scene, tmp_path))
    assert report.failed is not None
    if insecure:
        assert report.failed.stage.stage == "hello"  # it only greets
        (tls,) = [finding.stage.learned for finding in report.findings if finding.stage.stage == "tls"]
        assert tls["certificates"][0]["subject"] == "CN=odd"
    else:
        assert report.failed.explanation.cause.id == "certificate-self-signed"
        assert report.failed.stage.learned["seen_without_verification"]["certificates"][0]["subject"] == "CN=odd"
