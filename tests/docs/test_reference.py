"""The reference pages are what the code says, and every error has its place in them."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from keyrelay import errors, settings
from keyrelay.api.problems import SHOWN

ROOT = Path(__file__).parents[2]
REFERENCE = Path("docs", "reference")

# Users, roles and identity providers are managed on the command line alone; the API gets them with its own endpoints.
ON_THE_COMMAND_LINE_ONLY = {
    errors.NameTaken,
    errors.Unsuitable,
    errors.LastAdministrator,
    errors.IdentityProviderUnusable,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """Where the pages are as they would be written now."""
    folder = tmp_path_factory.mktemp("written")
    subprocess.run([sys.executable, ROOT / "scripts" / "write-reference", folder], check=True, timeout=60)
    return folder / REFERENCE


def test_the_reference_pages_are_what_make_docs_would_write(written):
    there = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / REFERENCE).iterdir()}
    wanted = {page.name: page.read_text(encoding="utf-8") for page in written.iterdir()}
    for name, text in wanted.items():
        assert there.get(name) == text, f"{name} is out of date; run: make docs"


def test_every_error_kind_that_can_reach_a_caller_has_a_status_and_an_error_code():
    expected = {kind for kind in errors.catalogue() if not issubclass(kind, errors.CannotStart)}
    assert expected - ON_THE_COMMAND_LINE_ONLY - SHOWN.keys() == set()


def test_the_api_does_not_use_what_raises_the_errors_of_the_command_line():
    for module in (ROOT / "src" / "keyrelay" / "api").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "keyrelay.access":
                assert not {"accounts", "passwords"} & {name.name for name in node.names}, module.name
            if isinstance(node, ast.ImportFrom) and node.module == "keyrelay.errors":
                named = {getattr(errors, name.name) for name in node.names}
                assert not ON_THE_COMMAND_LINE_ONLY & named, module.name


def test_every_error_code_of_the_compatible_api_is_of_one_of_the_two_families_and_used_once():
    codes = Counter(shown.error_code for shown in SHOWN.values())
    assert [code for code in codes if not re.fullmatch(r"0xA01[14][0-9A-F]{4}", code)] == []
    assert [code for code, uses in codes.items() if uses > 1] == []


def test_errors_about_who_is_asking_have_the_codes_of_authorisation_and_no_others_do():
    for kind, shown in SHOWN.items():
        assert shown.error_code.startswith("0xA014") == (shown.status in {401, 403, 429}), kind


def test_every_kind_of_error_has_a_code_of_its_own_and_says_what_to_do():
    kinds = errors.catalogue()
    assert [code for code, uses in Counter(kind.code for kind in kinds).items() if uses > 1] == []
    for kind in kinds:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code), kind
        assert kind.remedy.endswith("."), kind
        assert kind.__doc__, kind


def test_every_kind_of_error_has_its_heading_on_the_page():
    page = (ROOT / REFERENCE / "errors.md").read_text(encoding="utf-8")
    for kind in errors.catalogue():
        assert kind is errors.CannotStart or page.count(f"\n### {kind.code}\n") == 1, kind


def test_every_setting_is_on_the_page_once():
    page = (ROOT / REFERENCE / "settings.md").read_text(encoding="utf-8")
    for name, _, _ in settings.variables():
        assert page.count(f"\n| `{name}`") == 1, name
