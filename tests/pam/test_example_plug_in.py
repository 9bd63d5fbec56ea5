"""The example of a plug-in is installed as anybody would, and then keyrelay has its type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "keyrelay-pam-example"
FETCH = """
import asyncio, json, pathlib, ssl, sys
from keyrelay.pam.backend import Means
from keyrelay.pam.registry import load
from keyrelay.secrets.model import SecretText

backends = load()
means = Means(ssl.create_default_context, ssl.create_default_context, secret_files=pathlib.Path(sys.argv[1]))
given = {"File": "safe.json", "PassPhrase": SecretText("open sesame")}
found = asyncio.run(backends["Example-Safe"].fetch({"Secret": "smtp-password"}, given, means))
print(json.dumps({"types": sorted(backends), "value": found.reveal()}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where a built wheel of the example lies; nothing is fetched for it."""
    place = tmp_path_factory.mktemp("plug-in")
    shutil.copytree(EXAMPLE, place / "source", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--root-user-action", "ignore"]
    ran = subprocess.run(
        [*command, *options, "--target", place / "packages", place / "source"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return place


def run(installed: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed / "source",
        env=dict(os.environ, PYTHONPATH=str(installed / "packages"), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_its_type_is_listed_and_a_secret_is_fetched(installed, tmp_path):
    safe = {"pass_phrase": "open sesame", "secrets": {"smtp-password": "of the mail server"}}
    (tmp_path / "safe.json").write_text(json.dumps(safe))
    ran = run(installed, "-c", FETCH, tmp_path)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert "Example-Safe" in told["types"]
    assert told["value"] == "of the mail server"
    assert "left out" not in ran.stderr


def test_its_own_tests_pass(installed):
    ran = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "tests")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " passed" in ran.stdout
    assert "skipped" not in ran.stdout


def test_its_readme_shows_a_safe_as_it_is(installed, tmp_path):
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    (tmp_path / "safe.json").write_text(readme.split("```json\n")[1].split("```")[0])
    ran = run(installed, "-c", FETCH, tmp_path)
    assert ran.returncode == 0, ran.stderr
