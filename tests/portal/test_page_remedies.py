"""What a page says to do can be done at a page: no headers, no requests, no commands."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from keyrelay import cli, errors
from keyrelay.errors import KeyrelayError
from keyrelay.portal.page_remedies import REMEDIES
from keyrelay.portal.rendering import problem_of

SOURCE = Path(errors.__file__).parents[1]
COMMANDS = "|".join(name for name in cli.app if not name.startswith("-"))
FOR_OTHERS = re.compile(rf"\bHTTP\b|[Hh]eader|Bearer|request again|\bkeyrelay ({COMMANDS})\b|\b[A-Z]{{3,}} /")
KINDS = {kind.__name__: kind for kind in errors.catalogue()}


def made(kind: type[KeyrelayError], remedy: str | None = None) -> KeyrelayError:
    """One of its kind, whatever else that needs."""
    error = kind.__new__(kind)
    KeyrelayError.__init__(error, "It did not work.", remedy=remedy)
    error.retry_after, error.violations, error.allowed = 7, (), ()
    return error


def given_in_the_source() -> list[tuple[str, str, str]]:
    """Each remedy that is given with one error alone: where, the kind and the text, a brace for what is put in."""
    found = []
    for module in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            place = f"{module.relative_to(SOURCE)}:{node.lineno}"
            texts = [text_of(keyword.value) for keyword in node.keywords if keyword.arg == "remedy"]
            found.extend((place, name, text) for text in texts if text and name in KINDS)
    return found


def text_of(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) or "{}" for part in parts)
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return ""


GIVEN = given_in_the_source()


def test_the_commands_and_the_remedies_are_found():
    assert {"doctor", "outbox", "user"} <= set(COMMANDS.split("|"))
    assert len(GIVEN) > 40
    assert any(FOR_OTHERS.search(text) for _, _, text in GIVEN)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_a_page_says_to_do_can_be_done_there(kind):
    remedy = problem_of(made(kind)).remedy
    assert remedy
    assert not FOR_OTHERS.search(remedy)


@pytest.mark.parametrize(("name", "text"), [one[1:] for one in GIVEN], ids=[one[0] for one in GIVEN])
def test_so_can_what_is_advised_for_one_error_alone(name, text):
    remedy = problem_of(made(KINDS[name], text)).remedy
    assert not FOR_OTHERS.search(remedy)


def test_advice_for_people_is_kept():
    assert problem_of(made(errors.NotNow, "Try again in a few seconds.")).remedy == "Try again in a few seconds."
    assert problem_of(made(errors.TooManyAttempts)).remedy == "Try again in 7 seconds."


def test_the_table_is_of_errors_that_there_are():
    assert set(REMEDIES) <= {kind.code for kind in KINDS.values()}
