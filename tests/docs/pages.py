"""What the tests of pages share: tables, blocks that are run as they stand, and the commands that a page names."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from absent import absent
from keyrelay import settings
from keyrelay.cli import app
from keyrelay.setting_values import PREFIX

ROOT = Path(__file__).parents[2]
_TIME = r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z"
_CHANCE = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"<[0-9a-f]{32}@", "<ID@"),
    (_TIME, "TIME"),
    (r"by cli:\w+", "by cli:USER"),
    (r"by [\w.-]+:\d+$", "by NODE"),
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def shown_blocks(page: str) -> list[tuple[str, str]]:
    """Every block of commands with the text that stands below it, in the order of the page."""
    return re.findall(r"^```sh\n([^`]*?)^```\n\n```(?:text|json)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    (text,) = re.findall(rf"^\| {first} \|.*\n\|[ :|-]*\n((?:\|.*\n)+)", page, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def require_program(name: str) -> None:
    if shutil.which(name) is None:
        absent(f"{name} is not installed; to run this test: apt-get install {name}")


def typed(script: str, environment: Mapping[str, str], directory: Path) -> subprocess.CompletedProcess[str]:
    """What somebody gets who types this into a shell."""
    return subprocess.run(
        ["bash", "-uc", script],
        cwd=directory,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def without_chance(text: str) -> str:
    """Without ids, times and names of machines, and the spaces at the ends of lines."""
    for pattern, instead in _CHANCE:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return re.sub(r" +$", "", text, flags=re.MULTILINE).rstrip("\n")


def require_settings(text: str) -> None:
    """Every variable of ours that is named is a setting, or the twin of a secret one."""
    secret = {name: variable.secret for name, _, variable in settings.variables()}
    for name in re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", text):
        assert name in secret or secret.get(name.removesuffix("_FILE")), name


def require_defaults(table: list[list[str]]) -> None:
    """The second column is the default of the setting in the first one."""
    defaults = {name: variable.default_text for name, _, variable in settings.variables()}
    for name, default, _ in table:
        assert defaults[name.strip("`")] == default, name


def commands(page: str) -> Iterator[list[str]]:
    """Every ``keyrelay`` command that a page shows, as it is typed."""
    fenced = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    for code in [*lines, *(" ".join(text.split()) for text in inline)]:
        for text in re.findall(r"(?:^|[$(|] ?)(?:\.venv/bin/)?keyrelay( [^|)<&]*)", code):
            yield shlex.split(text)


def require_command(tokens: list[str]) -> None:
    """What is typed after ``keyrelay`` is a command, and its options are those it has."""
    names, apps, rest = app.parse_commands(tokens)
    assert names, tokens
    if not rest:
        return
    command = apps[-1]
    assert command.default_command is not None, tokens  # a group of commands, and what follows is none of them
    known = {name for argument in command.assemble_argument_collection() for name in argument.names}
    for token in rest:
        if re.match(r"--?[A-Za-z]", token):
            assert token.partition("=")[0] in known, tokens
