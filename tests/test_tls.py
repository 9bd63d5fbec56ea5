"""TLS on our own port: a certificate of the operator's, or one from an authority of our own."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import subprocess
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import trustme
from cryptography import x509

from absent import absent
from keyrelay import self_signed
from keyrelay.errors import DataDirUnusable, TlsUnusable
from live import SMTP, V2, Command, clean_environment


@contextmanager
def serving(data_dir: Path, *options: str, **variables: str):
    command = Command.serve({"KEYRELAY_DATA_DIR": str(data_dir)} | variables, *options)
    try:
        yield command
    finally:
        command.stop()


def trusting(authority: Path) -> ssl.SSLContext:
    """A client that trusts this authority alone, and is as strict about certificates as RFC 5280."""
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def port_of(command: Command) -> int:
    return int(command.url.rpartition(":")[2])


def shake_hands(command: Command, context: ssl.SSLContext, name: str) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", port_of(command)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        return connection.version()


# --- --self-signed -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tls") / "data"


@pytest.fixture(scope="module")
def secured(data_dir):
    with serving(data_dir, "--self-signed") as command:
        yield command


def test_a_client_that_trusts_our_authority_alone_reads_the_profile(secured, data_dir):
    assert secured.url.startswith("https://127.0.0.1:")
    with httpx2.Client(verify=trusting(data_dir / "tls" / "ca.pem"), timeout=10) as client:
        for host in ("127.0.0.1", "localhost"):
            url = secured.url.replace("127.0.0.1", host) + SMTP
            assert client.get(url, auth=("admin", secured.password), headers=V2).status_code == 200


def test_the_start_says_which_file_to_trust(secured, data_dir):
    printed = "\n".join(secured.printed)
    assert f"--cacert {data_dir / 'tls' / 'ca.pem'}" in printed


def test_a_client_that_does_not_know_the_authority_refuses_it(secured):
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(secured, ssl.create_default_context(), "localhost")


def test_another_host_name_is_refused(secured, data_dir):
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(secured, trusting(data_dir / "tls" / "ca.pem"), "smtp.example.org")


def test_openssl_verifies_the_certificate_strictly(secured, data_dir):
    program = shutil.which("openssl")
    if program is None:
        absent("openssl is not installed; to run this test: apt-get install openssl")
    folder = data_dir / "tls"
    command = [program, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost"]
    done = subprocess.run(
        [*command, "-CAfile", folder / "ca.pem", folder / "server.pem"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done


def test_tls_below_1_2_is_refused(secured, data_dir):
    context = trusting(data_dir / "tls" / "ca.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are deprecated, which is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    # The server breaks the connection off, with an alert or without.
    with pytest.raises((ssl.SSLError, ConnectionResetError), match=r"(?i)alert protocol version|EOF|reset"):
        shake_hands(secured, context, "localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_from_1_2_on_is_spoken(secured, data_dir, version):
    context = trusting(data_dir / "tls" / "ca.pem")
    context.minimum_version = context.maximum_version = version
    assert shake_hands(secured, context, "localhost") == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


def test_plain_http_on_the_tls_port_gets_no_answer_and_harms_nothing(secured, data_dir):
    with pytest.raises(httpx2.TransportError):
        httpx2.get(secured.url.replace("https", "http") + SMTP, timeout=10)
    assert shake_hands(secured, trusting(data_dir / "tls" / "ca.pem"), "localhost")


def test_keys_are_readable_by_their_owner_alone(secured, data_dir):
    for name in ("ca-key.pem", "server-key.pem"):
        assert stat.S_IMODE((data_dir / "tls" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((data_dir / "tls").stat().st_mode) == 0o700
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_the_second_start_keeps_the_authority_and_the_certificate(tmp_path):
    with serving(tmp_path, "--self-signed"):
        first = contents(tmp_path)
    with serving(tmp_path, "--self-signed"):
        assert contents(tmp_path) == first


# --- Making certificates -------------------------------------------------------------------------------------


def contents(data_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data_dir / "tls").iterdir()}


def made(data_dir: Path, host: str = "127.0.0.1") -> x509.Certificate:
    """The certificate for a host, checked to belong to its key and to our authority."""
    certificate, key = self_signed.certificate_for(data_dir, host)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(self_signed.authority_file(data_dir).read_bytes())
    loaded.verify_directly_issued_by(authority)
    return loaded


def names(certificate: x509.Certificate) -> set[str]:
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in held}


def test_a_certificate_lives_as_long_as_browsers_accept(tmp_path):
    certificate = made(tmp_path)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=398)
    assert certificate.not_valid_after_utc - datetime.now(UTC) > timedelta(days=390)


def test_a_certificate_that_is_about_to_end_is_renewed_by_the_same_authority(tmp_path, monkeypatch):
    monkeypatch.setattr(self_signed, "_CERTIFICATE_LIFE", timedelta(days=29))
    old = made(tmp_path)
    authority = self_signed.authority_file(tmp_path).read_bytes()
    monkeypatch.undo()
    new = made(tmp_path)
    assert new.not_valid_after_utc - old.not_valid_after_utc > timedelta(days=300)
    assert self_signed.authority_file(tmp_path).read_bytes() == authority
    assert made(tmp_path) == new


def test_another_host_gets_a_certificate_that_names_it(tmp_path):
    first = made(tmp_path)
    second = made(tmp_path, "relay.example.org")
    assert names(second) >= {"relay.example.org", "localhost", "127.0.0.1", "::1"}
    assert first != second == made(tmp_path, "relay.example.org")
    assert names(made(tmp_path, "::1")) >= {"::1"}


def test_a_new_authority_gets_a_new_certificate(tmp_path):
    made(tmp_path)
    self_signed.authority_file(tmp_path).unlink()
    made(tmp_path)


def test_a_key_that_is_not_the_certificates_is_not_served(tmp_path):
    """As after a crash between writing the one and the other."""
    made(tmp_path)
    made(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "tls" / "server-key.pem", tmp_path / "tls" / "server-key.pem")
    made(tmp_path)
    (tmp_path / "tls" / "server-key.pem").write_text("damaged")
    made(tmp_path)


@pytest.mark.parametrize("name", ["server.pem", "ca.pem", "ca-key.pem"])
def test_a_damaged_file_is_explained_with_the_way_out(tmp_path, name):
    made(tmp_path)
    (tmp_path / "tls" / name).write_text("damaged")
    with pytest.raises(TlsUnusable) as refused:
        made(tmp_path, "relay.example.org")
    assert str(tmp_path / "tls") in refused.value.message
    assert "Remove that directory" in refused.value.advice
    shutil.rmtree(tmp_path / "tls")
    made(tmp_path)


def test_a_host_name_that_no_certificate_can_name_is_not_called_damage(tmp_path):
    with pytest.raises(TlsUnusable) as refused:
        self_signed.certificate_for(tmp_path, "bücher.example.org")
    assert "damaged" not in refused.value.message


def test_a_folder_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataDirUnusable):
        self_signed.certificate_for(tmp_path / "file", "127.0.0.1")


# --- --tls-cert and --tls-key --------------------------------------------------------------------------------


def test_a_certificate_chain_of_the_operators_is_served_whole(tmp_path):
    root = trustme.CA()
    issued = root.create_child_ca().issue_cert("relay.example.org", "127.0.0.1")
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "root.pem"
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(chain), append=True)
    issued.private_key_pem.write_to_path(str(key))
    root.cert_pem.write_to_path(str(trusted))
    with serving(tmp_path / "data", "--tls-cert", str(chain), "--tls-key", str(key)) as command:
        context = ssl.create_default_context(cafile=trusted)
        assert shake_hands(command, context, "relay.example.org")
        with httpx2.Client(verify=context, timeout=10) as client:
            answer = client.get(command.url + SMTP, auth=("admin", command.password), headers=V2)
        assert answer.status_code == 200
        assert not (tmp_path / "data" / "tls").exists()


def test_several_workers_share_the_certificate(tmp_path):
    with serving(tmp_path, "--self-signed", "--workers", "2") as command:
        context = trusting(tmp_path / "tls" / "ca.pem")
        assert {shake_hands(command, context, "localhost") for _ in range(6)} == {"TLSv1.3"}


# --- A client in Go, as the official ones are ----------------------------------------------------------------

_GO = """
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		panic("no certificate in the file")
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	request, _ := http.NewRequest("GET", os.Args[2], nil)
	request.SetBasicAuth("admin", os.Args[3])
	answer, err := client.Do(request)
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.StatusCode)
}
"""

if shutil.which("go"):

    @pytest.mark.long
    def test_a_client_in_go_trusts_our_authority(secured, data_dir, tmp_path):
        (tmp_path / "main.go").write_text(_GO)
        url = secured.url.replace("127.0.0.1", "localhost") + SMTP
        done = subprocess.run(
            ["go", "run", "main.go", data_dir / "tls" / "ca.pem", url, secured.password],
            env=clean_environment() | {"GO111MODULE": "off", "GOFLAGS": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "200\n"), done
