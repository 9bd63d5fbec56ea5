"""Whom a request comes from: the peer, unless the operator trusts that one to name others."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyrelay.api.callers import Callers
from keyrelay.setting_values import networks
from live import ANONYMOUS, SMTP, V2

TRUSTED = Callers(networks("10.0.0.1, 10.1.0.0/16, 2001:db8:1::/48, 127.0.0.1"))
STRANGER, PROXY = "203.0.113.9", "10.0.0.1"


def forwarded(*values):
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("peer", "values", "address"),
    [
        # Nobody is believed who is not trusted.
        (STRANGER, ["198.51.100.1"], STRANGER),
        (STRANGER, ["10.0.0.1"], STRANGER),
        (None, ["198.51.100.1"], "unknown"),  # a peer on a unix socket has no address that could be trusted
        ("", ["198.51.100.1"], ""),
        # A trusted proxy is, as far as it speaks for itself.
        (PROXY, [], PROXY),
        (PROXY, ["198.51.100.1"], "198.51.100.1"),
        (PROXY, ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),  # the first was made up by the caller
        (PROXY, ["192.0.2.66", "198.51.100.1"], "198.51.100.1"),  # in a header of its own, too
        (PROXY, ["198.51.100.1", ""], "198.51.100.1"),
        (PROXY, [" 198.51.100.1 ,, ,"], "198.51.100.1"),
        # A chain of proxies.
        (PROXY, ["192.0.2.66, 198.51.100.1, 10.1.2.3, 2001:db8:1::7"], "198.51.100.1"),
        (PROXY, ["192.0.2.66", "198.51.100.1, 10.1.2.3", "10.1.2.4"], "198.51.100.1"),
        (PROXY, ["10.1.0.9, 10.1.2.3"], "10.1.0.9"),  # somebody within
        # Brackets and ports.
        (PROXY, ["2001:db8::5"], "2001:db8::5"),
        (PROXY, ["[2001:db8::5]"], "2001:db8::5"),
        (PROXY, ["[2001:db8::5]:4711"], "2001:db8::5"),
        (PROXY, ["2001:DB8:0:0::5"], "2001:db8::5"),
        (PROXY, ["198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, [2001:db8:1::7]:80, 10.1.2.3:8080"], "198.51.100.1"),
        (PROXY, ["::ffff:198.51.100.1"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, ::ffff:10.1.2.3"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", ["198.51.100.1"], "::ffff:203.0.113.9"),
        # Garbage ends it: then the one who has sent it to us is all we know.
        (PROXY, ["unknown"], PROXY),
        (PROXY, ["198.51.100.1, unknown"], PROXY),
        (PROXY, ["198.51.100.1, _hidden, 10.1.2.3"], "10.1.2.3"),
        (PROXY, ["198.51.100.1, 10.1.2.3, 300.1.1.1"], PROXY),
        (PROXY, ["198.51.100.1:99999999"], PROXY),
        (PROXY, ["[198.51.100.1"], PROXY),
        (PROXY, ["198.51.100.1]"], PROXY),
        (PROXY, ["198.51.100.1 10.1.2.3"], PROXY),
        (PROXY, ["198.51.100.1\x00"], PROXY),
        (PROXY, ["127.1"], PROXY),
        (PROXY, ["010.001.002.003"], PROXY),
        (PROXY, ["for=198.51.100.1"], PROXY),
        (PROXY, ['"198.51.100.1"'], PROXY),
        (PROXY, ["é"], PROXY),
        (PROXY, ["fe80::1%made up"], PROXY),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::1%eth0"),
    ],
)
def test_the_caller_is_the_nearest_whom_nobody_trusts(peer, values, address):
    assert TRUSTED.address(peer, forwarded(*values)) == address


@given(st.sampled_from([PROXY, "2001:db8:1::1"]), st.lists(st.text(st.characters(max_codepoint=255)), max_size=5))
def test_whatever_is_sent_the_address_is_one_and_never_what_was_made_up(peer, values):
    address = TRUSTED.address(peer, forwarded(*values, "198.51.100.1"))
    assert address == "198.51.100.1"


def test_a_chain_has_a_bound_and_so_has_the_time_to_read_it():
    assert TRUSTED.address(PROXY, forwarded("198.51.100.1" + ", 10.1.2.3" * 31)) == "198.51.100.1"
    assert TRUSTED.address(PROXY, forwarded("198.51.100.1" + ", 10.1.2.3" * 32)) == "10.1.2.3"
    assert TRUSTED.address(PROXY, forwarded("198.51.100.1" + "," * 60_000)) == PROXY
    # What is cut off is no address, however it looks.
    assert TRUSTED.address(PROXY, forwarded("1198.51.100.1" + "," * (4096 - len("198.51.100.1")))) == PROXY


def test_without_proxies_in_the_settings_nothing_is_read():
    assert Callers(()).address("127.0.0.1", forwarded("198.51.100.1")) == "127.0.0.1"


def test_the_header_forwarded_is_not_read():
    assert TRUSTED.address(PROXY, [(b"forwarded", b"for=198.51.100.1")]) == PROXY


# --- On a real server ----------------------------------------------------------------------------------------


@pytest.fixture
def behind_a_proxy(sqlite_settings, start):
    return start(replace(sqlite_settings, trusted_proxies=(ip_network("127.0.0.1"),)))


def addresses(server):
    return [address for (address,) in server.run(lambda node: node.store.rows("SELECT address FROM audit_entry"))]


def test_the_audit_and_the_log_name_whom_a_trusted_proxy_names(behind_a_proxy, logged):
    headers = V2 | {"x-forwarded-for": "192.0.2.66, 198.51.100.1"}
    behind_a_proxy.put(SMTP, json=ANONYMOUS, headers=headers).raise_for_status()
    assert addresses(behind_a_proxy)[-1] == "198.51.100.1"
    told = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [line["address"] for line in told if line["event"] == "request"] == ["198.51.100.1"]


def test_without_a_trusted_proxy_they_name_the_peer_whatever_is_claimed(sqlite_server, logged):
    sqlite_server.put(SMTP, json=ANONYMOUS, headers=V2 | {"x-forwarded-for": "198.51.100.1"}).raise_for_status()
    assert addresses(sqlite_server)[-1] == "127.0.0.1"
    assert "198.51.100.1" not in logged.getvalue()


def test_failed_sign_ins_use_up_the_allowance_of_their_address_and_of_no_other_behind_the_proxy(behind_a_proxy):
    def guess(address):
        headers = {"x-forwarded-for": address}
        return httpx2.get(behind_a_proxy.url + SMTP, auth=("nobody", "wrong"), headers=headers).status_code

    assert 429 in (guess("198.51.100.1") for _ in range(100))
    assert guess("198.51.100.2") == 401
    assert guess("192.0.2.66, 198.51.100.1") == 429  # what the guesser makes up changes nothing
