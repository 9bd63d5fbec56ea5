"""``keyrelay smtp test`` in a process of its own: how it ends, and what it prints on which terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from explained import assert_fit_for_people, document_of, marks

from keyrelay.chaos.script import Script
from keyrelay.relay.model import STAGES
from live import clean_environment, run_keyrelay
from live import keyrelay as command
from live_causes import (
    BASIC,
    RECIPIENT,
    SENDER,
    USER,
    USERS,
    Scene,
    nobody,
)
from relaying import certificates, running
from token_server import TokenServer, issues, refused, signed

ESCAPE = "\x1b"


# --- The real command in a process ---------------------------------------------------------------------------


@dataclass
class Configured:
    """The command with a stored profile; names are real ones here, so the relay is on localhost."""

    line: Any
    bundle: Path

    @property
    def environment(self) -> dict[str, str]:
        return self.line.environment | {"KEYRELAY_NAME_SERVERS": "none", "KEYRELAY_CA_BUNDLE": str(self.bundle)}

    def profile(self, scene: Scene, port: int, endpoint: str = "") -> None:
        given = document_of(scene, endpoint) | {"port": port}
        self.line.ok("smtp", "set", "-", given=json.dumps(given))

    def test(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return run_keyrelay(self.environment | variables, "smtp", "test", *options)


@pytest.fixture
def configured(keyrelay) -> Configured:
    return Configured(keyrelay, certificates().authority)


RELAY = Scene(cause="", stage="data", place=Script())
SIGNED_IN = replace(RELAY, authentication=BASIC, use_ssl=True)
TAKES_PASSWORDS = Script(starttls=True, auth=("PLAIN",), users=USERS)


def test_a_message_is_sent_and_every_stage_ticked(configured):
    with running(TAKES_PASSWORDS) as relay:
        configured.profile(SIGNED_IN, relay.port)
        done = configured.test("--to", RECIPIENT)
    assert (done.returncode, done.stderr) == (0, ""), done
    lines = done.stdout.splitlines()
    assert marks(lines) == dict.fromkeys(STAGES, "✓") | {"vault": "·", "token": "·"}
    assert lines[0] == f"Testing localhost, port {relay.port}, and mail {RECIPIENT}."
    assert lines[-1].startswith("It works. The relay has taken the message")
    assert_fit_for_people(done.stdout)
    (message,) = relay.messages
    assert (message.sender, message.recipients, message.user, message.tls) == (SENDER, (RECIPIENT,), USER, True)
    assert relay.mistakes == []


def test_the_dialogue_is_shown_when_it_is_asked_for_and_without_credentials(configured):
    with running(TAKES_PASSWORDS) as relay:
        configured.profile(SIGNED_IN, relay.port)
        done = configured.test("--to", RECIPIENT, "--dialogue")
    assert re.search(r"^ +> STARTTLS$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +> \(AUTH PLAIN with credentials\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +< 235 2\.7\.0 welcome$", done.stdout, re.MULTILINE)
    assert_fit_for_people(done.stdout)


@pytest.mark.parametrize(
    ("options", "verbs", "end"),
    [
        ((), set(), "It works. The relay lets us in."),
        (("--mode", "connect", "--to", RECIPIENT), set(), "It works. The relay lets us in."),
        (("--mode", "envelope", "--to", RECIPIENT), {"MAIL", "RCPT", "RSET"}, "It works. The relay would take the"),
    ],
    ids=["no recipient", "connect", "envelope"],
)
def test_a_mode_goes_as_far_as_it_says_and_mails_nobody(configured, options, verbs, end):
    with running(Script()) as relay:
        configured.profile(RELAY, relay.port)
        done = configured.test(*options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(end)
    assert relay.messages == []
    assert {line.split(" ")[0] for _, line in relay.commands} == {"EHLO", "QUIT"} | verbs
    beyond = {"sender", "recipient", "data"} if not verbs else {"data"}
    assert {stage for stage, mark in marks(done.stdout.splitlines()).items() if mark == "·"} >= beyond


@pytest.mark.parametrize(
    ("script", "scene", "cause"),
    [
        (Script(close="greeting"), RELAY, "greeting-closed"),
        (Script(starttls=True, certificate="expired"), SIGNED_IN, "certificate-expired"),
        (Script(starttls=True, certificate="wrong_name"), SIGNED_IN, "certificate-for-longer-name"),
        (Script(), SIGNED_IN, "starttls-not-offered"),
        (replace(TAKES_PASSWORDS, users={}), SIGNED_IN, "credentials-wrong"),
        (Script(replies={"rcpt": "550 5.1.1 User unknown"}), RELAY, "recipient-unknown"),
        (Script(close="after-dot"), RELAY, "outcome-unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_ends_with_1_and_the_cause(configured, script, scene, cause):
    with running(script) as relay:
        configured.profile(scene, relay.port)
        done = configured.test("--to", RECIPIENT)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == f"[{cause}]"
    assert lines[-2].startswith("What to do: ")
    assert_fit_for_people(done.stdout)


def test_a_port_where_nobody_listens_is_told_at_once(configured):
    with nobody() as (_, port):
        configured.profile(RELAY, port)
        done = configured.test()
    assert (done.returncode, done.stderr) == (1, "")
    assert f"Nobody listens on port {port} of localhost" in done.stdout
    assert done.stdout.endswith("\n[connection-refused-loopback]\n")


def test_a_token_that_is_not_issued_is_told_with_the_endpoint(configured, tmp_path):
    script = Script(starttls=True, auth=("XOAUTH2",), users=USERS)
    with running(script) as relay, TokenServer(tmp_path) as provider:
        provider.answer = refused(401, "invalid_client", "Client authentication failed.")
        configured.bundle = tmp_path / "both.pem"
        configured.bundle.write_bytes(certificates().authority.read_bytes() + provider.authority.read_bytes())
        configured.profile(replace(SIGNED_IN, client_secret="a-client-secret"), relay.port, provider.url)
        refusal = configured.test("--to", RECIPIENT)
        provider.answer = issues(USERS[SENDER])
        success = configured.test("--to", RECIPIENT)
    assert (refusal.returncode, refusal.stderr) == (1, "")
    assert "It failed at the stage token. The token endpoint 127.0.0.1 does not accept" in refusal.stdout
    assert "token for 3600 s" in success.stdout
    assert (success.returncode, len(relay.messages)) == (0, 1)
    assert_fit_for_people(refusal.stdout + success.stdout)


def test_a_refusal_on_several_lines_is_shown_whole(configured):
    lines = ("550-5.7.26 This mail is unauthenticated.", "550-5.7.26 Set up SPF or DKIM.", "550 5.7.26 See there.")
    with running(Script(replies={"rcpt": lines})) as relay:
        configured.profile(RELAY, relay.port)
        done = configured.test("--to", RECIPIENT)
    said = done.stdout[done.stdout.index("The relay said: ") : done.stdout.index("What to do: ")]
    assert re.sub(r"\n +", "\n", said) == (
        "The relay said: 550 5.7.26 This mail is unauthenticated.\n5.7.26 Set up SPF or DKIM.\n5.7.26 See there.\n"
    )
    assert_fit_for_people(done.stdout)


def test_what_a_remedy_refers_to_is_printed(configured, tmp_path):
    script = Script(starttls=True, auth=("XOAUTH2",), users=USERS)
    scene = replace(SIGNED_IN, client_secret="Xk4-vQz7-Jw2")
    with running(script) as relay, TokenServer(tmp_path) as provider:
        configured.bundle = tmp_path / "both.pem"
        configured.bundle.write_bytes(certificates().authority.read_bytes() + provider.authority.read_bytes())
        configured.profile(scene, relay.port, provider.url)
        provider.answer = refused(401, "invalid_client", "The client is not known here.")
        unknown = configured.test().stdout
        provider.answer = issues(signed(aud="https://mail.test", roles=["Mail.Send"], scp="a b"))
        unwanted = configured.test().stdout
    assert "HTTP 401" in unknown
    assert re.search(r"^ +error: invalid_client$", unknown, re.MULTILINE)
    assert re.search(r"^ +the token endpoint said: The client is not known here\.$", unknown, re.MULTILINE)
    for fact in ("the token is for: https://mail.test", "its roles: Mail.Send", "its scopes: a, b"):
        assert re.search(rf"^ +{fact}$", unwanted, re.MULTILINE), unwanted
    assert re.search(r"^ +the relay explained: status 4\d\d", unwanted, re.MULTILINE), unwanted
    assert re.search(r"^ +certificate: for localhost, .*, issued by CN=.*days left\)", unwanted, re.MULTILINE), unwanted
    assert_fit_for_people(unknown + unwanted)


def test_a_certificate_that_is_refused_is_printed_with_its_names(configured):
    with running(Script(starttls=True, certificate="wrong_name")) as relay:
        configured.profile(SIGNED_IN, relay.port)
        done = configured.test()
    assert re.search(r"^ +certificate: for .*, issued by CN=", done.stdout, re.MULTILINE), done.stdout
    assert_fit_for_people(done.stdout)


# --- For machines --------------------------------------------------------------------------------------------


def scrubbed(document: Any) -> Any:
    """A report without what differs from one test to the next: times, and the name of the message."""
    if isinstance(document, dict):
        changing = {"milliseconds", "message_id"}
        return {name: "…" if name in changing else scrubbed(value) for name, value in document.items()}
    return [scrubbed(one) for one in document] if isinstance(document, list) else document


@pytest.mark.parametrize("script", [Script(), Script(replies={"rcpt": "550 5.1.1 User unknown"})], ids=["ok", "failed"])
def test_json_is_the_report_of_the_api(sqlite_settings, start, script):
    server = start(sqlite_settings)
    environment = {"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir), "KEYRELAY_NAME_SERVERS": "none"}
    with running(script) as relay:
        given = document_of(RELAY, "") | {"port": relay.port}
        assert run_keyrelay(environment, "smtp", "set", "-", given=json.dumps(given)).returncode == 0
        wanted = {"mode": "message", "recipient": RECIPIENT}
        answer = server.post("/api/v1/diagnoses", json=wanted).raise_for_status().json()
        done = run_keyrelay(environment, "smtp", "test", "--to", RECIPIENT, "--json")
    report = json.loads(done.stdout)
    assert scrubbed(report) == scrubbed(answer)
    assert (done.returncode, done.stderr) == ((0, "") if report["verdict"] == "ok" else (1, ""))
    assert report["verdict"] == ("ok" if script == Script() else "failed")


# --- On every terminal, and on none --------------------------------------------------------------------------


def test_a_narrow_terminal_does_not_break_a_line(configured):
    with nobody() as (_, port):
        configured.profile(RELAY, port)
        wide, narrow = configured.test(COLUMNS="200"), configured.test(COLUMNS="30")
    assert re.sub(r" *[\d.]+ ms", "", narrow.stdout) == re.sub(r" *[\d.]+ ms", "", wide.stdout)
    assert max(map(len, narrow.stdout.splitlines())) > 100


def test_a_locale_without_ticks_is_no_reason_to_fail(configured):
    with running(Script()) as relay:
        configured.profile(RELAY, relay.port)
        done = configured.test(PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (done.returncode, done.stderr) == (0, "")
    assert "It works." in done.stdout


def test_what_the_relay_says_is_neither_markup_nor_a_command_to_the_terminal(configured):
    reply = "550 5.1.1 [red]User[/red] \x1b[2J :smile: unknown"
    with running(Script(replies={"rcpt": reply})) as relay:
        configured.profile(RELAY, relay.port)
        done = configured.test("--to", RECIPIENT, "--dialogue")
    assert "The relay said: 550 5.1.1 [red]User[/red]  [2J :smile: unknown\n" in done.stdout
    assert ESCAPE not in done.stdout


def test_a_terminal_gets_colours(configured):
    with running(Script()) as relay:
        configured.profile(RELAY, relay.port)
        with on_a_terminal(configured.environment, "smtp", "test") as (process, shown):
            assert process.wait(60) == 0
    text = shown()
    assert re.search(r"\x1b\[32m ✓ resolve", text), text
    assert "\x1b[1;32mIt works. \x1b[0m" in text


@contextmanager
def on_a_terminal(
    environment: dict[str, str], *arguments: str
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """The command on a terminal of its own, and what it has shown there."""
    ours, theirs = pty.openpty()
    seen = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody has it open any more
            while part := os.read(ours, 4096):
                seen.extend(part)

    plain = {name: value for name, value in clean_environment().items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    process = subprocess.Popen(
        [command(), *arguments],
        env=plain | environment | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def shown() -> str:
        reader.join(15)
        return seen.decode()

    try:
        yield process, shown
    finally:
        process.kill()
        process.wait(15)
        reader.join(15)
        os.close(ours)


# --- What is typed wrong, and ended early --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ("--mode", "message"),
        ("--mode", "envelope"),
        ("--to", "not an address"),
        ("--to", ""),
        ("--to", "ops@example.org\r\nRCPT TO:<evil@example.org>"),
        ("--to", "ops@example.org\x1b[31m"),
        ("--to", "a" * 5000 + "@example.org"),
    ],
    ids=["none for message", "none for envelope", "no address", "empty", "line break", "control", "long"],
)
def test_a_recipient_that_cannot_be_one_is_one_line_and_nobody_is_connected_to(configured, options):
    with running(Script()) as relay:
        configured.profile(RELAY, relay.port)
        line = configured.line.refused("bad_input", "smtp", "test", *options)
    assert line.startswith("keyrelay: to ")
    assert line.rstrip("\n").isprintable()
    assert relay.connections == 0


def test_without_a_profile_there_is_nothing_to_test(keyrelay):
    assert "No profile is configured yet." in keyrelay.refused("no_profile", "smtp", "test")
    assert "No profile is configured yet." in keyrelay.refused("no_profile", "smtp", "test", "--json")


@pytest.mark.parametrize("mode", ["never", "Connect"])
def test_a_mode_that_is_none_is_answered_with_those_that_are(configured, mode):
    done = configured.test("--mode", mode)
    assert done.returncode not in {0, 1}  # which tell how a test ended
    assert "connect" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unreadable_bundle_of_authorities_is_one_line(configured, written):
    configured.profile(RELAY, 25)
    line = configured.line.refused("trust_unusable", "smtp", "test", CA_BUNDLE=str(written("no PEM at all")))
    assert "given.txt" in line


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_ctrl_c_ends_it_with_130_and_without_a_word(configured, options):
    with running(Script(stall="greeting")) as relay:
        configured.profile(RELAY, relay.port)
        process = subprocess.Popen(
            [command(), "smtp", "test", *options],
            env=clean_environment() | configured.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background has it ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads matter to it
        )
        while not options and "connect" not in process.stdout.readline():
            assert process.poll() is None
        deadline = time.monotonic() + 30
        while not relay.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "")
    assert stdout == ""
