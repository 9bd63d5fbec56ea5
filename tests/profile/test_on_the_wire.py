"""What a port and the switch mean on the wire, in words (profile/on_the_wire.py)."""

from __future__ import annotations

import pytest

from keyrelay.profile.on_the_wire import in_words


@pytest.mark.parametrize("signs_in", [True, False])
def test_port_465_with_the_switch_is_tls_from_the_first_byte(signs_in):
    told = in_words(465, use_ssl=True, signs_in=signs_in)
    assert "TLS from the first byte" in told
    assert "certificate has to be valid" in told
    assert "STARTTLS" not in told


@pytest.mark.parametrize("port", [25, 587, 2525])
def test_any_other_port_with_the_switch_is_starttls_and_nothing_without_it(port):
    told = in_words(port, use_ssl=True, signs_in=True)
    assert "STARTTLS before anything else" in told
    assert "neither sign-in nor mail" in told


def test_without_the_switch_mail_goes_in_clear_and_credentials_do_not():
    assert "mail crosses the network in clear" in in_words(25, use_ssl=False, signs_in=False)
    signing_in = in_words(25, use_ssl=False, signs_in=True)
    assert "does not sign in" in signing_in
    assert "in clear" not in signing_in


def test_port_465_without_the_switch_is_odd():
    assert "switch TLS on" in in_words(465, use_ssl=False, signs_in=False)
    assert "switch TLS on" not in in_words(587, use_ssl=False, signs_in=False)


@pytest.mark.parametrize(("port", "use_ssl"), [(465, True), (587, True), (587, False)])
def test_what_the_operator_allows_is_said(port, use_ssl):
    assert "KEYRELAY_ALLOW_INSECURE_SIGN_IN" in in_words(port, use_ssl=use_ssl, signs_in=True, allow_insecure=True)
    assert "KEYRELAY_ALLOW_INSECURE_SIGN_IN" not in in_words(port, use_ssl=use_ssl, signs_in=True)
