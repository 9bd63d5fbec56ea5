"""The page about PAM plug-ins shows code that works, and says what the code says."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from keyrelay.pam.backend import Problem
from keyrelay.pam.registry import GROUP, mistakes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pam-plug-ins.md").read_text(encoding="utf-8")
BLOCKS = dict.fromkeys(["python", "toml"], ())
for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
    BLOCKS[language] += (text,)


@pytest.fixture
def written(tmp_path) -> Path:
    for name, text in zip(("acme_vault.py", "test_acme_vault.py"), BLOCKS["python"], strict=True):
        assert f"`{name}`" in PAGE
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_back_end_of_the_page_passes_the_tests_of_the_page(written):
    (written / "pytest.ini").write_text("[pytest]\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=written,
        env=dict(os.environ, PYTHONPATH=str(written)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\d\d passed in", ran.stdout, re.MULTILINE), ran.stdout


def test_the_entry_point_of_the_page_names_the_back_end_of_the_page(written):
    [block] = BLOCKS["toml"]
    [place] = tomllib.loads(block)["project"]["entry-points"][GROUP].values()
    module, _, name = place.partition(":")
    scope = {}
    exec((written / f"{module}.py").read_text(encoding="utf-8"), scope)
    assert mistakes(scope[name]()) == []


def test_the_page_has_every_problem():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(get_args(Problem))
