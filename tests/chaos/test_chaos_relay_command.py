"""``keyrelay chaos-relay``: the chaos relay as a program."""

from __future__ import annotations

import re
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from live import clean_environment, keyrelay

SECRET = "kumquat-umbrella-42"


@dataclass
class Running:
    process: subprocess.Popen[str]
    printed: list[str]

    @property
    def port(self) -> int:
        return int(self.printed[0].rpartition(" ")[2])

    @property
    def authority(self) -> Path:
        return Path(next(line for line in self.printed if line.startswith("Authority")).partition(": ")[2])

    def stop(self, number: int = signal.SIGINT) -> list[str]:
        """Stop it as Ctrl+C does, and give all that it printed after its start."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=20)
        assert (self.process.returncode, errors) == (0, "")
        return output.splitlines()


@pytest.fixture
def chaos_relay(tmp_path) -> Iterator[Callable[..., Running]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str, port: int = 0) -> Running:
        process = subprocess.Popen(
            [keyrelay(), "chaos-relay", "--port", str(port), *options],
            env=clean_environment() | {"TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        printed = []
        for line in process.stdout:
            printed.append(line.rstrip())
            if line.startswith("Stop with"):
                return Running(process, printed)
        raise AssertionError(process.communicate()[1])

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def refused(*options: str) -> str:
    """Run it with options that it cannot use; give what it says."""
    ended = subprocess.run(
        [keyrelay(), "chaos-relay", *options],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr + ended.stdout
    return ended.stderr + ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_what_happens_and_ends_cleanly(chaos_relay, number):
    relay = chaos_relay()
    assert re.fullmatch(r"Chaos relay on 127\.0\.0\.1 port \d+", relay.printed[0])
    with smtplib.SMTP("127.0.0.1", relay.port, "client.test", timeout=20) as client:
        client.sendmail("a@b.test", ["c@d.test"], "x" * 10)
    told = relay.stop(number)
    assert told[0].startswith("#1 connected from 127.0.0.1 port ")
    assert told[1:] == [
        "#1 ehlo client.test",
        "#1 mail FROM:<a@b.test> size=10",
        "#1 rcpt TO:<c@d.test>",
        "#1 data",
        "#1 message accepted, 12 bytes",
        "#1 QUIT",
        "#1 closed",
        "Stopped after 1 connections and 1 messages.",
    ]


def test_options_become_behaviour(chaos_relay, talk, tmp_path):
    relay = chaos_relay(
        *("--reply", "rcpt=550 5.1.1 no such user", "--rcpt-reply", "c@d.test=452 4.2.2 full"),
        *("--reply", "quit=221 one", "--reply", "quit=221 two"),
        *("--close", "after-dot", "--delay", "0.001", "--drip", "0.0001"),
        *("--starttls", "--certificate", "expired", "--directory", str(tmp_path / "kept")),
        *("--auth", "plain", "--auth", "LOGIN", "--user", f"mailer={SECRET}", "--require-auth"),
        *("--extension", "PIPELINING", "--extension", "SIZE 99"),
    )
    assert relay.authority == tmp_path / "kept" / "authority.pem"
    context = ssl.create_default_context(cafile=relay.authority)
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=20) as client, pytest.raises(ssl.SSLCertVerificationError):
        client.starttls(context=context)
    client = talk(relay)
    extensions = client.hello().split("\n")
    assert extensions == ["250-chaos.test", "250-PIPELINING", "250-SIZE 99", "250-STARTTLS", "250 AUTH PLAIN LOGIN"]
    assert client.ask("MAIL FROM:<a@b.test>").startswith("530")
    assert client.ask("AUTH LOGIN bWFpbGVy") == "334 UGFzc3dvcmQ6"
    assert client.ask("a3VtcXVhdC11bWJyZWxsYS00Mg==").startswith("235")
    assert client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<x@d.test>", "RCPT TO:<c@d.test>") == [250, 550, 452]
    assert client.ask("QUIT") == "221-one\n221 two"
    client.close()
    told = relay.stop()
    assert "#2 AUTH LOGIN (credentials)" in told
    assert "#2 (credentials)" in told
    assert not any(piece in line for line in told for piece in (SECRET, "a3VtcXVhdC", "bWFpbGVy"))


def test_certificates_go_away_unless_a_directory_is_named(chaos_relay, tmp_path):
    relay = chaos_relay("--implicit-tls", "--client-ca")
    assert relay.authority.exists()
    assert any(line.startswith("Client certificate: ") for line in relay.printed)
    relay.stop()
    assert list(tmp_path.iterdir()) == []


def test_what_a_client_says_is_printed_as_harmless_text(chaos_relay, talk):
    relay = chaos_relay("--raw-greeting", "SSH-2.0-OpenSSH", "--silent")
    relay.stop()
    relay = chaos_relay()
    client = talk(relay)
    client.hello()
    client.ask("NOOP \x1b[31mred\x07")
    client.ask(f"{SECRET} too late")
    client.close()
    told = relay.stop()
    assert "#1 NOOP ?[31mred?" in told
    assert SECRET not in "".join(told)
    assert "#1 mistake of the client: 500 5.5.2 unknown command" in told


def test_another_kind_of_server_and_injected_text_can_be_had(chaos_relay, talk):
    relay = chaos_relay("--raw-greeting", "SSH-2.0-OpenSSH_9.6")
    client = talk(relay)
    assert client.socket.makefile("rb").readline() == b"SSH-2.0-OpenSSH_9.6\r\n"
    client.close()
    relay = chaos_relay("--starttls", "--inject", "250 injected")
    client = talk(relay)
    client.hello()
    assert client.ask("STARTTLS").startswith("220")
    assert client.reply() == "250 injected"
    client.close()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--reply", "rcpt"), "'rcpt' is no reply"),
        (("--reply", "content=250 ok"), "'content' is not a stage"),
        (("--stall", "somewhere"), "'somewhere' is not a stage"),
        (("--close", "mid:tls"), "'mid:tls' is not a stage"),
        (("--auth", "NTLM"), "'NTLM' is not a mechanism"),
        (("--certificate", "better"), "--certificate"),
        (("--delay", "-1"), "--delay"),
        (("--port", "65536"), "--port"),
        (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
        (("--starttls", "--implicit-tls"), "choose one"),
    ],
)
def test_an_option_that_means_nothing_is_explained(options, sentence):
    assert sentence in refused(*options)


def test_a_user_without_a_name_is_explained_without_repeating_what_may_be_a_password():
    told = refused("--user", SECRET)
    assert "NAME=PASSWORD" in told
    assert SECRET not in told


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert port in refused("--port", port)
