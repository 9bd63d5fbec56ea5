"""TLS of the chaos relay: STARTTLS and from the first byte, good and bad certificates, and handshakes that fail."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from cryptography import x509

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.errors import Unsuitable


@pytest.fixture
def start(relay, certificates):
    def start(**rules):
        return relay(certificates=certificates, **rules)

    return start


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("more", [{}, {"delay": 0.01}, {"drip": 0.0005}], ids=str)
def test_starttls_turns_tls_on_and_forgets_what_was_said_before(start, talk, trusting, loop, more):
    server = start(loop=loop, starttls=True, **more)
    client = talk(server)
    assert "STARTTLS" in client.hello()
    assert client.ask("STARTTLS").startswith("220")
    client.wrap(trusting())
    assert client.ask("MAIL FROM:<a@b.test>").startswith("503 5.5.1"), "EHLO has to be said again"
    assert "STARTTLS" not in client.ask("EHLO a.test")
    assert client.ask("STARTTLS").startswith("503")
    assert client.message("x" * 100 + "\r\n").startswith("250")
    assert client.ask("QUIT").startswith("221")
    assert client.rest() == b""
    assert server.messages[0].tls
    assert server.sni == ["localhost"]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tls_from_the_first_byte(start, talk, trusting, loop):
    server = start(loop=loop, implicit_tls=True)
    client = talk(server)
    client.wrap(trusting())
    assert "STARTTLS" not in client.hello()
    content = "0123456789\r\n" * 20_000  # many TLS records
    assert client.message(content).startswith("250")
    assert server.messages[0].content == content.encode()


def test_the_address_needs_no_name(start, talk, trusting):
    server = start(implicit_tls=True)
    client = talk(server)
    client.wrap(trusting(), "127.0.0.1")
    client.hello()
    assert server.sni == [None]


REFUSALS = {
    "expired": (10, "localhost"),  # the numbers are OpenSSL's X509_V_ERR_...
    "not_yet_valid": (9, "localhost"),
    "wrong_name": (62, "localhost"),
    "unknown_ca": (20, "localhost"),
    "self_signed": (18, "localhost"),
    "weak": (66, "localhost"),
    "by_name": (62, "c.test"),
}


@pytest.mark.parametrize("certificate", REFUSALS)
def test_a_bad_certificate_is_bad_in_its_own_way_and_in_no_other(start, talk, trusting, certificate):
    code, name = REFUSALS[certificate]
    client = talk(start(implicit_tls=True, certificate=certificate))
    context = trusting()
    context.set_ciphers("DEFAULT:@SECLEVEL=2")
    with pytest.raises(ssl.SSLCertVerificationError) as failure:
        client.wrap(context, name)
    assert failure.value.verify_code == code


@pytest.mark.parametrize("name", ["a.test", "b.test", "localhost"])
def test_the_name_that_is_asked_for_chooses_the_certificate(start, talk, trusting, name):
    server = start(implicit_tls=True, certificate="by_name")
    client = talk(server)
    client.wrap(trusting(), name)
    assert client.socket.getpeercert()["subject"] == ((("commonName", name),),)
    assert server.sni == [name]


def test_the_good_certificate_passes_the_strictest_check(start, talk, trusting):
    client = talk(start(implicit_tls=True))
    context = trusting()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    client.wrap(context)
    client.hello()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_one_version_is_spoken_and_no_other(start, talk, trusting, version):
    client = talk(start(implicit_tls=True, tls_version=version))
    client.wrap(trusting())
    assert client.socket.version() == f"TLSv{version}"


def test_an_old_version_is_not_what_todays_clients_speak(start, talk, trusting):
    server = start(implicit_tls=True, tls_version="1.0")
    with pytest.raises(ssl.SSLError) as failure:
        talk(server).wrap(trusting())
    assert "VERSION" in failure.value.reason or "PROTOCOL" in failure.value.reason


def test_without_a_client_certificate_the_handshake_fails(start, talk, trusting):
    server = start(implicit_tls=True, client_ca=True, tls_version="1.2")
    client = talk(server)
    with pytest.raises(ssl.SSLError) as failure:
        client.wrap(trusting())
    assert "HANDSHAKE_FAILURE" in failure.value.reason
    assert server.commands == []


def test_in_tls_1_3_the_missing_client_certificate_is_told_after_the_handshake(start, talk, trusting):
    client = talk(start(implicit_tls=True, client_ca=True, tls_version="1.3"))
    client.wrap(trusting())
    with pytest.raises(ssl.SSLError) as failure:
        client.reply()
    assert "CERTIFICATE_REQUIRED" in failure.value.reason


def test_with_our_client_certificate_the_session_goes_on(start, talk, trusting, certificates):
    context = trusting()
    context.load_cert_chain(certificates.client_certificate, certificates.client_key)
    client = talk(start(starttls=True, client_ca=True))
    client.hello()
    client.ask("STARTTLS")
    client.wrap(context)
    assert client.ask("EHLO a.test").startswith("250")


def test_clear_text_can_be_put_right_behind_the_answer(start, talk):
    client = talk(start(starttls=True, inject=b"250 injected\r\n"))
    client.hello()
    client.send(b"STARTTLS\r\n")
    assert client.socket.recv(1000) == b"220 2.0.0 begin TLS\r\n250 injected\r\n"


def test_the_handshake_may_never_be_answered(start, talk, trusting):
    for rules in ({"implicit_tls": True}, {"starttls": True}):
        client = talk(start(stall="tls", **rules))
        if "starttls" in rules:
            client.hello()
            client.ask("STARTTLS")
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.wrap(trusting())


def test_the_connection_may_end_instead_of_the_handshake(start, talk, trusting):
    client = talk(start(implicit_tls=True, close="tls"))
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        client.wrap(trusting())


def test_a_refused_starttls_leaves_the_session_as_it_was(start, talk):
    client = talk(start(starttls=True, replies={"starttls": "454 4.7.0 TLS not available"}))
    client.hello()
    assert client.ask("STARTTLS").startswith("454")
    assert client.ask("STARTTLS now").startswith("501")
    assert client.message().startswith("250")


def test_clear_text_where_tls_must_begin_ends_the_connection(start, talk):
    server = start(implicit_tls=True)
    client = talk(server)
    client.send(b"EHLO a.test\r\n")
    client.rest()
    assert server.commands == []


def test_certificates_are_made_when_none_are_given_and_go_away_with_the_relay():
    async def main() -> None:
        async with ChaosRelay(Script(implicit_tls=True)) as server:
            authority = server.certificates.authority
            context = ssl.create_default_context(cafile=authority)
            reader, writer = await asyncio.open_connection(server.host, server.port, ssl=context)
            assert await reader.readline() == b"220 chaos.test ESMTP\r\n"
            writer.close()
        assert not authority.parent.exists()

    asyncio.run(main())


def test_an_authority_is_kept_in_its_directory_and_a_damaged_one_is_named(tmp_path):
    first = Certificates(tmp_path / "kept").authority.read_bytes()
    again = Certificates(tmp_path / "kept")
    assert again.authority.read_bytes() == first
    assert again.client_key.stat().st_mode & 0o077 == 0
    again.authority.write_text("nothing")
    with pytest.raises(Unsuitable, match="damaged"):
        Certificates(tmp_path / "kept")
    (tmp_path / "file").touch()
    with pytest.raises(Unsuitable, match="written"):
        Certificates(tmp_path / "file")


def test_the_names_are_those_of_this_machine(certificates):
    certificates.server_context()
    (folder,) = {certificates.authority.parent}
    certificate = x509.load_pem_x509_certificate((folder / "server-good.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_tls_may_change_from_one_connection_to_the_next(relay, talk, trusting, certificates):
    server = relay(
        Script(implicit_tls=True, certificate="expired", then=(Script(starttls=True),)), certificates=certificates
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(server).wrap(trusting())
    client = talk(server)
    client.hello()
    client.ask("STARTTLS")
    client.wrap(trusting())
    assert client.ask("EHLO a.test").startswith("250")


def test_a_client_that_goes_away_in_the_handshake_harms_nobody(start, talk, trusting):
    server = start(implicit_tls=True)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01")
    client = talk(server)
    client.wrap(trusting())
    client.hello()
