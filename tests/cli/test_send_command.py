"""``keyrelay send``, as scripts call mail(1) and sendmail(8)."""

from __future__ import annotations

import getpass
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from posting import ID, MESSAGE, NOBODY_SENDS, SENDER, Post, one_line

from keyrelay import cli
from keyrelay.chaos.script import Script
from keyrelay.store import sqlite
from live import clean_environment
from live import keyrelay as program
from relaying import running


@pytest.fixture(scope="module")
def configured(used_data_dir, tmp_path_factory) -> Path:
    """A data directory with a profile, whose relay nobody listens at."""
    data_dir = Path(shutil.copytree(used_data_dir, tmp_path_factory.mktemp("configured") / "data"))
    Post({"KEYRELAY_DATA_DIR": str(data_dir)}).profile(9)
    return data_dir


@pytest.fixture(scope="module")
def shared(configured, tmp_path_factory) -> Post:
    """An outbox for tests that do not mind what others put into it."""
    data_dir = shutil.copytree(configured, tmp_path_factory.mktemp("shared") / "data")
    return Post({"KEYRELAY_DATA_DIR": str(data_dir)})


@pytest.fixture
def post(configured, tmp_path) -> Post:
    """An empty outbox."""
    return Post({"KEYRELAY_DATA_DIR": str(shutil.copytree(configured, tmp_path / "data"))})


@pytest.fixture
def refused_here(shared, monkeypatch, capsys) -> Callable[..., str]:
    """The one line of a ``send`` in this process, which is soon over, and has to end with a code."""

    def refused(code: int, *typed: str, given: str = "It is full.\n") -> str:
        for name, value in {**shared.environment, "KEYRELAY_LOG_LEVEL": "error"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        monkeypatch.setattr(cli, "app", partial(cli.app, ["send", *typed]))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return one_line((ended.value.code, *capsys.readouterr()), code)

    return refused


# --- As mail(1) ----------------------------------------------------------------------------------------------


def test_a_text_is_mailed_from_the_profile_with_its_subject(shared):
    done = shared.run("send", "-s", "Disk full", "ops@example.org", "b@example.net", given="It is full.\nÄndern!\n")
    assert (done.returncode, done.stderr.decode()) == (0, NOBODY_SENDS)
    name = done.stdout.decode().rstrip("\n")
    assert ID.fullmatch(name)
    message = shared.message(name)
    assert (message["Subject"], message["From"]) == ("Disk full", "PKI <pki@example.org>")
    assert message["To"] == "ops@example.org, b@example.net"
    assert message.get_content() == "It is full.\r\nÄndern!\r\n"
    kept = shared.submission(name)
    assert (kept.state, kept.sender, kept.submitted_by) == ("queued", SENDER, f"cli:{getpass.getuser()}")


def test_copies_go_to_those_named_and_nobody_sees_the_blind_ones(shared):
    typed = ("-s", "x", "-c", "c@example.org,D <d@example.org>", "-b", "e@example.org", "-b", "f@example.org")
    name = shared.send(*typed, '"Doe, J." <a@example.org>, b@example.org')
    message = shared.message(name)
    assert message["To"] == '"Doe, J." <a@example.org>, b@example.org'
    assert message["Cc"] == "c@example.org, D <d@example.org>"
    assert message["Bcc"] is None
    assert shared.recipients(name) == [f"{letter}@example.org" for letter in "abcdef"]


def test_an_option_that_a_script_has_left_empty_names_nobody(shared):
    assert shared.recipients(shared.send("-s", "", "-c", "", "-b", "", "ops@example.org")) == ["ops@example.org"]


@pytest.mark.parametrize(
    "subject",
    ["--- ALERT ---", "-t", "Füllstand 99 %", "[red]x[/red]", "{field}", "x" * 500],
    ids=lambda text: text[:8],
)
def test_any_words_can_be_a_subject(shared, subject):
    assert shared.message(shared.send("-s", subject, "ops@example.org"))["Subject"] == subject


def test_a_text_may_be_empty_unless_it_is_said_that_it_may_not(shared):
    assert shared.message(shared.send("-s", "done", "ops@example.org", given="")).get_content().strip() == ""
    silent = shared.run("send", "-E", "-s", "done", "ops@example.org", given="\n  \n")
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, b"", b"")


def test_what_is_no_utf8_is_replaced_and_that_is_said(shared):
    done = shared.run("send", "-s", "log", "ops@example.org", given=b"caf\xe9 \x1b[31m\0\n")
    assert done.returncode == 0
    assert done.stderr.decode().startswith("keyrelay: The text is not UTF-8 throughout; what is not was replaced.\n")
    assert shared.message(done.stdout.decode().strip()).get_content() == "caf\ufffd \x1b[31m\ufffd\r\n"


def test_files_go_with_a_text(shared, tmp_path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF\0\xff")
    (tmp_path / "old mail.eml").write_bytes(b"Subject: old\n\nx")
    name = shared.send(
        "-s", "x", "-a", str(tmp_path / "report.pdf"), "-A", str(tmp_path / "old mail.eml"), "a@example.org"
    )
    pdf, mail = shared.message(name).iter_attachments()
    assert (pdf.get_filename(), pdf.get_content_type(), pdf.get_content()) == (
        "report.pdf",
        "application/pdf",
        b"%PDF\0\xff",
    )
    assert (mail.get_filename(), mail.get_content_type()) == ("old mail.eml", "application/octet-stream")


def test_headers_may_be_given_as_debians_mail_takes_them(shared):
    typed = ("-a", "Content-Type: text/html; charset=UTF-8", "-a", "Reply-To: help@example.org", "-a", "X-Job: 7")
    message = shared.message(
        shared.send(*typed, "-a", "MIME-Version: 1.0", "-s", "x", "a@example.org", given="<p>Hi</p>")
    )
    assert (message.get_content_type(), message["Reply-To"], message["X-Job"]) == ("text/html", "help@example.org", "7")
    assert message.get_content().strip() == "<p>Hi</p>"


def test_a_file_whose_name_looks_like_a_header_is_a_file(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Re: x.txt").write_text("y")
    (file,) = shared.message(shared.send("-a", "Re: x.txt", "a@example.org")).iter_attachments()
    assert (file.get_filename(), file.get_content()) == ("Re: x.txt", "y")


@pytest.mark.parametrize(
    ("typed", "author", "envelope"),
    [
        (("-r", "boss@example.net"), "<boss@example.net>", "boss@example.net"),
        (("-r", "Big Boss <boss@example.net>"), "Big Boss <boss@example.net>", "boss@example.net"),
        (("--from", "PKI@Example.org"), "PKI <PKI@Example.org>", "PKI@Example.org"),
        (("-F", "Cron Daemon"), "Cron Daemon <pki@example.org>", SENDER),
        (("-a", "From: Boss <boss@example.net>"), "Boss <boss@example.net>", "boss@example.net"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_whoever_says_so_writes_in_another_name(shared, typed, author, envelope):
    name = shared.send(*typed, "-s", "x", "ops@example.org")
    assert shared.message(name)["From"] == author.strip("<>" if author[0] == "<" else "")
    assert shared.submission(name).sender == envelope


# --- As sendmail(8) ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        ("-t",),
        ("-t", "-i"),
        ("-ti",),
        ("-t", "-oi"),
        ("-oi", "-oem", "-odb", "-t", "-v", "-n"),
        ("-i", "ops@example.org"),
        ("-oi", "--", "ops@example.org"),
        ("-bm", "-i", "ops@example.org"),
        ("-em", "-B8BITMIME", "-N", "never", "-i", "ops@example.org"),
        ("-f", SENDER, "ops@example.org"),
        ("-fpki@example.org", "ops@example.org"),
    ],
    ids=" ".join,
)
def test_a_message_is_taken_as_it_is_however_sendmail_is_called(shared, typed):
    name = shared.send(*typed, given=MESSAGE)
    assert shared.octets(name).replace(b"\r\n", b"\n").decode().startswith(MESSAGE[: MESSAGE.index("\n\n")])
    assert shared.message(name).get_content() == "It is full.\r\n"
    assert shared.recipients(name) == ["ops@example.org"]


def test_recipients_stand_in_the_headers_and_may_be_added_to(shared):
    given = "To: A <a@example.org>\nCc: b@example.org\nBcc: zoe@example.org\nSubject: x\n\nbody\n"
    name = shared.send("-t", "d@example.org,a@example.org", given=given)
    assert sorted(shared.recipients(name)) == [f"{one}@example.org" for one in ("a", "b", "d", "zoe")]
    message = shared.message(name)
    assert (message["Bcc"], message["From"]) == (None, "PKI <pki@example.org>")
    assert b"zoe@example.org" not in shared.octets(name)  # a c may end the Message-ID


def test_without_t_the_headers_name_nobody(shared):
    assert shared.recipients(shared.send("-i", "b@example.net,c@example.net", given=MESSAGE)) == [
        "b@example.net",
        "c@example.net",
    ]


def test_the_envelope_sender_may_be_another_and_the_message_too(shared):
    given = MESSAGE.replace(SENDER, "Boss <boss@example.net>")
    name = shared.send("-f", "boss@example.net", "-t", given=given)
    assert shared.submission(name).sender == "boss@example.net"
    assert shared.message(name)["From"] == "Boss <boss@example.net>"
    bounces = shared.send("-f", "bounces@example.net", "-F", "Robot", "a@example.org", given="Subject: x\n\ny")
    assert shared.message(bounces)["From"] == "Robot <bounces@example.net>"


def test_a_name_that_only_the_message_uses_is_refused_and_the_option_named(shared):
    line = shared.refused(65, "-t", given=MESSAGE.replace(SENDER, "boss@example.net"))
    assert "from is not the profile's sender" in line
    assert "-f ADDRESS" in line


def test_a_dot_on_a_line_of_its_own_ends_nothing(shared):
    name = shared.send("-t", given=MESSAGE + ".\nand more\n")
    assert shared.message(name).get_content() == "It is full.\r\n.\r\nand more\r\n"


@pytest.mark.parametrize(
    ("given", "subject", "text"),
    [
        (b"To: a@example.org\nSubject: x\r\nX-A: b\r\n\r\none\ntwo\r\nthree", "x", "one\r\ntwo\r\nthree\r\n"),
        (b"From root Sun Mar  1 12:00:00 2026\nTo: a@example.org\nSubject: x\n\ny\n", "x", "y\r\n"),
        (b"To: a@example.org\nSubject: x", "x", ""),
    ],
    ids=["line ends mixed", "from a mailbox file", "a head alone"],
)
def test_messages_are_taken_as_scripts_write_them(shared, given, subject, text):
    message = shared.message(shared.send("-t", given=given))
    assert (message["Subject"], message.get_content()) == (subject, text)


def test_a_text_without_headers_is_a_body(shared):
    message = shared.message(shared.send("-f", SENDER, "a@example.org", given="only this\nand: that\n"))
    assert (message["Subject"], message.get_content()) == (None, "only this\r\nand: that\r\n")


# --- When, what first, and only once -------------------------------------------------------------------------


def test_a_message_may_be_for_later_and_urgent(shared):
    name = shared.send("-s", "x", "--send-after", "2h", "--priority", "high", "a@example.org")
    kept = shared.submission(name)
    assert timedelta(hours=1, minutes=58) < kept.send_after - datetime.now(UTC) <= timedelta(hours=2)
    assert (kept.state, kept.priority) == ("queued", 1)
    at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    exact = shared.send("-s", "x", "--send-after", at.isoformat(), "a@example.org")
    assert shared.submission(exact).send_after == at


def test_the_same_message_with_the_same_key_is_taken_in_once(post):
    typed = ("-s", "x", "--key", "job-7", "--send-after", "2h", "a@example.org")
    first = post.send(*typed)
    assert post.send(*typed) == first
    assert json.loads(post.ok("send", "--json", *typed, given="It is full.\n"))["repeated"] is True
    assert post.counts() == {"queued": 1}
    for other in (post.refused(65, *typed, given="other"), post.refused(65, *typed, "b@example.org")):
        assert other.endswith("[key_reused]\n")
    assert post.counts() == {"queued": 1}


def test_a_file_belongs_to_what_a_key_is_for(post, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one")
    typed = ("-s", "x", "--key", "k", "-a", str(file), "a@example.org")
    first = post.send(*typed)
    assert post.send(*typed) == first
    file.write_text("two")
    assert post.refused(65, *typed).endswith("[key_reused]\n")


def test_what_was_taken_in_is_not_refused_when_it_comes_again(post):
    first = post.send("--key", "k", "a@example.org", given="x" * 900_000)
    full = {"OUTBOX_MEGABYTES": "1"}
    assert post.send("--key", "k", "a@example.org", given="x" * 900_000, **full) == first
    assert post.refused(75, "--key", "l", "a@example.org", given="x" * 900_000, **full).endswith("[outbox_full]\n")


# --- What it prints ------------------------------------------------------------------------------------------


def test_quiet_prints_nothing_and_json_all_there_is(shared):
    quiet = shared.run("send", "-q", "-s", "x", "a@example.org", given="y")
    assert (quiet.returncode, quiet.stdout, quiet.stderr.decode()) == (0, b"", NOBODY_SENDS)
    document = json.loads(shared.ok("send", "--json", "-s", "x", "a@example.org", given="y"))
    repeated = document.pop("repeated")
    shown = shared.read("show", document["id"])
    assert (repeated, document) == (False, {name: shown[name] for name in document})
    assert document["recipients"][0]["address"] == "a@example.org"


def test_nothing_is_said_of_missing_workers_while_one_runs(post):
    with post.worker() as worker:
        post.until(lambda post: post.nodes() == [True])
        done = post.run("send", "-s", "x", "a@example.org", given="y")
        assert (done.returncode, done.stderr) == (0, b"")
        assert worker.stop() == 0
    done = post.run("send", "-s", "x", "a@example.org", given="y")
    assert done.stderr.decode() == NOBODY_SENDS


# --- Waiting for the relay -----------------------------------------------------------------------------------

TWO_OF_THREE = Script(
    rcpt_replies={"b@example.org": "550 5.1.1 No such user", "c@example.org": "451 4.7.1 Come back \x1b[2J later"}
)


@pytest.mark.parametrize(
    ("recipients", "code", "said"),
    [
        ("a", 0, ["a@example.org accepted: 250 2.0.0 ok, taken"]),
        ("ab", 69, ["a@example.org accepted: 250 2.0.0 ok, taken", "b@example.org refused: 550 5.1.1 No such user"]),
        (
            "ac",
            75,
            ["a@example.org accepted: 250 2.0.0 ok, taken", "c@example.org deferred: 451 4.7.1 Come back  [2J later"],
        ),
    ],
    ids=["accepted", "refused", "deferred"],
)
def test_waiting_says_what_the_relay_said_to_each(post, recipients, code, said):
    addresses = [f"{letter}@example.org" for letter in recipients]
    with running(TWO_OF_THREE) as relay, post.worker(relay, RETRY_WAITS="600"):
        began = time.monotonic()
        done = post.run("send", "-s", "x", "--wait", *addresses, given="y")
        took = time.monotonic() - began
    assert (done.returncode, done.stderr) == (code, b"")
    name, *lines = done.stdout.decode().splitlines()
    assert ID.fullmatch(name)
    assert lines == said
    assert took < 30, "it waited for what cannot come before the time is over"
    assert [message.recipients for message in relay.messages] == [("a@example.org",)]


def test_waiting_in_json_is_one_document_with_what_was_said(post):
    with running() as relay, post.worker(relay):
        done = post.run("send", "-s", "x", "--json", "--wait", "20", "a@example.org", given="y")
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"]) == (0, "accepted")
    assert document["recipients"][0]["reply"]["code"] == 250


@pytest.mark.parametrize(
    "typed", [("--wait", "0.2"), ("--wait", "1"), ("--wait=30", "--send-after", "1h")], ids=" ".join
)
def test_waiting_ends_with_75_when_nothing_comes_in_time(shared, typed):
    began = time.monotonic()
    done = shared.run("send", "-q", *typed, "a@example.org", given="y")
    assert (done.returncode, done.stdout) == (75, b"")
    assert time.monotonic() - began < 20


# --- What cannot be taken in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ((), "who gets the message"),
        (("-s", "x"), "who gets the message"),
        (("-t", "-s", "x"), "-t reads a whole message"),
        (("--bogus", "a@example.org"), "--bogus"),
        (("--[/red]", "a@example.org"), "--[/red]"),
        (("--\x1b[2J", "a@example.org"), "Unknown option"),
        (("-s",), "requires an argument"),
        (("--priority", "urgent", "a@example.org"), "urgent"),
        (("--send-after", "tomorrow", "a@example.org"), "is not a time"),
        (("--send-after", "53w", "a@example.org"), "more than a year"),
        (("--send-after", "99999999999999999d", "a@example.org"), "is not a time"),
        (("--wait", "soon", "a@example.org"), "number of seconds"),
        (("--key", "", "a@example.org"), "1 to 255"),
        (("--key", "k" * 256, "a@example.org"), "1 to 255"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, tuple) else "",
)
def test_a_command_line_that_makes_no_sense_ends_with_64(shared, refused_here, typed, said):
    before = shared.counts()
    line = refused_here(64, *typed)
    assert said in line
    assert line.endswith(" See keyrelay send --help.\n")
    assert shared.counts() == before


@pytest.mark.parametrize(
    ("typed", "given", "said"),
    [
        (("root",), "x", "to is not an e-mail address"),
        (("-c", "nobody", "a@example.org"), "x", "cc is not an e-mail address"),
        (("-r", "nobody", "a@example.org"), "x", "from is not an e-mail address"),
        (("-f", "", "a@example.org"), MESSAGE, "from is not an e-mail address"),
        (("-f", "a@example.org,b@example.org", "c@example.org"), MESSAGE, "from is not an e-mail address"),
        (("-s", "two\nlines", "a@example.org"), "x", "subject holds a control character"),
        (("-s", "x", "a@example.org\nBcc: b@example.org"), "x", "to "),
        (("-a", "Content-Type: multipart/mixed", "a@example.org"), "x", "headers has a name"),
        (("-t",), "Subject: x\n\ny", "nobody gets this message"),
        (("-t",), "", "message is empty"),
        (("-t",), "To: a@example.org\nnot a header\n\ny", "line 2 is no header"),
        (("-t",), "To: a@example.org\nTo: b@example.org\n\ny", "more than once"),
        (("-t",), "To: a@example.org\n\nx\0y", "holds a NUL"),
        (("-i", "nobody"), MESSAGE, "recipients is not an e-mail address"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_mailed_ends_with_65_and_is_explained(shared, refused_here, typed, given, said):
    before = shared.counts()
    line = refused_here(65, *typed, given=given)
    assert said in line
    assert line.endswith("[bad_input]\n")
    assert shared.counts() == before


def test_a_file_that_cannot_be_read_ends_with_66(shared, tmp_path):
    for name in (str(tmp_path / "missing"), str(tmp_path)):
        line = shared.refused(66, "-s", "x", "-a", name, "a@example.org")
        assert name in line
        assert line.endswith("[unsuitable]\n")


def test_files_have_a_limit_together(shared, tmp_path):
    files = []
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(600_000))
        files += ["-a", str(tmp_path / name)]
    line = shared.refused(65, *files, "a@example.org", MESSAGE_MEGABYTES="1")
    assert "attachments has more than 1048576 bytes" in line


@pytest.mark.parametrize("typed", [("-t",), ("a@example.org",)], ids=["message", "text"])
def test_standard_input_without_an_end_is_read_as_far_as_the_limit(shared, typed):
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [program(), "send", *typed],
        env=clean_environment() | dict(shared.environment) | {"KEYRELAY_MESSAGE_MEGABYTES": "1"},
        stdin=reading,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(reading)
    written = 0
    with os.fdopen(writing, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
        while written < 1 << 30:
            written += pipe.write(b"To: a@example.org\n" * 1000)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (65, b"")
    assert b"message has more than 1048576 bytes" in stderr
    assert written < 3 << 20


# --- When keyrelay cannot ------------------------------------------------------------------------------------


def test_where_keyrelay_was_never_used_nothing_is_made_and_it_ends_with_78(tmp_path):
    post = Post({"KEYRELAY_DATA_DIR": str(tmp_path / "none")})
    line = post.refused(78, "a@example.org")
    assert "keyrelay.db" in line
    assert line.endswith("[no_profile]\n")
    assert not (tmp_path / "none").exists()


def test_without_a_profile_it_ends_with_78(keyrelay):
    assert Post(keyrelay.environment).refused(78, "a@example.org").endswith("[no_profile]\n")


def test_settings_and_keys_that_are_wrong_end_with_78(post):
    assert post.refused(78, "a@example.org", RELAY_SECONDS="soon").endswith("[settings_invalid]\n")
    Path(post.environment["KEYRELAY_DATA_DIR"], "master.key").unlink()
    assert post.refused(78, "a@example.org").endswith("[master_key_missing]\n")


def test_a_database_that_is_away_ends_with_75(post):
    line = post.refused(75, "a@example.org", DATABASE_URL="postgresql://keyrelay:hunter2@127.0.0.1:9/keyrelay")
    assert line.endswith("[database_unreachable]\n")
    assert "hunter2" not in line


def test_a_database_that_another_keeps_locked_ends_with_75_and_takes_nothing_in(post, monkeypatch, capsys):
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.3)  # which are thirty, in a process of its own
    for name, value in {**post.environment, "KEYRELAY_LOG_LEVEL": "error"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"It is full.\n")))
    with closing(sqlite3.connect(Path(post.environment["KEYRELAY_DATA_DIR"], "keyrelay.db"))) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(SystemExit) as ended:
            cli.app(["send", "a@example.org"])
    stdout, stderr = capsys.readouterr()
    assert (ended.value.code, stdout) == (75, ""), stderr
    assert stderr.endswith("[store_unavailable]\n")
    assert post.counts() == {}


def test_a_message_that_the_relay_is_known_not_to_take_is_refused_at_once(post):
    given = "To: a@example.org\nSubject: big\n\n" + "x" * 70 + "\n" + ("y" * 70 + "\n") * 20_000
    with running(Script(extensions=("SIZE 100000",))) as relay:
        post.profile(relay.port)
        assert "the relay takes no more than 100000" in post.refused(65, "-t", given=given)
        assert relay.messages == []
    assert ID.fullmatch(post.send("-t", given=given)), "nobody knows what a relay takes that is away"


# --- On PostgreSQL -------------------------------------------------------------------------------------------


def test_it_is_the_same_on_postgresql(postgres, tmp_path):
    post = Post({"KEYRELAY_DATA_DIR": str(tmp_path / "data"), "KEYRELAY_DATABASE_URL": postgres.fresh_database()})
    with running() as relay:
        post.profile(relay.port)
        name = post.send("-s", "x", "--key", "k", "a@example.org")
        assert post.send("-s", "x", "--key", "k", "a@example.org") == name
        assert post.states(name) == {"a@example.org": "queued"}
        with post.worker() as worker:
            done = post.run("send", "-s", "x", "--wait", "30", "b@example.org", given="y")
            assert (done.returncode, done.stderr) == (0, b"")
            post.until(lambda post: post.counts() == {"accepted": 2})
            assert worker.stop() == 0
    assert sorted(message.recipients for message in relay.messages) == [("a@example.org",), ("b@example.org",)]
    assert re.search(rb"Subject: x\r\n", relay.messages[0].content)
