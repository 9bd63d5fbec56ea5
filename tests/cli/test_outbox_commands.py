"""``keyrelay outbox``, as an operator types it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from posting import ID, MESSAGE, Post

from keyrelay.chaos.script import Script
from keyrelay.outbox.model import STATES
from keyrelay.settings import Settings
from live import ADMIN_PASSWORD, clean_environment
from live import keyrelay as program
from relaying import running

MISSING = "01a205d6-f8a5-73c4-ab50-fed89aebd4b2"
REFUSES = Script(
    rcpt_replies={
        "b@example.org": "550 5.1.1 No [bold]such[/bold] \x1b[2J user",
        "c@example.org": "451 4.7.1 Come back",
    }
)


def delivered(post: Post, **counts: int) -> None:
    """Let a worker send what waits, to a relay that refuses and defers some, until so many are in each state."""
    with running(REFUSES) as relay, post.worker(relay, RETRY_WAITS="600"):
        post.until(lambda post: post.counts() == counts)
    post.profile(9)


def refusal(post: Post, code: str, *arguments: str) -> str:
    """The one line of a command that has to fail with this code."""
    done = post.run("outbox", *arguments)
    assert (done.returncode, done.stdout) == (1, b""), done
    line = done.stderr.decode()
    assert line.startswith("keyrelay: "), done
    assert line.endswith(f" [{code}]\n"), done
    assert line.count("\n") == 1, done
    return line


# --- Looking -------------------------------------------------------------------------------------------------


def test_an_empty_outbox_says_so_everywhere(post):
    assert post.ok("outbox", "list") == "There are no such messages.\n"
    assert post.read("list") == []
    text = post.ok("outbox", "status")
    assert "The outbox is open." in text
    assert "There are no messages." in text
    assert "Nobody sends: start keyrelay serve, or keyrelay worker." in text


def test_messages_are_listed_newest_first_and_found_by_state_recipient_and_time(anywhere):
    post = anywhere
    first = post.send("-s", "x", "a@example.org")
    second = post.send("-s", "x", "a@example.org", "b@example.org", "c@example.org", "d@example.org", "e@example.org")
    third = post.send("-s", "x", "--send-after", "1h", "b@example.org")
    delivered(post, accepted=1, deferred=1, queued=1)

    def found(*options: str) -> list[str]:
        return [message["id"] for message in post.read("list", *options)]

    assert found() == [third, second, first]
    assert found("--state", "accepted") == [first]
    assert found("--state", "accepted", "--state", "queued") == [third, first]
    assert found("--to", "B@Example.org") == [third, second]
    assert found("--to", "nobody@example.org") == []
    assert found("--since", "1h") == [third, second, first]
    assert found("--until", "1h") == []
    assert found("--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []
    assert found("--limit", "2") == [third, second]
    assert found("--all", "--limit", "1") == [third, second, first]

    head, *lines = post.ok("outbox", "list").splitlines()
    assert re.fullmatch("Handed in +State +Id +To, and what was said", head)
    assert [ID.search(line)[0] for line in lines] == [third, second, first]
    assert "a@example.org, b@example.org, c@example.org and 2 more: 451 4.7.1 Come back" in lines[1]


def test_a_list_of_any_length_is_printed_as_it_is_read(post):
    ids = post.fill(450)
    listed = post.read("list", "--all")
    assert [message["id"] for message in listed] == sorted(ids, reverse=True)
    assert len(post.read("list")) == 50
    assert post.ok("outbox", "list", "--all").count("ops449@example.org") == 1


def test_a_message_is_shown_with_every_attempt_and_every_reply_and_why(anywhere):
    post = anywhere
    name = post.send("-s", "x", "a@example.org", "b@example.org", "c@example.org")
    delivered(post, deferred=1)
    detail = post.read("show", name)
    assert {one["address"][0]: one["state"] for one in detail["recipients"]} == {
        "a": "accepted",
        "b": "refused",
        "c": "deferred",
    }
    (attempt,) = detail["attempts"]
    assert {one["recipient"][0]: one["code"] for one in attempt["replies"]} == {"a": 250, "b": 550, "c": 451}
    assert [one["cause"] and one["cause"]["id"] for one in detail["recipients"]][:2] == [None, "recipient-unknown"]

    text = post.ok("outbox", "show", name)
    assert f"Message {name}\n  State       deferred\n" in text
    assert "b@example.org: refused, tried once\n" in text
    assert "  The relay said: 550 5.1.1 No [bold]such[/bold]  [2J user\n" in text
    assert "[recipient-unknown]\n  What to do: " in text
    assert re.search(
        r"^c@example.org: deferred, tried once\n  Next attempt from 2\d{3}-.*; expires 2", text, re.MULTILINE
    )
    assert re.search(r"^Attempt 1, 2\d{3}-\S+ \S+Z, by ", text, re.MULTILINE)
    assert "\x1b" not in text


def test_json_is_what_the_api_gives(post, start):
    name = post.send("-s", "x", "a@example.org", "b@example.org")
    delivered(post, refused=1)
    data_dir = Path(post.environment["KEYRELAY_DATA_DIR"])
    server = start(Settings(data_dir=data_dir, port=0, worker=False))
    auth = ("admin", ADMIN_PASSWORD)

    def answered(path: str) -> dict:
        return httpx2.get(f"{server.url}/api/v1{path}", auth=auth).raise_for_status().json()

    def without_times(document: object) -> object:
        """Times are told by the clock of the node that is asked, to the millisecond."""
        if isinstance(document, dict):
            return {key: without_times(value) for key, value in document.items() if not key.endswith("_at")}
        return list(map(without_times, document)) if isinstance(document, list) else document

    assert without_times(post.read("show", name)) == without_times(answered(f"/messages/{name}"))
    assert without_times(post.read("list")) == without_times(answered("/messages")["messages"])
    shown, given = post.read("status"), answered("/outbox")
    assert shown.keys() == given.keys()
    assert shown["counts"] == given["counts"]


def test_raw_is_the_message_and_on_a_terminal_no_command_to_it(post):
    name = post.send("-t", given=MESSAGE + "\x1b[2J\u202e\n")
    octets = post.raw(name)
    assert octets.endswith("It is full.\r\n\x1b[2J\u202e\r\n".encode())
    with on_a_terminal(post, "outbox", "raw", name) as terminal:
        assert terminal.process.wait(30) == 0
    assert "It is full." in terminal.text()
    assert "\x1b[2J" not in terminal.text()


def test_what_does_not_exist_is_said(post):
    for command in (("show", MISSING), ("show", "nonsense"), ("raw", MISSING), ("show", MISSING, "--json")):
        assert "There is no message of this id." in refusal(post, "unknown_name", *command)


@pytest.mark.parametrize("options", [("--limit", "0"), ("--since", "yesterday"), ("--until", "")], ids=" ".join)
def test_a_search_that_makes_no_sense_is_one_line(post, options):
    assert options[0] in refusal(post, "unsuitable", "list", *options)


def test_a_state_that_is_none_is_answered_with_those_that_are(post):
    done = post.run("outbox", "list", "--state", "lost")
    assert done.returncode == 2
    assert all(state in done.stderr.decode() for state in STATES)


# --- Steering ------------------------------------------------------------------------------------------------


def test_messages_are_cancelled_and_sent_again_one_by_one(anywhere):
    post = anywhere
    names = [post.send("-s", "x", "a@example.org") for _ in range(2)]
    done = post.run("outbox", "cancel", names[0], MISSING, names[1])
    assert (done.returncode, done.stdout.decode()) == (1, f"{names[0]} is cancelled.\n{names[1]} is cancelled.\n")
    line = done.stderr.decode()
    assert line.startswith(f"keyrelay: {MISSING}: There is no message of this id.")
    assert line.endswith(" [unknown_name]\n")
    assert "[not_now]" in refusal(post, "not_now", "cancel", names[0])
    assert "[not_now]" in refusal(post, "not_now", "release", names[0])
    assert post.ok("outbox", "resend", names[0]) == f"{names[0]} is queued.\n"
    assert post.counts() == {"queued": 1, "cancelled": 1}


def test_held_messages_are_released(post):
    name = post.send("-s", "x", "a@example.org")
    with running(Script(close="after-dot")) as relay, post.worker(relay, UNKNOWN_OUTCOME="hold"):
        post.until(lambda post: post.counts() == {"held": 1})
    post.profile(9)
    assert "The relay may have taken it 1 times without saying so" in post.ok("outbox", "show", name)
    assert post.ok("outbox", "release", name) == f"{name} is queued.\n"
    assert post.counts() == {"queued": 1}
    assert post.ok("outbox", "hold", name) == f"{name} is held.\n"
    assert post.counts() == {"held": 1}
    assert "[not_now]" in refusal(post, "not_now", "hold", name)


def test_all_that_failed_is_sent_again_and_nothing_else(anywhere):
    post = anywhere
    for recipient in "abbc":
        post.send("-s", "x", f"{recipient}@example.org")
    delivered(post, accepted=1, refused=2, deferred=1)
    before = post.counts()
    assert before == {"accepted": 1, "refused": 2, "deferred": 1}
    assert post.ok("outbox", "resend", "--failed", "--since", "2h", "--state", "expired") == (
        "0 messages will be sent again.\n"
    )
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert post.ok("outbox", "resend", "--failed", "--since", future) == "0 messages will be sent again.\n"
    assert post.counts() == before
    assert post.ok("outbox", "resend", "--failed", "--since", "2h") == "2 messages will be sent again.\n"
    assert post.counts() == {"accepted": 1, "queued": 2, "deferred": 1}


def test_many_need_a_yes_and_tell_how_far_they_are(post):
    post.fill(450)
    assert "Cancel 450 messages? Nobody can be asked here." in refusal(post, "unsuitable", "cancel", "--all-waiting")
    assert post.counts() == {"queued": 450}
    *progress, last = post.ok("outbox", "cancel", "--all-waiting", "--yes").splitlines()
    assert progress == [f"Cancelling: {done} of 450" for done in (100, 200, 300, 400)]
    assert last == "450 messages cancelled."
    assert post.counts() == {"cancelled": 450}
    assert post.ok("outbox", "cancel", "--all-waiting") == "No message waits.\n"


def test_on_a_terminal_somebody_is_asked_and_sees_a_bar(post):
    post.fill(30)
    with on_a_terminal(post, "outbox", "cancel", "--all-waiting") as terminal:
        terminal.type_after("Cancel 30 messages? [y/N] ", "n\n")
        assert terminal.process.wait(30) == 0
    assert "Nothing was done." in terminal.text()
    assert post.counts() == {"queued": 30}
    with on_a_terminal(post, "outbox", "cancel", "--all-waiting") as terminal:
        terminal.type_after("Cancel 30 messages? [y/N] ", "y\n")
        assert terminal.process.wait(30) == 0
    assert "━" in terminal.text()
    assert "30 messages cancelled." in terminal.text()
    assert post.counts() == {"cancelled": 30}


def test_many_that_failed_are_sent_again_after_a_yes(post):
    with running(Script(replies={"rcpt": "550 5.7.1 No"})) as relay, post.worker(relay):
        post.fill(40)
        post.until(lambda post: post.counts() == {"refused": 40})
    post.profile(9)
    again = ("resend", "--failed", "--since", "1h")
    assert "Send up to 40 messages again?" in refusal(post, "unsuitable", *again)
    assert post.ok("outbox", *again, "--yes").endswith("40 messages will be sent again.\n")
    assert post.counts() == {"queued": 40}


def test_what_has_gone_out_meanwhile_is_not_cancelled(post):
    post.fill(300)
    with running(Script(delay=0.02)) as relay, post.worker(relay):
        post.until(lambda post: post.counts().get("accepted", 0) > 0)
        text = post.ok("outbox", "cancel", "--all-waiting", "--yes")
        post.until(lambda post: post.counts().keys() <= {"accepted", "cancelled"})
        counts = post.counts()
        assert f"{counts.get('cancelled', 0)} message" in text
        assert sum(counts.values()) == 300
        assert len(relay.messages) == counts["accepted"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("resend",), "which messages"),
        (("resend", MISSING, "--failed"), "which messages"),
        (("resend", "--failed"), "since when"),
        (("resend", "--failed", "--since", "x"), "--since is not a time"),
        (("cancel",), "which messages"),
        (("cancel", MISSING, "--all-waiting"), "which messages"),
        (("hold",), "which messages"),
        (("release",), "which messages"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_order_that_names_nothing_or_too_much_is_one_line(post, command, said):
    assert said in refusal(post, "unsuitable", *command)


# --- The outbox as a whole -----------------------------------------------------------------------------------


def test_pause_holds_everything_and_resume_lets_it_go(anywhere):
    post = anywhere
    assert post.ok("outbox", "pause").startswith("The outbox is paused.")
    with running() as relay, post.worker(relay):
        name = post.send("-s", "x", "a@example.org")
        time.sleep(1.5)
        assert (post.states(name), relay.connections) == ({"a@example.org": "queued"}, 0)
        status = post.ok("outbox", "status")
        assert re.search(r"^The outbox is paused since 2.*: somebody has paused it\.$", status, re.MULTILINE)
        assert "What to do: keyrelay outbox resume\n" in status
        assert post.ok("outbox", "resume") == "The outbox is open.\n"
        post.until(lambda post: post.states(name) == {"a@example.org": "accepted"})


def test_status_says_what_holds_it_up_and_how_much_is_used(post):
    limits = {"RELAY_MESSAGES_PER_MINUTE": "30", "RELAY_CONNECTIONS": "3", "OUTBOX_MEGABYTES": "7"}
    with running() as relay, post.worker(relay, **limits):
        name = post.send("-s", "x", "a@example.org")
        post.until(lambda post: post.counts() == {"accepted": 1})
        text = post.ok("outbox", "status", **limits)
    assert re.search(r"^accepted +1$", text, re.MULTILINE)
    assert re.search(r"^Limit +1 of 30 messages in 1 min$", text, re.MULTILINE)
    assert re.search(r"^Connections +\d of 3$", text, re.MULTILINE)
    assert re.search(r"^Content +\d+ B of 7\.0 MiB$", text, re.MULTILINE)
    assert re.search(r"^Node +\S+:\d+ sends, keyrelay ", text, re.MULTILINE)
    with running(Script(replies={"greeting": "421 4.3.2 Not now"})) as relay, post.worker(relay):
        name = post.send("-s", "x", "a@example.org")
        post.until(lambda post: "slowed" in post.rows("SELECT pressure FROM outbox")[0][0])
        text = post.ok("outbox", "status")
    assert re.search(
        r"^The outbox is slowed since 2.*: the relay takes less at a time, or less often\.$", text, re.MULTILINE
    )
    assert "The relay said: 421 4.3.2 Not now\n" in text
    assert re.search(r"^Why: .*\nWhat to do: .*\nTried again at 2", text, re.MULTILINE)
    assert re.search(rf"^Oldest that waits +{name}, for ", text, re.MULTILINE)


@pytest.mark.parametrize("options", [("--every", "0.2"), ("--every", "0.2", "--json")], ids=["text", "json"])
def test_watch_tells_line_by_line_until_it_is_stopped(post, options):
    as_json = options[-1] == "--json"
    with post.running("outbox", "watch", *options) as watching:
        first = watching.line()
        post.send("-s", "x", "a@example.org")
        last = next(line for line in iter(watching.line, "") if ('"queued": 1' if as_json else "1 to send") in line)
        assert watching.stop(signal.SIGINT) == 0
        assert watching.said() == ""
    if as_json:
        assert [json.loads(line)["counts"]["queued"] for line in (first, last)] == [0, 1]
    else:
        assert re.fullmatch(r"2\S+ \S+Z  0 to send, 0 accepted, 0\.0 a minute, open\n", first)
        assert re.fullmatch(r"2\S+ \S+Z  1 to send, 0 accepted, 0\.0 a minute, open\n", last)


def test_watch_on_a_terminal_draws_one_view_until_ctrl_c(post):
    post.fill(3)
    with on_a_terminal(post, "outbox", "watch", "--every", "0.2") as terminal:
        terminal.wait_for("3 to send")
        terminal.type("\x03")
        assert terminal.process.wait(30) == 0
    assert "The outbox is open." in terminal.text()
    assert "━" in terminal.text()
    assert "Traceback" not in terminal.text()


def test_without_a_store_every_command_is_one_line(tmp_path):
    away = {"KEYRELAY_DATA_DIR": str(tmp_path), "KEYRELAY_DATABASE_URL": "postgresql://k:k@127.0.0.1:9/k"}
    for command in (("list",), ("show", MISSING), ("status",), ("watch",), ("pause",), ("cancel", MISSING)):
        refusal(Post(away), "database_unreachable", *command)


# --- A terminal ----------------------------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of its own: what it has shown there, and what is typed."""

    def __init__(self, post: Post, command: tuple[str, ...]) -> None:
        self._ours, theirs = pty.openpty()
        self._seen = bytearray()
        plain = {name: value for name, value in clean_environment().items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        self.process = subprocess.Popen(
            [program(), *command],
            env=plain | dict(post.environment) | {"TERM": "xterm-256color", "COLUMNS": "120"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: _own_terminal(theirs),  # noqa: PLW1509 - no threads matter to it
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def text(self) -> str:
        """All that was shown, once the command has ended."""
        self._reader.join(15)
        return self._seen.decode()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        while text.encode() not in self._seen:
            assert time.monotonic() < deadline, self._seen
            assert self.process.poll() is None, self._seen
            time.sleep(0.02)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def type_after(self, question: str, text: str) -> None:
        self.wait_for(question)
        self.type(text)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(15)
        self._reader.join(15)
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # nobody has it open any more
            while part := os.read(self._ours, 4096):
                self._seen.extend(part)


def _own_terminal(descriptor: int) -> None:
    """Ctrl+C on this terminal is for this process."""
    import fcntl
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


@contextmanager
def on_a_terminal(post: Post, *command: str) -> Iterator[Terminal]:
    terminal = Terminal(post, command)
    try:
        yield terminal
    finally:
        terminal.close()
