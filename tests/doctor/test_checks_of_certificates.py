"""Certificates: ours, those we show, and those we trust; each read from a real file."""

from __future__ import annotations

import subprocess

import pytest
import trustme

from doctoring import found, looked
from ending import write_certificate
from keyrelay.self_signed import certificate_for
from live import run_keyrelay


@pytest.fixture
def environ(tmp_path):
    return {"KEYRELAY_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def made(tmp_path):
    """Write a certificate that ends in so many days, and give its file and that of its key."""

    def make(days, *names, starts=-1):
        return write_certificate(tmp_path, days, *names, starts=starts)

    return make


def ours(environ, pair, host="127.0.0.1"):
    return environ | {"KEYRELAY_TLS_CERT": str(pair[0]), "KEYRELAY_TLS_KEY": str(pair[1]), "KEYRELAY_HOST": host}


# --- Ours ----------------------------------------------------------------------------------------------------


def test_without_tls_there_is_nothing_to_see(environ):
    findings = looked(environ, "tls-certificate", "local-authority", "client-certificates", "ca-bundle")
    assert {finding.verdict for finding in findings.values()} == {"ok"}


@pytest.mark.parametrize(
    ("days", "verdict", "word"),
    [(90, "ok", "90 days"), (59, "warning", "59 days"), (6, "failure", "6 days"), (-3, "failure", "ended")],
)
def test_our_certificate_is_watched_to_its_end(environ, made, days, verdict, word):
    found(ours(environ, made(days, "relay.example.org")), "tls-certificate", verdict, word)


def test_a_certificate_that_begins_tomorrow_is_a_failure(environ, made):
    found(ours(environ, made(90, "x.test", starts=1)), "tls-certificate", "failure", "not valid yet")


def test_a_certificate_has_to_name_what_we_listen_on(environ, made):
    pair = made(90, "relay.example.org", "*.lab.example.org")
    for host in (
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "localhost",
        "relay.example.org",
        "RELAY.example.org",
        "a.lab.example.org",
    ):
        found(ours(environ, pair, host), "tls-certificate", "ok", "relay.example.org")
    for host in ("other.example.org", "192.0.2.1"):
        found(ours(environ, pair, host), "tls-certificate", "warning", "relay.example.org")
    found(ours(environ, made(91)), "tls-certificate", "warning", "no name at all")


def test_a_certificate_that_cannot_be_used_is_told_by_its_setting_and_not_by_what_stands_there(environ, made, tmp_path):
    good, other = made(90, "x.test"), made(80, "x.test")
    found(ours(environ, (good[0], other[1])), "tls-certificate", "failure", "KEYRELAY_TLS_KEY does not belong")
    found(
        ours(environ, (tmp_path / "missing", good[1])),
        "tls-certificate",
        "failure",
        "KEYRELAY_TLS_CERT",
        "No such file",
    )
    found(
        ours(environ, (good[0], tmp_path / "missing")), "tls-certificate", "failure", "KEYRELAY_TLS_KEY", "No such file"
    )
    found(ours(environ, (good[1], good[1])), "tls-certificate", "failure", "no PEM file with a certificate")
    pasted = good[1].read_text().replace("\n", " ")
    finding = found(ours(environ, (good[0], pasted)), "tls-certificate", "failure", "KEYRELAY_TLS_KEY")
    assert "PRIVATE KEY-" not in str(finding)


def test_a_key_with_a_pass_phrase_is_told_and_nobody_is_asked_for_it(environ, made, tmp_path):
    certificate, key = made(90, "x.test")
    locked = tmp_path / "locked.pem"
    command = ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked]
    subprocess.run(command, check=True, capture_output=True)
    found(ours(environ, (certificate, locked)), "tls-certificate", "failure", "pass phrase")


# --- Self-signed ---------------------------------------------------------------------------------------------


def test_a_self_signed_certificate_and_its_authority_are_watched(environ, tmp_path, made):
    chosen = environ | {"KEYRELAY_SELF_SIGNED": "yes"}
    findings = looked(chosen, "tls-certificate", "local-authority")
    assert {finding.verdict for finding in findings.values()} == {"ok"}
    assert not (tmp_path / "data").exists()
    certificate_for(tmp_path / "data", "127.0.0.1")
    found(chosen, "tls-certificate", "ok", "396 days")
    found(chosen, "local-authority", "ok", "days")
    folder = tmp_path / "data" / "tls"
    for days, verdict, its_authority in ((40, "ok", "warning"), (20, "warning", "warning"), (3, "failure", "failure")):
        certificate, key = made(days, "localhost")
        (folder / "server.pem").write_bytes(certificate.read_bytes())
        (folder / "server-key.pem").write_bytes(key.read_bytes())
        (folder / "ca.pem").write_bytes(certificate.read_bytes())
        found(chosen, "tls-certificate", verdict, f"{days} days")
        found(chosen, "local-authority", its_authority, f"{days} days")
    (folder / "server.pem").write_text("damaged")
    (folder / "ca.pem").write_text("damaged")
    found(chosen, "tls-certificate", "failure", "cannot be used")
    found(chosen, "local-authority", "failure", "cannot be read")


# --- Others' -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whom", ["RELAY", "VAULT"])
def test_what_relays_and_vaults_are_shown_is_watched(environ, made, whom, tmp_path):
    name = f"KEYRELAY_{whom}_CLIENT"
    for days, verdict in ((90, "ok"), (30, "warning"), (2, "failure")):
        certificate, key = made(days)
        pair = {f"{name}_CERT": str(certificate), f"{name}_KEY": str(key)}
        found(environ | pair, "client-certificates", verdict, f"{name}_CERT", f"{days} days")
    together = tmp_path / "both.pem"
    together.write_bytes(certificate.read_bytes() + key.read_bytes())
    found(environ | {f"{name}_CERT": str(together)}, "client-certificates", "failure", "2 days")
    wrong = made(70)[1]
    found(environ | pair | {f"{name}_KEY": str(wrong)}, "client-certificates", "failure", f"{name}_KEY")


def test_the_worse_of_two_certificates_is_told(environ, made):
    good, bad = made(90), made(5)
    pairs = {
        "KEYRELAY_RELAY_CLIENT_CERT": str(good[0]),
        "KEYRELAY_RELAY_CLIENT_KEY": str(good[1]),
        "KEYRELAY_VAULT_CLIENT_CERT": str(bad[0]),
        "KEYRELAY_VAULT_CLIENT_KEY": str(bad[1]),
    }
    found(environ | pairs, "client-certificates", "failure", "KEYRELAY_VAULT_CLIENT_CERT")


def test_authorities_that_cannot_be_read_or_have_ended_are_told(environ, made, tmp_path):
    file = tmp_path / "authorities.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    trusting = environ | {"KEYRELAY_CA_BUNDLE": str(file)}
    found(trusting, "ca-bundle", "ok", "1 authority")
    lasting = file.read_bytes()
    file.write_bytes(lasting + made(59)[0].read_bytes())
    found(trusting, "ca-bundle", "warning", "One of the 2 authorities", "59 days")
    file.write_bytes(lasting + made(61)[0].read_bytes())
    found(trusting, "ca-bundle", "ok", "2 authorities")
    file.write_bytes(lasting + made(-5)[0].read_bytes())
    found(trusting, "ca-bundle", "warning", "1 of 2")
    file.write_text("nothing")
    found(trusting, "ca-bundle", "failure", "no PEM file")
    file.unlink()
    found(trusting, "ca-bundle", "failure", "No such file")


def test_the_command_says_the_same_of_a_certificate_that_keeps_a_server_from_starting(environ, made):
    broken = ours(environ, (made(90)[0], made(80)[1]))
    done = run_keyrelay(broken, "doctor", "--offline")
    assert done.returncode == 1
    assert "✗ tls-certificate" in done.stdout
