"""What all commands have in common: help, version, and one line when something goes wrong."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from keyrelay import __version__, cli
from keyrelay.errors import UnknownName
from live import clean_environment, run_keyrelay
from live import keyrelay as program

COMMANDS = [
    ("serve",),
    ("worker",),
    ("send",),
    *(
        ("outbox", c)
        for c in ["list", "show", "raw", "resend", "cancel", "hold", "release", "pause", "resume", "status", "watch"]
    ),
    ("user", "add"),
    ("user", "list"),
    ("user", "passwd"),
    ("user", "remove"),
    ("role", "add"),
    ("role", "list"),
    *(("role", c) for c in ["remove", "permit", "forbid", "grant", "revoke"]),
    *(("role", "claim", c) for c in ["add", "list", "remove"]),
    ("smtp", "get"),
    ("smtp", "set"),
    ("smtp", "history"),
    ("smtp", "restore"),
    ("smtp", "test"),
    ("pam", "types"),
    ("pam", "list"),
    ("pam", "add"),
    ("pam", "remove"),
    ("pam", "try"),
    ("pam", "entry", "list"),
    ("pam", "entry", "add"),
    ("pam", "entry", "set"),
    ("pam", "entry", "remove"),
    ("chaos-relay",),
    ("keys", "rotate"),
    *(("audit", c) for c in ["list", "show", "verify", "export", "accept"]),
    *(("token", c) for c in ["create", "list", "revoke"]),
    *(("idp", c) for c in ["add", "list", "enable", "disable", "remove", "sign-in"]),
    ("doctor",),
    ("support-bundle",),
    ("demo",),
]


def help_of(capsys, *command: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.app([*command, "--help"])
    assert not ended.value.code
    return capsys.readouterr().out


def listed(text: str) -> dict[str, str]:
    """The commands that a help page lists, and what it says of each."""
    return {name: said.strip() for name, said in re.findall(r"^│ (\w[\w-]*) +([^│]*)│$", text, re.MULTILINE)}


def test_version_names_the_program_and_its_version():
    assert run_keyrelay({}, "--version").stdout == f"keyrelay {__version__}\n"


def test_without_a_command_the_help_is_shown():
    done = run_keyrelay({})
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: keyrelay COMMAND")


def test_help_works_whatever_the_settings_are(tmp_path):
    done = run_keyrelay({"KEYRELAY_DATA_DIR": str(tmp_path / "none"), "KEYRELAY_PORT": "x"}, "serve", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_that_says_what_it_does(capsys, command):
    text = help_of(capsys, *command)
    assert text.startswith(f"Usage: keyrelay {' '.join(command)}")
    assert re.search(r"\n\n[A-Z][^│]{8,}\.\n", text), text


def test_the_help_lists_every_command_and_what_it_is_for(capsys):
    first = listed(run_keyrelay({}, "--help").stdout)  # in a new process, where no command has been imported yet
    assert set(first) == {command[0] for command in COMMANDS}
    for group in {command[:depth] for command in COMMANDS for depth in range(1, len(command))}:
        inside = listed(help_of(capsys, *group))
        assert set(inside) == {command[len(group)] for command in COMMANDS if command[: len(group)] == group}
        assert all(inside.values())
    assert all(first.values()), f"without a word of explanation: {[name for name in first if not first[name]]}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("user", "add"),
        ("role", "add", "Reader"),
        ("smtp", "restore", "first"),
        ("serve", "--port", "http"),
        ("serve", "[/red]"),
        ("serve", "--[/red]"),
    ],
    ids=" ".join,
)
def test_a_command_line_that_cannot_be_understood_is_explained_without_a_traceback(tmp_path, arguments):
    done = run_keyrelay({"KEYRELAY_DATA_DIR": str(tmp_path / "none")}, *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "unexpectedly" not in done.stderr
    assert 0 < len(done.stderr.splitlines()) <= 5
    assert not (tmp_path / "none").exists()


def main_line(monkeypatch, capsys, failure: BaseException) -> tuple[int, str]:
    def fail() -> None:
        raise failure

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code, capsys.readouterr().err


def test_what_keyrelay_can_explain_is_message_remedy_and_code(monkeypatch, capsys):
    code, line = main_line(monkeypatch, capsys, UnknownName("There is no user jo.", remedy="Add one."))
    assert (code, line) == (1, "keyrelay: There is no user jo. Add one. [unknown_name]\n")


def test_an_unexpected_failure_is_one_line_without_its_words(monkeypatch, capsys):
    code, line = main_line(monkeypatch, capsys, ValueError("canary-in-an-exception"))
    assert code == 1
    assert re.fullmatch(r"keyrelay: .*ValueError at test_command_line\.py:\d+ fail\. .*\n", line)
    assert "canary" not in line


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    assert main_line(monkeypatch, capsys, KeyboardInterrupt()) == (130, "")


def test_a_reader_that_goes_away_is_no_traceback(keyrelay):
    """As in ``keyrelay user list | head -0``."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [program(), "user", "list", "--json"],
        env=clean_environment() | keyrelay.environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
