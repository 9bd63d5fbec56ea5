"""What holds for the repository as a whole: small modules, telling names, nothing of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from keyrelay import __version__

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "src").rglob("*.py"))
LONGEST = 400
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc", "core"}


def tracked() -> list[Path]:
    """The files that are, or are about to be, part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:  # an unpacked archive
        return [path for path in ROOT.rglob("*") if path.is_file() and not ignored(path)]
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def ignored(path: Path) -> bool:
    return any(part.startswith(".") and part != ".ci" for part in path.relative_to(ROOT).parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def places(pattern: re.Pattern[bytes], paths: list[Path]) -> list[str]:
    return [
        f"{name_of(path)}:{number} {match[0].decode()}"
        for path in paths
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if (match := pattern.search(line))
    ]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_is_longer_than_one_can_read_at_once(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_a_module_says_what_it_is_about(module):
    text = module.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text)) or "migrations" in module.parts


def test_no_module_or_test_is_named_after_nothing():
    files = [path for path in tracked() if path.suffix == ".py"]
    assert [name_of(path) for path in files if VAGUE & set(re.split(r"[_/]", name_of(path.with_suffix(""))))] == []


def test_no_class_or_function_is_named_after_nothing():
    named = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{name_of(module)}: {node.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, named) and re.search(r"(Manager|Helper|Utils?|Base)$", node.name)
    ]
    assert found == []


def test_tests_have_file_names_of_their_own():
    """They are no package, so two of one name would hide each other."""
    names = [path.name for path in tracked() if path.parts[len(ROOT.parts)] == "tests" and path.suffix == ".py"]
    assert sorted(name for name in set(names) if names.count(name) > 1 and name != "conftest.py") == []


def test_nothing_names_a_place_on_somebodys_machine():
    machine = re.compile(rb"(?<![\w.])/(?:work|root|home|Users|tmp)(?:/|\b)[\w./-]*|[A-Z]:\\Users\\")
    assert places(machine, tracked()) == []


def test_no_file_names_the_host_of_a_package_index():
    # In brackets, so that this file does not name one either.
    host = re.compile(
        rb"(?i)--(?:extra-)?index-ur[l]|--find-link[s]|--trusted-hos[t]|pypi\.or[g]|pythonhoste[d]|npmjs\.or[g]"
    )
    assert places(host, tracked()) == []


def test_lock_files_hold_a_hash_for_every_package():
    for lock in (ROOT / "requirements").glob("*.txt"):
        entries = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8").strip())
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_version_stands_in_one_place_and_the_change_log_agrees():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project, "it stands in src/keyrelay/__init__.py"
    headings = re.findall(r"^## \[?v?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings
    released = [heading for heading in headings if heading.lower() != "unreleased"]
    assert released[:1] in ([], [__version__])
    assert headings[0] in {"Unreleased", __version__}
