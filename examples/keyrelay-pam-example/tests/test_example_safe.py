"""The plug-in keeps the contract of back ends, and tells its own ways to fail apart."""

from __future__ import annotations

import json
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from keyrelay_pam_example import ExampleSafe

from keyrelay.pam.backend import Means
from keyrelay.secrets.model import SecretText
from keyrelay.testing.pam import Case, PamContract, problem


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    return tmp_path / "safe.json"


@pytest.fixture
def case(safe: Path) -> Case:
    def keep(value: str) -> str:
        safe.write_text(json.dumps({"pass_phrase": "open sesame", "secrets": {"smtp-password": value}}))
        return value

    return Case(
        backend=ExampleSafe(),
        means=Means(ssl.create_default_context, ssl.create_default_context, secret_files=safe.parent),
        given={"File": "safe.json", "PassPhrase": SecretText("open sesame")},
        wanted={"Secret": "smtp-password"},
        value=keep("of the mail server"),
        missing={"Secret": "none"},
        refused={"File": "safe.json", "PassPhrase": SecretText("open barley")},
        away={"File": "none.json", "PassPhrase": SecretText("open sesame")},
        rotate=lambda: keep("of tomorrow"),
    )


class TestExampleSafe(PamContract):
    """The fixture ``case`` above is what it tests."""


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<html>",
        "[]",
        "{" * 100_000,
        '{"secrets": {}}',
        '{"pass_phrase": "open sesame", "secrets": ["smtp-password"]}',
    ],
)
def test_a_file_that_is_no_safe_is_no_answer(case: Case, safe: Path, content: str) -> None:
    safe.write_text(content)
    assert problem(case).problem == "bad_answer"


def test_a_file_outside_of_the_directory_is_denied(case: Case, safe: Path) -> None:
    (safe.parent / "inside").mkdir()
    fenced = replace(case, means=replace(case.means, secret_files=safe.parent / "inside"))
    for name in ("../safe.json", str(safe)):
        assert problem(replace(fenced, given={**case.given, "File": name})).problem == "denied"


def test_without_a_directory_nothing_is_read(case: Case) -> None:
    failure = problem(replace(case, means=replace(case.means, secret_files=None)))
    assert failure.problem == "bad_parameter"
