"""What the page about access says of roles and claims works as it stands there."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from pages import commands, read, require_command, require_program, shown_blocks, typed, without_chance

from keyrelay import errors
from live import ADMIN_PASSWORD, Command, clean_environment

PAGE = read("docs/access.md")
SECTION = re.split(r"^## (?!#)", PAGE[PAGE.index("## Roles and claims") + 3 :], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.fixture
def place(tmp_path):
    """A server, and the environment of somebody who types what the page says."""
    here = {"KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD, "KEYRELAY_DATA_DIR": str(tmp_path / "data")}
    server = Command.serve(here)
    try:
        server.wait_until_alive()
        programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PASSWORD": ADMIN_PASSWORD}
        yield clean_environment() | here | programs, server.url
    finally:
        server.stop()


def test_the_commands_of_the_section_print_what_it_shows(place, tmp_path):
    environment, _ = place
    ((script, shown),) = shown_blocks(SECTION)
    done = typed(script, environment, tmp_path)
    assert (without_chance(done.stdout), done.stderr) == (without_chance(shown), "")


def test_the_request_of_the_section_makes_a_role(place, tmp_path):
    require_program("curl")
    environment, url = place
    (script,) = re.findall(r"^```sh\n(curl .*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    done = typed(script.replace("http://127.0.0.1:8080", url), environment, tmp_path)
    made = json.loads(done.stdout)
    assert (made["Name"], made["Claims"][0]["ClaimValue"]) == ("Readers", "monitoring")


def test_every_command_and_error_that_the_section_names_exists():
    for tokens in commands(SECTION):
        require_command(tokens)
    codes = {kind.code for kind in errors.catalogue()}
    named = re.findall(r"\| 400 `(\w+)`", SECTION)
    assert len(named) == 4
    assert set(named) <= codes
