"""A data directory that has been used before, and the installed command on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from posting import Post

from live import ADMIN_PASSWORD, run_keyrelay


@dataclass(frozen=True)
class CommandLine:
    """``keyrelay`` with one data directory; ``ok`` expects success, ``refused`` one line that explains."""

    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"KEYRELAY_DATA_DIR": str(self.data_dir), "KEYRELAY_ADMIN_PASSWORD": ADMIN_PASSWORD}

    def run(self, *arguments: str, given: str = "", **variables: str) -> CompletedProcess[str]:
        """``variables``: more settings, named without their prefix."""
        more = {"KEYRELAY_" + name: value for name, value in variables.items()}
        return run_keyrelay(self.environment | more, *arguments, given=given)

    def ok(self, *arguments: str, given: str = "") -> str:
        """What a command printed that has to succeed, silently on standard error."""
        done = self.run(*arguments, given=given)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def read(self, *arguments: str) -> Any:
        """What a reading command gives as JSON."""
        return json.loads(self.ok(*arguments, "--json"))

    def refused(self, code: str, *arguments: str, given: str = "", **variables: str) -> str:
        """The one line of a command that has to fail with this code."""
        done = self.run(*arguments, given=given, **variables)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.startswith("keyrelay: "), done
        assert done.stderr.endswith(f" [{code}]\n"), done
        assert done.stderr.count("\n") == 1, done
        return done.stderr


@pytest.fixture(scope="session")
def used_data_dir(tmp_path_factory, sqlite_template) -> Path:
    data_dir = tmp_path_factory.mktemp("used") / "data"
    data_dir.mkdir(mode=0o700)
    shutil.copy(sqlite_template, data_dir / "keyrelay.db")
    CommandLine(data_dir).ok("user", "list")
    return data_dir


@pytest.fixture
def keyrelay(tmp_path, used_data_dir) -> CommandLine:
    """The command on a data directory that has the user admin and nothing else."""
    return CommandLine(Path(shutil.copytree(used_data_dir, tmp_path / "data")))


@pytest.fixture
def written(tmp_path) -> Callable[[str], Path]:
    """Write a text to a file, and give the file."""

    def write(text: str) -> Path:
        file = tmp_path / "given.txt"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture(scope="module")
def configured(used_data_dir, tmp_path_factory) -> Path:
    data_dir = Path(shutil.copytree(used_data_dir, tmp_path_factory.mktemp("configured") / "data"))
    Post({"KEYRELAY_DATA_DIR": str(data_dir)}).profile(9)
    return data_dir


@pytest.fixture
def post(configured, tmp_path) -> Post:
    """An empty outbox, on which nobody works."""
    return Post({"KEYRELAY_DATA_DIR": str(shutil.copytree(configured, tmp_path / "data"))})


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request, post) -> Post:
    """The same on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        return post
    url = request.getfixturevalue("postgres").fresh_database()
    made = Post({**post.environment, "KEYRELAY_DATABASE_URL": url, "KEYRELAY_MASTER_KEY": "A" * 43 + "="})
    made.profile(9)
    return made
